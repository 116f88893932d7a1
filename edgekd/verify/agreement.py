"""Whether engines, certificate and golden vectors agree: simulators to run, and findings on what came out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgekd.bound import Bound
from edgekd.cpu import cpu_flags
from edgekd.errors import ModelError, UsageError, unknown
from edgekd.manifest import QuantScheme
from edgekd.profile import HardwareProfile
from edgekd.text import escaped
from edgekd.verify.environment import saturation_warning
from edgekd.verify.facts import Facts
from edgekd.verify.integer.golden import Golden, golden_path, read_golden
from edgekd.verify.integer.requant import ARITHMETICS, arithmetic_name
from edgekd.verify.integer.simulator import Simulator
from edgekd.verify.integer.sqnr import noise_of
from edgekd.verify.integer.static import DEFAULT, certificate_of, chosen_arithmetic, simulator_of
from edgekd.verify.integer.steps import Program
from edgekd.verify.integer.values import RefusedError
from edgekd.verify.results import OPTIMIZED, UNOPTIMIZED, Certificate, EngineRow, SqnrRow
from edgekd.verify.rules import Finding, Status
from edgekd.verify.work import MOST_SECONDS, simulator_duration

if TYPE_CHECKING:
    from edgekd.verify.engines import Embedded

SIMULATION_RULE, ENGINES_RULE, GOLDEN_RULE = "integer-simulation", "bit-exact-engines", "golden-vectors"

LARGEST_SIMULATED_BYTES = 2**27  # of activations; the simulator holds every tensor of an image, in wider types


@dataclass(frozen=True)
class Simulators:
    """The arithmetics to simulate, and what cannot be."""

    simulators: tuple[Simulator, ...]
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class Compared:
    """How each engine differs from onnxruntime, and whether that contradicts the certificate."""

    rows: tuple[EngineRow, ...]
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class GoldenCheck:
    """What the golden vectors say."""

    findings: tuple[Finding, ...] = ()
    warnings: tuple[str, ...] = ()
    sqnr: tuple[SqnrRow, ...] = ()


def simulators(facts: Facts, profile: HardwareProfile, names: Sequence[str]) -> Simulators:
    """Return a simulator for each of `names`, or for the profile's arithmetic (onnxruntime's where it has none).

    A file that is not lowered to integers, or a profile that does not fit it, is the finding of a static rule.

    Raises:
        UsageError: an unknown arithmetic.
    """
    for name in names:
        if name not in ARITHMETICS:
            raise UsageError(unknown("arithmetic", name, ARITHMETICS))
    if facts.lowered.program is None:
        return Simulators((), ())
    plan = facts.memory.plan
    if plan is not None and plan.peak_bytes > LARGEST_SIMULATED_BYTES:
        limit = f"the limit is {LARGEST_SIMULATED_BYTES:,}"
        message = f"not simulated: one image has {plan.peak_bytes:,} bytes of activations, {limit}"
        return Simulators((), (Finding(rule=SIMULATION_RULE, status="unknown", message=message),))
    ready, findings = [], []
    for name in names or (arithmetic_name(profile.requant) or DEFAULT,):
        try:
            ready.append(simulator_of(facts.lowered.program, profile, ARITHMETICS[name]))
        except RefusedError as refusal:
            message = f"'{name}' cannot compute this file: {refusal}"
            findings.append(
                Finding(rule=SIMULATION_RULE, status="unknown", message=message, node=refusal.node, limit=name)
            )
    return Simulators(tuple(ready), tuple(findings))


def within(simulated: Simulators, facts: Facts, images: int, most_seconds: float) -> Simulators:
    """Return the simulators where each may take so long, else none and a finding that says so."""
    excess = simulator_duration(facts, images).excess(SIMULATION_RULE, most_seconds)
    if not simulated.simulators or excess is None:
        return simulated
    return Simulators((), (*simulated.findings, excess))


def compare_engines(facts: Facts, profile: HardwareProfile, embedded: Sequence[Embedded]) -> Compared:
    """Compare every engine with the first, and those that a certificate covers with one another.

    onnxruntime's optimized kernels alone may be wrong where the CPU saturates: that is unknown, not a contradiction.
    """
    from edgekd.verify.engines import compare

    rows = tuple(row for run in embedded[1:] if (row := compare(embedded[0], run)))
    certificate = certificate_of(facts.lowered, profile)
    if not certificate.bit_exact:
        return Compared(rows)
    covered = _certified(embedded, certificate)
    if sizes := _other_sizes(covered):
        return Compared(rows, (Finding(rule=ENGINES_RULE, status="fail", message=sizes, limit=0.0),))
    differing = [row for run in covered if (row := compare(covered[-1], run)) and row.differing]
    excused = may_saturate(facts.lowered.program) and {row.engine for row in differing} == {OPTIMIZED}
    return Compared(rows, (_certified_finding([run.engine for run in covered], differing, excused=excused),))


def may_saturate(program: Program | None) -> bool:
    """Say whether onnxruntime may saturate here: a CPU without VNNI, and a layer on unsigned activations.

    Source: onnxruntime issues 6004 and 14642, https://github.com/microsoft/onnxruntime/issues/6004.
    """
    if program is None or saturation_warning(cpu_flags()) is None:
        return False
    layers = (step for step in program.steps if getattr(step, "layer", False))
    return any(step.inputs[0].format is not None and step.inputs[0].format.low == 0 for step in layers)


def check_golden(facts: Facts, profile: HardwareProfile, most_seconds: float = MOST_SECONDS) -> GoldenCheck:
    """Simulate the golden inputs: their embeddings must come out, and their float activations give the SQNR."""
    path, program = golden_path(facts.graph.path), facts.lowered.program
    if program is None or not path.is_file():
        missed = program is not None and facts.manifest is not None and facts.manifest.golden_sha256
        warning = f"the golden vectors that the file names are not beside it ({path.name}), and were not compared"
        return GoldenCheck(warnings=(warning,) if missed else ())
    try:
        golden = read_golden(path)
        if facts.manifest is None or facts.manifest.golden_sha256 != golden.sha256:
            return GoldenCheck((_golden(None, f"{path.name} is not what the manifest names: not compared"),))
        if excess := simulator_duration(facts, len(golden.pixels)).excess(GOLDEN_RULE, most_seconds):
            return GoldenCheck((excess,))
        findings = (_compare_golden(facts, profile, program, golden, facts.manifest.quantization),)
        noise = noise_of(facts.graph, _own_or_default(program, profile), golden)
    except RefusedError as refusal:
        return GoldenCheck(warnings=(f"golden vectors not compared: {refusal}",))
    except ModelError as error:
        return GoldenCheck((_golden(None, str(error)),))
    return GoldenCheck(findings, noise.warnings, noise.rows)


def _own_or_default(program: Program, profile: HardwareProfile) -> Simulator:
    """The profile's arithmetic, or onnxruntime's where the profile's has no answer: noise is hardly a rounding's."""
    try:
        return simulator_of(program, profile, chosen_arithmetic(profile))
    except RefusedError:
        return simulator_of(program, profile, ARITHMETICS[DEFAULT])


def _compare_golden(
    facts: Facts, profile: HardwareProfile, program: Program, golden: Golden, scheme: QuantScheme
) -> Finding:
    """The trained network rounds half to even, so its integers are compared in onnxruntime's arithmetic."""
    simulator = simulator_of(program, profile.model_copy(update={"accumulator_bits": None}), ARITHMETICS[DEFAULT])
    found = simulator.run({facts.graph.inputs[0]: golden.pixels}).tensors[program.results[0].tensor]
    found = found.reshape(len(found), -1)
    if found.shape != golden.embedding.shape:
        return _golden(False, f"the golden embeddings are {golden.embedding.shape}, the file makes {found.shape}")
    difference = np.abs(found.astype(np.int64) - golden.embedding)
    share, lsb = float(np.mean(difference > 0)), int(difference.max(initial=0))
    bound = Bound.of(scheme, integers=True)
    text = f"{100 * share:.3f} % of {difference.size} golden integers differ, by at most {lsb} LSB"
    return _golden(bound.allows(lsb, share), text, share, bound.max_share)


def _golden(agrees: bool | None, message: str, share: float | None = None, limit: float | None = None) -> Finding:
    status = {True: "pass", False: "fail", None: "unknown"}[agrees]
    return Finding.model_validate(
        {
            "rule": GOLDEN_RULE,
            "status": status,
            "message": message,
            "attribute": "differing",
            "value": share,
            "limit": limit,
            "source": "manifest",
        }
    )


def _certified(embedded: Sequence[Embedded], certificate: Certificate) -> list[Embedded]:
    """The engines that a certificate is about, the integer ones last."""
    from edgekd.verify.engines import integer_engine

    names = {OPTIMIZED, UNOPTIMIZED, *map(integer_engine, certificate.arithmetics)}
    return [run for run in embedded if run.engine in names]


def _other_sizes(covered: Sequence[Embedded]) -> str | None:
    """Say where engines that must agree make outputs of different sizes, or none that can be compared."""
    last = covered[-1]
    for run in covered[:-1]:
        if run.integers is None or last.integers is None:
            return f"certified bit-exact, yet the integers of {run.engine} and {last.engine} cannot be compared"
        if run.integers.shape != last.integers.shape:
            sizes = [f"{item.integers.shape[1]:,}" for item in (run, last) if item.integers is not None]
            engines = f"{run.engine} and {last.engine}"
            return f"certified bit-exact, yet {engines} make {' and '.join(sizes)} integers of an image"
    return None


def uncomputed(facts: Facts, profile: HardwareProfile, simulator: Simulator, error: ModelError) -> Finding:
    """Return the finding on a simulator that broke off: a failure where the certificate names its arithmetic."""
    name, certificate = simulator.arithmetic.name, certificate_of(facts.lowered, profile)
    contradicted = certificate.bit_exact and name in certificate.arithmetics
    message = f"certified bit-exact, yet '{name}' breaks off: {error}" if contradicted else f"'{name}': {error}"
    status: Status = "fail" if contradicted else "unknown"
    return Finding(rule=SIMULATION_RULE, status=status, message=escaped(message), limit=name)


def refuted(certificate: Certificate, findings: Sequence[Finding]) -> Certificate:
    """Return the certificate as what was measured leaves it: none, for the reason that a failing finding states."""
    rules = {ENGINES_RULE, SIMULATION_RULE}
    reasons = tuple(found.message for found in findings if found.rule in rules and found.status == "fail")
    if not certificate.bit_exact or not reasons:
        return certificate
    every = tuple(sorted({*certificate.arithmetics, *certificate.unproven}))
    return Certificate(bit_exact=False, reasons=reasons, unproven=every)


def _certified_finding(engines: Sequence[str], differing: Sequence[EngineRow], *, excused: bool) -> Finding:
    if differing:
        worst = max(differing, key=lambda row: row.differing)
        message = f"certified bit-exact, yet {worst.engine} and {engines[-1]} differ on "
        message += f"{100 * worst.differing:.3f} % of the outputs"
        message += ": its kernels may saturate on this CPU" if excused else ""
        status: Status = "unknown" if excused else "fail"
        return Finding(rule=ENGINES_RULE, status=status, message=message, value=worst.differing, limit=0.0)
    message = f"certified bit-exact, and {', '.join(engines)} agree on every output"
    return Finding(rule=ENGINES_RULE, status="pass", message=message, value=0.0, limit=0.0)
