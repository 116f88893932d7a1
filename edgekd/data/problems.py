"""What happens to images that cannot be used: all are counted, the first five named, none is left out silently."""

from __future__ import annotations

from collections.abc import Sequence

from edgekd.data.request import Request
from edgekd.errors import DataError


def settle(name: str, problems: Sequence[str], total: int, request: Request) -> None:
    """Refuse an image set with `problems` such as "a.jpg (empty file)", or say that they are left out.

    Raises:
        DataError: there are problems and the request does not say `skip_bad`, or every image is one.
    """
    if not problems:
        return
    what = f"{len(problems):,} of {total:,} images of '{name}'"
    named = some(problems)
    if len(problems) == total:
        raise DataError(f"{what} cannot be used: {named}")
    if not request.skip_bad:
        raise DataError(f"{what} cannot be used: {named}. Repair them, or leave them out with --skip-bad")
    request.notify(f"skipped {what}: {named}")


def some(names: Sequence[str], limit: int = 5) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - limit:,} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
