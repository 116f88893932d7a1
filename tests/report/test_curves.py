from __future__ import annotations

import math
from typing import Any

import pytest

from edgekd.errors import RunError
from edgekd.report.curves import stage_curves


def line(stage: str, epoch: float, loss: float, **changes: Any) -> dict[str, Any]:
    common = {"step": int(10 * epoch), "terms": {"ce": loss}, "lr": 0.1, "val_accuracy": None, "images_per_s": 100.0}
    return {"stage": stage, "epoch": epoch, "loss": loss} | common | changes


def test_lines_become_a_curve_for_each_stage_in_order() -> None:
    teach, distill = stage_curves([line("teach", 1, 3.0), line("distill", 1, 2.0), line("teach", 2, 1.0)])
    assert (teach.stage, distill.stage) == ("teach", "distill")
    assert teach.loss == ((1.0, 3.0), (2.0, 1.0))
    assert teach.terms == {"ce": ((1.0, 3.0), (2.0, 1.0))}
    assert (teach.steps, teach.epochs) == (20, 2.0)


def test_terms_may_come_and_go() -> None:
    (curve,) = stage_curves([line("distill", 1, 3.0), line("distill", 2, 2.0, terms={"kd": 1.5})])
    assert curve.terms == {"ce": ((1.0, 3.0),), "kd": ((2.0, 1.5),)}


def test_best_is_the_first_highest_validation_accuracy() -> None:
    values = [0.4, None, 0.6, 0.6, 0.5]
    (curve,) = stage_curves([line("teach", i, 1.0, val_accuracy=value) for i, value in enumerate(values)])
    assert curve.best == (2.0, 0.6)
    assert len(curve.val_accuracy) == 4


def test_a_stage_without_validation_has_no_best() -> None:
    (curve,) = stage_curves([line("teach", 1, 1.0)])
    assert curve.best is None


def test_speed_is_the_median() -> None:
    (curve,) = stage_curves([line("teach", i, 1.0, images_per_s=speed) for i, speed in enumerate([1.0, 50.0, 60.0])])
    assert curve.images_per_s == 50.0


def test_losses_that_are_not_finite_are_counted() -> None:
    (curve,) = stage_curves([line("teach", 1, 2.0), line("teach", 2, math.nan), line("teach", 3, math.inf)])
    assert curve.loss == ((1.0, 2.0),)
    assert curve.not_finite == 2


def test_no_lines_no_curves() -> None:
    assert stage_curves([]) == ()


@pytest.mark.parametrize("key", ["stage", "epoch", "step", "loss", "terms", "val_accuracy", "images_per_s"])
def test_a_missing_key_is_named(key: str) -> None:
    broken = {name: value for name, value in line("teach", 1, 2.0).items() if name != key}
    with pytest.raises(RunError, match=f"has no '{key}'"):
        stage_curves([broken])


@pytest.mark.parametrize("change", [{"loss": "high"}, {"loss": None}, {"terms": None}, {"terms": {"ce": "x"}}], ids=str)
def test_a_value_of_another_type(change: dict[str, Any]) -> None:
    with pytest.raises(RunError, match="malformed"):
        stage_curves([line("teach", 1, 2.0) | change])
