"""Rows of a report: what engines, arithmetic and estimates say. Frozen values; the unit is in the name."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

OPTIMIZED, UNOPTIMIZED = "onnxruntime", "onnxruntime:unoptimized"  # engines; a simulated one is "integer:NAME"


class Row(BaseModel):
    """A frozen value that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class EngineRow(Row):
    """How an engine's output integers differ from those of onnxruntime with all its optimizations.

    `differing` is a fraction of `elements`, all output elements of `images` images; `max_lsb` the largest difference.
    """

    engine: str
    images: int
    elements: int
    differing: float
    max_lsb: int


class AccumulatorRow(Row):
    """The sums of one layer: `low`..`high` is what its weights and its input's range can reach, `bits` holds that.

    `type_bits` is the bound from the data types alone. `limit_bits` is the target's width, None where unknown;
    `overflows` counts sums beyond it in the simulation, None where it was not run.
    """

    node: str
    low: int
    high: int
    bits: int
    type_bits: int
    limit_bits: int | None = None
    overflows: int | None = None


class Certificate(Row):
    """Whether onnxruntime at every optimization level and the target's arithmetic must give the same integers.

    If not, `reasons` say why. The target's is onnxruntime's own where the profile does not say. `arithmetics` are all
    that are proven to agree with onnxruntime, `unproven` the others.
    """

    bit_exact: bool
    reasons: tuple[str, ...] = ()
    arithmetics: tuple[str, ...] = ()
    unproven: tuple[str, ...] = ()


class SqnrRow(Row):
    """Signal to quantization noise of one tensor against the float student's golden activations, in dB."""

    node: str
    tensor: str
    sqnr_db: float


class Estimate(Row):
    """A computed cost, never a measurement of this file: `kind` tells a data sheet's peak rate from a measured one.

    `low` and `high` are equal where the source gives one figure.
    """

    quantity: Literal["cycles", "ms", "mj"]
    kind: Literal["peak", "measured"]
    low: float
    high: float
    source: str = ""


class WeightRow(Row):
    """The stored weights, or the biases, of one bit-width; `bytes` as packed as their width allows."""

    kind: Literal["weights", "biases"]
    bits: int
    elements: int
    bytes: int


class RegionRow(Row):
    """How much of a memory for weights or biases the network takes, in bytes."""

    region: str
    role: str
    bytes: int
    used_bytes: int


class PlannedBuffer(Row):
    """Where a tensor lies in the planned arena, from `first_step` to `last_step`, both included."""

    tensor: str
    bytes: int
    offset: int
    first_step: int
    last_step: int
