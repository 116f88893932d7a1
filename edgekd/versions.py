"""Versions of the libraries that a result rests on."""

from __future__ import annotations

import sys


def library_versions(*names: str) -> dict[str, str]:
    """Return the installed version of each named distribution, without importing any; absent ones are left out."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found | {"python": ".".join(str(part) for part in sys.version_info[:3])}
