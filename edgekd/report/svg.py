"""Matplotlib figures as SVG that belongs to the page: its text takes the page's font, its ink the page's colours."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Drawn in a colour that nothing else uses, then replaced by the page's variable: dark pages need no second figure.
INK, FAINT = "#010203", "#040506"
_VARIABLES = {INK: "var(--ink)", FAINT: "var(--line)"}

# Told apart on white and on near-black, and by the common colour blindnesses.
PALETTE = ("#3b82d6", "#e0803a", "#2aa27a", "#b266c9", "#c9a227", "#d1566b")

_STYLE = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "edgekd",  # the same run gives the same bytes
    "text.parse_math": False,  # a name may hold a dollar sign
    "figure.constrained_layout.h_pad": 0.08,
    "font.family": "DejaVu Sans",
    "font.size": 10.0,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.titlesize": 11.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.7,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}


def draw(width: float, height: float, plot: Callable[[Figure], None], label: str) -> str:
    """Return an inline `<svg>` of a figure (inches) that `plot` fills; `label` is what a screen reader says."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    stream = io.StringIO()
    with rc_context(_STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=(width, height), layout="constrained")
        plot(figure)
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _inline(stream.getvalue(), label)


def _inline(document: str, label: str) -> str:
    """Cut the XML prologue, size by the page's width, and give the page its colours and unique ids."""
    svg = document[document.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, variable)
    prefix = re.sub(r"\W+", "-", label.lower())
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r"url\(#", f"url(#{prefix}-", svg)
    svg = re.sub(r'xlink:href="#', f'xlink:href="#{prefix}-', svg)
    return svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
