from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgekd import zoo
from edgekd.cli import main
from edgekd.cli.models import command
from edgekd.files import sha256_file
from edgekd.zoo import FILES, find_model, zoo_names


def run(*arguments: str) -> str:
    result = CliRunner().invoke(command, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def refused(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["edgekd", "models", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2


def test_list_shows_every_student_with_its_numbers_in_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = run("list").splitlines()
    assert lines[0].split() == ["model", "parameters", "verdict", "way", "1-shot", "%", "5-shot", "%"]
    for model in map(find_model, zoo_names()):
        (line,) = [line for line in lines if line.split()[0] == model.name]
        one, five = (f"{100 * row.mean:.2f}" for row in model.accuracy[:2])
        parameters = f"{model.report.params.total:,}"
        assert line.split() == [model.name, parameters, model.report.verdict, "5", one, five]
    assert [line.split()[0] for line in lines if line.startswith("  ")] == ["20"]


def test_teachers_are_listed_in_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = run("teachers").splitlines()
    assert lines[1].split() == ["miniimagenet-resnet12", "resnet12:16-40-112-256", "5", "56.18", "72.97"]


@pytest.mark.parametrize("extra", [[], ["--json"]], ids=["table", "json"])
def test_what_is_whole_is_listed_beside_what_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], extra: list[str]
) -> None:
    for name in ("omniglot-conv4", "miniimagenet-conv4"):
        shutil.copytree(zoo.zoo_folder() / name, tmp_path / name)
    (tmp_path / "miniimagenet-conv4" / "model.onnx").write_bytes(b"not a model")
    monkeypatch.setattr(zoo, "WHEEL_FOLDER", tmp_path)
    refused(monkeypatch, "list", *extra)
    captured = capsys.readouterr()
    assert "omniglot-conv4" in captured.out
    assert "miniimagenet-conv4" not in captured.out
    assert str(tmp_path / "miniimagenet-conv4" / "model.onnx") in captured.err
    assert "omniglot" not in captured.err


@pytest.mark.parametrize("what", ["list", "teachers"])
def test_an_empty_zoo_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    monkeypatch.setattr(zoo, "WHEEL_FOLDER", tmp_path)
    refused(monkeypatch, what)
    assert f"there are none in {tmp_path}" in capsys.readouterr().err


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
    refused(monkeypatch, "get", "omniglot-conv5")
    assert "Did you mean 'omniglot-conv4'" in capsys.readouterr().err
