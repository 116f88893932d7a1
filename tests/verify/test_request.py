from __future__ import annotations

from typing import Any

import pytest

from edgekd.errors import DataError, EdgekdError, UsageError
from edgekd.manifest import AccuracyRow, DataRef, Manifest, Preprocessing, QuantScheme, StageResult, TensorRef
from edgekd.verify.accuracy import Options
from edgekd.verify.request import MOST_EPISODES, Request


def row(shot: int, **changes: Any) -> AccuracyRow:
    keys = {
        "dataset": "glyphs", "split": "test", "way": 20, "shot": shot, "query": 3, "episodes": 100, "head": "euclid",
        "engine": "torch", "mean": 0.5, "ci95": 0.1,
    }  # fmt: skip
    return AccuracyRow.model_validate(keys | changes)


def manifest(*stages: tuple[AccuracyRow, ...]) -> Manifest:
    return Manifest(
        edgekd="0.1.0",
        versions={},
        profile="tu_accel_150k",
        profile_sha256="",
        data=DataRef(spec="glyphs", split="val", fingerprint="", n_classes=9, novel=True, seed=0),
        preprocessing=Preprocessing(height=8, width=8, channels=1),
        quantization=QuantScheme(),
        input=TensorRef(name="x", dtype="int8", scale=1),
        output=TensorRef(name="y", dtype="int8", scale=1),
        base_mean=(),
        lineage=tuple(
            StageResult(stage=f"s{at}", backbone="", parameters=1, weight_bytes=1, accuracy=rows)
            for at, rows in enumerate(stages)
        ),
        weights_sha256="",
        golden_sha256="",
    )


def test_without_a_manifest_the_common_protocol() -> None:
    assert Request().options(None, None) == Options()
    assert Request().options(manifest(), None) == Options()


def test_the_protocol_of_the_last_measured_stage() -> None:
    other = row(9, way=2, query=1, head="cosine")
    options = Request().options(manifest((other,), (row(2), row(7), row(3, way=5)), ()), "ort")
    assert (options.way, options.shots, options.query, options.head) == (20, (2, 7), 3, "euclid")


def test_what_is_asked_for_comes_first() -> None:
    asked = Request(way=3, shots=(4,), query=1, head="cosine", more_shots=(4, 6), episodes=7, seed=2, data="x")
    options = asked.options(manifest((row(2),)), None)
    assert (options.way, options.shots, options.query, options.head) == (3, (4, 6), 1, "cosine")
    assert (options.episodes, options.seed, options.data) == (7, 2, "x")
    assert Request(way=3).options(manifest((row(2),)), None).query == 3, "the rest still follows the file"


@pytest.mark.parametrize(
    ("request_", "simulated"),
    [
        (Request(), ()),
        (Request(requant=("shift", "ort")), ("shift", "ort")),
        (Request(more_requant=("shift", "ort")), ("ort", "shift")),
        (Request(requant=("shift",), more_requant=("tflm", "shift")), ("shift", "tflm")),
    ],
)
def test_arithmetics_replace_the_profiles_own_or_come_on_top(request_: Request, simulated: tuple[str, ...]) -> None:
    assert request_.options(None, "ort").requant == simulated


@pytest.mark.parametrize(
    ("request_", "error", "complaint"),
    [
        (Request(way=1), UsageError, "way must be at least 2"),
        (Request(shots=(0,)), UsageError, "shot must be at least 1"),
        (Request(query=0), UsageError, "query must be at least 1"),
        (Request(most_seconds=0), UsageError, "most-seconds must be above 0"),
        (Request(most_seconds=float("nan")), UsageError, "most-seconds must be above 0 and at most 2,592,000, not nan"),
        (Request(episodes=1), UsageError, "episodes must be at least 2"),
        (Request(episodes=MOST_EPISODES + 1), UsageError, "episodes must be at most 1,000,000"),
        (Request(seed=-1), UsageError, "seed must be at least 0"),
        (Request(head="cosin"), UsageError, "Did you mean 'cosine'"),
        (Request(split="tset"), DataError, "Did you mean 'test'"),
        (Request(requant=("tflite",)), UsageError, "unknown arithmetic 'tflite'"),
        (Request(more_requant=("tflmm",)), UsageError, "Did you mean 'tflm'"),
        (Request(size=0), UsageError, "size must be at least 1"),
    ],
)
def test_what_no_file_could_serve_is_refused(request_: Request, error: type[EdgekdError], complaint: str) -> None:
    with pytest.raises(error, match=complaint):
        request_.check()
