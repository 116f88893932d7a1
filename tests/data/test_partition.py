from __future__ import annotations

import numpy as np
import pytest

from edgekd.data.partition import split_classes, take_out
from edgekd.errors import DataError


@pytest.mark.parametrize(
    ("count", "sizes"),
    [(3, (1, 1, 1)), (6, (2, 2, 2)), (10, (5, 2, 3)), (20, (10, 5, 5)), (25, (15, 5, 5)), (100, (64, 16, 20))],
)
def test_classes_are_split_without_overlap(count: int, sizes: tuple[int, int, int]) -> None:
    names = [f"class{index}" for index in range(count)]
    splits = split_classes(names, seed=0)
    assert tuple(len(splits[split]) for split in ("train", "val", "test")) == sizes
    assert sorted(sum(splits.values(), ())) == sorted(names)


def test_the_seed_decides_which_class_goes_where() -> None:
    names = [f"class{index}" for index in range(50)]
    assert split_classes(names, 1) == split_classes(names, 1)
    assert split_classes(names, 1) != split_classes(names, 2)


def test_two_classes_cannot_be_split() -> None:
    with pytest.raises(DataError, match="2 classes cannot be split"):
        split_classes(["cat", "dog"], 0)


def test_a_fraction_of_each_class_is_taken_out() -> None:
    labels = np.repeat(np.arange(3), [10, 20, 2])
    stay, taken = take_out(labels, "abc", 0.2, seed=0)
    assert np.bincount(labels[taken]).tolist() == [2, 4, 1]
    assert sorted([*stay, *taken]) == list(range(32))
    assert np.array_equal(take_out(labels, "abc", 0.2, seed=0)[1], taken)
    assert not np.array_equal(take_out(labels, "abc", 0.2, seed=1)[1], taken)


def test_a_class_with_one_image_cannot_be_in_two_splits() -> None:
    with pytest.raises(DataError, match="'dog' has a single image"):
        take_out(np.array([0, 0, 1]), ["cat", "dog"], 0.1, 0)
