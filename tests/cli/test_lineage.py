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
        "teacher *",
        "teacher's connector *",
        "distilled *",
        "distilled + head *",
        "INT8 deployed",
    ]
    assert rows[1].endswith("28")  # no accuracy
    assert rows[3].endswith("50.00 ± 1.00")


def test_what_is_not_measured_gains_nothing() -> None:
    assert gains(LINEAGE) == ""
    cost = "quantizing cost +10.0 points (1-shot; beyond both intervals)"
    assert gains([*LINEAGE, result("deployed", 0.4)]) == cost


def test_a_difference_within_both_intervals_is_called_noise() -> None:
    near = [*LINEAGE, result("deployed", 0.485)]
    assert gains(near) == "quantizing cost +1.5 points (1-shot; within noise)"


def test_unlike_samples_are_said_and_one_shot_may_be_noise_alone() -> None:
    def both(stage: str, one: float, five: float, episodes: int) -> StageResult:
        rows = [
            result(stage, mean).accuracy[0].model_copy(update={"shot": shot, "episodes": episodes})
            for shot, mean in ((1, one), (5, five))
        ]
        return result(stage, None).model_copy(update={"accuracy": tuple(rows)})

    line = gains([both("distill", 0.50, 0.70, 10_000), both("deployed", 0.49, 0.60, 100)])
    assert line == (
        "quantizing cost +1.0/+10.0 points (1-shot/5-shot; 1-shot within noise; 100 against 10,000 episodes)"
    )
