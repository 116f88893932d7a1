"""Say plainly when the training extra is not installed."""

from __future__ import annotations

from importlib.util import find_spec

from edgekd.errors import UsageError


def require_training(*more: str) -> None:
    """Refuse commands that need torch, and the packages named in `more`, where they are not installed.

    Raises:
        UsageError: with the command that installs it.
    """
    missing = [
        name
        for name in ("torch", "torchvision", "brevitas", "accelerate", "safetensors", *more)
        if find_spec(name) is None
    ]
    if missing:
        raise UsageError(f"this command trains or exports and needs {', '.join(missing)}; install edgekd[train]")
