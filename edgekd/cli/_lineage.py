"""From teacher to deployed file in one table, and what each step changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich.table import Table

from edgekd.cli._training import TITLES
from edgekd.manifest import AccuracyRow, StageResult
from edgekd.verify.report import DEPLOYED

SHOWN = ("teach", "assist", "start", "scratch", "connect", "distill", "head", "meta", DEPLOYED)

_TOUCHING = 1e-9  # intervals that touch overlap, whatever their sums round to

Pair = tuple[AccuracyRow, AccuracyRow]
Measurement = tuple[str, str, str, int, int, int]  # dataset, split, head, way, shot, query: what makes rows comparable


def stages_table(lineage: Iterable[StageResult], deployed: str) -> Table:
    """One row for each stage, the last called `deployed`; one column for each way of measuring that any stage has.

    All but the last are what the file says, and marked so.
    """
    stages = [stage for stage in lineage if stage.stage in SHOWN]
    measurements = sorted({key for stage in stages for key in _measured(stage)})
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("", no_wrap=True)
    for heading in ("parameters", "bytes", *_headings(measurements)):
        table.add_column(heading, justify="right")
    for stage in stages:
        rows = _measured(stage)
        cells = [_percent(rows[key]) if key in rows else "" for key in measurements]
        title = f"{TITLES[stage.stage]} *" if stage.stage in TITLES else deployed
        table.add_row(title, f"{stage.parameters:,}", f"{stage.weight_bytes:,}", *cells)
    return table


def gains(lineage: Iterable[StageResult]) -> str:
    """Say what each step gained or cost in points of accuracy, and whether that is more than noise.

    Noise: the difference is within the two 95 % intervals together. Empty where no two stages can be compared.
    """
    stages = {stage.stage: stage for stage in lineage}
    distilled, meta = stages.get("distill"), stages.get("meta")
    student = meta or distilled
    steps = (
        ("distilling gained", _points(stages.get("scratch"), distilled)),
        ("meta-learning gained", _points(distilled, meta)),
        ("quantizing cost", _points(stages.get(DEPLOYED), student)),  # the other way round: a cost is positive
    )
    return "; ".join(f"{words} {points}" for words, points in steps if points)


def _points(before: StageResult | None, after: StageResult | None) -> str:
    """Return "+1.2/+3.4 points (1-shot/5-shot; beyond both intervals)" over what was measured on both."""
    old, new = _measured(before), _measured(after)
    common = sorted(old.keys() & new.keys())
    if not common:
        return ""
    pairs = [(old[key], new[key]) for key in common]
    points = "/".join(f"{100 * (last.mean - first.mean):+.1f}" for first, last in pairs)
    shots = "/".join(f"{last.shot}-shot" for _, last in pairs)
    return f"{points} points ({shots}; {_beyond_noise(pairs)}{_episodes(pairs)})"


def _beyond_noise(pairs: Sequence[Pair]) -> str:
    """Say which differences are beyond both intervals."""
    noisy = [abs(last.mean - first.mean) <= first.ci95 + last.ci95 + _TOUCHING for first, last in pairs]
    if all(noisy):
        return "within noise"
    if not any(noisy):
        return "beyond both intervals"
    names = [f"{last.shot}-shot" for (_, last), inside in zip(pairs, noisy, strict=True) if inside]
    return f"{', '.join(names)} within noise"


def _episodes(pairs: Sequence[Pair]) -> str:
    """Say where two accuracies are not of equally many episodes."""
    first, last = pairs[0]
    return "" if first.episodes == last.episodes else f"; {first.episodes:,} against {last.episodes:,} episodes"


def _measured(stage: StageResult | None) -> Mapping[Measurement, AccuracyRow]:
    rows = stage.accuracy if stage else ()
    return {(row.dataset.partition(":")[0], row.split, row.head, row.way, row.shot, row.query): row for row in rows}


def _headings(measurements: Sequence[Measurement]) -> list[str]:
    """The protocol, with the images and the head, and with the queries, where the columns differ in them."""
    mixed = len({key[:3] for key in measurements}) > 1
    queries = len({key[5] for key in measurements}) > 1
    return [
        f"{way}-way {shot}-shot %"
        + (f"\n{data}/{split}, {head}" if mixed else "")
        + (f"\n{query} queries" if queries else "")
        for data, split, head, way, shot, query in measurements
    ]


def _percent(row: AccuracyRow) -> str:
    return f"{100 * row.mean:.2f} ± {100 * row.ci95:.2f}"
