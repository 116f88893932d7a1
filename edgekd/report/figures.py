"""The figures of the training page. Each takes facts and returns inline SVG, or None where there is nothing to show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from edgekd.manifest import AccuracyRow, StageResult
from edgekd.report.curves import Curve
from edgekd.report.svg import INK, PALETTE, draw

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

WIDTH = 8.4  # inches
_COLUMNS = 3
_MARKERS = ("o", "s", "^", "D")


def loss(curves: Sequence[Curve], colours: Mapping[str, str]) -> str | None:
    """One small plot a stage, each with its own scale: the losses of different stages cannot be compared."""
    if not curves:
        return None
    rows = -(-len(curves) // _COLUMNS)

    def plot(figure: Figure) -> None:
        grid = figure.subplots(rows, min(len(curves), _COLUMNS), squeeze=False)
        for axes in grid.flat[len(curves) :]:
            axes.set_visible(False)
        for axes, curve in zip(grid.flat, curves, strict=False):
            _loss(axes, curve, colours[curve.stage])

    return draw(WIDTH, 2.7 * rows, plot, "Loss by stage")


def _loss(axes: Axes, curve: Curve, colour: str) -> None:
    marker = "o" if len(curve.loss) == 1 else None
    terms = curve.terms if len(curve.terms) > 1 else {}  # a single term is the loss
    others = [other for other in PALETTE if other != colour]
    for (name, points), other in zip(terms.items(), others * len(terms), strict=False):
        axes.plot(*_columns(points), color=other, linewidth=1.1, label=name, marker=marker)
    axes.plot(*_columns(curve.loss), color=colour, linewidth=2.2, label="loss", marker=marker)
    axes.set_title(curve.stage)
    axes.set_xlabel("epoch")
    if all(value >= 0 for points in (curve.loss, *terms.values()) for _, value in points):
        axes.set_ylim(bottom=0)
    if terms:
        axes.legend(fontsize=8)


def validation(curves: Sequence[Curve], colours: Mapping[str, str]) -> str | None:
    """Validation accuracy by epoch, every stage in one plot; the dot is the epoch whose weights were kept."""
    measured = [curve for curve in curves if curve.best]
    if not measured:
        return None

    def plot(figure: Figure) -> None:
        axes = figure.subplots()
        for curve in measured:
            epochs, fractions = _columns(curve.val_accuracy)
            axes.plot(epochs, _percent(fractions), color=colours[curve.stage], label=curve.stage)
            if curve.best:
                axes.plot(curve.best[0], 100 * curve.best[1], "o", color=colours[curve.stage], markersize=6)
        axes.set_xlabel("epoch of the stage")
        axes.set_ylabel("validation accuracy, %")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=len(measured))

    return draw(WIDTH, 3.2, plot, "Validation accuracy by epoch")


def accuracy(rows: Sequence[StageResult], shots: Sequence[int], colours: Mapping[str, str]) -> str | None:
    """Test accuracy with its 95 % confidence interval: a group of bars a shot, a bar a stage."""
    if not shots:
        return None
    width = 0.8 / len(rows)

    def plot(figure: Figure) -> None:
        axes = figure.subplots()
        for index, row in enumerate(rows):
            found = [(place, result) for place, shot in enumerate(shots) if (result := at_shot(row, shot))]
            positions = [place + width * (index + 0.5) - 0.4 for place, _ in found]
            bars = axes.bar(
                positions,
                _percent([result.mean for _, result in found]),
                width * 0.9,
                yerr=_percent([result.ci95 for _, result in found]),
                color=colours[row.stage],
                ecolor=INK,
                capsize=3,
                label=row.stage,
            )
            axes.bar_label(bars, fmt="%.1f", padding=2, fontsize=8)
        axes.set_xticks(range(len(shots)), [f"{shot}-shot" for shot in shots])
        axes.grid(visible=False, axis="x")
        axes.margins(y=0.12)
        axes.set_ylabel("test accuracy, %")
        figure.legend(loc="outside upper left", ncols=len(rows))

    return draw(WIDTH, 3.4, plot, "Test accuracy by stage")


def size(rows: Sequence[StageResult], shots: Sequence[int], colours: Mapping[str, str]) -> str | None:
    """Parameters against accuracy: what a smaller network costs."""
    if not shots:
        return None

    def plot(figure: Figure) -> None:
        axes = figure.subplots()
        for shot, marker in zip(shots, _MARKERS * len(shots), strict=False):
            found = [(row, result) for row in rows if (result := at_shot(row, shot))]
            axes.scatter(
                [row.parameters for row, _ in found],
                _percent([result.mean for _, result in found]),
                c=[colours[row.stage] for row, _ in found],
                marker=marker,
                s=52,
            )
        _parameter_axis(axes, [row.parameters for row in rows])
        axes.set_ylabel("test accuracy, %")
        marks = [
            _mark(marker, INK, f"{shot}-shot", hollow=True)
            for shot, marker in zip(shots, _MARKERS * len(shots), strict=False)
        ]
        stages = [_mark("o", colours[row.stage], row.stage) for row in rows]
        figure.legend(handles=[*stages, *marks], loc="outside upper left", ncols=len(stages) + len(marks))

    return draw(WIDTH, 3.4, plot, "Parameters against test accuracy")


def _parameter_axis(axes: Axes, parameters: Sequence[int]) -> None:
    from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

    axes.set_xscale("log")
    axes.set_xlim(min(parameters) / 2, max(parameters) * 2)  # at least one label, even where all are one size
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.margins(y=0.12)
    axes.set_xlabel("parameters")


def _mark(marker: str, colour: str, label: str, *, hollow: bool = False) -> Line2D:
    from matplotlib.lines import Line2D

    return Line2D(
        [], [], linestyle="", marker=marker, color=colour, fillstyle="none" if hollow else "full", label=label
    )


def at_shot(row: StageResult, shot: int) -> AccuracyRow | None:
    """Return the stage's accuracy at that many shots, the first one measured."""
    return next((result for result in row.accuracy if result.shot == shot), None)


def _columns(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _percent(fractions: Sequence[float]) -> list[float]:
    return [100 * fraction for fraction in fractions]
