from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from edgekd.data import Splits, load_splits
from edgekd.data.idx import read_idx
from edgekd.errors import DataError


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


def write_split(folder: Path, prefix: str, per_class: int, seed: int, suffix: str = "") -> np.ndarray:
    folder.mkdir(parents=True, exist_ok=True)
    labels = np.tile(np.arange(10), per_class)
    images = np.random.default_rng(seed).integers(0, 256, (len(labels), 28, 28))
    for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
        data = idx(array)
        (folder / f"{prefix}-{kind}-ubyte{suffix}").write_bytes(gzip.compress(data) if suffix else data)
    return images.astype(np.uint8)


def load(root: Path, name: str = "mnist", **options: object) -> Splits:
    return load_splits(f"{name}:{root}", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_published_files_are_a_closed_set(tmp_path: Path, suffix: str) -> None:
    write_split(tmp_path / "MNIST" / "raw", "train", 20, 0, suffix)
    images = write_split(tmp_path / "MNIST" / "raw", "t10k", 3, 1, suffix)
    splits = load(tmp_path)
    assert not splits.novel
    assert np.array_equal(splits.test.images[..., 0], images)
    assert splits.test.class_names == tuple("0123456789")
    assert [np.bincount(splits[split].labels).tolist() for split in ("train", "val")] == [[18] * 10, [2] * 10]


def test_with_test_images_only_they_are_split_in_three_and_this_is_said(tmp_path: Path) -> None:
    write_split(tmp_path, "t10k", 50, 0, ".gz")
    notices: list[str] = []
    splits = load(tmp_path, notify=notices.append)
    assert [len(splits[split]) for split in ("train", "val", "test")] == [360, 40, 100]
    assert len(notices) == 2  # the other one: that these are not all
    assert "only its 500 test images" in notices[0]
    every = np.concatenate([splits[split].images for split in ("train", "val", "test")])
    assert len(np.unique(every.reshape(500, -1), axis=0)) == 500
    assert load(tmp_path, seed=2).test.fingerprint != splits.test.fingerprint


def test_fashion_mnist_has_other_names(tmp_path: Path) -> None:
    write_split(tmp_path, "t10k", 10, 0)
    assert load(tmp_path, "fashion-mnist").train.class_names[9] == "Ankle-boot"


def test_missing_halves_are_named(tmp_path: Path) -> None:
    write_split(tmp_path / "a", "train", 2, 0)
    with pytest.raises(DataError, match="not t10k-images-idx3-ubyte"):
        load(tmp_path / "a")
    write_split(tmp_path / "b", "t10k", 2, 0)
    (tmp_path / "b" / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="but not the file that belongs to it"):
        load(tmp_path / "b")


def test_images_and_labels_that_differ_in_number_are_refused(tmp_path: Path) -> None:
    write_split(tmp_path, "t10k", 2, 0)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(np.zeros(7)))
    with pytest.raises(DataError, match=r"20 images, but .* 7 labels"):
        load(tmp_path)


def test_labels_that_do_not_exist_are_refused(tmp_path: Path) -> None:
    write_split(tmp_path, "t10k", 2, 0)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(np.full(20, 11)))
    with pytest.raises(DataError, match=r"labels 11\.\.11"):
        load(tmp_path)


def test_arrays_of_any_shape_are_read(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    (tmp_path / "a").write_bytes(idx(array))
    assert np.array_equal(read_idx(tmp_path / "a", 3), array)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("empty", b"", "not an IDX file"),
        ("text", b"hello, world, this is text", "not an IDX file"),
        ("int32", bytes([0, 0, 0x0C, 1]) + struct.pack(">I", 1) + bytes(4), "not an IDX file"),
        ("short", idx(np.zeros((2, 3, 4)))[:-1], r"2 x 3 x 4 = 24 bytes, it has 23"),
        ("long", idx(np.zeros((2, 3, 4))) + b"x", r"24 bytes, it has 25"),
        ("text.gz", b"hello", "is damaged"),
        ("cut.gz", gzip.compress(idx(np.zeros((2, 3, 4))), mtime=0)[:-9], "is damaged"),
        ("flipped.gz", gzip.compress(idx(np.zeros((2, 3, 4))), mtime=0)[:15] + b"\xff" * 40, "is damaged"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=message):
        read_idx(tmp_path / name, 3)


def test_files_without_images_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx(np.zeros((0, 28, 28))))
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(np.zeros(0)))
    with pytest.raises(DataError, match="no images"):
        load(tmp_path)
