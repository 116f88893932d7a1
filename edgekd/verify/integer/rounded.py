"""The integers that rounding can make: limits of activations, and ranges of sums."""

from __future__ import annotations

import math

import numpy as np

from edgekd.verify.integer.bounds import reach_of
from edgekd.verify.integer.steps import Accumulate, AddTerms, Step
from edgekd.verify.integer.values import Format, RefusedError

LARGEST_SCALE, _LARGEST_MULTIPLIER = 2.0**60, 2.0**30  # and their reciprocals the smallest


def quantized(real: float, form: Format) -> int:
    """Return the integer of a real limit, half to even, within the type's range."""
    if abs(real) > LARGEST_SCALE:
        return form.low if real < 0 else form.high
    steps = np.rint(np.float32(real) / np.float32(form.scale.item()))
    return int(np.clip(np.float64(steps) + int(form.zero_point.item()), form.low, form.high))


def require_multiplier(step: Step) -> None:
    """Refuse an output of so other a scale that every sum is 0 or out of range.

    Raises:
        RefusedError: naming the node.
    """
    if isinstance(step, Accumulate):
        ratios = [step.multiplier.as_float64() / step.multiplier.count]
    elif isinstance(step, AddTerms):
        ratios = [item.format.scale / np.float64(step.scale) for item in step.inputs if item.format]
    else:
        return
    if any(np.any((ratio > _LARGEST_MULTIPLIER) | (ratio < 1 / _LARGEST_MULTIPLIER)) for ratio in ratios):
        raise RefusedError(step.node, "the scale of its output is beyond 2^30 of that of its sums")


def narrowed(step: Accumulate) -> tuple[int, int]:
    """Return the integers that the sums of a step can become: every arithmetic keeps 0, and is less than 2 off.

    Where sums overflow, or outputs wrap around, this does not hold: the simulator then adds in float64.
    """
    reach, real, output = reach_of(step), step.multiplier.as_float64() / step.multiplier.count, step.output
    largest = float(real.max())
    low = output.zero_point if reach.low >= 0 else output.zero_point + math.floor(reach.low * largest) - 2
    high = output.zero_point if reach.high <= 0 else output.zero_point + math.ceil(reach.high * largest) + 2
    return max(output.low, min(low, output.high)), min(output.high, max(high, output.low))
