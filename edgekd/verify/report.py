"""The report of `edgekd verify`: what `--json` writes, key by key. Keys may be added; none is renamed or removed."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from edgekd.manifest import AccuracyRow, StageResult
from edgekd.verify.graph import Flavour
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

CONVENTION = (
    "each stored weight and bias once, constants folded; of a BatchNorm that is not folded scale and shift, not "
    "mean and variance; no quantization scales or zero points"
)
DEPLOYED = "deployed"  # the stage of the lineage that is the file itself


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


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
    """Counted and allowed parameters; `convention` says what counts, `unknown` names operators whose share is missing.

    Where there are such, `total` is the least that the file can have, and so are the weight bytes.
    """

    total: int
    cap: int | None
    convention: str = CONVENTION
    unknown: tuple[str, ...] = ()


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
    """Everything `edgekd verify` found out. `lineage` ends with the file itself, as measured now.

    `lineage_from` says of each of its rows whether it is what the file says, not measured here, or was measured now.

    `pixels` says what of an image entered the network, None where none did. `errors` tell that the file is damaged, or
    why it could not be measured although that was asked for: the exit code is 2, whatever the verdict.
    """

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
    lineage_from: tuple[Literal["file", "measured"], ...] = ()
    pixels: str | None = None
    errors: tuple[str, ...] = ()
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
