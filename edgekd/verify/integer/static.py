"""What the integer program of a file proves without running it, against one profile."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from edgekd.profile import HardwareProfile
from edgekd.verify.graph import Graph
from edgekd.verify.integer import certificate
from edgekd.verify.integer.bounds import accumulator_row, accumulators
from edgekd.verify.integer.lower import lower
from edgekd.verify.integer.requant import ARITHMETICS, Arithmetic, accumulator_of, arithmetic_name
from edgekd.verify.integer.simulator import Simulator
from edgekd.verify.integer.steps import Accumulate, AddTerms, Move, Program
from edgekd.verify.integer.values import RefusedError
from edgekd.verify.results import AccumulatorRow, Certificate

_SCALE_ERROR = 2.0**-20  # of a power of two, in float32 scales
DEFAULT = "ort"  # simulated where a profile does not say, and what a certificate is about then


@dataclass(frozen=True, eq=False)
class Lowered:
    """The integer program of a graph, or why there is none."""

    program: Program | None
    refusal: RefusedError | None


@dataclass(frozen=True)
class Unshiftable:
    """A node whose sums take a factor that is no power of two, for its scales or for the elements that it averages."""

    node: str
    factor: float
    averages: bool


def lowered_of(graph: Graph) -> Lowered:
    """Lower a graph; a refusal is an answer too."""
    try:
        return Lowered(lower(graph), None)
    except RefusedError as refusal:
        return Lowered(None, refusal)


def chosen_arithmetic(profile: HardwareProfile) -> Arithmetic:
    """Return the arithmetic of a profile, that of onnxruntime where it does not say."""
    return ARITHMETICS[arithmetic_name(profile.requant) or DEFAULT]


def simulator_of(program: Program, profile: HardwareProfile, arithmetic: Arithmetic) -> Simulator:
    """Return a simulator with a profile's accumulators and saturation.

    Raises:
        RefusedError: the arithmetic has no answer for this program.
    """
    saturate = profile.requant.saturate is not False
    return Simulator(program, arithmetic, accumulator_of(profile), saturate=saturate)


def unshiftable(program: Program) -> tuple[Unshiftable, ...]:
    """Return the steps that no shift rescales: from sums to integers takes a factor that is not 2^k.

    Scales that are no powers of two may have such a ratio all the same, and then a shift may do.
    """
    found = []
    for step in program.steps:
        if isinstance(step, Move):
            continue
        factors, count = _factors(step)
        if not _near_power(factors):
            found.append(Unshiftable(step.node, float(factors[~_powers(factors)][0]), averages=False))
        elif not _near_power(factors / count):
            found.append(Unshiftable(step.node, 1 / float(count[~_powers(1 / count)][0]), averages=True))
    return tuple({item.node: item for item in found}.values())


def _factors(step: Accumulate | AddTerms) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if isinstance(step, Accumulate):
        return np.atleast_1d(step.multiplier.as_float64()), np.atleast_1d(step.multiplier.count.astype(np.float64))
    scales = [item.format.scale.astype(np.float64).ravel() for item in step.inputs if item.format]
    return np.concatenate(scales) / np.float64(step.scale), np.ones(1)


def _near_power(values: NDArray[np.float64]) -> bool:
    return bool(np.all(_powers(values)))


def _powers(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which values are 2^k, but for the rounding of the float32 scales that they are computed from."""
    exponents = np.log2(values)
    return np.asarray(np.abs(exponents - np.rint(exponents)) < _SCALE_ERROR)


@lru_cache(maxsize=2)
def accumulator_rows(lowered: Lowered, profile: HardwareProfile) -> tuple[AccumulatorRow, ...]:
    """Return what the sums of every layer and average can reach; none where the file is not lowered."""
    steps = accumulators(lowered.program) if lowered.program else ()
    return tuple(accumulator_row(step, profile.accumulator_bits) for step in steps)


@lru_cache(maxsize=2)
def certificate_of(lowered: Lowered, profile: HardwareProfile) -> Certificate:
    """Return the certificate of a file on a target, with every reason where it is not given."""
    if lowered.program is None:
        assert lowered.refusal is not None  # one of both
        return certificate.refused(lowered.refusal)
    saturate = profile.requant.saturate is not False
    arithmetic = chosen_arithmetic(profile)
    return certificate.certify(lowered.program, arithmetic, accumulator_of(profile), saturate=saturate)
