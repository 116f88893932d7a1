"""The errors a user can fix. The library raises these; only the command line prints them (exit code 2)."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class EdgekdError(Exception):
    """Something the user can fix; the message says what is wrong and what would be right."""


class UsageError(EdgekdError):
    """An option or a combination of options that cannot work."""


class ProfileError(EdgekdError):
    """A hardware profile that is missing, malformed or contradicts itself."""


class RecipeError(EdgekdError):
    """A recipe that is missing, malformed or asks for something that does not exist."""


class DataError(EdgekdError):
    """An image set that is missing, damaged, too small, or whose splits overlap."""


class ModelError(EdgekdError):
    """A model file that cannot be read or executed, or a student that the profile cannot hold."""


class RunError(EdgekdError):
    """A run folder or checkpoint that is missing, damaged or belongs to another recipe."""


class StorageError(EdgekdError):
    """A file could not be written: disk full, no permission, path missing."""


def unknown(kind: str, name: str, legal: Iterable[str], *, shown: int | None = None) -> str:
    """Return the message for a name that is not one of `legal`, with the nearest first.

    Where there are too many to list, `shown` is how many near ones are named in their place.
    """
    names = sorted(legal)
    near = difflib.get_close_matches(name, names, n=shown or 1, cutoff=0.4)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    heading, listed = ("Known", names) if shown is None else ("Near it", near[1:])
    return f"unknown {kind} '{name}'.{hint}" + (f" {heading}: {', '.join(listed)}" if listed else "")
