from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from edgekd.data import Splits, load_splits
from edgekd.errors import DataError

WriteClasses = Callable[..., None]
TABLE = {"train": ["n01", "n02"], "val": ["n03"], "test": ["n04", "n05"]}


def load(root: Path, **options: object) -> Splits:
    return load_splits(f"miniimagenet:{root}", **options)  # type: ignore[arg-type]


def class_names(splits: Splits) -> dict[str, list[str]]:
    return {split: list(splits[split].class_names) for split in ("train", "val", "test")}


def write_table(root: Path, table: dict[str, list[str]] = TABLE) -> None:
    (root / "splits.json").write_text(json.dumps(table))


def write_csvs(root: Path, per_class: int = 3) -> None:
    for split, names in TABLE.items():
        rows = [f"{name}{number}.png,{name}" for name in names for number in range(per_class)]
        (root / f"{split}.csv").write_text("\n".join(["filename,label", *rows]))


@pytest.fixture
def split_folders(tmp_path: Path, write_classes: WriteClasses) -> Path:
    for split, names in TABLE.items():
        write_classes(tmp_path / "mini" / split, " ".join(names))
    return tmp_path / "mini"


@pytest.fixture
def plain(tmp_path: Path, write_classes: WriteClasses) -> Path:
    write_classes(tmp_path / "plain", "n01 n02 n03 n04 n05")
    return tmp_path / "plain"


def test_split_folders_say_the_split(split_folders: Path) -> None:
    splits = load(split_folders)
    assert class_names(splits) == TABLE
    assert splits.novel
    assert splits.train.images.shape == (6, 84, 84, 3)
    assert load(split_folders, size=10).train.height == 10


def test_a_table_assigns_plain_class_folders(plain: Path) -> None:
    write_table(plain)
    assert class_names(load(plain)) == TABLE


def test_a_table_beside_a_zip_is_found(plain: Path, tmp_path: Path, zip_folder: Callable[[Path, Path], Path]) -> None:
    place = tmp_path / "download"
    place.mkdir()
    zip_folder(plain, place / "mini.zip")
    write_table(place)
    for path in (place, place / "mini.zip"):
        assert class_names(load(path)) == TABLE


def test_train_and_val_folders_of_the_same_classes_are_joined(tmp_path: Path, write_classes: WriteClasses) -> None:
    root = tmp_path / "community"
    every = "n01 n02 n03 n04 n05"
    write_classes(root / "train", every, per_class=5)
    write_classes(root / "val", every, per_class=1)
    with pytest.raises(DataError, match=r"no test folder .* splits\.json"):
        load(root)
    write_table(root)
    splits = load(root)
    assert class_names(splits) == TABLE
    assert len(splits.test) == 2 * 6


@pytest.mark.parametrize("folder", ["images", "n01"])
def test_csv_files_list_images_wherever_they_lie(tmp_path: Path, write_image: Callable[..., Path], folder: str) -> None:
    root = tmp_path / "ravi"
    for names in TABLE.values():
        for name in names:
            for number in range(4):  # one more than the lists name
                write_image(root / (folder if folder == "images" else name) / f"{name}{number}.png")
    write_csvs(root)
    splits = load(root)
    assert class_names(splits) == TABLE
    assert [len(splits[split]) for split in ("train", "val", "test")] == [6, 3, 6]


def test_csv_files_whose_images_were_renamed_still_say_the_classes(
    tmp_path: Path, write_image: Callable[..., Path]
) -> None:
    for names in TABLE.values():
        for name in names:
            write_image(tmp_path / "renamed" / name / f"0_{name}.png")
    write_csvs(tmp_path / "renamed")
    assert class_names(load(tmp_path / "renamed")) == TABLE


def test_a_listed_image_that_is_missing_is_named(plain: Path) -> None:
    write_csvs(plain)
    (plain / "n04" / "n041.png").unlink()
    with pytest.raises(DataError, match=r"1 of 15 images of 'miniimagenet'.*n041\.png \(missing"):
        load(plain)
    assert len(load(plain, skip_bad=True).test) == 5


def test_classes_outside_the_table_are_left_out_with_a_notice(plain: Path, write_classes: WriteClasses) -> None:
    write_classes(plain, "n06 n07")
    write_table(plain)
    notices: list[str] = []
    assert class_names(load(plain, notify=notices.append)) == TABLE
    assert any("2 classes are not in" in notice and "n06, n07" in notice for notice in notices)


def test_a_class_of_the_table_without_images_is_named(plain: Path) -> None:
    write_table(plain, {**TABLE, "val": ["n03", "n99"]})
    with pytest.raises(DataError, match="1 class has no images: n99"):
        load(plain)


def test_a_class_in_two_splits_of_the_table_is_named(plain: Path) -> None:
    write_table(plain, {**TABLE, "val": ["n03", "n01"]})
    with pytest.raises(DataError, match=r"1 class \(n01\) in both train and val"):
        load(plain)


@pytest.mark.parametrize("text", ["{", "[]", '{"train": []}', '{"train": [1], "val": ["a"], "test": ["b"]}'])
def test_a_malformed_table_is_refused(plain: Path, text: str) -> None:
    (plain / "splits.json").write_text(text)
    with pytest.raises(DataError, match=r"splits\.json"):
        load(plain)


@pytest.mark.parametrize(
    ("text", "message"), [("a,b\n1,2", "does not start with"), ("filename,label\nx.png,", "without a label")]
)
def test_malformed_csv_files_are_refused(plain: Path, text: str, message: str) -> None:
    write_csvs(plain)
    (plain / "val.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        load(plain)


def test_incomplete_csv_files_are_refused(plain: Path) -> None:
    write_csvs(plain)
    (plain / "val.csv").unlink()
    with pytest.raises(DataError, match=r"has train\.csv, test\.csv but not val\.csv"):
        load(plain)


def test_plain_class_folders_without_a_table_are_refused(plain: Path) -> None:
    with pytest.raises(DataError, match=r"neither splits\.json nor train\.csv"):
        load(plain)


def test_a_part_of_the_set_is_said_to_be_one(split_folders: Path) -> None:
    notices: list[str] = []
    load(split_folders, notify=notices.append)
    assert "images of 'miniimagenet' are there, and all of it has 60,000: figures on them are not comp" in notices[-1]
