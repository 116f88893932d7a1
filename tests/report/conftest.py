"""A report with every field filled, for the pages and files that are made of reports."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from edgekd.manifest import AccuracyRow
from edgekd.verify.report import Report, verdict_of
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
from edgekd.verify.rules import Finding


def accuracy(engine: str, shot: int, mean: float, ci95: float = 0.002) -> AccuracyRow:
    return AccuracyRow(
        dataset="glyphs:v1", split="test", way=5, shot=shot, query=15, episodes=10_000, head="cosine", engine=engine,
        mean=mean, ci95=ci95,
    )  # fmt: skip


FINDINGS = (
    Finding(
        rule="parameters", status="fail", message="200 parameters exceed the cap of 100 by 100", attribute="params.max",
        value=200, limit=100, source="data sheet, page 7", hint="Conv4-40 fits",
    ),
    Finding(rule="weight-bits", status="unknown", message="'mine' does not say weights.bits", attribute="weights.bits"),
    Finding(rule="operators", status="fail", message="Softmax is not supported", node="head/softmax", attribute="ops"),
    Finding(rule="static-shapes", status="pass", message="every dimension is fixed"),
)  # fmt: skip


def build(path: str = "models/a b.onnx", findings: tuple[Finding, ...] = FINDINGS, **changes: Any) -> Report:
    keys: dict[str, Any] = {
        "verdict": verdict_of(findings),
        "model": {"path": path, "sha256": "ab" * 32, "flavour": "qcdq", "producer": "tests"},
        "profile": {"name": "mine", "sha256": "cd" * 32},
        "params": {"total": 200, "cap": 100},
        "macs": 12_345,
        "memory": {
            "weight_bytes": 240,
            "peak_activation_bytes": 96,
            "peak_activation_bytes_fused": 64,
            "lower_bound_bytes": 96,
            "planner": "lowest gap first, minimal",
            "peak_node": "conv",
            "live_at_peak": [
                {"tensor": "pixels", "shape": (1, 1, 8, 8), "bytes": 64},
                {"tensor": "y", "shape": (1, 32), "bytes": 32},
            ],
            "plan": [
                PlannedBuffer(tensor="pixels", bytes=64, offset=0, first_step=0, last_step=1),
                PlannedBuffer(tensor="y", bytes=32, offset=64, first_step=1, last_step=1),
            ],
            "steps": ("quantize", "conv"),
            "weights": [WeightRow(kind="weights", bits=4, elements=300, bytes=150)],
            "regions": [RegionRow(region="flash", role="weights", bytes=1000, used_bytes=240)],
        },
        "findings": findings,
        "accuracy": [
            accuracy("onnxruntime", 1, 0.5), accuracy("onnxruntime", 5, 0.7), accuracy("integer:tflm", 5, 0.69),
        ],
        "layers": [{"node": "conv", "op": "Conv", "macs": 12_345, "parameters": 200, "weight_bytes": 240}],
        "engines": [
            EngineRow(engine="onnxruntime", images=10, elements=640, differing=0, max_lsb=0),
            EngineRow(engine="integer:tflm", images=10, elements=640, differing=0.01, max_lsb=2),
        ],
        "accumulators": [AccumulatorRow(node="conv", low=-900, high=1000, bits=11, type_bits=20, limit_bits=16)],
        "certificate": Certificate(bit_exact=False, reasons=("scale of conv is no power of two",)),
        "sqnr": [SqnrRow(node="conv", tensor="y", sqnr_db=31.25), SqnrRow(node="fc", tensor="z", sqnr_db=28.5)],
        "estimates": [Estimate(quantity="ms", kind="measured", low=1.5, high=3.0, source="PULP-NN")],
        "lineage": [],
        "warnings": ["this CPU has neither AVX512-VNNI nor AVX-VNNI"],
        "environment": {"edgekd": "1", "versions": {"onnx": "1.23.2"}, "cpu_flags": ("avx2",)},
        "timings": {"static_s": 0.25, "accuracy_s": 2.0},
    }  # fmt: skip
    return Report.model_validate(keys | changes)


@pytest.fixture
def make_report() -> Callable[..., Report]:
    """Build the report of `path` with `findings`; other keys replace the example's."""
    return build
