"""`edgekd search` as it is typed: what it ends with, two workers together, and what a user can get wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgekd.cli import main
from edgekd.recipe import load_recipe

ROOT = Path(__file__).parents[2]

GLYPHS = """
precision = "fp32"
[data]
size = 16
[teacher]
backbone = "conv4-8"
epochs = 0.1
[distill]
lr = 0.005
[quantize]
calibration_images = 32
[validation]
episodes = 50
[search]
trials = 3
epochs = 0.1
quantize_epochs = 0
depth = [2, 3]
width = [8, 16]
embedding = [8, 16]
episodes = 50
"""


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the command line in this process and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["edgekd", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


@pytest.fixture
def glyphs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe of seconds on the embedded images; the working folder is empty."""
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    path = tmp_path / "glyphs.toml"
    path.write_text(GLYPHS)
    return path


def profile(folder: Path, text: str) -> str:
    path = folder / "board.toml"
    path.write_text(f'name = "board"\n{text}')
    return str(path)


@pytest.mark.slow
def test_two_workers_search_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], glyphs: Path
) -> None:
    arguments = ("search", "--profile", "tu_accel_150k", "--recipe", str(glyphs), "--cpu", "--trials", "2")
    other = subprocess.Popen(
        [sys.executable, "-m", "edgekd", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert run(monkeypatch, *arguments) == 0
    said, _ = other.communicate(timeout=200)
    assert other.returncode == 0, said
    assert run(monkeypatch, *arguments) == 0
    output = capsys.readouterr().out.split("search folder")[-1]
    (folder,) = Path("runs").iterdir()
    results = json.loads((folder / "results.json").read_text())
    assert len(results["trials"]) == 2
    assert results["running"] == results["failed"] == 0
    assert "candidates: 2 trained" in output
    assert f"Next: edgekd distill --recipe {folder}/best.toml --teacher-weights {folder}/teacher/" in output
    assert results["trials"][0]["candidate"]["student"] in output
    assert load_recipe(folder / "best.toml").student.backbone == results["trials"][0]["candidate"]["student"]
    assert not list(folder.glob("locks/worker-*"))


def test_a_cap_that_nothing_fits_exits_2_and_names_the_rule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], glyphs: Path
) -> None:
    board = profile(tmp_path, "[params]\nmax = 50\n")
    arguments = ("search", "--profile", board, "--recipe", str(glyphs), "--cpu", "--set", "search.refused=2")
    assert run(monkeypatch, *arguments) == 2
    printed = capsys.readouterr()
    assert "refused by parameters: " in printed.out
    assert "board holds none of 2 candidates: parameters refused 2, for example: " in printed.err
    assert "exceed the cap of 50" in printed.err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--trials", "0"], "search.trials: Input should be greater than or equal to 1"),
        (["--trials", "many"], "'many' is not a valid integer"),
        (["--profile", "tu_accel_150"], "Did you mean 'tu_accel_150k'"),
        (["--profile", "LIMITLESS"], "limits neither parameters nor layers, memory or operators"),
        (["--storage", "nothing://x"], "--storage nothing://x cannot be opened"),
        (["--storage", "no/such/folder/x"], "there is no folder no/such/folder"),
        (["--storage", "."], "--storage . is a folder"),
        (["--storage", ""], "--storage is empty"),
        (["--name", ""], "--name is empty"),
        (["--set", "search.width=[64, 32]"], "search.width: the smallest comes first: [32, 64]"),
        (["--set", "search.depth=[0, 3]"], "search.depth"),
        (["--set", "search.weight_bits=[9]"], "search.weight_bits"),
        (["--set", "search.dept=[1, 3]"], "Did you mean 'depth'"),
        (["--set", "quantize.enabled=false"], "leave out --no-quantize"),
        (["--set", "student.weights=a.safetensors"], "a search makes up its students"),
        (["--set", "teacher.rotation=0", "--method", "dfkd"], "wants teacher.rotation=1"),
        (["--set", "assistant.backbone=auto"], "an assistant fits one student"),
        (["--method", "ce + self"], "a search has one teacher for all"),
        (["--method", "ce + kdd"], "Did you mean 'kd'"),
        (["--teacher-weights", "absent.safetensors"], "no weights at absent.safetensors"),
        (["--teacher", "resnet21"], "unknown backbone 'resnet21'"),
        (["--data", "glyph"], "Did you mean 'glyphs'"),
        (["--student", "conv4-8"], "--student"),
        (["--set", "validation.query=500"], "lower validation.way"),
        (["--method", "ce + feature_mse", "--set", "distill.options.feature_mse.layers=[3]"], "has no layer 3"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_can_be_fixed_exits_2_and_says_how(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    glyphs: Path,
    arguments: list[str],
    complaint: str,
) -> None:
    words = [profile(glyphs.parent, "") if word == "LIMITLESS" else word for word in arguments]
    code = run(monkeypatch, "search", "--recipe", str(glyphs), "--cpu", *words)
    error = capsys.readouterr().err
    assert code == 2
    assert complaint in " ".join(error.split())
    assert "Traceback" not in error
    assert not list(Path().glob("runs/*/t*"))  # neither a teacher nor trials


def test_a_time_budget_that_ends_before_the_search_exits_75(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], glyphs: Path
) -> None:
    assert run(monkeypatch, "search", "--recipe", str(glyphs), "--cpu", "--time-budget", "0.1s") == 75
    assert "the same command goes on" in capsys.readouterr().out
