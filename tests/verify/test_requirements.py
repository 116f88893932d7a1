from __future__ import annotations

from typing import Any

import pytest

from edgekd.errors import UsageError
from edgekd.manifest import AccuracyRow
from edgekd.verify.quantities import QUANTITIES
from edgekd.verify.report import Report
from edgekd.verify.request import Request
from edgekd.verify.requirements import complete, judged, parse
from edgekd.verify.results import AccumulatorRow, EngineRow, Estimate, SqnrRow
from edgekd.verify.rules import Finding


def row(engine: str, shot: int, mean: float, **changes: Any) -> AccuracyRow:
    keys: dict[str, Any] = {
        "dataset": "glyphs:v1", "split": "test", "way": 5, "shot": shot, "query": 15, "episodes": 10_000,
        "head": "cosine", "engine": engine, "mean": mean, "ci95": 0.02,
    }  # fmt: skip
    return AccuracyRow.model_validate(keys | changes)


@pytest.fixture
def report() -> Report:
    keys: dict[str, Any] = {
        "verdict": "pass",
        "model": {"path": "m.onnx", "sha256": "", "flavour": "qcdq", "producer": ""},
        "profile": {"name": "mine", "sha256": ""},
        "params": {"total": 149_000, "cap": None},
        "macs": 1_000_000,
        "memory": {
            "weight_bytes": 150_000, "peak_activation_bytes": 524_288, "peak_activation_bytes_fused": None,
            "lower_bound_bytes": 524_288, "planner": "", "peak_node": "conv",
        },
        "findings": [],
        "accuracy": [row("onnxruntime", 1, 0.50), row("onnxruntime", 5, 0.62), row("integer:tflm", 5, 0.60)],
        "layers": [],
        "engines": [
            EngineRow(engine="onnxruntime", images=9, elements=9, differing=0, max_lsb=0),
            EngineRow(engine="integer:tflm", images=9, elements=9, differing=0.01, max_lsb=2),
        ],
        "accumulators": [AccumulatorRow(node="conv", low=-9, high=9, bits=20, type_bits=26)],
        "sqnr": [SqnrRow(node="a", tensor="a", sqnr_db=30.0), SqnrRow(node="b", tensor="b", sqnr_db=20.0)],
        "estimates": [Estimate(quantity="ms", kind="measured", low=2.0, high=4.0)],
        "lineage": [],
        "warnings": [],
        "environment": {"edgekd": "1", "versions": {}, "cpu_flags": None},
        "timings": {"static_s": 0.1},
    }  # fmt: skip
    return Report.model_validate(keys)


def finding(report: Report, text: str) -> Finding:
    (found,) = judged(report, [parse(text)]).findings
    assert found.rule == "require"
    return found


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("accuracy[5w5s] >= 0.60", "pass"),
        ("accuracy[5w5s] > 0.60", "fail"),
        ("accuracy[5w5s, engine=onnxruntime] > 0.60", "pass"),
        ("accuracy[ 5w5s , engine = integer:tflm ]>=60%", "pass"),
        ("accuracy_low[5w5s] >= 0.60", "fail"),
        ("accuracy_low[5w5s] >= 0.58", "pass"),
        ("accuracy[5w1s] < 0.51", "pass"),
        ("accuracy[5w5s, dataset=glyphs, head=cosine, split=test, query=15] >= 0.6", "pass"),
        ("accuracy[5w5s, dataset=glyphs:v1] >= 0.6", "pass"),
        ("params < 150_000", "pass"),
        ("params < 149000", "fail"),
        ("params <= 149e3", "pass"),
        ("macs <= 1e6", "pass"),
        ("weight_bytes <= 146KiB", "fail"),
        ("peak_activation_bytes <= 0.5MiB", "pass"),
        ("lower_bound_bytes <= 512 KiB", "pass"),
        ("sqnr_db >= 25", "fail"),
        ("sqnr_db[node=a] >= 25", "pass"),
        ("differing <= 1%", "pass"),
        ("differing[engine=integer:tflm] < 0.01", "fail"),
        ("max_lsb <= 1", "fail"),
        ("accumulator_bits <= 24", "pass"),
        ("ms <= 3", "fail"),
        ("ms >= 3", "fail"),
        ("ms[kind=measured] <= 4", "pass"),
    ],
)
def test_requirements_are_judged(report: Report, text: str, status: str) -> None:
    assert finding(report, text).status == status


@pytest.mark.parametrize(
    "text",
    [
        "accuracy[5w3s] >= 0.1",
        "accuracy[5w5s, engine=integer:shift] >= 0.1",
        "accuracy[5w5s, dataset=omniglot] >= 0.1",
        "accuracy[5w5s, head=euclid] >= 0.1",
        "peak_activation_bytes_fused <= 1MiB",
        "mj <= 1",
        "differing[engine=integer:shift] <= 1",
        "differing[engine=onnxruntime] <= 1",
        "sqnr_db[node=c] >= 1",
    ],
)
def test_what_was_not_measured_is_unknown_never_pass(report: Report, text: str) -> None:
    found = finding(report, text)
    assert (found.status, found.value) == ("unknown", None)
    assert judged(report, [parse(text)]).verdict == "unknown"


def test_the_finding_has_the_numbers_the_interval_and_the_text(report: Report) -> None:
    found = finding(report, "accuracy[5w5s] >= 0.61")
    assert found.message == "accuracy[5w5s] is 0.6000 ± 0.0200 (integer:tflm); required >= 0.6100"
    assert (found.value, found.limit, found.attribute) == (0.6, 0.61, "accuracy[5w5s]")
    assert found.source == "--require accuracy[5w5s] >= 0.61"
    low = finding(report, "accuracy_low[5w1s] >= 0.4").message
    assert low == "accuracy_low[5w1s] is 0.4800 = 0.5000 - 0.0200 (onnxruntime); required >= 0.4000"
    assert finding(report, "peak_activation_bytes < 512KiB").message.startswith("peak_activation_bytes is 524,288 B;")
    assert "measured: 5w1s, engine=onnxruntime" in finding(report, "accuracy[5w3s] >= 0.1").message


def test_a_failed_requirement_decides_the_verdict_and_none_changes_nothing(report: Report) -> None:
    assert judged(report, [parse("params < 1"), parse("mj < 1")]).verdict == "fail"
    assert judged(report, [parse("params > 1")]).verdict == "pass"
    assert judged(report, []) is report


@pytest.mark.parametrize("limit", [0.0, 0.25, 0.5, 0.62, 0.9])
def test_the_verdict_is_never_better_when_a_limit_is_tightened(report: Report, limit: float) -> None:
    order = ["pass", "unknown", "fail"]
    for sign, tighter in ((">=", limit + 0.01), ("<=", max(0.0, limit - 0.01))):
        loose, tight = (finding(report, f"accuracy[5w5s] {sign} {bound}").status for bound in (limit, tighter))
        assert order.index(loose) <= order.index(tight)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "does not read like accuracy"),
        ("accuracy", "does not read like accuracy"),
        ("accuracy >= 0.6", "say of which episodes, for example accuracy\\[5w5s\\]"),
        ("acuracy[5w5s] >= 0.6", "unknown quantity 'acuracy'. Did you mean 'accuracy'"),
        ("accuracy[5w5s] => 0.6", "unknown comparison '=>'. Known: >=, >, <=, <"),
        ("accuracy[5w5s] == 0.6", "unknown comparison '=='"),
        ("accuracy[5w5s] != 0.6", "unknown comparison '!='"),
        ("accuracy[5w5s] >= 60", "fraction in 0..1: write 0.60 or 60%"),
        ("accuracy[5w5s] >= -0.1", "fraction in 0..1"),
        ("accuracy[5w5s] >= nan", "'nan' is not a number"),
        ("accuracy[5w5s] >= 1e999", "is not a number"),
        ("accuracy[5w5s] >= ._", "is not a number"),
        ("accuracy[5w5s] >= 0.6 0.7", "is not a number"),
        ("accuracy[5w5s, engin=x] >= 0.6", "unknown filter 'engin'. Did you mean 'engine'"),
        ("accuracy[5w5s, engine=] >= 0.6", "does not read like engine=VALUE"),
        ("accuracy[5w5s, query=many] >= 0.6", "does not read like query=VALUE"),
        ("accuracy[5s5w] >= 0.6", "unknown filter '5s5w'"),
        ("accuracy[way=5] >= 0.6", "unknown filter 'way'"),
        ("params[5w5s] < 3", "params takes nothing in brackets"),
        ("params < 3 apples", "is not a number"),
    ],
)
def test_bad_text_is_refused_with_what_would_be_right(text: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        parse(text)


def test_what_a_requirement_needs_is_measured() -> None:
    request = complete(Request(), [parse("accuracy[10w3s, head=euclid] > 0"), parse("accuracy[10w7s] > 0")])
    assert (request.way, request.head, request.query, request.more_shots) == (10, "euclid", None, (3, 7))
    options = request.options(None, None)
    assert (options.way, options.shots, options.head) == (10, (1, 5, 3, 7), "euclid")
    assert complete(Request(), [parse("accuracy[5w1s, engine=integer:tflm] > 0")]).more_requant == ("tflm",)
    assert complete(Request(), [parse("params > 0")]) == Request()


@pytest.mark.parametrize(
    ("request_", "texts", "complaint"),
    [
        (Request(way=5), ["accuracy[10w1s] > 0"], "is of way 10, but this run measures way 5"),
        (Request(), ["accuracy[5w1s] > 0", "accuracy[10w1s] > 0"], "is of way 10, but this run measures way 5"),
        (Request(head="cosine"), ["accuracy[5w1s, head=euclid] > 0"], "head euclid"),
        (Request(query=5), ["accuracy[5w1s, query=15] > 0"], "query 15"),
    ],
)
def test_protocols_that_take_two_runs_are_refused(request_: Request, texts: list[str], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        complete(request_, [parse(text) for text in texts])


def test_every_quantity_says_why_it_lacks() -> None:
    assert {"accuracy", "accuracy_low", "params", "macs", "weight_bytes", "sqnr_db", "differing"} <= QUANTITIES.keys()
    assert all(quantity.absent for quantity in QUANTITIES.values())
