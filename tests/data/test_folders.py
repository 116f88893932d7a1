from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgekd.data import Splits, load_split, load_splits
from edgekd.errors import DataError

WriteClasses = Callable[..., None]
WriteImage = Callable[..., Path]


@pytest.fixture
def few_shot(tmp_path: Path, write_classes: WriteClasses) -> Path:
    root = tmp_path / "images"
    write_classes(root / "train", "cat dog owl")
    write_classes(root / "val", "cow hen")
    write_classes(root / "test", "ant bee fly")
    return root


def load(root: Path, **options: object) -> Splits:
    return load_splits(f"folder:{root}", **options)  # type: ignore[arg-type]


def test_split_folders_with_different_classes_are_a_few_shot_set(few_shot: Path) -> None:
    splits = load(few_shot)
    assert splits.novel
    assert splits.train.class_names == ("cat", "dog", "owl")
    assert splits.train.labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    assert splits.test.images.shape == (9, 8, 8, 3)
    assert splits.test.images[4, 0, 0].tolist() == [20, 30, 7]  # the second image of the second class


def test_one_split_equals_that_of_all_and_needs_no_other(few_shot: Path) -> None:
    splits = load(few_shot)
    (few_shot / "train" / "cat" / "cat0.png").write_text("not an image")
    assert load_split(f"folder:{few_shot}", "test").fingerprint == splits.test.fingerprint
    with pytest.raises(DataError, match="1 of 9 images"):
        load_split(f"folder:{few_shot}", "train")


def test_bad_images_of_every_split_are_told_at_once(few_shot: Path) -> None:
    for split, name in (("train", "cat"), ("test", "bee")):
        (few_shot / split / name / f"{name}0.png").write_text("not an image")
    with pytest.raises(DataError, match=r"1 of 9 images.*cat/cat0\.png.*\n1 of 9 images.*bee/bee0\.png"):
        load(few_shot)


def test_a_zip_gives_what_its_folder_gives(
    few_shot: Path, tmp_path: Path, zip_folder: Callable[[Path, Path], Path]
) -> None:
    plain = zip_folder(few_shot, tmp_path / "plain.zip")
    (tmp_path / "wrapped").mkdir()
    few_shot.rename(tmp_path / "wrapped" / "images")
    wrapped = zip_folder(tmp_path / "wrapped", tmp_path / "wrapped.zip")
    expected = load(tmp_path / "wrapped" / "images")
    for path in (plain, wrapped):
        assert load(path).train.fingerprint == expected.train.fingerprint


def test_equal_classes_are_a_closed_set_and_val_comes_out_of_train(tmp_path: Path, write_classes: WriteClasses) -> None:
    write_classes(tmp_path / "i" / "train", "cat dog", per_class=20)
    write_classes(tmp_path / "i" / "test", "cat dog")
    notices: list[str] = []
    splits = load(tmp_path / "i", notify=notices.append)
    assert not splits.novel
    assert [np.bincount(splits[split].labels).tolist() for split in ("train", "val", "test")] == [
        [18] * 2,
        [2] * 2,
        [3] * 2,
    ]
    assert any("no val images" in notice for notice in notices)
    assert load(tmp_path / "i").val.fingerprint == splits.val.fingerprint
    assert load(tmp_path / "i", seed=5).val.fingerprint != splits.val.fingerprint


def test_a_few_shot_set_without_val_gives_it_train_classes(tmp_path: Path, write_classes: WriteClasses) -> None:
    write_classes(tmp_path / "i" / "train", "a b c d e f g h i j k l")
    write_classes(tmp_path / "i" / "test", "m n")
    splits = load(tmp_path / "i")
    assert splits.novel
    assert splits.val.n_classes == 3
    assert sorted(splits.train.class_names + splits.val.class_names) == list("abcdefghijkl")


def test_plain_class_folders_are_split_by_class(tmp_path: Path, write_classes: WriteClasses) -> None:
    write_classes(tmp_path / "i", "train a b c d e f g h i", per_class=2)  # "train" is a class here
    splits = load(tmp_path / "i")
    assert splits.novel
    assert [splits[split].n_classes for split in ("train", "val", "test")] == [5, 2, 3]
    assert load(tmp_path / "i", seed=1).test.class_names != splits.test.class_names
    names = splits.train.class_names + splits.val.class_names + splits.test.class_names
    assert "train" in names


def test_files_below_a_class_folder_belong_to_it(few_shot: Path, write_image: WriteImage) -> None:
    write_image(few_shot / "train" / "cat" / "indoors" / "more.png")
    assert np.bincount(load(few_shot).train.labels).tolist() == [4, 3, 3]


@pytest.mark.parametrize("skip_bad", [False, True])
def test_bad_images_are_counted_and_the_first_five_named(few_shot: Path, skip_bad: bool) -> None:
    for number in range(7):
        (few_shot / "test" / "bee" / f"bad{number}.jpg").write_bytes(b"" if number else b"text")
    expected = (
        "7 of 16 images of 'folder/test' {}: test/bee/bad0.jpg (not an image), test/bee/bad1.jpg (empty file), "
        "test/bee/bad2.jpg (empty file), test/bee/bad3.jpg (empty file), test/bee/bad4.jpg (empty file) and 2 more"
    )
    notices: list[str] = []
    if skip_bad:
        splits = load(few_shot, skip_bad=True, notify=notices.append)
        assert len(splits.test) == 9
        assert "skipped " + expected.format("").replace(" :", ":") in notices
    for _ in range(2):  # from the files, and from the cache that skipping left
        with pytest.raises(DataError) as error:
            load(few_shot)
        assert str(error.value).startswith(expected.format("cannot be used"))
        assert "--skip-bad" in str(error.value)


def test_a_class_with_only_bad_images_is_refused_even_when_skipping(few_shot: Path) -> None:
    for file in (few_shot / "test" / "bee").iterdir():
        file.write_bytes(b"")
    with pytest.raises(DataError, match=r"1 class \(bee\) without an image"):
        load(few_shot, skip_bad=True)


def test_images_of_another_size_need_a_size(few_shot: Path, write_image: WriteImage) -> None:
    write_image(few_shot / "val" / "cow" / "large.png", size=(30, 20))
    with pytest.raises(DataError, match=r"1 of 7 images.*large\.png \(30x20, not 8x8.*--size"):
        load(few_shot)
    assert len(load(few_shot, size=6).val) == 7
    assert len(load(few_shot, skip_bad=True).val) == 6


def test_splits_of_different_sizes_need_a_size(few_shot: Path, write_image: WriteImage) -> None:
    for file in (few_shot / "test").rglob("*.png"):
        write_image(file, size=(4, 4))
    with pytest.raises(DataError, match="--size N"):
        load(few_shot)
    assert load(few_shot, size=5).test.height == 5


def test_an_image_outside_any_class_folder_is_not_lost_silently(few_shot: Path, write_image: WriteImage) -> None:
    write_image(few_shot / "train" / "stray.png")
    (few_shot / "README.txt").write_text("about")
    with pytest.raises(DataError, match=r"1 of 25 images.*train/stray\.png \(outside any class folder\)"):
        load(few_shot)
    assert len(load(few_shot, skip_bad=True).train) == 9


def test_an_empty_class_folder_is_refused(few_shot: Path) -> None:
    (few_shot / "val" / "pig").mkdir()
    with pytest.raises(DataError, match=r"1 empty class folder in .*: val/pig"):
        load(few_shot)


def test_a_class_in_two_splits_is_named(few_shot: Path, write_classes: WriteClasses) -> None:
    write_classes(few_shot / "val", "cat")
    with pytest.raises(DataError, match=r"1 class \(cat\) in both train and val"):
        load(few_shot)


def test_half_shared_classes_are_neither_closed_nor_novel(few_shot: Path, write_classes: WriteClasses) -> None:
    write_classes(few_shot / "test", "cat")
    with pytest.raises(DataError, match=r"1 classes are in both train and test \(cat\)"):
        load(few_shot)


def test_missing_splits_and_missing_classes_are_refused(tmp_path: Path, write_classes: WriteClasses) -> None:
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DataError, match="no class folders"):
        load(tmp_path / "nothing")
    write_classes(tmp_path / "half" / "train", "cat dog")
    write_classes(tmp_path / "half" / "val", "cow")
    with pytest.raises(DataError, match="but no test folder"):
        load(tmp_path / "half")
    write_classes(tmp_path / "two", "cat dog")
    with pytest.raises(DataError, match="2 classes cannot be split"):
        load(tmp_path / "two")


def test_split_folders_beside_other_images_are_refused(few_shot: Path, write_classes: WriteClasses) -> None:
    write_classes(few_shot / "extra", "x y")
    with pytest.raises(DataError, match=r"split folders \(test, train, val\) beside others with images \(extra\)"):
        load(few_shot)


def test_changed_files_are_decoded_again(few_shot: Path, write_image: WriteImage) -> None:
    before = load(few_shot).train.fingerprint
    write_image(few_shot / "train" / "cat" / "cat0.png", (99, 99, 99))
    assert load(few_shot).train.fingerprint != before


def test_gray_images_can_be_asked_for(few_shot: Path) -> None:
    assert load(few_shot, channels=1).train.images.shape == (9, 8, 8, 1)


def test_files_of_any_name_are_tried(tmp_path: Path, write_classes: WriteClasses) -> None:
    for split, names in (("train", "a b"), ("val", "c"), ("test", "d e")):
        write_classes(tmp_path / "i" / split, names)
    for file in (tmp_path / "i").rglob("*.png"):
        file.rename(file.with_suffix(".dat"))
    assert load(tmp_path / "i").train.class_names == ("a", "b")
