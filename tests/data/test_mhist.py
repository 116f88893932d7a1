from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from edgekd.data import Splits, load_splits
from edgekd.errors import DataError

WriteImage = Callable[..., Path]
COLUMNS = ("Image Name", "Majority Vote Label", "Number of Annotators who Selected SSA (Out of 7)", "Partition")
COLOURS = {"HP": (200, 20, 20), "SSA": (20, 20, 200)}


def load(root: Path, **options: object) -> Splits:
    return load_splits(f"mhist:{root}", **options)  # type: ignore[arg-type]


def write_table(root: Path, lines: Sequence[tuple[str, ...]], columns: tuple[str, ...] = COLUMNS) -> None:
    with (root / "annotations.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([columns, *lines])


def made_up() -> list[tuple[str, ...]]:
    """Six training and two test images of each class, in turns."""
    rows: list[tuple[str, ...]] = []
    for number in range(8):
        for label, votes in (("HP", 1), ("SSA", 6)):
            part = "train" if number < 6 else "test"
            rows.append((f"MHIST_{label}{number}.png", label, str(votes), part))
    return rows


@pytest.fixture
def mhist(tmp_path: Path, write_image: WriteImage) -> Path:
    root = tmp_path / "mhist"
    for name, label, *_ in made_up():
        write_image(root / "images" / name, COLOURS[label])
    write_table(root, made_up())
    return root


def test_the_table_says_class_and_partition(mhist: Path) -> None:
    splits = load(mhist)
    assert not splits.novel
    assert [len(splits[split]) for split in ("train", "val", "test")] == [10, 2, 4]
    for split in ("train", "val", "test"):
        images = splits[split]
        assert images.class_names == ("HP", "SSA")
        for pixels, label in zip(images.images, images.labels, strict=True):
            assert np.all(pixels == COLOURS[images.class_names[label]])


def test_val_is_drawn_by_the_seed(tmp_path: Path, write_image: WriteImage) -> None:
    rows = [
        (f"{label}{number}.png", label, "3", part)
        for label in COLOURS
        for number, part in enumerate(["train"] * 9 + ["test"])
    ]
    for number, row in enumerate(rows):
        write_image(tmp_path / "images" / row[0], (number, 0, 0))
    write_table(tmp_path, rows)
    chosen = {seed: load(tmp_path, seed=seed).val.images[:, 0, 0, 0].tolist() for seed in range(4)}
    assert chosen[0] == load(tmp_path, seed=0).val.images[:, 0, 0, 0].tolist()
    assert len({tuple(values) for values in chosen.values()}) > 1


def test_images_may_lie_in_a_zip_beside_the_table(
    mhist: Path, tmp_path: Path, zip_folder: Callable[[Path, Path], Path]
) -> None:
    place = tmp_path / "download"
    place.mkdir()
    zip_folder(mhist / "images", place / "images.zip")
    write_table(place, made_up())
    assert load(place).test.fingerprint == load(mhist).test.fingerprint


@pytest.mark.parametrize("column", ["Image Name", "Majority Vote Label", "Partition"])
def test_a_missing_column_is_named(mhist: Path, column: str) -> None:
    write_table(mhist, made_up(), tuple("other" if name == column else name for name in COLUMNS))
    with pytest.raises(DataError, match=rf"annotations\.csv has no column '{column}'; its columns are .*other"):
        load(mhist)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("x.png", "SSAA", "1", "train"), r"line 18: unknown majority vote label 'SSAA'\. Did you mean 'SSA'"),
        (("x.png", "HP", "1", "tset"), r"line 18: unknown partition 'tset'\. Did you mean 'test'"),
        (("x.png", "HP"), "line 18: unknown partition ''"),
        (("", "HP", "1", "train"), "line 18: no image is named"),
        (("MHIST_HP0.png", "SSA", "1", "train"), r"line 18: MHIST_HP0\.png is listed twice"),
    ],
)
def test_a_bad_line_is_named(mhist: Path, row: tuple[str, ...], message: str) -> None:
    write_table(mhist, [*made_up(), row])
    with pytest.raises(DataError, match=message):
        load(mhist)


def test_a_missing_image_is_named_or_left_out(mhist: Path) -> None:
    (mhist / "images" / "MHIST_HP7.png").unlink()
    with pytest.raises(DataError, match=r"1 of 16 images of 'mhist'.*MHIST_HP7\.png \(missing; annotations\.csv"):
        load(mhist)
    assert len(load(mhist, skip_bad=True).test) == 3


def test_a_class_without_images_is_named(mhist: Path) -> None:
    write_table(mhist, [row for row in made_up() if row[1:] != ("SSA", "6", "test")])
    with pytest.raises(DataError, match="lists no images of SSA in test"):
        load(mhist)


def test_a_folder_without_the_table_is_refused(mhist: Path) -> None:
    (mhist / "annotations.csv").unlink()
    with pytest.raises(DataError, match=r"has no annotations\.csv"):
        load(mhist)
