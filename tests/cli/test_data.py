from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from edgekd.cli.data import command
from edgekd.data import DATASETS
from edgekd.errors import DataError


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """A closed set: two classes of six images in train, two in test; blue is always 40."""
    root = tmp_path / "pets"
    for split, n in (("train", 6), ("test", 2)):
        for label, name in enumerate(("cat", "dog")):
            (root / split / name).mkdir(parents=True)
            for number in range(n):
                Image.new("RGB", (8, 6), (number, label, 40)).save(root / split / name / f"{number}.png")
    return root


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments, catch_exceptions=True)


def test_list_names_every_dataset_and_says_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("EDGEKD_DATA", str(tmp_path))
    result = run("list")
    assert result.exit_code == 0
    for name in DATASETS:
        assert name in result.output
    assert "train/[val/]test" in result.output
    assert "built in" in result.output
    assert str(tmp_path) in result.output


def test_info_describes_every_split(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    result = run("info", f"folder:{pets}", "--size", "4")
    assert result.exit_code == 0, result.output
    assert "3x4x4" in result.output
    assert "closed: the same classes in every split" in result.output


def test_info_as_json_is_json_alone(pets: Path) -> None:
    result = run("info", f"folder:{pets}", "--json")
    facts = json.loads(result.stdout)
    assert facts["novel"] is False
    assert facts["splits"]["test"] == {
        "images": 4, "classes": 2, "height": 6, "width": 8, "channels": 3, "mean": [0.5, 0.5, 40.0],
        "fingerprint": facts["splits"]["test"]["fingerprint"], "class_names": ["cat", "dog"],
    }  # fmt: skip
    assert [facts["splits"][split]["images"] for split in ("train", "val")] == [10, 2]
    assert "no val images" in result.stderr


def test_channels_and_seed_reach_the_reader(pets: Path) -> None:
    gray = json.loads(run("info", f"folder:{pets}", "--json", "--channels", "1").stdout)
    assert gray["splits"]["train"]["channels"] == 1
    prints = {
        json.loads(run("info", f"folder:{pets}", "--json", "--seed", seed).stdout)["splits"]["val"]["fingerprint"]
        for seed in "01234"
    }
    assert len(prints) > 1


def test_prepare_decodes_once(pets: Path) -> None:
    first, second = run("prepare", f"folder:{pets}", "--size", "5"), run("prepare", f"folder:{pets}", "--size", "5")
    assert first.exit_code == second.exit_code == 0
    assert "decoding 4 images" in first.stderr
    assert "decoding" not in second.stderr
    assert "ready" in second.stdout


def test_bad_images_end_in_an_error_unless_skipped(pets: Path) -> None:
    (pets / "test" / "cat" / "broken.jpg").write_text("text")
    result = run("prepare", f"folder:{pets}")
    assert isinstance(result.exception, DataError)
    assert "broken.jpg (not an image)" in str(result.exception)
    skipped = run("prepare", f"folder:{pets}", "--skip-bad")
    assert skipped.exit_code == 0
    assert "skipped 1 of 5 images" in skipped.stderr


def test_a_dataset_that_cannot_be_downloaded_says_how_to_get_it() -> None:
    result = run("prepare", "miniimagenet", "--download")
    assert isinstance(result.exception, DataError)
    assert "miniimagenet:PATH" in str(result.exception)
