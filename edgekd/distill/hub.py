"""Whether the hub of published weights answers: without it, its library tries again for a minute."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

TIMEOUT_S = 5.0


@contextmanager
def quick_hub() -> Iterator[None]:
    """Have the hub's library look only at what it has on disk where the hub does not answer."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not _answers(constants.ENDPOINT)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _answers(url: str) -> bool:
    """Return whether a server is there; that it refuses this request, or our certificates it, is an answer too."""
    try:
        with urlopen(Request(url, method="HEAD"), timeout=TIMEOUT_S):  # noqa: S310 - the hub's own https address
            return True
    except HTTPError:
        return True
    except URLError as error:
        return isinstance(error.reason, ssl.SSLError)
    except OSError:
        return False
