from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgekd.cli import main
from edgekd.cli.models import command
from edgekd.files import sha256_file
from edgekd.zoo import FILES, zoo_names


def run(*arguments: str) -> str:
    result = CliRunner().invoke(command, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_list_shows_every_student_with_its_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    lines = run("list").splitlines()
    assert "5-way 1-shot %" in lines[0]
    for name in zoo_names():
        (line,) = [line for line in lines if line.split()[0] == name]
        assert "±" in line
        assert "(tu_accel_150k" in line


def test_list_as_json_is_json_alone() -> None:
    facts = {row["name"]: row for row in json.loads(run("list", "--json"))}
    assert sorted(facts) == zoo_names()
    found = facts["omniglot-conv4"]
    assert (found["data"], found["parameters"], found["weight_bytes"], found["macs"]) == (
        "omniglot",
        147_616,
        148_528,
        8_489_664,
    )
    assert {(row["way"], row["shot"], row["engine"]) for row in found["accuracy"]} == {
        (5, 1, "onnxruntime"),
        (5, 5, "onnxruntime"),
        (20, 1, "onnxruntime"),
        (20, 5, "onnxruntime"),
    }
    assert all(0.9 < row["mean"] < 1 for row in found["accuracy"])


def test_a_copy_can_be_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "edgekd verify omniglot-conv4/model.onnx" in run("get", "omniglot-conv4")
    folder = tmp_path / "omniglot-conv4"
    assert {path.name for path in folder.iterdir()} == set(FILES)
    monkeypatch.setattr(
        sys, "argv", ["edgekd", "verify", str(folder / "model.onnx"), "--static", "--json", "report.json"]
    )
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code in {0, None}
    assert json.loads(Path("report.json").read_text())["model"]["sha256"] == sha256_file(folder / "model.onnx")


def test_out_names_the_folder(tmp_path: Path) -> None:
    run("get", "omniglot-conv4", "--out", str(tmp_path / "a" / "b"))
    assert (tmp_path / "a" / "b" / "card.md").is_file()


def test_an_unknown_name_exits_2_with_the_nearest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["edgekd", "models", "get", "omniglot-conv5"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert "Did you mean 'omniglot-conv4'" in capsys.readouterr().err
