"""The three commands as a user types them, each in a process of its own."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

ROOT = Path(__file__).parents[2]
DISTILL = ("distill", "--recipe", "tiny.toml", "--cpu")


@dataclass(frozen=True)
class Chain:
    """A folder in which the chain ran, and what each command said."""

    folder: Path
    distill: subprocess.CompletedProcess[str]
    export: subprocess.CompletedProcess[str]
    verify: subprocess.CompletedProcess[str]


def environment(folder: Path) -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "EDGEKD_CACHE": str(folder / ".cache")}


def edgekd(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgekd", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=240, check=False
    )


def weights(folder: Path) -> dict[str, np.ndarray]:
    (file,) = folder.glob("runs/*/student-int8.safetensors")
    return load_file(file)


def same(one: dict[str, np.ndarray], two: dict[str, np.ndarray]) -> bool:
    return one.keys() == two.keys() and all(np.array_equal(one[name], two[name], equal_nan=True) for name in one)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory, tiny_toml: str) -> Chain:
    folder = tmp_path_factory.mktemp("chain")
    (folder / "tiny.toml").write_text(tiny_toml)
    distill, export = edgekd(folder, *DISTILL), edgekd(folder, "export", "--int8")
    _, _, command = export.stdout.splitlines()[-1].partition("Next: edgekd ")
    options = ("--episodes", "200", "--query", "5", "--json", "report.json")
    return Chain(folder, distill, export, edgekd(folder, *shlex.split(command), *options))


@pytest.fixture
def fresh(tmp_path: Path, tiny_toml: str) -> Path:
    """A folder with the recipe alone."""
    (tmp_path / "tiny.toml").write_text(tiny_toml)
    return tmp_path


def test_every_command_succeeds(chain: Chain) -> None:
    for done in (chain.distill, chain.export, chain.verify):
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
    assert "Next: edgekd export --int8" in chain.distill.stdout
    assert "onnxruntime against the trained model: " in chain.export.stdout
    assert {path.name for path in chain.folder.iterdir()} >= {"model.onnx", "model.golden.npz", "report.json", "runs"}


def test_the_run_folder_holds_everything(chain: Chain) -> None:
    (run,) = chain.folder.glob("runs/*")
    assert run.name.startswith("folder-conv4-8-")
    names = {path.name for path in run.iterdir()}
    files = {"recipe.toml", "manifest.json", "metrics.jsonl", "report.html"}
    stages = {f"{stage}.safetensors" for stage in ("teacher", "scratch", "distilled", "student", "student-int8")}
    assert files | stages <= names
    assert not [name for name in names if name.startswith((".", "checkpoint"))]


def test_the_table_goes_from_teacher_to_deployed_file(chain: Chain) -> None:
    lines = chain.verify.stdout.splitlines()
    for row in ("teacher ", "student from scratch ", "distilled ", "distilled + meta ", "INT8 deployed "):
        (line,) = [line for line in lines if line.startswith(row) and "±" in line and not line.startswith(f"{row}+")]
        assert line.count("±") == 2
    assert any(
        line.startswith("by what the file says: distilling gained") and "quantizing cost" in line for line in lines
    )
    assert lines[-1].startswith("verdict: unknown (")


def test_the_report_keeps_its_contract(chain: Chain) -> None:
    report = json.loads((chain.folder / "report.json").read_text())
    keys = {"verdict", "model", "profile", "params", "macs", "memory", "findings", "accuracy"}
    assert keys <= report.keys()
    assert report["verdict"] == "unknown"
    assert {"path", "sha256", "flavour"} <= report["model"].keys()
    assert report["model"]["flavour"] == "qcdq"
    assert report["profile"]["name"] == "tu_accel_150k"
    assert (report["params"]["total"], report["params"]["cap"]) == (1976, 149_999)  # 8 x 9 x (3 + 8 + 8 + 8) + 4 x 8
    memory = {"weight_bytes", "peak_activation_bytes", "peak_activation_bytes_fused", "lower_bound_bytes", "planner"}
    assert memory <= report["memory"].keys()
    finding = {"rule", "status", "node", "attribute", "value", "limit", "message", "source"}
    assert all(finding <= item.keys() for item in report["findings"])
    engines = ("onnxruntime", "onnxruntime:unoptimized", "integer:ort")
    rows = [(row["engine"], row["shot"], row["episodes"]) for row in report["accuracy"]]
    assert rows == [(engine, shot, 200) for engine in engines for shot in (1, 5)]
    assert {row["engine"] for row in report["engines"]} == set(engines[1:])
    assert all(row["max_lsb"] <= 2 for row in report["engines"])
    assert len(report["sqnr"]) == 5
    assert all(row["sqnr_db"] > 15 for row in report["sqnr"])
    assert all(0.2 < row["mean"] <= 1 and 0 <= row["ci95"] < 0.1 for row in report["accuracy"])


def test_a_finished_run_is_found_again(chain: Chain) -> None:
    before = {path: path.stat().st_mtime_ns for path in chain.folder.glob("runs/*/*.safetensors")}
    again = edgekd(chain.folder, *DISTILL)
    assert again.returncode == 0, again.stderr
    assert "epoch" not in again.stdout
    assert "INT8 (torch)" in again.stdout
    assert before == {path: path.stat().st_mtime_ns for path in chain.folder.glob("runs/*/*.safetensors")}


@pytest.mark.parametrize("stage", ["teacher", "distilled"])
def test_a_killed_run_ends_bit_identical(chain: Chain, fresh: Path, stage: str) -> None:
    command = [sys.executable, "-m", "edgekd", *DISTILL]
    with subprocess.Popen(
        command, cwd=fresh, env=environment(fresh), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as running:
        deadline = time.monotonic() + 120
        while not list(fresh.glob(f"runs/*/{stage}.safetensors")) and time.monotonic() < deadline:
            time.sleep(0.01)
        running.kill()
        assert running.wait() == -9
    done = edgekd(fresh, *DISTILL)
    assert done.returncode == 0, done.stderr
    assert same(weights(fresh), weights(chain.folder))
    (run,) = fresh.glob("runs/*")
    assert not list(run.glob("checkpoint-*"))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert len({(line["stage"], line["step"]) for line in lines}) == len(lines)


def test_a_time_budget_stops_and_the_same_command_goes_on(chain: Chain, fresh: Path) -> None:
    stopped = edgekd(fresh, *DISTILL, "--time-budget", "1s")
    assert stopped.returncode == 75, stopped.stderr
    assert "Stopped: the time budget of 1 s is used up" in stopped.stdout
    assert "the same command goes on" in stopped.stdout
    refused = edgekd(fresh, "export", "--int8")
    assert refused.returncode == 2
    assert "is not finished" in refused.stderr
    assert not (fresh / "model.onnx").exists()
    done = edgekd(fresh, *DISTILL)
    assert done.returncode == 0, done.stderr
    assert same(weights(fresh), weights(chain.folder))
