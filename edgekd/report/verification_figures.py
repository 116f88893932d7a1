"""The figures of the verification page. Each takes a report and returns inline SVG, or None where it lacks the facts.

`prefix` makes the figure's ids its own where a page shows several reports.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgekd.report.svg import FAINT, INK, PALETTE, draw

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from edgekd.verify.report import Memory, Report
    from edgekd.verify.results import PlannedBuffer

WIDTH = 8.4  # inches
MOST_TENSORS = 300  # drawn of a plan, the largest
MOST_LAYERS = 60
KIB = 1024
_LABELLED = 0.05  # of the arena: lower rectangles carry no name


def memory_plan(report: Report, prefix: str = "") -> str | None:
    """Every tensor as a rectangle, steps across and bytes up; those that are live at the peak stand out."""
    memory = report.memory
    if not memory.plan or not memory.peak_activation_bytes:
        return None
    shown = sorted(memory.plan, key=lambda item: -item.bytes)[:MOST_TENSORS]

    def plot(figure: Figure) -> None:
        axes = figure.subplots()
        for item in shown:
            _rectangle(axes, item, memory)
        axes.axhline((memory.lower_bound_bytes or 0) / KIB, color=INK, linewidth=1.0, linestyle="--")
        axes.set_xlim(-0.5, max(item.last_step for item in shown) + 0.5)
        axes.set_ylim(0, 1.08 * (memory.peak_activation_bytes or 1) / KIB)
        axes.set_ylabel("offset, KiB")
        _step_axis(axes, memory.steps)

    return draw(WIDTH, 4.2, plot, f"{prefix}Memory plan")


def _rectangle(axes: Axes, item: PlannedBuffer, memory: Memory) -> None:
    live = item.tensor in {tensor.tensor for tensor in memory.live_at_peak}
    width = item.last_step - item.first_step + 1
    axes.bar(
        item.first_step - 0.5,
        item.bytes / KIB,
        width,
        bottom=item.offset / KIB,
        align="edge",
        color=PALETTE[1] if live else PALETTE[0],
        alpha=0.85 if live else 0.45,
        edgecolor=INK,
        linewidth=0.6,
    )
    if item.bytes > _LABELLED * (memory.peak_activation_bytes or 1):
        place = (item.first_step - 0.5 + width / 2, (item.offset + item.bytes / 2) / KIB)
        axes.annotate(_short(item.tensor), place, ha="center", va="center", fontsize=7)


def layers(report: Report, prefix: str = "") -> str | None:
    """MACs and weight bytes of each layer, the first on top."""
    rows = report.layers[:MOST_LAYERS]
    if not rows:
        return None

    def plot(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, sharey=True)
        for axes, values, colour, title in (
            (left, [row.macs or 0 for row in rows], PALETTE[0], "MACs"),
            (right, [row.weight_bytes for row in rows], PALETTE[2], "weights and biases, bytes"),
        ):
            bars = axes.barh(range(len(rows)), values, color=colour)
            axes.bar_label(bars, fmt=_engineering, padding=3, fontsize=8)
            axes.set_title(title)
            axes.margins(x=0.18)
            axes.grid(visible=False, axis="y")
            axes.xaxis.set_major_formatter(_engineering)
        left.set_yticks(range(len(rows)), [_short(row.node) for row in rows])
        left.invert_yaxis()

    return draw(WIDTH, 1.2 + 0.26 * len(rows), plot, f"{prefix}Costs by layer")


def engines(report: Report, prefix: str = "") -> str | None:
    """Accuracy of each engine with its 95 % interval: a group a shot."""
    if not report.accuracy:
        return None
    names = list(dict.fromkeys(row.engine for row in report.accuracy))
    groups = list(dict.fromkeys((row.way, row.shot) for row in report.accuracy))

    def plot(figure: Figure) -> None:
        axes = figure.subplots()
        for index, name in enumerate(names):
            rows = [row for row in report.accuracy if row.engine == name]
            places = [groups.index((row.way, row.shot)) + 0.6 * ((index + 0.5) / len(names) - 0.5) for row in rows]
            means, intervals = [100 * row.mean for row in rows], [100 * row.ci95 for row in rows]
            colour = PALETTE[index % len(PALETTE)]
            axes.errorbar(places, means, intervals, fmt="o", color=colour, capsize=4, label=name)
            for place, mean in zip(places, means, strict=True):
                axes.annotate(f"{mean:.2f}", (place, mean), (7, 0), textcoords="offset points", va="center", fontsize=8)
        axes.set_xticks(range(len(groups)), [f"{way}-way {shot}-shot" for way, shot in groups])
        axes.set_xlim(-0.6, len(groups) - 0.4)
        axes.margins(y=0.15)
        axes.set_ylabel("accuracy, %")
        figure.legend(loc="outside upper left", ncols=min(len(names), 3))

    return draw(WIDTH, 3.4, plot, f"{prefix}Accuracy by engine")


def sqnr(report: Report, prefix: str = "") -> str | None:
    """Signal to quantization noise along the network; the worst layer stands out."""
    rows = report.sqnr[:MOST_LAYERS]
    if not rows:
        return None
    worst = min(row.sqnr_db for row in rows)

    def plot(figure: Figure) -> None:
        axes = figure.subplots()
        colours = [PALETTE[1] if row.sqnr_db == worst else PALETTE[0] for row in rows]
        bars = axes.barh(range(len(rows)), [row.sqnr_db for row in rows], color=colours)
        axes.bar_label(bars, fmt="%.1f", padding=3, fontsize=8)
        axes.set_yticks(range(len(rows)), [_short(row.node) for row in rows])
        axes.invert_yaxis()
        axes.axvline(0, color=FAINT, linewidth=1.0)
        axes.margins(x=0.1)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("dB")

    return draw(WIDTH, 1.0 + 0.26 * len(rows), plot, f"{prefix}Signal to quantization noise by layer")


def _step_axis(axes: Axes, steps: Sequence[str]) -> None:
    """Name the operators where there is room for their names, else count them."""
    axes.grid(visible=False, axis="x")
    if steps and len(steps) <= 24:
        axes.set_xticks(range(len(steps)), [_short(name, 16) for name in steps], rotation=45, ha="right", fontsize=8)
    else:
        axes.set_xlabel("step")


def _engineering(value: float, _position: int | None = None) -> str:
    for limit, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g} {suffix}"
    return f"{value:.3g}"


def _short(name: str, most: int = 24) -> str:
    """A name that fits, without what a font cannot draw; its end tells more than its beginning."""
    clean = "".join(letter if letter.isprintable() else "?" for letter in name)
    return clean if len(clean) <= most else f"…{clean[1 - most :]}"
