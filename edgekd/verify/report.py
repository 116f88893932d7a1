"""The report of `edgekd verify`: what `--json` writes, key by key. Keys may be added; none is renamed or removed."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from edgekd import __version__
from edgekd.manifest import AccuracyRow, StageResult
from edgekd.profile import HardwareProfile
from edgekd.verify.accuracy import Measured
from edgekd.verify.engines import OPTIMIZED
from edgekd.verify.environment import cpu_flags, versions
from edgekd.verify.facts import Facts
from edgekd.verify.graph import Flavour
from edgekd.verify.planner import Plan
from edgekd.verify.results import (
    AccumulatorRow,
    Certificate,
    EngineRow,
    Estimate,
    PlannedBuffer,
    RegionRow,
    SqnrRow,
    WeightRow,
)
from edgekd.verify.rules import Finding, Status

DEPLOYED = "deployed"  # the stage of the lineage that is the file itself


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelRef(_Frozen):
    """Which file was verified; `symbolic` lists its open dimensions as tensor[axis]=name."""

    path: str
    sha256: str
    flavour: Flavour
    producer: str
    symbolic: tuple[str, ...] = ()


class ProfileRef(_Frozen):
    """Against which hardware profile."""

    name: str
    sha256: str


class Params(_Frozen):
    """Counted and allowed parameters."""

    total: int
    cap: int | None


class LiveTensor(_Frozen):
    """One term of the memory peak."""

    tensor: str
    shape: tuple[int, ...]
    bytes: int


class Memory(_Frozen):
    """Bytes of weights and activations; None where a size is not known.

    `live_at_peak` adds up to the lower bound. `plan` says where each tensor lies without fusing, `steps` names the
    operators that its steps count. `weights` splits the weight bytes by bit-width, `regions` by the target's memories.
    """

    weight_bytes: int
    peak_activation_bytes: int | None
    peak_activation_bytes_fused: int | None
    lower_bound_bytes: int | None
    planner: str | None
    peak_node: str | None
    live_at_peak: tuple[LiveTensor, ...] = ()
    plan: tuple[PlannedBuffer, ...] = ()
    steps: tuple[str, ...] = ()
    weights: tuple[WeightRow, ...] = ()
    regions: tuple[RegionRow, ...] = ()


class LayerRow(_Frozen):
    """What one layer costs."""

    node: str
    op: str
    macs: int | None
    parameters: int
    weight_bytes: int


class Environment(_Frozen):
    """Where the verdict was reached; `cpu_flags` is None where the system does not tell."""

    edgekd: str
    versions: dict[str, str]
    cpu_flags: tuple[str, ...] | None


class Timings(_Frozen):
    """Seconds spent on the static checks and on accuracy."""

    static_s: float
    accuracy_s: float | None = None


class Report(_Frozen):
    """Everything `edgekd verify` found out. `lineage` ends with the file itself, as measured now."""

    verdict: Literal["pass", "fail", "unknown"]
    model: ModelRef
    profile: ProfileRef
    params: Params
    macs: int
    memory: Memory
    findings: tuple[Finding, ...]
    accuracy: tuple[AccuracyRow, ...]
    layers: tuple[LayerRow, ...]
    engines: tuple[EngineRow, ...] = ()
    accumulators: tuple[AccumulatorRow, ...] = ()
    certificate: Certificate | None = None
    sqnr: tuple[SqnrRow, ...] = ()
    estimates: tuple[Estimate, ...] = ()
    lineage: tuple[StageResult, ...]
    warnings: tuple[str, ...]
    environment: Environment
    timings: Timings

    def to_json(self) -> str:
        """Return the report as JSON text."""
        return self.model_dump_json(indent=2) + "\n"


class Unverified(_Frozen):
    """A file among several that could not be verified, and why."""

    path: str
    error: str


class Collection(_Frozen):
    """The reports of several files. The verdict is the worst; a file that could not be verified counts as a failure."""

    verdict: Status
    reports: tuple[Report | Unverified, ...]

    def to_json(self) -> str:
        """Return the reports as JSON text."""
        return self.model_dump_json(indent=2) + "\n"


def collect(reports: Iterable[Report | Unverified]) -> Collection:
    """Put the reports of several files together."""
    entries = tuple(reports)
    verdicts = {"fail" if isinstance(entry, Unverified) else entry.verdict for entry in entries}
    worst: Status = "fail" if "fail" in verdicts else "unknown" if "unknown" in verdicts else "pass"
    return Collection(verdict=worst, reports=entries)


def shown_path(path: Path) -> str:
    """Return a path as text that any format can hold: bytes that are no UTF-8 become replacement characters."""
    return os.fsencode(path).decode("utf-8", "replace")


def verdict_of(findings: Iterable[Finding]) -> Status:
    """Fail if any finding does; unknown if none does and one could not be decided; else pass."""
    statuses = {finding.status for finding in findings}
    return "fail" if "fail" in statuses else "unknown" if "unknown" in statuses else "pass"


@dataclass(frozen=True)
class Computed:
    """What follows from a file and a profile together, without running it."""

    accumulators: tuple[AccumulatorRow, ...] = ()
    certificate: Certificate | None = None
    estimates: tuple[Estimate, ...] = ()
    regions: tuple[RegionRow, ...] = ()


def report_of(
    facts: Facts,
    profile: HardwareProfile,
    findings: tuple[Finding, ...],
    *,
    measured: Measured,
    computed: Computed,
    warnings: tuple[str, ...],
    timings: Timings,
) -> Report:
    """Put a report together."""
    return Report(
        verdict=verdict_of(findings),
        model=_model(facts),
        profile=ProfileRef(name=profile.name, sha256=profile.sha256),
        params=Params(total=facts.costs.parameters, cap=profile.params.max),
        macs=facts.costs.macs,
        memory=_memory(facts, computed.regions),
        findings=findings,
        accuracy=measured.rows,
        layers=tuple(LayerRow.model_validate(vars(cost)) for cost in facts.costs.layers),
        lineage=_lineage(facts, measured.rows),
        warnings=warnings,
        environment=Environment(edgekd=__version__, versions=versions(), cpu_flags=cpu_flags()),
        timings=timings,
        engines=measured.engines,
        accumulators=measured.accumulators or computed.accumulators,
        certificate=computed.certificate,
        sqnr=measured.sqnr,
        estimates=computed.estimates,
    )


def _model(facts: Facts) -> ModelRef:
    graph = facts.graph
    return ModelRef(
        path=shown_path(graph.path),
        sha256=graph.sha256,
        flavour=facts.flavour,
        producer=graph.producer,
        symbolic=tuple(f"{dim.tensor}[{dim.axis}]={dim.label}" for dim in graph.symbolic),
    )


def _memory(facts: Facts, regions: tuple[RegionRow, ...]) -> Memory:
    memory = facts.memory
    plan, fused = memory.plan, memory.fused
    live = plan.live_at_peak() if plan else ()
    return Memory(
        weight_bytes=facts.costs.weight_bytes,
        peak_activation_bytes=plan.peak_bytes if plan else None,
        peak_activation_bytes_fused=fused.peak_bytes if fused else None,
        lower_bound_bytes=plan.lower_bound_bytes if plan else None,
        planner=plan.planner if plan else None,
        peak_node=memory.steps[plan.peak_step].name if plan and memory.steps else None,
        live_at_peak=tuple(LiveTensor(tensor=item.tensor, shape=item.shape, bytes=item.bytes) for item in live),
        plan=_planned(plan) if plan else (),
        steps=tuple(node.name for node in memory.steps),
        weights=facts.costs.by_bits,
        regions=regions,
    )


def _planned(plan: Plan) -> tuple[PlannedBuffer, ...]:
    return tuple(
        PlannedBuffer(
            tensor=item.tensor,
            bytes=item.bytes,
            offset=offset,
            first_step=item.first_step,
            last_step=item.last_step,
        )
        for item, offset in zip(plan.buffers, plan.offsets, strict=True)
    )


def _lineage(facts: Facts, accuracy: tuple[AccuracyRow, ...]) -> tuple[StageResult, ...]:
    """The stages before export, then the file itself as onnxruntime runs it."""
    earlier = facts.manifest.lineage if facts.manifest else ()
    deployed = StageResult(
        stage=DEPLOYED,
        backbone=earlier[-1].backbone if earlier else "",
        parameters=facts.costs.parameters,
        weight_bytes=facts.costs.weight_bytes,
        accuracy=tuple(row for row in accuracy if row.engine == OPTIMIZED),
    )
    return (*earlier, deployed)
