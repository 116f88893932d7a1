"""The whole chain for a student whose projector ships: distill, export, verify."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from edgekd.distill.checkpoint import load_snapshot
from edgekd.run import Run

SHIPPED = (
    "--method",
    "simkd",
    "--set",
    "distill.options.simkd.ships=true",
    "--set",
    "distill.options.simkd.reduction=8",
)
SHORT = (
    "--no-baseline",
    "--no-meta",
    "--ptq",
    "--pot",
    "--set",
    "teacher.epochs=1",
    "--set",
    "distill.epochs=1",
    "--cpu",
)
FEW = ("--set", "validation.episodes=10", "--set", "test.episodes=20")


def edgekd(command: str, *arguments: str) -> Result:
    result = CliRunner().invoke(importlib.import_module(f"edgekd.cli.{command}").command, arguments)
    assert result.exit_code == 0, result.output
    return result


def test_the_projector_is_in_the_file_and_counts(
    tmp_path: Path, tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    edgekd("distill", "--recipe", str(tiny_recipe), "--run", "run", *SHIPPED, *SHORT, *FEW)
    run = Run.open(tmp_path / "run")
    assert run.recipe.student.backbone == "projected:32/8:conv4-8"
    student, teacher = (load_snapshot(run.stage_file(stage)).part("network") for stage in ("distill", "teach"))
    assert torch.equal(student["head.weight"], teacher["head.weight"])
    edgekd("export", "--int8", "--run", "run")
    data = run.recipe.data.spec
    edgekd("verify", "model.onnx", "--data", data, "--episodes", "20", "--query", "5", "--json", "report.json")
    report = json.loads((tmp_path / "report.json").read_text())
    conv4 = 8 * 9 * (3 + 8 + 8 + 8) + 4 * 8
    assert report["params"]["total"] == conv4 + (8 * 4 + 4 * 4 * 9 + 4 * 32) + (4 + 4 + 32)
    assert len(run.manifest.base_mean) == 32
    assert report["engines"]
    assert all(row["max_lsb"] == 0 for row in report["engines"])
