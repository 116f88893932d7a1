"""How a report with everything in it looks in a terminal."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from edgekd.cli._lineage import stages_table
from edgekd.cli._verdict import _findings_table, print_report, print_summary
from edgekd.cli._watch import watching
from edgekd.manifest import AccuracyRow, StageResult
from edgekd.verify.report import Report, Unverified
from edgekd.verify.results import AccumulatorRow, Certificate, EngineRow, Estimate, SqnrRow
from edgekd.verify.rules import Finding


def row(engine: str, shot: int, mean: float) -> AccuracyRow:
    return AccuracyRow(
        dataset="glyphs", split="test", way=5, shot=shot, query=15, episodes=100, head="cosine", engine=engine,
        mean=mean, ci95=0.0123,
    )  # fmt: skip


@pytest.fixture
def report() -> Report:
    keys: dict[str, Any] = {
        "verdict": "fail",
        "model": {"path": "m[bold].onnx", "sha256": "", "flavour": "qcdq", "producer": ""},
        "profile": {"name": "mine", "sha256": ""},
        "params": {"total": 200, "cap": None},
        "macs": 64,
        "memory": {
            "weight_bytes": 240, "peak_activation_bytes": 96, "peak_activation_bytes_fused": 64,
            "lower_bound_bytes": 96, "planner": "lowest gap first, minimal", "peak_node": "conv",
            "live_at_peak": [
                {"tensor": "x", "shape": (8, 8), "bytes": 64}, {"tensor": "y", "shape": (32,), "bytes": 32},
            ],
        },
        "findings": [
            Finding(rule="static-shapes", status="pass", message="every dimension is fixed"),
            Finding(rule="parameters", status="fail", message="too many", source="page 7", hint="Conv4-40 fits"),
        ],
        "accuracy": [row("onnxruntime", 1, 0.5), row("onnxruntime", 5, 0.7), row("integer:tflm", 5, 0.69)],
        "layers": [],
        "engines": [EngineRow(engine="integer:tflm", images=10, elements=640, differing=0.01, max_lsb=2)],
        "accumulators": [
            AccumulatorRow(node="conv", low=-9, high=9, bits=24, type_bits=26, limit_bits=20, overflows=1_234)
        ],
        "certificate": Certificate(bit_exact=False, reasons=("the scale of conv is no power of two",)),
        "sqnr": [SqnrRow(node="conv", tensor="y", sqnr_db=31.25), SqnrRow(node="fc", tensor="z", sqnr_db=28.5)],
        "estimates": [Estimate(quantity="cycles", kind="peak", low=1e6, high=1e6, source="data sheet")],
        "lineage": [],
        "warnings": ["this CPU saturates"],
        "environment": {"edgekd": "1", "versions": {}, "cpu_flags": None},
        "timings": {"static_s": 0.25},
    }  # fmt: skip
    return Report.model_validate(keys)


def printed(report: Report, width: int = 120) -> list[str]:
    stream = io.StringIO()
    print_report(Console(file=stream, width=width, highlight=False), report)
    return stream.getvalue().splitlines()


def test_failures_come_first_with_their_hint_on_a_line_of_its_own(report: Report) -> None:
    lines = printed(report)
    at = next(number for number, line in enumerate(lines) if line.startswith("fail"))
    found = [" ".join(line.split()) for line in lines[at : at + 3]]
    assert found == ["fail parameters too many", "would pass: Conv4-40 fits", "page 7"]
    assert lines[at + 3].startswith("pass")


def test_the_table_of_engines(report: Report) -> None:
    lines = printed(report)
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in lines if line.startswith(("onnxr", "integer"))}
    assert rows == {"onnxruntime": "50.00 ± 1.23 70.00 ± 1.23", "integer:tflm": "69.00 ± 1.23 1.000 2"}


def test_lines_on_arithmetic_and_estimates(report: Report) -> None:
    lines = printed(report)
    assert "accumulators: 24 bits hold every sum, at conv, the target has 20; 1,234 sums overflowed" in lines
    assert "no certificate of bit-exactness: the scale of conv is no power of two" in lines
    assert "signal to quantization noise: worst 28.5 dB at fc (z)" in lines
    assert "estimate: 1,000,000 cycles at the data sheet's peak rate (data sheet)" in lines
    assert "  live there: 64 (x, 8 x 8) + 32 (y, 32) = 96 B" in lines
    assert "warning: this CPU saturates" in lines
    assert lines[-2] == "edgekd 1; CPU: flags unknown"
    assert lines[-1] == "verdict: fail (1 pass, 0 unknown, 1 fail)"


def test_text_of_the_file_is_no_markup(report: Report) -> None:
    assert printed(report)[0].startswith("m[bold].onnx  qcdq")


def test_one_engine_needs_no_table(report: Report) -> None:
    lines = printed(report.model_copy(update={"accuracy": report.accuracy[:2], "engines": ()}))
    assert not [line for line in lines if line.startswith("engine")]


def test_the_summary_of_several_files(report: Report) -> None:
    stream = io.StringIO()
    entries: list[Report | Unverified] = [report, Unverified(path="[b]bad.onnx", error="is empty")]
    print_summary(Console(file=stream, width=60, highlight=False), entries)
    text = stream.getvalue()
    assert "is empty" in text
    assert "[b]bad" in text.replace("\n", "")
    assert text.splitlines()[-1] == "verdict: fail (2 files)"


def test_progress_is_shown_on_a_terminal_only() -> None:
    for terminal in (True, False):
        stream = io.StringIO()
        with watching(Console(file=stream, force_terminal=terminal, width=80), "verifying m.onnx"):
            pass
        assert ("verifying m.onnx" in stream.getvalue()) == terminal


def test_findings_alike_are_one_row_that_names_every_node(capsys: pytest.CaptureFixture[str]) -> None:
    alike = [
        Finding(
            rule="kernel", status="fail", message=f"conv{k} has kernel {size}", node=f"conv{k}", value=size, limit=3
        )
        for k, size in enumerate([5, 5, 5, 7], start=1)
    ]
    whole = [Finding(rule="kernel", status="fail", message=text, limit=3) for text in ("first", "second")]
    Console(width=120).print(_findings_table([*alike, *whole]))
    text = capsys.readouterr().out
    assert "conv1 has kernel 5" in text
    assert "and 2 more like it: conv2, conv3" in text
    assert "conv4 has kernel 7" in text
    assert "first" in text
    assert "second" in text


def stage(name: str, backbone: str) -> StageResult:
    accuracy = (row("torch", 1, 0.5), row("torch", 5, 0.7))
    return StageResult(stage=name, backbone=backbone, parameters=10, weight_bytes=40, accuracy=accuracy)


@pytest.mark.parametrize(
    ("stages", "titles"),
    [
        (("teach", "assist", "distill", "deployed"), ["teacher *", "assistant *", "distilled *", "INT8 deployed"]),
        (("scratch", "distill", "deployed"), ["student from scratch *", "distilled *", "INT8 deployed"]),
    ],
    ids=["through an assistant", "without a teacher"],
)
def test_the_table_names_the_stages_that_there_are(stages: tuple[str, ...], titles: list[str]) -> None:
    console = Console(file=io.StringIO(), width=200)
    console.print(stages_table([stage(name, "conv4") for name in stages], "INT8 deployed"))
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()[1:]
    assert [line.split("  ")[0].strip() for line in lines] == titles
