"""Accuracy by every engine on a folder of images, with what the engines and accumulators say beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgekd.data import load_split
from edgekd.errors import UsageError
from edgekd.manifest import DataRef, Manifest, Preprocessing, QuantScheme, TensorRef
from edgekd.profile import HardwareProfile, Requant
from edgekd.verify import accuracy, work
from edgekd.verify.accuracy import Measured, Options, measure
from edgekd.verify.facts import facts_of
from edgekd.verify.reading import read_graph
from edgekd.verify.rehearsal import Rehearsed

QUICK: dict[str, Any] = {"episodes": 20, "query": 2, "way": 2, "shots": (1,)}
FP32 = Requant(multiplier="fp32", rounding="half_even")
Measure = Callable[..., Measured]


@pytest.fixture
def spec(tmp_path: Path) -> str:
    """Three classes a split, each a shade of its own with noise."""
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for shade in range(3):
            folder = tmp_path / "images" / split / f"{split}_{shade}"
            folder.mkdir(parents=True)
            for number in range(4):
                pixels = rng.integers(0, 60, (8, 8, 3)) + 60 * shade + (split == "val")
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    return f"folder:{tmp_path / 'images'}"


@pytest.fixture
def measured(qcdq: Any, tmp_path: Path, spec: str) -> Measure:
    """Measures a small network with power-of-two scales on a profile."""

    def run(profile: HardwareProfile, *, float_weights: bool = False, **options: Any) -> Measured:
        net = qcdq(3, 8).conv(4, float_weights=float_weights, act_scale=2.0**-3).flatten()
        manifest = Manifest(
            edgekd="0.1.0",
            versions={},
            profile="tu_accel_150k",
            profile_sha256="",
            data=DataRef(
                spec=spec,
                split="test",
                fingerprint=load_split(spec, "test").fingerprint,
                n_classes=3,
                novel=True,
                seed=0,
            ),
            preprocessing=Preprocessing(height=8, width=8, channels=3),
            quantization=QuantScheme(scale="power_of_two"),
            input=TensorRef(name="pixels", dtype="int8", scale=2.0**-7),
            output=TensorRef(name="embedding", dtype="int8", scale=2.0**-3),
            base_mean=(),
            weights_sha256="",
            golden_sha256="",
        )
        net.metadata = manifest.to_metadata()
        path = net.save(tmp_path / "m.onnx")
        return measure(facts_of(read_graph(path)), profile, Options(**{"data": spec, **QUICK, **options}))

    return run


def test_three_engines_agree_on_powers_of_two(measured: Measure) -> None:
    found = measured(HardwareProfile(name="p", requant=FP32))
    assert [row.engine for row in found.rows] == ["onnxruntime", "onnxruntime:unoptimized", "integer:ort"]
    assert len({(row.mean, row.ci95) for row in found.rows}) == 1
    assert [(row.engine, row.images, row.differing, row.max_lsb) for row in found.engines] == [
        ("onnxruntime:unoptimized", 12, 0.0, 0),
        ("integer:ort", 12, 0.0, 0),
    ]
    assert found.engines[0].elements == 12 * 4 * 8 * 8
    assert {finding.status for finding in found.findings} == {"pass"}


def test_forced_arithmetics_get_rows_of_their_own(measured: Measure) -> None:
    found = measured(HardwareProfile(name="p"), requant=("tflm", "shift"))
    assert [row.engine for row in found.rows][2:] == ["integer:tflm", "integer:shift"]
    ties = [(row.differing, row.max_lsb) for row in found.engines if "integer" in row.engine]
    assert 0 < ties[0][0] < 0.01  # two roundings
    assert max(lsb for _, lsb in ties) == 1
    with pytest.raises(UsageError, match="unknown arithmetic"):
        measured(HardwareProfile(name="p"), requant=("tfl",))


def test_a_float_file_is_measured_by_onnxruntime_alone(measured: Measure) -> None:
    found = measured(HardwareProfile(name="p"), requant=("shift",), float_weights=True)
    assert [row.engine for row in found.rows] == ["onnxruntime", "onnxruntime:unoptimized"]


def test_an_engine_that_would_take_too_long_is_not_run(measured: Measure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "_STEP_S", 1e3)
    found = measured(HardwareProfile(name="p"))
    assert [row.engine for row in found.rows] == ["onnxruntime", "onnxruntime:unoptimized"]
    (finding,) = (item for item in found.findings if item.rule == "integer-simulation")
    assert finding.status == "unknown"
    assert "not run: the simulator, 12 images in" in finding.message
    assert measured(HardwareProfile(name="p"), most_seconds=1e6).rows[2].engine == "integer:ort"


@pytest.mark.parametrize("name", ["_NODE_S", "_EPISODE_ELEMENTS_PER_S"])
def test_a_file_that_would_take_too_long_is_not_measured(
    name: str, measured: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, name, {"_NODE_S": 1e3}.get(name, 1e-3))
    found = measured(HardwareProfile(name="p"))
    assert (found.rows, found.engines, found.errors) == ((), (), ())
    (finding,) = (item for item in found.findings if item.rule == "few-shot-accuracy")
    assert finding.status == "unknown"
    assert "--most-seconds" in finding.message
    assert f"accuracy not measured: {finding.message}" in found.warnings


def test_a_file_whose_first_image_takes_long_is_not_measured(
    measured: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accuracy, "rehearse", lambda *_, **__: Rehearsed(dimensions=4, run_s=1e3))
    (finding,) = (item for item in measured(HardwareProfile(name="p")).findings if item.rule == "few-shot-accuracy")
    assert "not run: onnxruntime, 12 runs like the first, would take" in finding.message


def test_overflows_of_a_narrow_accumulator_are_counted(measured: Measure) -> None:
    narrow = measured(HardwareProfile(name="p", requant=FP32, accumulator_bits=8))
    (row,) = narrow.accumulators
    assert row.overflows is not None
    assert row.overflows > 0
    assert row.bits > 8
    wide = measured(HardwareProfile(name="p", requant=FP32, accumulator_bits=32))
    assert [row.overflows for row in wide.accumulators] == [0]
    assert [row.overflows for row in measured(HardwareProfile(name="p", requant=FP32)).accumulators] == [None]
