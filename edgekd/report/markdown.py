"""Tables as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence[str]], numbers: int | None = None) -> Iterator[str]:
    """Yield a table whose columns from `numbers` on are set to the right."""
    aligned = [" --- " if numbers is None or place < numbers else " ---: " for place in range(len(header))]
    yield from (f"| {' | '.join(header)} |", f"|{'|'.join(aligned)}|")
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', '/') for cell in row)} |"
