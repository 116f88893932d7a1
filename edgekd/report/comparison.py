"""The page of a comparison: scores, where the recipes differ, what is beyond noise, and how the runs learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgekd.comparison import Comparison, Score
from edgekd.report.curves import Curve, stage_curves
from edgekd.report.svg import INK, PALETTE, draw
from edgekd.report.templates import render
from edgekd.report.wording import INTERVALS, difference_cells, score_cell

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 8.4  # inches
_COLUMNS = 3
_MARKERS = ("o", "s", "^", "D", "v", "P")

Metrics = Sequence[Mapping[str, Any]]  # the lines of a metrics.jsonl


def comparison_page(comparison: Comparison, metrics: Mapping[str, Sequence[Metrics]]) -> str:
    """Return the HTML page; `metrics` holds, by the name of a setting, the lines of each of its runs.

    Raises:
        RunError: a line of metrics is malformed.
    """
    colours = {setting.name: PALETTE[place % len(PALETTE)] for place, setting in enumerate(comparison.settings)}
    curves = {name: [stage_curves(lines) for lines in of_runs] for name, of_runs in metrics.items()}
    return render(
        "comparison.html.j2",
        title="Runs compared",
        comparison=comparison,
        table=score_table(comparison),
        keys=list(comparison.settings[0].choices),
        colours=colours,
        intervals=INTERVALS,
        score_cell=score_cell,
        difference_cells=difference_cells,
        figures={"scores": scores_figure(comparison, colours), "curves": curves_figure(comparison, curves, colours)},
    )


def score_table(comparison: Comparison) -> list[tuple[Score, list[Score | None]]]:
    """Return a row for each stage of each setting: one of its scores, and the score by each measure."""
    rows: dict[tuple[str, str], dict[str, Score]] = {}
    for score in comparison.scores:
        rows.setdefault((score.stage, score.setting), {})[score.measure] = score
    return [(next(iter(row.values())), [row.get(measure) for measure in comparison.measures]) for row in rows.values()]


def scores_figure(comparison: Comparison, colours: Mapping[str, str]) -> str:
    """A small plot a measure: a row a setting, a mark a stage, with its interval or the spread of its seeds."""
    measures, settings = comparison.measures, [setting.name for setting in comparison.settings]
    height = 0.9 + 0.32 * max(3, len(settings) * max(1, len(comparison.stages) / 2))

    def plot(figure: Figure) -> None:
        grid = figure.subplots(1, len(measures), squeeze=False, sharey=True)
        for axes, measure in zip(grid.flat, measures, strict=True):
            _dots(axes, [score for score in comparison.scores if score.measure == measure], comparison, colours)
            axes.set_title(measure)
            axes.set_xlabel("%")
        grid.flat[0].set_yticks(range(len(settings)), settings)
        grid.flat[0].set_ylim(len(settings) - 0.5, -0.5)
        handles, labels = _legend(comparison.stages)
        figure.legend(handles, labels, loc="outside upper left", ncols=len(labels))

    return draw(WIDTH, height, plot, "Scores with their intervals")


def _dots(axes: Axes, scores: Sequence[Score], comparison: Comparison, colours: Mapping[str, str]) -> None:
    settings, stages = [setting.name for setting in comparison.settings], comparison.stages
    for score in scores:
        rank = stages.index(score.stage)
        y = settings.index(score.setting) + 0.7 * ((rank + 0.5) / len(stages) - 0.5)
        colour, marker = colours[score.setting], _MARKERS[rank % len(_MARKERS)]
        spread = score.ci95s[0] if score.std is None else score.std
        axes.errorbar(100 * score.mean, y, xerr=100 * spread, fmt=marker, color=colour, ecolor=INK, elinewidth=1.0)
        if score.std is not None:
            axes.plot([100 * value for value in score.values], [y] * len(score.values), ".", color=INK, markersize=3)


def _legend(stages: Sequence[str]) -> tuple[list[Any], list[str]]:
    from matplotlib.lines import Line2D

    marks = [
        Line2D([], [], linestyle="", marker=_MARKERS[rank % len(_MARKERS)], color=INK, fillstyle="none")
        for rank in range(len(stages))
    ]
    return marks, list(stages)


def curves_figure(
    comparison: Comparison, curves: Mapping[str, Sequence[Sequence[Curve]]], colours: Mapping[str, str]
) -> str | None:
    """The validation score by epoch: a small plot a stage, a line a run, the colour of its setting."""
    lines = {
        stage: [
            (name, curve)
            for name, of_runs in curves.items()
            for of_run in of_runs
            for curve in of_run
            if curve.stage == stage and curve.val_accuracy
        ]
        for stage in comparison.stages
    }
    shown = {stage: found for stage, found in lines.items() if found}
    if not shown:
        return None
    rows = -(-len(shown) // _COLUMNS)

    def plot(figure: Figure) -> None:
        grid = figure.subplots(rows, min(len(shown), _COLUMNS), squeeze=False)
        for axes in grid.flat[len(shown) :]:
            axes.set_visible(False)
        for axes, (stage, found) in zip(grid.flat, shown.items(), strict=False):
            for name, curve in found:
                marker = "o" if len(curve.val_accuracy) == 1 else None
                epochs, shares = zip(*curve.val_accuracy, strict=True)
                axes.plot(epochs, [100 * share for share in shares], color=colours[name], marker=marker, linewidth=1.4)
            axes.set_title(stage)
            axes.set_xlabel("epoch")

    return draw(WIDTH, 2.7 * rows, plot, "Validation by epoch")
