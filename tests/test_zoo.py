from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from edgekd import zoo
from edgekd.errors import ModelError, StorageError, UsageError
from edgekd.files import sha256_file
from edgekd.report.markdown import table

ROOT = Path(__file__).parents[1]


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A zoo of one student whose files are a line of text each, listed by its card."""
    folder = tmp_path / "zoo" / "tiny-conv4"
    folder.mkdir(parents=True)
    for name in zoo.FILES:
        (folder / name).write_text(f"{name} of tiny-conv4")
    listed = [(f"`{name}`", f"`{sha256_file(folder / name)}`") for name in zoo.FILES if name != zoo.CARD]
    (folder / zoo.CARD).write_text("\n".join(["# tiny-conv4", *table(("file", "SHA-256"), listed)]))
    monkeypatch.setattr(zoo, "WHEEL_FOLDER", tmp_path / "zoo")
    return folder


def test_an_installed_zoo_comes_before_that_of_a_checkout(small: Path) -> None:
    assert zoo.zoo_folder() == small.parent
    assert zoo.zoo_names() == ["tiny-conv4"]


def test_a_wheel_and_a_source_archive_have_the_zoo() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]
    assert build["wheel"]["force-include"]["models"] == f"edgekd/{zoo.WHEEL_FOLDER.name}"
    assert "models" in build["sdist"]["include"]


def test_in_a_checkout_it_is_the_folder_models() -> None:
    assert zoo.zoo_folder() == ROOT / "models"
    assert "recipes" not in zoo.zoo_names()


def test_an_unknown_model_gets_the_nearest(small: Path) -> None:
    with pytest.raises(ModelError, match=r"unknown model 'tiny-conv5'. Did you mean 'tiny-conv4'"):
        zoo.find_model("tiny-conv5")


def test_a_copy_is_whole_and_a_second_one_changes_nothing(small: Path, tmp_path: Path) -> None:
    target = tmp_path / "mine" / "copy"
    for _ in range(2):
        zoo.copy_model(zoo.find_model("tiny-conv4"), target)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == {
        name: (small / name).read_bytes() for name in zoo.FILES
    }


def test_files_of_a_user_are_not_written_over(small: Path, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_text("mine")
    with pytest.raises(UsageError, match=r"has another model\.onnx already; name another folder with --out"):
        zoo.copy_model(zoo.find_model("tiny-conv4"), tmp_path)
    assert (tmp_path / "model.onnx").read_text() == "mine"
    assert not (tmp_path / "card.md").exists()


def test_a_student_that_is_not_whole_is_named(small: Path, tmp_path: Path) -> None:
    (small / "golden.npz").unlink()
    with pytest.raises(ModelError, match=r"is not whole: No such file.*golden\.npz"):
        zoo.copy_model(zoo.find_model("tiny-conv4"), tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("name", zoo.FILES)
def test_a_student_without_one_of_its_files_is_still_there(small: Path, name: str) -> None:
    (small / name).unlink()
    assert zoo.zoo_names() == ["tiny-conv4"]


@pytest.mark.parametrize("name", ["golden.npz", "recipe.toml"])
def test_another_file_than_the_card_lists_is_not_copied(small: Path, tmp_path: Path, name: str) -> None:
    (small / name).write_text("half of it")
    with pytest.raises(ModelError, match=rf"{name} is damaged: its SHA-256 is not the one that card\.md lists"):
        zoo.copy_model(zoo.find_model("tiny-conv4"), tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_file_that_no_card_lists_is_not_copied(small: Path, tmp_path: Path) -> None:
    (small / zoo.CARD).write_text("# tiny-conv4")
    with pytest.raises(ModelError, match=r"recipe\.toml is damaged"):
        zoo.copy_model(zoo.find_model("tiny-conv4"), tmp_path / "copy")


def test_a_file_in_the_place_of_the_folder_is_refused(small: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="cannot write"):
        zoo.copy_model(zoo.find_model("tiny-conv4"), tmp_path / "file")


def test_a_report_that_is_none_is_named(small: Path) -> None:
    with pytest.raises(ModelError, match=r"report\.json is not a report of edgekd verify"):
        _ = zoo.find_model("tiny-conv4").report


def test_the_first_comments_of_a_recipe_say_what_it_is(small: Path) -> None:
    model = zoo.find_model("tiny-conv4")
    (small / "recipe.toml").write_text("# Digits, all of them\n# A second line\nseed = 1\n# not this\n")
    assert model.about == ("Digits, all of them", "A second line")


def test_a_recipe_may_say_nothing(small: Path) -> None:
    (small / "recipe.toml").write_text("seed = 1\n")
    assert zoo.find_model("tiny-conv4").about == ()
