"""The card of a released student, as Markdown: all of it follows from the files beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from edgekd.bound import Bound
from edgekd.report.card_parts import (
    accuracy_cell,
    card_of,
    kind_of_classes,
    licence_line,
    protocol_line,
    stage_table,
)
from edgekd.report.markdown import table
from edgekd.report.repeating import repeat_section
from edgekd.report.wording import certificate_line
from edgekd.zoo import MODEL, ZooModel

if TYPE_CHECKING:
    from edgekd.verify import Report

_LARGEST_LISTED = 3  # rules of one verdict


def model_card(model: ZooModel) -> str:
    """Return the card of a released student.

    The verdicts are of now, on the static checks of every profile that comes with edgekd.

    Raises:
        EdgekdError: a file of the student is missing or damaged.
    """
    return card_of(
        model,
        _data(model),
        _accuracy(model),
        _size(model),
        _arithmetic(model),
        _verdicts(model),
        repeat_section(model),
    )


def _data(model: ZooModel) -> Iterator[str]:
    from edgekd.data.registry import DATASETS

    data, pixels = model.manifest.data, model.manifest.preprocessing
    entry = DATASETS[data.spec.partition(":")[0]]
    images = next((row.images for row in model.report.engines), None)
    kind = kind_of_classes(novel=data.novel)
    yield from ("## Task and data", "")
    yield "Images to embeddings, for classifiers made from a few images a class."
    yield f"Data: `{data.spec}` ({entry.summary})."
    yield f"Measured on its {data.split} split: {data.n_classes} classes ({kind})" + (
        f", {images:,} images" if images else ""
    )
    yield f"of {pixels.channels}x{pixels.height}x{pixels.width}; SHA-256 of the split `{data.fingerprint}`."
    yield from ("", licence_line(entry.licence), "")


def _accuracy(model: ZooModel) -> Iterator[str]:
    yield from ("## Accuracy", "")
    if model.accuracy:
        yield from (f"{protocol_line(model.accuracy[0])}; mean ± 95 % interval, %.", "")
    yield from stage_table(model.report.lineage)
    yield from _engines(model.report)


def _engines(report: Report) -> Iterator[str]:
    """The same file in each arithmetic that was measured."""
    protocols = sorted({(row.way, row.shot) for row in report.accuracy})
    differing = {row.engine: f"{100 * row.differing:.3f} %, {row.max_lsb} LSB" for row in report.engines}
    rows = []
    for engine in dict.fromkeys(row.engine for row in report.accuracy):
        found = {(row.way, row.shot): accuracy_cell([row]) for row in report.accuracy if row.engine == engine}
        rows.append((f"`{engine}`", *(found.get(key, "") for key in protocols), differing.get(engine, "")))
    header = ("engine", *(f"{way}-way {shot}-shot" for way, shot in protocols), "integers that differ")
    yield from (*table(header, rows, numbers=1), "")


def _size(model: ZooModel) -> Iterator[str]:
    report, memory = model.report, model.report.memory
    rows = [
        ("parameters", f"{report.params.total:,}"),
        ("weights and biases", f"{memory.weight_bytes:,} B"),
        ("multiply-accumulates of one image", f"{report.macs:,}"),
        ("peak of activations, planned", _bytes(memory.peak_activation_bytes)),
        ("the same with convolution and pooling fused", _bytes(memory.peak_activation_bytes_fused)),
        ("ONNX file", f"{(model.folder / MODEL).stat().st_size:,} B"),
    ]
    yield from ("## Size", "", *table(("what", "how much"), rows, numbers=1), "")


def _bytes(count: int | None) -> str:
    return "unknown" if count is None else f"{count:,} B"


def _arithmetic(model: ZooModel) -> Iterator[str]:
    scheme = model.manifest.quantization
    yield from ("## Arithmetic", "")
    formats = f"w{scheme.weight_bits}a{scheme.act_bits}, weights {scheme.granularity.replace('_', ' ')}"
    yield f"{formats}, {scheme.scale.replace('_', '-')} scales, {scheme.method}."
    student, deployed = model.float_student, model.stage("deployed")
    if student and deployed and deployed.parameters > student.parameters:
        more = deployed.parameters - student.parameters
        yield "Its global mean is a sum, by a depthwise convolution of ones, as the division would be no shift: cosines"
        yield f"do not change, and parameters are {more:,} more than the float student's."
    if model.report.certificate:
        line = certificate_line(model.report.certificate)
        yield f"{line[0].upper()}{line[1:]}."
    yield f"In onnxruntime without optimizations {Bound.of(scheme, integers=False)};"
    yield from ("the table above is of all test images.", "")


def _verdicts(model: ZooModel) -> Iterator[str]:
    from edgekd.profile import profile_names

    rows = [_verdict_row(model, name) for name in profile_names()]
    yield from (
        "## Verdicts",
        "",
        "Static checks against every profile that comes with edgekd; *unknown* is never a pass.",
    )
    if model.manifest.profile in profile_names():
        yield f"It was made for `{model.manifest.profile}`."
    yield from ("", *table(("profile", "verdict", "why"), rows), "")


def _verdict_row(model: ZooModel, profile: str) -> tuple[str, ...]:
    from edgekd.verify import verify

    report = verify(model.folder / MODEL, profile, static=True)
    failed = sorted({finding.rule for finding in report.findings if finding.status == "fail"})
    unknown = sorted({finding.rule for finding in report.findings if finding.status == "unknown"})
    why = [f"fails {_some(failed)}"] if failed else []
    why += [f"unknown: {_some(unknown)}"] if unknown else []
    return f"`{profile}`", report.verdict, "; ".join(why)


def _some(rules: Sequence[str]) -> str:
    more = len(rules) - _LARGEST_LISTED
    return ", ".join(rules[:_LARGEST_LISTED]) + (f" and {more} more" if more > 0 else "")
