"""Manifests that are well-formed and mean harm: the file names its profile and its history, and both are printed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import helper

from edgekd.manifest import DataRef, Manifest, Preprocessing, QuantScheme, TensorRef

ROOT = Path(__file__).parents[3]
STAGE = {"stage": "teach", "backbone": "b", "parameters": 1, "weight_bytes": 1}


def manifest(**changes: Any) -> str:
    keys = Manifest(
        edgekd="0.1.0",
        versions={},
        profile="stm32h743",
        profile_sha256="",
        data=DataRef(spec="glyphs", split="test", fingerprint="", n_classes=6, novel=True, seed=0),
        preprocessing=Preprocessing(height=8, width=8, channels=3),
        quantization=QuantScheme(),
        input=TensorRef(name="pixels", dtype="int8", scale=2.0**-7),
        output=TensorRef(name="embedding", dtype="int8", scale=2.0**-6),
        base_mean=(),
        weights_sha256="",
        golden_sha256="",
    ).model_dump()
    return json.dumps({**keys, **changes})


def run(path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgekd", "verify", str(path), "--static"]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=30, check=False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"profile": "/dev/zero"}, "/dev/zero is not a readable TOML file: it is not a regular file"),
        ({"profile": "/etc/passwd"}, "is not a readable TOML file"),
        ({"profile": "\x1b[2J"}, "damaged at profile: .*cannot be printed"),
        ({"profile": "a\0b"}, "damaged at profile: .*cannot be printed"),
        ({"profile": "a" * 99_999}, "damaged at profile: .*at most 1000 characters"),
        ({"lineage": [{**STAGE, "stage": "\x1b[2J"}]}, "damaged at lineage.0.stage"),
        ({"lineage": [STAGE] * 20_000}, "damaged at lineage: .*at most 1000 items"),
        ({"lineage": [{**STAGE, "parameters": -(10**9000)}]}, "damaged at"),
        ({"\x1b[2J": 1}, r"damaged at \\x1b\[2J"),
    ],
    ids=["device", "passwd", "escape", "zero byte", "long", "escape in a stage", "many stages", "huge number", "key"],
)
def test_it_is_refused_by_name(changes: dict[str, Any], message: str, good: onnx.ModelProto, tmp_path: Path) -> None:
    sys.set_int_max_str_digits(0)
    helper.set_model_props(good, {"edgekd": manifest(**changes)})
    (tmp_path / "model.onnx").write_bytes(good.SerializeToString())
    done = run(tmp_path / "model.onnx")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.rstrip("\n").isprintable()
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(done.stderr)


def test_a_harmless_one_is_read(good: onnx.ModelProto, tmp_path: Path) -> None:
    helper.set_model_props(good, {"edgekd": manifest(lineage=[STAGE])})
    (tmp_path / "model.onnx").write_bytes(good.SerializeToString())
    assert run(tmp_path / "model.onnx").returncode == 0
