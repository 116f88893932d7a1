"""What the integer program of a file proves without running it, against one profile."""

from __future__ import annotations

from dataclasses import dataclass

from edgekd.profile import HardwareProfile
from edgekd.verify.graph import Graph
from edgekd.verify.integer import certificate
from edgekd.verify.integer.bounds import accumulator_row, accumulators
from edgekd.verify.integer.lower import lower
from edgekd.verify.integer.requant import ARITHMETICS, Arithmetic, accumulator_of, arithmetic_name
from edgekd.verify.integer.simulator import Simulator
from edgekd.verify.integer.steps import Program
from edgekd.verify.integer.values import RefusedError
from edgekd.verify.results import AccumulatorRow, Certificate

DEFAULT = "ort"  # simulated where a profile does not say, and what a certificate is about then


@dataclass(frozen=True, eq=False)
class Lowered:
    """The integer program of a graph, or why there is none."""

    program: Program | None
    refusal: RefusedError | None


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


def accumulator_rows(lowered: Lowered, profile: HardwareProfile) -> tuple[AccumulatorRow, ...]:
    """Return what the sums of every layer and average can reach; none where the file is not lowered."""
    steps = accumulators(lowered.program) if lowered.program else ()
    return tuple(accumulator_row(step, profile.accumulator_bits) for step in steps)


def certificate_of(lowered: Lowered, profile: HardwareProfile) -> Certificate:
    """Return the certificate of a file on a target, with every reason where it is not given."""
    if lowered.program is None:
        assert lowered.refusal is not None  # one of both
        return certificate.refused(lowered.refusal)
    saturate = profile.requant.saturate is not False
    arithmetic = chosen_arithmetic(profile)
    return certificate.certify(lowered.program, arithmetic, accumulator_of(profile), saturate=saturate)
