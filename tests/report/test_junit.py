from __future__ import annotations

from collections.abc import Callable
from xml.etree import ElementTree as ET

from edgekd.report.junit import junit_xml
from edgekd.verify.report import Report, Unverified
from edgekd.verify.rules import Finding

Make = Callable[..., Report]


def suite(text: str, index: int = 0) -> ET.Element:
    return ET.fromstring(text.encode()).findall("testsuite")[index]


def test_a_case_a_rule_failures_with_their_hints_and_sources(make_report: Make) -> None:
    found = suite(junit_xml([make_report()]))
    assert [case.get("name") for case in found.iter("testcase")] == [
        "parameters", "weight-bits", "operators", "static-shapes",
    ]  # fmt: skip
    assert {key: found.get(key) for key in ("name", "tests", "failures", "errors", "skipped", "time")} == {
        "name": "models/a b.onnx", "tests": "4", "failures": "2", "errors": "0", "skipped": "1", "time": "2.250",
    }  # fmt: skip
    (first, _) = found.iter("failure")
    assert first.get("message") == "200 parameters exceed the cap of 100 by 100"
    assert first.text == (
        "200 parameters exceed the cap of 100 by 100\n  would pass: Conv4-40 fits\n  source: data sheet, page 7"
    )


def test_unknown_is_skipped_and_a_failure_under_strict(make_report: Make) -> None:
    relaxed, strict = (suite(junit_xml([make_report()], strict=strict)) for strict in (False, True))
    assert (relaxed.get("failures"), relaxed.get("skipped")) == ("2", "1")
    assert (strict.get("failures"), strict.get("skipped")) == ("3", "0")


def test_several_findings_of_a_rule_are_one_case(make_report: Make) -> None:
    findings = tuple(
        Finding.model_validate({"rule": "operators", "status": status, "message": f"node {at}", "node": f"n{at}"})
        for at, status in enumerate(("pass", "fail", "fail", "unknown"))
    )
    (case,) = suite(junit_xml([make_report(findings=findings)])).iter("testcase")
    failure = case.find("failure")
    assert failure is not None
    assert failure.text == "n1: node 1\nn2: node 2"


def test_each_requirement_is_a_case(make_report: Make) -> None:
    findings = tuple(
        Finding(rule="require", status="pass", message="", attribute=name) for name in ("params", "accuracy[5w5s]")
    )
    cases = suite(junit_xml([make_report(findings=findings)])).iter("testcase")
    assert [case.get("name") for case in cases] == ["require: params", "require: accuracy[5w5s]"]


def test_a_file_that_could_not_be_verified_is_an_error(make_report: Make) -> None:
    text = junit_xml([make_report(), Unverified(path="bad.onnx", error="bad.onnx is empty")])
    root = ET.fromstring(text.encode())
    assert {key: root.get(key) for key in ("tests", "failures", "errors", "skipped")} == {
        "tests": "5", "failures": "2", "errors": "1", "skipped": "1",
    }  # fmt: skip
    error = suite(text, 1).find("testcase/error")
    assert error is not None
    assert error.get("message") == "bad.onnx is empty"


def test_what_xml_cannot_hold_is_replaced(make_report: Make) -> None:
    odd = Finding(rule="operators", status="fail", message="a\x00b\x1b<&>\ud800\uffffé", node="\x01")
    failure = suite(junit_xml([make_report("a\x02.onnx", findings=(odd,))])).find("testcase/failure")
    assert failure is not None
    assert failure.get("message") == "a\ufffdb\ufffd<&>\ufffd\ufffdé"


def test_versions_and_the_verdict_are_properties(make_report: Make) -> None:
    found = {item.get("name"): item.get("value") for item in suite(junit_xml([make_report()])).iter("property")}
    assert found["verdict"] == "fail"
    assert found["onnx"] == "1.23.2"
