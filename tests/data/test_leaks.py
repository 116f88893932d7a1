from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgekd.data import ImageSet, Splits, load_splits
from edgekd.data.leaks import shared_images


def images(name: str, *values: int) -> ImageSet:
    """One image a class, each of one value."""
    pixels = np.array(values, np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)
    names = tuple(f"{name}{place}" for place in range(len(values)))
    return ImageSet(name, pixels, np.arange(len(values)), names)


def test_splits_of_different_images_share_none() -> None:
    splits = Splits("x", images("train", 1, 2), images("val", 3, 4), images("test", 5, 6, 7), novel=True)
    assert list(shared_images(splits)) == []


def test_an_image_in_two_classes_of_a_split_is_told() -> None:
    splits = Splits("x", images("train", 1, 2), images("val", 3, 4), images("test", 5, 6, 6), novel=True)
    assert list(shared_images(splits)) == [
        "1 image is in several classes of test, pixel for pixel, such as test1, test2"
    ]


def test_each_pair_of_splits_is_told_with_the_classes_of_one() -> None:
    splits = Splits("x", images("train", 1, 2, 3), images("val", 4, 3), images("test", 9, 3, 2), novel=True)
    train_val, train_test, val_test = shared_images(splits)
    assert train_val.startswith("1 image of val is in train too")
    assert train_test.startswith("2 images of test are in train too, pixel for pixel, for example one of 'train2'")
    assert "'train2' in train that is 'test1' in test: accuracy" in train_test
    assert val_test.startswith("1 image of test is in val too")


@pytest.mark.parametrize("colour", [(200, 0, 0), (201, 0, 0)], ids=["equal", "different"])
def test_who_brings_images_is_told(tmp_path: Path, write_image: Callable[..., Path], colour: tuple[int, ...]) -> None:
    for number, split in enumerate(("train", "val", "test")):
        for name in "abc":
            write_image(tmp_path / split / f"{split}-{name}" / "0.png", (10 * number, ord(name), 0))
    write_image(tmp_path / "train" / "train-a" / "1.png", (200, 0, 0))
    write_image(tmp_path / "test" / "test-b" / "1.png", colour)
    notices: list[str] = []
    load_splits(f"folder:{tmp_path}", notify=notices.append)
    leaks = [text for text in notices if "pixel for pixel" in text]
    assert len(leaks) == (colour == (200, 0, 0))
