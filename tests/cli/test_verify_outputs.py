"""The files that `edgekd verify` writes, its gate, and folders of models."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner, Result
from onnx import parser

from edgekd.cli.verify import command
from edgekd.errors import EdgekdError, ModelError, ProfileError, StorageError, UsageError

TINY = """
<ir_version: 10, opset_import: ["" : 17]>
tiny (int8[1,1,8,8] pixels) => (int8[1,64] embedding)
<float scale = {0.5}, int8 zero = {0}, int8[1,1,1,1] weight = {2}> {
    x = DequantizeLinear (pixels, scale, zero)
    w = DequantizeLinear (weight, scale, zero)
    y = Conv (x, w)
    flat = Flatten (y)
    embedding = QuantizeLinear (flat, scale, zero)
}
"""
STATIC = ("--profile", "stm32h743", "--static")


def save(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(parser.parse_model(TINY).SerializeToString())
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save(tmp_path / "model.onnx")


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(command, [str(item) for item in arguments], catch_exceptions=False)


def words(text: str) -> str:
    return " ".join(text.split())


def test_every_format_at_once(model: Path, tmp_path: Path) -> None:
    names = ("json", "html", "sarif", "junit")
    (tmp_path / "out").mkdir()
    result = run(model, *STATIC, *(item for name in names for item in (f"--{name}", tmp_path / "out" / f"r.{name}")))
    assert result.exit_code == 0
    texts = {name: (tmp_path / "out" / f"r.{name}").read_text() for name in names}
    assert json.loads(texts["json"])["verdict"] == "pass"
    assert texts["html"].startswith("<!doctype html>")
    assert json.loads(texts["sarif"])["version"] == "2.1.0"
    assert ET.fromstring(texts["junit"].encode()).get("failures") == "0"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["r.html", "r.json", "r.junit", "r.sarif"]


@pytest.mark.parametrize("name", ["html", "sarif", "junit"])
def test_stdout_holds_the_format_and_nothing_else(model: Path, name: str) -> None:
    result = run(model, *STATIC, f"--{name}", "-")
    assert result.stdout.lstrip().startswith({"html": "<!doctype", "sarif": "{", "junit": "<?xml"}[name])
    assert "verdict: pass" not in result.stdout
    assert "verdict: pass" in result.stderr


@pytest.mark.parametrize(
    ("target", "error", "complaint"),
    [
        ("FOLDER", StorageError, "it is a folder"),
        ("MODEL", UsageError, "would overwrite the model"),
        ("FOLDER/./model.onnx", UsageError, "would overwrite the model"),
        ("MODEL/x.json", StorageError, "there is no folder"),
        ("FOLDER/absent/x.json", StorageError, "there is no folder .*absent"),
        ("/dev/null", StorageError, "not a regular file"),
        ("/proc/nothing/r.json", StorageError, "cannot write /proc/nothing/r.json"),
        ("FOLDER/" + "x" * 255, StorageError, "too long"),
    ],
)
def test_what_could_not_be_written_is_refused_before_anything_is_read(
    model: Path, tmp_path: Path, target: str, error: type[EdgekdError], complaint: str
) -> None:
    place = target.replace("MODEL", str(model)).replace("FOLDER", str(tmp_path))
    model.write_bytes(b"damaged: reading it would be another error")
    with pytest.raises(error, match=complaint):
        run(model, *STATIC, "--html", place)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx"], "nothing is left behind"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_refused(model: Path, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(StorageError, match="Permission denied"):
        run(model, *STATIC, "--json", tmp_path / "locked" / "r.json")


def test_two_outputs_into_one_place_are_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--json and --sarif would both write to stdout"):
        run(model, *STATIC, "--json", "-", "--sarif", "-")
    with pytest.raises(UsageError, match="--html and --junit would both write to"):
        run(model, *STATIC, "--html", tmp_path / "a", "--junit", tmp_path / "." / "a")


def test_an_output_is_replaced_whole(model: Path, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text("old")
    with pytest.raises(ModelError):
        run(tmp_path / "absent.onnx", *STATIC, "--json", tmp_path / "r.json")
    assert (tmp_path / "r.json").read_text() == "old"
    run(model, *STATIC, "--json", tmp_path / "r.json")
    assert json.loads((tmp_path / "r.json").read_text())["verdict"] == "pass"


@pytest.mark.parametrize(
    ("require", "strict", "code"),
    [
        ("params <= 1", False, 0),
        ("params < 1", False, 1),
        ("params < 1", True, 1),
        ("accuracy[5w5s] >= 0.6", False, 3),
        ("accuracy[5w5s] >= 0.6", True, 3),
    ],
)
def test_the_gate_decides_the_exit_code(model: Path, require: str, strict: bool, code: int) -> None:
    result = run(model, *STATIC, "--require", require, *(["--strict"] if strict else []))
    assert result.exit_code == code
    assert ("a requirement could not be decided" in words(result.stdout)) == ("accuracy" in require)


def test_requirements_stand_in_the_table_and_in_every_file(model: Path, tmp_path: Path) -> None:
    wanted = ("--require", "params < 1", "--require", "macs <= 64")
    result = run(model, *STATIC, *wanted, "--junit", tmp_path / "r.xml", "--json", tmp_path / "r.json")
    assert "params is 1; required < 1" in words(result.stdout)
    assert "macs is 64; required <= 64" in words(result.stdout)
    assert "require: params" in (tmp_path / "r.xml").read_text()
    findings = json.loads((tmp_path / "r.json").read_text())["findings"]
    assert [item["status"] for item in findings if item["rule"] == "require"] == ["fail", "pass"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--require", "acuracy[5w5s] > 0"], "Did you mean 'accuracy'"),
        (["--require", "accuracy[10w1s] > 0", "--way", "5"], "this run measures way 5"),
        (["--way", "1"], "way must be at least 2"),
        (["--query", "0"], "query must be at least 1"),
        (["--shot", "0"], "shot must be at least 1"),
        (["--episodes", "999999999999"], "at most 1,000,000"),
        (["--head", "cosin"], "Did you mean 'cosine'"),
        (["--split", "tset"], "Did you mean 'test'"),
        (["--size", "-3"], "size must be at least 1"),
    ],
)
def test_options_are_refused_before_a_file_is_read(tmp_path: Path, arguments: list[str], complaint: str) -> None:
    with pytest.raises(EdgekdError, match=complaint):
        run(tmp_path / "absent.onnx", *STATIC, *arguments)


def test_the_help_groups_its_options(model: Path) -> None:
    text = run("--help").stdout
    assert "MODEL.onnx|FOLDER" in text
    places = [
        text.index(title) for title in ("What is checked", "How accuracy", "What decides", "What is written", "Other")
    ]
    assert places == sorted(places)
    assert model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two good files, one damaged, one hidden, one of another kind."""
    for name in ("b.onnx", "deep/er/a.onnx", ".hidden/c.onnx", ".d.onnx"):
        save(tmp_path / "models" / name)
    (tmp_path / "models" / "damaged.onnx").write_bytes(b"")
    (tmp_path / "models" / "notes.txt").write_text("no model")
    (tmp_path / "models" / "again").symlink_to(tmp_path / "models")
    return tmp_path / "models"


def test_a_folder_gives_a_list_and_a_damaged_file_stops_no_other(folder: Path) -> None:
    result = run(folder, *STATIC, "--json", "-")
    assert result.exit_code == 2
    document = json.loads(result.stdout)
    assert document["verdict"] == "fail"
    good, damaged, deep = document["reports"]
    assert (good["model"]["path"], deep["model"]["path"]) == (str(folder / "b.onnx"), str(folder / "deep/er/a.onnx"))
    assert damaged == {"path": str(folder / "damaged.onnx"), "error": f"{folder / 'damaged.onnx'} is empty"}
    assert result.stderr.splitlines()[-1] == "verdict: fail (3 files)"


def test_a_folder_in_every_other_format(folder: Path, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("r.html", "r.sarif", "r.xml")]
    run(folder, *STATIC, "--html", paths[0], "--sarif", paths[1], "--junit", paths[2])
    assert "Verification of 3 files" in paths[0].read_text()
    assert len(json.loads(paths[1].read_text())["runs"][0]["artifacts"]) == 2
    assert ET.fromstring(paths[2].read_bytes()).get("errors") == "1"


def test_a_single_damaged_file_has_an_entry_in_every_format(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(b"no model")
    names = ("json", "html", "sarif", "junit")
    with pytest.raises(ModelError, match="is not an ONNX file"):
        run(damaged, *STATIC, *(item for name in names for item in (f"--{name}", tmp_path / f"r.{name}")))
    (entry,) = json.loads((tmp_path / "r.json").read_text())["reports"]
    assert entry["path"] == str(damaged)
    assert "is not an ONNX file" in entry["error"]
    (run_,) = json.loads((tmp_path / "r.sarif").read_text())["runs"]
    assert not run_["invocations"][0]["executionSuccessful"]
    assert ET.fromstring((tmp_path / "r.junit").read_bytes()).get("errors") == "1"
    assert "is not an ONNX file" in (tmp_path / "r.html").read_text()


def test_a_damaged_scale_is_an_error_with_all_findings(tmp_path: Path) -> None:
    proto = parser.parse_model(TINY)
    proto.graph.initializer[0].float_data[0] = float("nan")
    path = tmp_path / "nan.onnx"
    path.write_bytes(proto.SerializeToString())
    for more in ((*STATIC,), ("--profile", "stm32h743", "--data", "glyphs")):
        result = run(path, *more, "--json", tmp_path / "r.json")
        report = json.loads((tmp_path / "r.json").read_text())
        assert result.exit_code == 2
        assert "is nan (in 'scale'): not a positive number" in report["errors"][0]
        assert f"Error: {report['errors'][0]}" in result.stderr
        assert len(report["findings"]) > 10


def test_an_undecided_requirement_fails_its_test_case(model: Path, tmp_path: Path) -> None:
    run(model, *STATIC, "--require", "accuracy[5w5s] >= 0.6", "--junit", tmp_path / "r.xml")
    assert ET.fromstring((tmp_path / "r.xml").read_bytes()).get("failures") == "1"


@pytest.mark.parametrize(
    ("more", "code"),
    [([], 0), (["--require", "mj < 1"], 3), (["--require", "params < 1"], 1), (["--strict", "--require", "mj < 1"], 3)],
)
def test_the_worst_exit_code_of_a_folder_counts(folder: Path, more: list[str], code: int) -> None:
    (folder / "damaged.onnx").unlink()
    result = run(folder, *STATIC, *more)
    assert result.exit_code == code
    assert "b.onnx" in result.stdout


def test_a_folder_with_one_damaged_file(tmp_path: Path) -> None:
    (tmp_path / "damaged.onnx").write_bytes(b"")
    result = run(tmp_path, *STATIC, "--html", tmp_path / "r.html", "--junit", tmp_path / "r.xml")
    assert result.exit_code == 2
    assert "is empty" in (tmp_path / "r.html").read_text()


def test_a_folder_is_refused_whole_where_nothing_in_it_can_be_verified(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"no \.onnx file in"):
        run(tmp_path / "empty", *STATIC)
    with pytest.raises(ProfileError, match="Did you mean 'stm32h743'"):
        run(folder, "--profile", "stm32", "--static")
    with pytest.raises(UsageError, match="would overwrite the model"):
        run(folder, *STATIC, "--json", folder / "deep/er/a.onnx")


def test_names_that_are_no_text_do_not_break_a_format(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/m\xff.onnx"))
    save(path)
    (tmp_path / os.fsdecode(b"bad\xff.onnx")).write_bytes(b"")
    outputs = [(f"--{name}", tmp_path / f"r.{name}") for name in ("json", "html", "sarif", "junit")]
    assert run(tmp_path, *STATIC, *(item for pair in outputs for item in pair)).exit_code == 2
    assert all("m\ufffd.onnx" in path.read_text() or "m%EF%BF%BD" in path.read_text() for _, path in outputs)
