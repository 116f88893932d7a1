"""What the sums of each step can reach, from the weights themselves and the range of the input.

Conventions: integers without their zero points; 0 belongs to every input (padding); the bias is part of the sum.
`low`..`high` is what the whole sum can be. `magnitude`, the sum of the absolute values of all products and of the bias,
bounds every partial sum in every order, so below 2^24 float32 adds exactly, below 2^53 float64 does.
Source: I. Colbert et al., A2Q: Accumulator-Aware Quantization with Guaranteed Overflow Avoidance, 2023,
https://arxiv.org/abs/2308.13504.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgekd.verify.graph import once_each
from edgekd.verify.integer.steps import Accumulate, AddTerms, Program
from edgekd.verify.integer.values import Operand
from edgekd.verify.quantization import bits_for
from edgekd.verify.results import AccumulatorRow

FLOAT32_EXACT, FLOAT64_EXACT = 2**24, 2**53


@dataclass(frozen=True)
class Reach:
    """The least and largest sum, and the bound of every partial sum."""

    low: int
    high: int
    magnitude: int


@once_each
def reach_of(step: Accumulate) -> Reach:
    """Return what the sums of a step can reach."""
    return _REACHES[step.kernel](step)


def accumulator_row(step: Accumulate, limit_bits: int | None = None, overflows: int | None = None) -> AccumulatorRow:
    """Return a step's row of the report."""
    reach = reach_of(step)
    return AccumulatorRow(
        node=step.node,
        low=reach.low,
        high=reach.high,
        bits=signed_bits(reach.low, reach.high),
        type_bits=_type_bits(step),
        limit_bits=limit_bits,
        overflows=overflows,
    )


def accumulators(program: Program) -> tuple[Accumulate, ...]:
    """Return the steps that add up more than one product: layers and averages."""
    steps = (step for step in program.steps if isinstance(step, Accumulate))
    return tuple(step for step in steps if step.layer or step.terms > 1)


def signed_bits(low: int, high: int) -> int:
    """Return the width of the narrowest signed integer that holds low..high."""
    return bits_for(min(low, -1), high)


def centred_values(operand: Operand) -> NDArray[np.int64]:
    """Return a constant's integers without their zero point."""
    assert operand.values is not None
    return operand.values.astype(np.int64) - operand.zero_point


def widest(operand: Operand) -> tuple[int, int]:
    """Return the range of an operand without its zero point, with 0; of a constant its own values."""
    if operand.values is not None and operand.values.size:
        values = centred_values(operand)
        return min(0, int(values.min())), max(0, int(values.max()))
    low, high = operand.centred
    return min(0, low), max(0, high)


def _weighted(step: Accumulate) -> Reach:
    """Products with constant weights, summed over all axes but the output channels': first of Conv, last of MatMul."""
    data, weight = step.inputs
    if weight.values is None:
        return _two_activations(step)
    axes = tuple(range(1, weight.values.ndim)) if step.kernel == "Conv" else (0,)
    values = centred_values(weight)
    positive, negative = np.maximum(values, 0).sum(axis=axes), np.minimum(values, 0).sum(axis=axes)
    low, high = widest(data)
    bias = np.zeros(1, np.int64) if step.bias is None else step.bias.reshape(-1)
    lows, highs = positive * low + negative * high + bias, positive * high + negative * low + bias
    magnitudes = (positive - negative) * max(-low, high) + np.abs(bias)
    return Reach(int(lows.min()), int(highs.max()), int(magnitudes.max()))


def _two_activations(step: Accumulate) -> Reach:
    (low, high), (other_low, other_high) = (widest(operand) for operand in step.inputs)
    products = [a * b for a in (low, high) for b in (other_low, other_high)]
    least, most = step.terms * min(products), step.terms * max(products)
    return Reach(least, most, max(-least, most))


def _summed(step: Accumulate) -> Reach:
    low, high = widest(step.inputs[0])
    return Reach(step.terms * low, step.terms * high, step.terms * max(-low, high))


def _type_bits(step: Accumulate) -> int:
    """Width that the data types alone ask for: as many products of the extremes, without bias."""
    extremes = [_type_extreme(operand) for operand in step.inputs]
    largest = step.terms * int(np.prod(extremes, dtype=object))
    return signed_bits(-largest, largest)


def _type_extreme(operand: Operand) -> int:
    low, high = (operand.format.low, operand.format.high) if operand.format else (operand.low, operand.high)
    zero = operand.zero_point
    return max(int(zero.max()) - low, high - int(zero.min()))


_REACHES: dict[str, Callable[[Accumulate], Reach]] = {
    "Conv": _weighted,
    "MatMul": _weighted,
    "Mul": _two_activations,
    "Rescale": _summed,
    "ReduceSum": _summed,
    "SumPool": _summed,
}


def added_reach(step: AddTerms) -> int | None:
    """Return the magnitude of an addition on the grid of its finest scale; None where that is no grid for all."""
    scales = [float(item.format.scale.item()) for item in step.inputs if item.format]
    finest = min(scales)
    total = 0.0
    for item, scale in zip(step.inputs, scales, strict=True):
        ratio = scale / finest
        if np.frexp(ratio)[0] != 0.5:
            return None
        low, high = widest(item)
        total += ratio * max(-low, high)
    return int(total)
