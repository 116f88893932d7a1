from __future__ import annotations

import numpy as np
import pytest

from edgekd.data import ImageSet, Splits
from edgekd.data.imageset import checked_split
from edgekd.errors import DataError


def make(names: str = "cat dog", *, side: int = 4, channels: int = 3, name: str = "pets/train") -> ImageSet:
    classes = tuple(names.split())
    labels = np.arange(2 * len(classes), dtype=np.int64) % len(classes)
    pixels = np.random.default_rng(0).integers(0, 256, (len(labels), side, side, channels), dtype=np.uint8)
    return ImageSet(name, pixels, labels, classes)


def test_properties_follow_the_arrays() -> None:
    images = make("cat dog owl", side=5, channels=1)
    assert (len(images), images.n_classes, images.height, images.width, images.channels) == (6, 3, 5, 5, 1)


def test_fingerprint_depends_on_content_and_not_on_the_name() -> None:
    images = make()
    again = ImageSet("other", images.images.copy(), images.labels.copy(), images.class_names)
    changed = images.images.copy()
    changed[0, 0, 0, 0] ^= 1
    assert again.fingerprint == images.fingerprint
    assert len(images.fingerprint) == 64
    assert ImageSet("pets", changed, images.labels, images.class_names).fingerprint != images.fingerprint
    assert (
        ImageSet("pets", images.images, images.labels[::-1].copy(), images.class_names).fingerprint
        != images.fingerprint
    )
    assert ImageSet("pets", images.images, images.labels, ("cat", "cow")).fingerprint != images.fingerprint


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": np.zeros((4, 4, 4), np.uint8)}, "not uint8"),
        ({"images": np.zeros((4, 4, 4, 3), np.float32)}, "not uint8"),
        ({"images": np.zeros((4, 4, 4, 2), np.uint8)}, "not uint8"),
        ({"images": np.zeros((0, 4, 4, 3), np.uint8), "labels": np.zeros(0, np.int64)}, "no pixels"),
        ({"labels": np.zeros(3, np.int64)}, "labels are int64"),
        ({"labels": np.zeros(4, np.int32)}, "labels are int32"),
        ({"labels": np.array([0, 1, 2, 0])}, "labels run from 0 to 2"),
        ({"labels": np.array([0, 1, -1, 0])}, "labels run from -1 to 1"),
        ({"labels": np.zeros(4, np.int64)}, r"1 class \(dog\) without an image"),
        ({"class_names": ("cat", "cat")}, "same name"),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(change: dict[str, object], message: str) -> None:
    images = make()
    fields: dict[str, object] = {"images": images.images, "labels": images.labels, "class_names": images.class_names}
    with pytest.raises(DataError, match=f"'pets': .*{message}"):
        ImageSet("pets", **{**fields, **change})  # type: ignore[arg-type]


def test_novel_splits_share_no_class() -> None:
    splits = Splits("pets", make("cat dog"), make("owl cow"), make("hen pig"), novel=True)
    assert splits["val"] is splits.val
    with pytest.raises(DataError, match=r"1 class \(dog\) in both train and test"):
        Splits("pets", make("cat dog"), make("owl cow"), make("hen dog"), novel=True)


def test_closed_splits_share_every_class_in_one_order() -> None:
    Splits("pets", make(), make(), make(), novel=False)
    with pytest.raises(DataError, match="only one of train and test"):
        Splits("pets", make(), make(), make("cat owl"), novel=False)
    with pytest.raises(DataError, match="different order"):
        Splits("pets", make(), make("dog cat"), make(), novel=False)


def test_splits_have_one_shape() -> None:
    with pytest.raises(DataError, match=r"train images 4x4x3, val images 5x5x3.*--size"):
        Splits("pets", make(), make(side=5), make(), novel=False)


def test_the_name_of_a_split_is_checked() -> None:
    assert checked_split("val") == "val"
    with pytest.raises(DataError, match="Did you mean 'test'"):
        checked_split("tests")
