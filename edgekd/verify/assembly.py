"""A report put together from what is known of a file, of the profile, and of how it ran."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgekd import __version__
from edgekd.cpu import cpu_flags
from edgekd.manifest import AccuracyRow, StageResult
from edgekd.profile import HardwareProfile
from edgekd.verify.accuracy import Measured
from edgekd.verify.agreement import refuted
from edgekd.verify.environment import versions
from edgekd.verify.facts import Facts
from edgekd.verify.planner import Plan
from edgekd.verify.report import (
    DEPLOYED,
    Environment,
    LayerRow,
    LiveTensor,
    Memory,
    ModelRef,
    Params,
    ProfileRef,
    Report,
    Timings,
    shown_path,
    verdict_of,
)
from edgekd.verify.results import OPTIMIZED, AccumulatorRow, Certificate, Estimate, PlannedBuffer, RegionRow
from edgekd.verify.rules import Finding


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
    errors: tuple[str, ...] = (),
) -> Report:
    """Put a report together."""
    lineage = _lineage(facts, measured.rows)
    return Report(
        verdict=verdict_of(findings),
        model=_model(facts),
        profile=ProfileRef(name=profile.name, sha256=profile.sha256),
        params=Params(
            total=facts.costs.parameters,
            cap=profile.params.max,
            unknown=tuple(node.name for node in facts.costs.unweighed),
        ),
        macs=facts.costs.macs,
        memory=_memory(facts, computed.regions),
        findings=findings,
        accuracy=measured.rows,
        layers=tuple(LayerRow.model_validate(vars(cost)) for cost in facts.costs.layers),
        lineage=lineage,
        lineage_from=_lineage_from(lineage),
        errors=errors,
        pixels=measured.pixels,
        warnings=warnings,
        environment=Environment(edgekd=__version__, versions=versions(), cpu_flags=cpu_flags()),
        timings=timings,
        engines=measured.engines,
        accumulators=measured.accumulators or computed.accumulators,
        certificate=computed.certificate and refuted(computed.certificate, findings),
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


def _lineage_from(lineage: tuple[StageResult, ...]) -> tuple[Literal["file", "measured"], ...]:
    """The file itself is measured now; what was before it anyone may have written."""
    return tuple("measured" if stage is lineage[-1] else "file" for stage in lineage)


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
