"""Where commands print: a terminal as wide as it is, anything else with room for whole tables."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

UNBOUNDED = 10_000  # columns: a pipe or a file cuts no cell short


def open_console(*, markup: bool = True) -> Console:
    """Return a console on stdout; COLUMNS in the environment sets its width anywhere."""
    from rich.console import Console

    console = Console(highlight=False, markup=markup)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = UNBOUNDED
    return console
