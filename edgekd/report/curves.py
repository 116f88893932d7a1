"""The lines of metrics.jsonl as one curve for each stage."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from edgekd.errors import RunError

Points = tuple[tuple[float, float], ...]  # (epoch, value)


@dataclass(frozen=True)
class Curve:
    """What a stage did, epoch by epoch; values that are not finite are left out of the points and counted.

    `terms` are the parts of the loss; `val_accuracy` is a fraction in 0..1.
    """

    stage: str
    steps: int
    loss: Points
    terms: Mapping[str, Points]
    val_accuracy: Points
    images_per_s: float
    not_finite: int

    @property
    def epochs(self) -> float:
        """How many epochs the stage has run."""
        return max((epoch for epoch, _ in self.loss), default=0.0)

    @property
    def best(self) -> tuple[float, float] | None:
        """The epoch of the highest validation accuracy, the first of equals, and that accuracy."""
        return max(self.val_accuracy, key=lambda point: point[1], default=None)


def stage_curves(metrics: Sequence[Mapping[str, Any]]) -> tuple[Curve, ...]:
    """Group the lines of metrics.jsonl by stage, in the order in which the stages began.

    Raises:
        RunError: a line lacks a key or has a value of another type.
    """
    lines: dict[str, list[Mapping[str, Any]]] = {}
    try:
        for line in metrics:
            lines.setdefault(line["stage"], []).append(line)
        return tuple(_curve(stage, of_stage) for stage, of_stage in lines.items())
    except KeyError as error:
        raise RunError(f"a line of metrics.jsonl has no {error}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise RunError(f"a line of metrics.jsonl is malformed: {error}") from error


def _curve(stage: str, lines: Sequence[Mapping[str, Any]]) -> Curve:
    names = dict.fromkeys(name for line in lines for name in line["terms"])
    losses = [(float(line["epoch"]), float(line["loss"])) for line in lines]
    return Curve(
        stage=stage,
        steps=int(lines[-1]["step"]),
        loss=_finite(losses),
        terms={
            name: _finite([(line["epoch"], line["terms"][name]) for line in lines if name in line["terms"]])
            for name in names
        },
        val_accuracy=_finite(
            [(line["epoch"], line["val_accuracy"]) for line in lines if line["val_accuracy"] is not None]
        ),
        images_per_s=median(float(line["images_per_s"]) for line in lines),
        not_finite=sum(not math.isfinite(value) for _, value in losses),
    )


def _finite(points: Sequence[tuple[float, float]]) -> Points:
    return tuple((float(epoch), float(value)) for epoch, value in points if math.isfinite(value))
