"""Lists of what can be chosen by name: taken from docstrings, folded at the terminal's width."""

from __future__ import annotations

import inspect
import shutil
import sys
import textwrap
from collections.abc import Iterable


def first_paragraph(documented: object) -> str:
    """Return the first paragraph of a docstring in one line."""
    return " ".join((inspect.getdoc(documented) or "").partition("\n\n")[0].split())


def source_of(documented: object) -> str:
    """Return what a docstring names as its source, in one line; "" where it names none."""
    _, found, source = (inspect.getdoc(documented) or "").partition("Source: ")
    return " ".join(source.partition("\n\n")[0].split()) if found else ""


def wrapped(lines: Iterable[str]) -> Iterable[str]:
    """Indent the lines; on a terminal fold them at its width, between words only, so that an address stays whole."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    wrapper = textwrap.TextWrapper(
        max(width, 20), initial_indent="  ", subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
    )
    for line in lines:
        yield from wrapper.wrap(line)
