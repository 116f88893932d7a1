from __future__ import annotations

import ssl
from email.message import Message
from typing import Any
from urllib.error import HTTPError, URLError

import pytest
from huggingface_hub import constants

from edgekd.distill import hub
from edgekd.distill.backbones import build_backbone
from edgekd.errors import ModelError


@pytest.mark.parametrize(
    ("error", "offline"),
    [
        (URLError("no such host"), True),
        (TimeoutError(), True),
        (HTTPError("url", 403, "forbidden", Message(), None), False),
        (URLError(ssl.SSLError()), False),
    ],
    ids=["no-host", "slow", "refused", "certificate"],
)
def test_offline_is_where_nobody_answers(monkeypatch: pytest.MonkeyPatch, *, error: OSError, offline: bool) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "urlopen", fail)
    with hub.quick_hub():
        assert offline == constants.HF_HUB_OFFLINE
    assert constants.HF_HUB_OFFLINE is False


def test_without_the_hub_weights_are_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is tried on the network, and nothing waited for."""
    monkeypatch.setattr(hub, "_answers", lambda _url: False)
    monkeypatch.setattr("time.sleep", lambda _seconds: pytest.fail("it waits"))
    with pytest.raises(ModelError, match="'timm:test_resnet' cannot be built"):
        build_backbone("timm:test_resnet", 3, pretrained=True)
