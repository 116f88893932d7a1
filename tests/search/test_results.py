from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from edgekd.recipe import load_recipe
from edgekd.search.page import MOST_ROWS, results_page
from edgekd.search.results import Measured, outcome_of


def trial(number: int, state: TrialState, value: float | None = None, **attributes: Any) -> FrozenTrial:
    now = datetime.now(UTC)
    attributes = {"candidate": {"student": f"convnet:{number + 1}", "weight_bits": 8}, **attributes}
    ended = None if state == TrialState.RUNNING else now
    return FrozenTrial(number, state, value, now, ended, {}, {}, attributes, {}, {}, number)


def measured(parameters: int, mean: float) -> dict[str, Any]:
    row = Measured(
        parameters=parameters,
        weight_bytes=parameters,
        peak_activation_bytes=None,
        macs=1,
        mean=mean,
        ci95=0.01,
        by_shot=(),
        seconds=1,
    )
    return row.model_dump(mode="json")


def done(number: int, parameters: int, mean: float, **attributes: Any) -> FrozenTrial:
    return trial(number, TrialState.COMPLETE, mean, result=measured(parameters, mean), **attributes)


def test_the_front_is_all_that_nothing_beats() -> None:
    random = np.random.default_rng(0)
    points = [(int(random.integers(1, 20)), float(random.integers(1, 20)) / 20) for _ in range(60)]
    outcome = outcome_of("s", "p", [done(number, *point) for number, point in enumerate(points)])
    expected = {
        number
        for number, (size, score) in enumerate(points)
        if not any((other <= size and best >= score) and (other < size or best > score) for other, best in points)
    }
    assert {row.number for row in outcome.trials if row.front} == expected
    sizes, scores = zip(*((row.measured.parameters, row.measured.mean) for row in outcome.front), strict=True)
    assert list(sizes) == sorted(sizes)
    assert list(scores) == sorted(scores)


def test_the_best_comes_first_and_the_smaller_of_equals() -> None:
    outcome = outcome_of("s", "p", [done(0, 30, 0.5), done(1, 20, 0.5), done(2, 10, 0.4)])
    assert [row.number for row in outcome.trials] == [1, 0, 2]


def test_refusals_are_counted_by_rule_and_repeats_once() -> None:
    both = {"parameters": "9 of 8", "layers": "3 of 2"}
    outcome = outcome_of(
        "s",
        "p",
        [
            trial(0, TrialState.PRUNED, refused_by=both),
            trial(1, TrialState.PRUNED, refused_by={"parameters": "10 of 8"}),
            trial(2, TrialState.PRUNED, same_as=0),
            done(3, 5, 0.5),
            done(4, 5, 0.5, same_as=3),
            trial(5, TrialState.FAIL, error="diverged"),
            trial(6, TrialState.RUNNING, folder="x"),
            trial(7, TrialState.RUNNING),
        ],
    )
    assert [(row.rule, row.candidates, row.message) for row in outcome.refusals] == [
        ("parameters", 2, "9 of 8"),
        ("layers", 1, "3 of 2"),
    ]
    assert (outcome.refused, outcome.repeated, outcome.failed, outcome.running) == (2, 2, 1, 1)
    assert outcome.errors == ("diverged",)
    assert len(outcome.trials) == 1


def test_a_page_has_the_best_and_all_of_the_front() -> None:
    falling = [done(number, 1000 - number, 0.9 - number / 1000) for number in range(30)]  # all on the front
    beaten = [done(30 + number, 2000, 0.1) for number in range(30)]
    refused = trial(60, TrialState.PRUNED, refused_by={"parameters": "9 of 8"})
    recipe = load_recipe(None, ["data.spec=omniglot:/somewhere", "distill.method=ce", "search.epochs=3"])
    page = results_page(outcome_of("s", "board", [*falling, *beaten, refused]), recipe)
    rows = [line for line in page.splitlines() if line.startswith("| ")][2:]
    assert len(rows) == 30 > MOST_ROWS
    assert rows[0] == "| 0 | convnet:1 | 8 | 1,000 | 1,000 | unknown | 1 | 90.00 ± 1.00 | * |"
    assert "# The students that do best on omniglot under `board`\n" in page
    assert "/somewhere" not in page
    assert "trained for 3 epochs by `ce`, exported and measured in onnxruntime on 2,000 episodes" in page
    assert "- candidates: 60 trained, 1 refused\n- parameters refused 1, for example: 9 of 8\n" in page


def test_a_page_of_nothing_says_so() -> None:
    page = results_page(outcome_of("s", "board", []), load_recipe(None))
    assert page.endswith("\n- candidates: 0 trained\n")
