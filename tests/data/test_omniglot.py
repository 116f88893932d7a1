from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgekd.data import Splits, load_splits
from edgekd.data.readers.omniglot import val_classes
from edgekd.errors import DataError

ALPHABETS = ("Greek", "Latin", "Hebrew", "Korean", "Tagalog")
SIDE, DRAWINGS = 35, 4


def drawing(seed: int) -> np.ndarray:
    """A drawing, True where the paper is blank."""
    return np.random.default_rng(seed).random((SIDE, SIDE)) > 0.2


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """images_background with 5 alphabets of 4 characters, images_evaluation with 2 alphabets of 3."""
    root, seed = tmp_path / "folders" / "omniglot-py", 0
    for part, alphabets, n in (("background", ALPHABETS, 4), ("evaluation", ("Aurek", "Tengwar"), 3)):
        for alphabet in alphabets:
            for character in range(n):
                place = root / f"images_{part}" / alphabet / f"character{character:02d}"
                place.mkdir(parents=True)
                for number in range(DRAWINGS):
                    Image.fromarray(drawing(seed)).save(place / f"{seed:04d}_{number:02d}.png")
                    seed += 1
    return root


@pytest.fixture
def arrays(tmp_path: Path) -> Path:
    """The same drawings as arrays, with classes in the order of their alphabets' names."""
    root = tmp_path / "arrays"
    root.mkdir()
    start = 0
    for part, n in (("background", 20), ("evaluation", 6)):
        images = np.stack([drawing(start + index) for index in range(n * DRAWINGS)]).reshape(n, DRAWINGS, SIDE, SIDE)
        labels = np.repeat(np.arange(n), DRAWINGS).reshape(n, DRAWINGS)
        np.savez_compressed(root / f"images_{part}.npz", images=images, labels=labels)
        start += n * DRAWINGS
    return root


def load(root: Path, **options: object) -> Splits:
    return load_splits(f"omniglot:{root}", **options)  # type: ignore[arg-type]


def test_val_has_alphabets_of_its_own(folders: Path) -> None:
    splits = load(folders)
    assert splits.novel
    assert (splits.train.n_classes, splits.val.n_classes, splits.test.n_classes) == (16, 4, 6)
    alphabets = [{name.split("/")[0] for name in splits[split].class_names} for split in ("train", "val", "test")]
    assert alphabets[0] | alphabets[1] == set(ALPHABETS)
    assert len(alphabets[1]) == 1
    assert alphabets[2] == {"Aurek", "Tengwar"}
    assert load(folders).val.class_names == splits.val.class_names
    assert {load(folders, seed=seed).val.class_names[0] for seed in range(8)} != {splits.val.class_names[0]}


def test_ink_is_white_on_black_at_28_pixels(folders: Path) -> None:
    images = load(folders).test
    assert images.images.shape == (24, 28, 28, 1)
    expected = Image.fromarray(drawing(20 * DRAWINGS)).convert("L").resize((28, 28), Image.Resampling.BILINEAR)
    assert np.array_equal(images.images[0, :, :, 0], 255 - np.asarray(expected))
    assert images.images.mean() < 100


def test_zips_and_arrays_hold_the_same_drawings(folders: Path, arrays: Path, tmp_path: Path) -> None:
    zips = tmp_path / "zips"
    zips.mkdir()
    for part in ("images_background", "images_evaluation"):
        shutil.make_archive(str(zips / part), "zip", folders, part)
    expected = load(folders)
    packed, plain = load(zips), load(arrays)
    assert [packed[split].fingerprint for split in ("train", "val", "test")] == [
        expected[split].fingerprint for split in ("train", "val", "test")
    ]
    assert np.array_equal(plain.test.images, expected.test.images)
    assert (plain.train.n_classes, plain.val.n_classes, plain.test.n_classes) == (16, 4, 6)


def test_size_and_channels_can_be_changed(arrays: Path) -> None:
    assert load(arrays, size=SIDE, channels=3).test.images.shape == (24, SIDE, SIDE, 3)


def test_without_alphabets_val_is_a_run_of_neighbours() -> None:
    names = [f"background/{index:04d}" for index in range(50)]
    taken = sorted(val_classes(names, seed=1))
    start = names.index(taken[0])
    assert taken == names[start : start + 10]


def test_a_missing_part_is_named(folders: Path) -> None:
    shutil.rmtree(folders / "images_evaluation")
    with pytest.raises(DataError, match=r"neither images_evaluation\.npz, nor"):
        load(folders)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"images": np.ones((2, 3, 4, 4), bool)}, "no arrays 'images' and 'labels'"),
        ({"images": np.ones((2, 3, 4, 4), np.uint8), "labels": np.zeros((2, 3), int)}, "do not belong together"),
        ({"images": np.ones((2, 3, 4, 4), bool), "labels": np.zeros(5, int)}, "do not belong together"),
        ({"images": np.ones((2, 3, 4, 4), bool), "labels": np.full((2, 3), -1)}, "labels -1"),
        ({"images": np.array([{"code": 1}], object), "labels": np.zeros(1)}, "damaged"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(arrays: Path, content: dict[str, np.ndarray], message: str) -> None:
    np.savez(arrays / "images_evaluation.npz", **content)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=message):
        load(arrays)


def test_a_file_cut_short_is_refused(arrays: Path) -> None:
    path = arrays / "images_background.npz"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"images_background\.npz is damaged"):
        load(arrays)


def test_a_bad_drawing_is_named(folders: Path, write_image: Callable[..., Path]) -> None:
    (folders / "images_evaluation" / "Aurek" / "character00" / "bad.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"1 of 25 images of 'omniglot/test'.*bad\.png \(empty file\)"):
        load(folders)
    assert len(load(folders, skip_bad=True).test) == 24
