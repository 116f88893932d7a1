from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgekd.data import load_splits, load_unlabelled
from edgekd.errors import DataError

WriteClasses = Callable[..., None]
WriteImage = Callable[..., Path]


def test_images_at_any_depth_are_taken_without_their_folders(tmp_path: Path, write_classes: WriteClasses) -> None:
    write_classes(tmp_path / "images" / "train", "cat dog")
    write_classes(tmp_path / "images", "loose")
    (tmp_path / "images" / "README").write_text("about")
    found = load_unlabelled(f"folder:{tmp_path / 'images'}")
    assert (found.name, found.class_names) == ("folder/unlabelled", ("unlabelled",))
    assert found.images.shape == (9, 8, 8, 3)
    assert not found.labels.any()


def test_images_in_no_folder_at_all(tmp_path: Path, write_image: WriteImage) -> None:
    for number in range(3):
        write_image(tmp_path / "images" / f"{number}.png")
    assert len(load_unlabelled(f"folder:{tmp_path / 'images'}")) == 3


def test_they_are_converted_as_the_runs(tmp_path: Path, write_classes: WriteClasses) -> None:
    write_classes(tmp_path / "images", "cat")
    assert load_unlabelled(f"folder:{tmp_path / 'images'}", size=16, channels=1).images.shape == (3, 16, 16, 1)


def test_of_a_known_set_the_training_images_are_taken(tmp_path: Path, write_classes: WriteClasses) -> None:
    write_classes(tmp_path / "set" / "train", "cat dog", per_class=5)
    write_classes(tmp_path / "set" / "test", "cat dog")
    spec = f"cifar10:{tmp_path / 'set'}"
    train, found = load_splits(spec).train, load_unlabelled(spec)
    np.testing.assert_array_equal(found.images, train.images)
    assert (found.name, found.n_classes) == ("cifar10/unlabelled", 1)


def test_other_pixels_have_another_fingerprint(tmp_path: Path, write_classes: WriteClasses) -> None:
    write_classes(tmp_path / "images", "cat dog")
    before = load_unlabelled(f"folder:{tmp_path / 'images'}").fingerprint
    (tmp_path / "images" / "cat" / "cat0.png").unlink()
    assert load_unlabelled(f"folder:{tmp_path / 'images'}").fingerprint != before


def test_a_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("none")
    with pytest.raises(DataError, match="there are no images in"):
        load_unlabelled(f"folder:{tmp_path}")


def test_damaged_images_are_named_or_skipped(tmp_path: Path, write_classes: WriteClasses) -> None:
    write_classes(tmp_path / "images", "cat")
    (tmp_path / "images" / "broken.png").write_text("not an image")
    with pytest.raises(DataError, match=r"1 of 4 images of 'folder/unlabelled' cannot be used: broken.png"):
        load_unlabelled(f"folder:{tmp_path / 'images'}")
    assert len(load_unlabelled(f"folder:{tmp_path / 'images'}", skip_bad=True)) == 3
