from __future__ import annotations

from rich.console import Console

from edgekd.cli._lineage import gains, stages_table
from edgekd.manifest import AccuracyRow, StageResult


def result(stage: str, mean: float | None) -> StageResult:
    row = {"dataset": "x", "split": "test", "way": 5, "shot": 1, "query": 15, "episodes": 9, "head": "cosine"}
    rows = () if mean is None else (AccuracyRow.model_validate({**row, "engine": "torch", "mean": mean, "ci95": 0.01}),)
    return StageResult(stage=stage, backbone="b", parameters=7, weight_bytes=28, accuracy=rows)


LINEAGE = [result("teach", 0.9), result("connect", None), result("distill", 0.5), result("head", 0.5)]


def test_the_phases_have_rows_even_where_nothing_is_measured() -> None:
    console = Console(width=100, record=True, quiet=False, file=None)
    with console.capture() as captured:
        console.print(stages_table([*LINEAGE, result("deployed", 0.4)], "INT8 deployed"))
    rows = [line.rstrip() for line in captured.get().splitlines()[1:]]
    assert [row.split("   ")[0].strip() for row in rows] == [
        "teacher",
        "teacher's connector",
        "distilled",
        "distilled + head",
        "INT8 deployed",
    ]
    assert rows[1].endswith("28")  # no accuracy
    assert rows[3].endswith("50.00 ± 1.00")


def test_what_is_not_measured_gains_nothing() -> None:
    assert gains(LINEAGE) == ""
    assert gains([*LINEAGE, result("deployed", 0.4)]) == "quantizing cost +10.0 points (1-shot)"
