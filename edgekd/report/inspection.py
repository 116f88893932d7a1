"""The page of `edgekd plot`: maps of embeddings, confusions, agreement with the teacher, its soft targets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgekd.inspection import Calibration, Picture
from edgekd.measures import ActivationError
from edgekd.report.svg import PALETTE, draw
from edgekd.report.templates import render

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

WIDTH = 8.4  # inches
_COLUMNS = 2
_MARKERS = ("o", "^")
_MOST_NUMBERS = 12  # classes: larger confusions show shades alone
_MOST_NAMES = 30
_LONGEST_NAME = 14  # characters


def inspection_page(
    found: Sequence[Picture],
    agreements: Sequence[tuple[str, ActivationError | str]],
    soft: Calibration | None,
    *,
    title: str,
    shot: int,
    head: str,
) -> str:
    """Return the HTML page; `shot` and `head` say how confusions of classes without a head of their own were made."""
    return render(
        "inspection.html.j2",
        title=title,
        pictures=found,
        agreements=[(stage, error) for stage, error in agreements if isinstance(error, ActivationError)],
        reasons=[(stage, reason) for stage, reason in agreements if isinstance(reason, str)],
        soft=soft,
        shot=shot,
        head=head,
        figures={"maps": maps(found), "confusions": confusions(found)},
    )


def maps(found: Sequence[Picture]) -> str:
    """A map a stage: the same images, the same colour and mark for a class."""
    rows = -(-len(found) // _COLUMNS)

    def plot(figure: Figure) -> None:
        grid = figure.subplots(rows, min(len(found), _COLUMNS), squeeze=False)
        _hide(grid.flat[len(found) :])
        for axes, picture in zip(grid.flat, found, strict=False):
            for label, name in enumerate(picture.names):
                points = picture.points[picture.labels == label]
                colour, marker = PALETTE[label % len(PALETTE)], _MARKERS[label // len(PALETTE) % len(_MARKERS)]
                axes.scatter(points[:, 0], points[:, 1], s=12, color=colour, marker=marker, label=_short(name))
            axes.set_title(picture.stage)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.set_aspect("equal", adjustable="datalim")
        figure.legend(*grid.flat[0].get_legend_handles_labels(), loc="outside upper left", ncols=5, fontsize=8)

    return draw(WIDTH, 0.6 + 3.6 * rows, plot, "Maps of test embeddings")


def confusions(found: Sequence[Picture]) -> str:
    """A matrix a stage: each row the share of a class's images that were taken for each class."""
    rows = -(-len(found) // _COLUMNS)

    def plot(figure: Figure) -> None:
        grid = figure.subplots(rows, min(len(found), _COLUMNS), squeeze=False)
        _hide(grid.flat[len(found) :])
        for axes, picture in zip(grid.flat, found, strict=False):
            _matrix(axes, picture)

    return draw(WIDTH, 4.0 * rows, plot, "Confusions")


def _matrix(axes: Axes, picture: Picture) -> None:
    counts, n = picture.confusion, len(picture.confused_names)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    for (truth, predicted), share in np.ndenumerate(shares):
        if share > 0:  # a square each, so that the page's paper shows where there is nothing
            colour = PALETTE[0] if truth == predicted else PALETTE[1]
            axes.add_patch(_square(predicted, truth, colour, 0.12 + 0.88 * float(share)))
            if n <= _MOST_NUMBERS:
                axes.text(predicted, truth, str(counts[truth, predicted]), ha="center", va="center", fontsize=7)
    axes.set(xlim=(-0.5, n - 0.5), ylim=(n - 0.5, -0.5), aspect="equal", ylabel="true class", xlabel="named")
    axes.grid(visible=False)
    axes.set_title(f"{picture.stage}: {100 * np.trace(counts) / max(1, counts.sum()):.1f} %")
    names = [_short(name) for name in picture.confused_names] if n <= _MOST_NAMES else []
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
    axes.set_yticks(range(len(names)), names, fontsize=7)


def _square(x: float, y: float, colour: str, alpha: float) -> Rectangle:
    from matplotlib.patches import Rectangle

    return Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=colour, alpha=alpha, linewidth=0)


def _hide(unused: Iterable[Axes]) -> None:
    for axes in unused:
        axes.set_visible(False)


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
