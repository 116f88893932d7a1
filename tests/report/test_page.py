from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest

from edgekd.errors import RunError
from edgekd.manifest import AccuracyRow, Classification, StageResult
from edgekd.report.page import training_page

VOID = {"meta", "br", "link"}


class Page(HTMLParser):
    """Checks nesting and collects attributes and table cells."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.ids: list[str] = []
        self.cells: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)
        if tag in {"td", "th"}:
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & set(self.open):
            self.cells[-1] += data


def metric(stage: str, epoch: int, val_accuracy: float | None = 0.5) -> dict[str, Any]:
    terms = {"ce": 1.0 / epoch, "kd": 0.5 / epoch}
    common = {"lr": 0.1, "val_accuracy": val_accuracy, "images_per_s": 1234.4}
    return {"stage": stage, "step": 1000 * epoch, "epoch": epoch, "loss": 1.5 / epoch, "terms": terms} | common


def accuracy(shot: int, mean: float, **changes: Any) -> AccuracyRow:
    row = AccuracyRow(
        dataset="glyphs", split="test", way=5, shot=shot, query=15, episodes=10_000, head="cosine", engine="torch",
        mean=mean, ci95=0.0021,
    )  # fmt: skip
    return row.model_copy(update=changes)


def result(stage: str, parameters: int, *rows: AccuracyRow) -> StageResult:
    return StageResult(stage=stage, backbone="conv4", parameters=parameters, weight_bytes=4 * parameters, accuracy=rows)


METRICS = [metric(stage, epoch) for stage in ("teach", "distill") for epoch in (1, 2, 3)]
ROWS = [
    result("teach", 1_000_000, accuracy(1, 0.62), accuracy(5, 0.80123)),
    result("distill", 121_152, accuracy(1, 0.52), accuracy(5, 0.71)),
]


def test_table_shows_size_and_accuracy_of_each_stage() -> None:
    cells = Page(training_page(METRICS, ROWS)).cells
    start = cells.index("teach")
    assert cells[start : start + 6] == ["teach", "conv4", "1,000,000", "3,906.2 KiB", "62.00 ± 0.21", "80.12 ± 0.21"]
    assert cells[start + 6 : start + 12] == [
        "distill", "conv4", "121,152", "473.2 KiB", "52.00 ± 0.21", "71.00 ± 0.21",
    ]  # fmt: skip


def test_training_table_shows_the_end_and_the_best() -> None:
    metrics = [metric("teach", 1, 0.4), metric("teach", 2, 0.7), metric("teach", 3, 0.6)]
    cells = Page(training_page(metrics, [])).cells
    assert cells[-7:] == ["teach", "3", "3,000", "0.5", "70.00", "2", "1,234"]


def test_page_loads_nothing_from_outside() -> None:
    html = training_page(METRICS, ROWS)
    page = Page(html)
    loading = [value for _, name, value in page.attributes if name in {"src", "href", "xlink:href", "action", "srcset"}]
    assert all(value.startswith("#") for value in loading)
    assert "@import" not in html
    assert re.findall(r"url\((?!#)", html) == []
    assert "<script" not in html


def test_figures_take_the_colours_of_the_page_and_clash_nowhere() -> None:
    html = training_page(METRICS, ROWS)
    page = Page(html)
    assert html.count("<svg") == 4
    assert len(page.ids) == len(set(page.ids)) > 20
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', html)) <= set(page.ids)
    assert "var(--ink)" in html
    assert "#010203" not in html
    assert "#040506" not in html


def test_the_same_run_gives_the_same_bytes() -> None:
    assert training_page(METRICS, ROWS) == training_page(METRICS, ROWS)


def test_names_are_escaped_everywhere() -> None:
    odd = "<b>&$x_1$"
    html = training_page([metric(odd, 1)], [result(odd, 10, accuracy(1, 0.5))], odd, {odd: odd})
    Page(html)
    assert "<b>" not in html
    assert html.count("&lt;b&gt;&amp;$x_1$") > 8


def test_facts_stand_under_the_title() -> None:
    html = training_page([], [], "My run", {"profile": "tu_accel_150k"})
    assert "<title>My run</title>" in html
    assert "<dt>profile</dt><dd>tu_accel_150k</dd>" in html


def test_a_run_that_has_only_begun() -> None:
    html = training_page([], [])
    Page(html)
    assert "<svg" not in html
    assert "<table" not in html


@pytest.mark.parametrize(
    ("metrics", "rows", "figures"),
    [
        ([metric("teach", 1, None)], [], 1),
        ([metric("teach", 1)], [result("teach", 100)], 2),
        ([], ROWS, 2),
        ([], [result("distill", 100, accuracy(1, 0.5))], 2),
    ],
    ids=["no validation", "no accuracy", "no metrics", "one stage, one shot"],
)
def test_what_is_missing_is_left_out(metrics: list[dict[str, Any]], rows: list[StageResult], figures: int) -> None:
    html = training_page(metrics, rows)
    Page(html)
    assert html.count("<svg") == figures


def test_only_like_accuracies_are_compared_but_all_are_listed() -> None:
    rows = [
        result("teach", 100, accuracy(1, 0.99, head="logistic"), accuracy(1, 0.61)),
        result("quantize", 50, accuracy(1, 0.55, engine="onnxruntime"), accuracy(1, 0.98, dataset="omniglot")),
    ]
    html = training_page([], rows)
    table, details = html.split("<details>")
    assert "61.00" in table
    assert "55.00" in table
    assert "99.00" not in table
    assert "98.00" not in table
    assert all(mean in details for mean in ("99.00", "61.00", "55.00", "98.00"))


def test_losses_that_are_not_finite_are_said() -> None:
    html = training_page([metric("teach", 1), metric("teach", 2) | {"loss": float("nan")}], [])
    assert "(1 not finite)" in html


def test_malformed_metrics() -> None:
    with pytest.raises(RunError, match="has no 'loss'"):
        training_page([{"stage": "teach", "epoch": 1, "terms": {}}], [])


def test_a_head_is_shown_where_it_was_measured() -> None:
    shares = {"macro_f1": 0.9, "macro_precision": 0.91, "macro_recall": 0.92, "micro_f1": 0.93, "micro_precision": 0.93}
    found = Classification(
        dataset="mnist", split="test", images=2000, classes=10, accuracy=0.93, ci95=0.0123, micro_recall=0.93, **shares
    )
    rows = [ROWS[0].model_copy(update={"classification": found}), ROWS[1]]
    html = training_page([], rows)
    cells = Page(html).cells
    start = cells.index("micro recall") + 1
    assert cells[start : start + 8] == ["teach", "93.00 ± 1.23", "90.00", "91.00", "92.00", *["93.00"] * 3]
    assert "2,000 test images of the 10 classes" in html
    assert "By its own head" not in training_page([], ROWS)
