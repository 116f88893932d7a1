"""Mutants of a good file, verified and run by `tools/fuzz_verify.py`; the same seed makes the same mutants."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
FUZZ = ROOT / "tools" / "fuzz_verify.py"


def fuzz(model: Path, *options: str) -> str:
    command = [sys.executable, str(FUZZ), str(model), *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_1000_mutants_end_in_a_report_or_an_error(tmp_path: Path, qcdq: type[Any], seed: int) -> None:
    net = qcdq(3, 8).conv(4, clip=(-7, 7)).pool().conv(4, groups=2, scale=[2.0**-8] * 4).global_pool().gemm(5, 4)
    said = fuzz(net.save(tmp_path / "good.onnx"), "--mutants", "1000", "--seed", str(seed))
    assert "1000 mutants" in said
    assert "0 failures" in said
    assert all(f" {outcome}" in said for outcome in ("ModelError", "pass", "fail")), "mutants of every kind"


def test_200_mutants_through_onnxruntime(tmp_path: Path, qcdq: type[Any]) -> None:
    net = qcdq(3, 8).conv(4).pool().conv(4, groups=2).op("GlobalAveragePool").op("Flatten")
    assert "0 failures" in fuzz(net.save(tmp_path / "good.onnx"), "--mutants", "200", "--embed")


def test_a_mutant_that_takes_too_long_fails_and_is_named(tmp_path: Path, qcdq: type[Any]) -> None:
    good = qcdq(3, 8).conv(4).save(tmp_path / "good.onnx")
    command = [sys.executable, str(FUZZ), str(good), "--mutants", "2", "--seed", "7", "--slow", "0"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 1
    assert "mutant 1 of seed 7: slow" in done.stdout


def test_a_mutant_can_be_made_again(tmp_path: Path, qcdq: type[Any]) -> None:
    good = qcdq(3, 8).conv(4).save(tmp_path / "good.onnx")
    folders = [tmp_path / "first", tmp_path / "again"]
    for folder, first in zip(folders, ("17", "15"), strict=True):
        folder.mkdir()
        fuzz(good, "--seed", "7", "--first", first, "--mutants", "3", "--keep", str(folder))
    made, again = ((folder / "mutant_17.onnx").read_bytes() for folder in folders)
    assert made == again != good.read_bytes()
