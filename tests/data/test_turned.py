from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgekd.data import ImageSet, Splits
from edgekd.data.turned import with_turned_classes
from edgekd.errors import DataError


def images(split: str, height: int = 3, width: int = 3) -> ImageSet:
    pixels = np.random.default_rng(0).integers(0, 256, (4, height, width, 1), dtype=np.uint8)
    return ImageSet(f"made/{split}", pixels, np.array([0, 1, 1, 0]), (f"{split}-a", f"{split}-b"))


def splits(**shape: int) -> Splits:
    return Splits("made", images("train", **shape), images("val", **shape), images("test", **shape), novel=True)


def test_each_quarter_of_a_class_is_a_class() -> None:
    before = splits()
    train = with_turned_classes(before).train
    assert train.n_classes == 8
    assert train.class_names[:3] == ("train-a@0", "train-b@0", "train-a@90")
    for row, (pixels, label) in enumerate(zip(train.images, train.labels, strict=True)):
        quarter, source = divmod(row, 4)
        assert label == before.train.labels[source] + 2 * quarter
        expected = before.train.images[source]
        for _ in range(quarter):  # counter-clockwise: the last column becomes the first row
            expected = expected.transpose(1, 0, 2)[::-1]
        np.testing.assert_array_equal(pixels, expected)


def test_images_that_measure_stay() -> None:
    before = splits()
    after = with_turned_classes(before)
    assert after.val is before.val
    assert after.test is before.test


def test_images_that_are_not_square_are_refused() -> None:
    with pytest.raises(DataError, match=r"3x4 do not turn; set data\.size"):
        with_turned_classes(splits(width=4))


def test_a_closed_set_is_refused() -> None:
    train = images("train")
    closed = Splits("made", train, replace(train), replace(train), novel=False)
    with pytest.raises(DataError, match="tested on the classes it trains"):
        with_turned_classes(closed)
