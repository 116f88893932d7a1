from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser

import pytest

from edgekd.report.junit import REQUIRE
from edgekd.report.sarif import REMARK
from edgekd.report.verification import verification_page
from edgekd.report.wording import certificate_line, estimate_line, rule_sentence
from edgekd.verify.accuracy import FINGERPRINT_RULE
from edgekd.verify.agreement import ENGINES_RULE, GOLDEN_RULE, SIMULATION_RULE
from edgekd.verify.report import Report, Unverified
from edgekd.verify.results import Certificate, Estimate, PlannedBuffer
from edgekd.verify.rules import RULES, Finding

Make = Callable[..., Report]
BARE = {
    "accuracy": (), "engines": (), "accumulators": (), "certificate": None, "sqnr": (), "estimates": (),
    "layers": (), "warnings": (),
    "memory": {
        "weight_bytes": 1, "peak_activation_bytes": None, "peak_activation_bytes_fused": None,
        "lower_bound_bytes": None, "planner": None, "peak_node": None,
    },
}  # fmt: skip


class Page(HTMLParser):
    """Checks nesting and collects text, ids and what the page would load."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.loads: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in {"meta", "br", "link"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, _tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.loads += [
            value or "" for name, value in attrs if name in {"src", "href", "xlink:href", "srcset", "action"}
        ]

    def handle_data(self, data: str) -> None:
        self.text += data if "style" not in self.open else ""


def test_the_page_holds_the_verdict_the_findings_and_four_figures(make_report: Make) -> None:
    html = verification_page([make_report()])
    text = Page(html).text
    assert html.count("<svg") == 4
    for expected in (
        "Verification of models/a b.onnx",
        "would pass: Conv4-40 fits",
        "data sheet, page 7",
        "64 (pixels, 1 x 1 x 8 x 8) + 32 (y, 1 x 32) = 96 B",
        "scale of conv is no power of two",
        "worst 28.5 dB at fc",
        "150 B of 4-bit weights",
        "flash (weights): 240 of 1,000 B",
        "1.5 to 3 ms at a measured rate",
        "neither AVX512-VNNI",
        "avx2",
        "onnx 1.23.2",
    ):
        assert expected in text, expected
    assert text.index("exceed the cap") < text.index("does not say weights.bits") < text.index("every dimension")


def test_nothing_is_loaded_from_outside_and_ids_are_unique(make_report: Make) -> None:
    html = verification_page([make_report(), make_report("b.onnx")])
    page = Page(html)
    assert all(value.startswith("#") for value in page.loads)
    assert "<script" not in html
    assert "@import" not in html
    assert re.findall(r"url\((?!#)", html) == []
    assert len(page.ids) == len(set(page.ids)) > 20
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', html)) <= set(page.ids)


def test_several_files_begin_with_a_summary(make_report: Make) -> None:
    text = Page(
        verification_page([make_report(), make_report("b.onnx"), Unverified(path="c.onnx", error="c is empty")])
    ).text
    assert "Verification of 3 files" in text
    assert "c is empty" in text
    assert Page(verification_page([Unverified(path="c.onnx", error="c is empty")] * 2)).text.count("c is empty") == 2


def test_a_report_without_measurements_has_no_empty_figures(make_report: Make) -> None:
    html = verification_page([make_report(findings=(), **BARE)])
    Page(html)
    assert "<svg" not in html


def test_text_of_the_file_is_escaped_everywhere(make_report: Make) -> None:
    odd = "<b>&$x_1$\x07"
    plan = (PlannedBuffer(tensor=odd, bytes=64, offset=0, first_step=0, last_step=0),)
    memory = make_report().memory.model_copy(update={"plan": plan, "steps": (odd,), "peak_node": odd})
    findings = (Finding(rule="operators", status="fail", message=odd, node=odd, hint=odd, source=odd),)
    layer = {"node": odd, "op": odd, "macs": None, "parameters": 1, "weight_bytes": 1}
    html = verification_page([make_report(odd, findings, memory=memory, layers=[layer], warnings=[odd])])
    Page(html)
    assert "<b>" not in html
    assert html.count("&lt;b&gt;&amp;$x_1$") >= 8


def test_thousands_of_tensors_are_drawn_up_to_a_bound(make_report: Make) -> None:
    plan = [PlannedBuffer(tensor=f"t{at}", bytes=1 + at, offset=0, first_step=at, last_step=at) for at in range(3000)]
    memory = make_report().memory.model_copy(update={"plan": tuple(plan), "peak_activation_bytes": 3000})
    layers = [{"node": f"n{at}", "op": "Conv", "macs": at, "parameters": 1, "weight_bytes": 1} for at in range(500)]
    html = verification_page([make_report(memory=memory, layers=layers)])
    assert len(html) < 1_000_000
    assert "300 largest of 3,000 tensors" in html
    assert "first 60 of 500 layers" in html


@pytest.mark.parametrize(
    ("certificate", "words"),
    [
        (Certificate(bit_exact=True, arithmetics=("ort", "shift")), "certificate: bit-exact everywhere"),
        (
            Certificate(bit_exact=True, arithmetics=("ort", "xnnpack"), unproven=("shift",)),
            "certificate: bit-exact in onnxruntime at every optimization level and the arithmetic ort, xnnpack (",
        ),
        (Certificate(bit_exact=True), "certificate: bit-exact in onnxruntime at every optimization level ("),
        (Certificate(bit_exact=False, reasons=("a", "b")), "no certificate of bit-exactness: a; b"),
        (Certificate(bit_exact=False, reasons=tuple("abcde")), "no certificate of bit-exactness: a; b; c; and 2 more"),
        (Certificate(bit_exact=False), "no certificate of bit-exactness: not proven"),
    ],
)
def test_the_certificate_in_words(certificate: Certificate, words: str) -> None:
    assert certificate_line(certificate).startswith(words)


def test_every_rule_has_a_sentence() -> None:
    measured = (SIMULATION_RULE, ENGINES_RULE, GOLDEN_RULE, FINGERPRINT_RULE, REQUIRE, REMARK)
    assert all(rule_sentence(name).endswith(".") for name in (*RULES, *measured))
    assert not [name for name in measured if rule_sentence(name) == rule_sentence("new").replace("new", name)]


def test_an_estimate_says_its_kind_and_its_range() -> None:
    peak = Estimate(quantity="cycles", kind="peak", low=1_048_576, high=1_048_576)
    assert estimate_line(peak) == "1,048,576 cycles at the data sheet's peak rate"
    measured = Estimate(quantity="mj", kind="measured", low=0.05, high=0.09, source="AN-7")
    assert estimate_line(measured) == "0.05 to 0.09 mJ at a measured rate (AN-7)"
