"""Text to print: from files that others made, harmless or escaped so that it is; names in words; numbers of things."""

from __future__ import annotations

import unicodedata


def harmless(text: str) -> bool:
    """Say whether printing `text` shows it and does nothing else: no control, format or surrogate characters."""
    return text.isprintable() or not any(map(_steers, text))


def escaped(text: str) -> str:
    """Return text with everything escaped that would steer a terminal or hide what it says."""
    return text if harmless(text) else "".join(f"{char!a}"[1:-1] if _steers(char) else char for char in text)


def spelled(name: str) -> str:
    """Return a name from code in words."""
    return name.replace("_", " ")


def counted(n: int, one: str, many: str) -> str:
    """Return "1 class" or "5 classes"."""
    return f"{n:,} {one if n == 1 else many}"


def _steers(char: str) -> bool:
    return unicodedata.category(char)[0] == "C" or char in "\u2028\u2029"
