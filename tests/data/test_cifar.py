from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgekd.data import Splits, load_splits
from edgekd.data.cifar import CIFAR10_CLASSES, CIFAR100_CLASSES, CIFAR_FS
from edgekd.errors import DataError


def records(n_classes: int, per_class: int, label_bytes: int, seed: int) -> np.ndarray:
    """Rows of a binary file: label bytes (the class last), then red, green and blue planes."""
    random = np.random.default_rng(seed)
    labels = np.tile(np.arange(n_classes, dtype=np.uint8), per_class)
    pixels = random.integers(0, 256, (len(labels), 3 * 32 * 32), dtype=np.uint8)
    coarse = np.zeros((len(labels), label_bytes - 1), np.uint8)
    return np.concatenate([coarse, labels[:, None], pixels], axis=1)


@pytest.fixture
def cifar10(tmp_path: Path) -> Path:
    folder = tmp_path / "c10" / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    for number in range(1, 6):
        records(10, 2, 1, number).tofile(folder / f"data_batch_{number}.bin")
    records(10, 2, 1, 6).tofile(folder / "test_batch.bin")
    return tmp_path / "c10"


@pytest.fixture
def cifar100(tmp_path: Path) -> Path:
    folder = tmp_path / "c100"
    folder.mkdir()
    records(100, 3, 2, 1).tofile(folder / "train.bin")
    records(100, 1, 2, 2).tofile(folder / "test.bin")
    return folder


def load10(root: Path, **options: object) -> Splits:
    return load_splits(f"cifar10:{root}", **options)  # type: ignore[arg-type]


def test_the_binary_version_is_a_closed_set(cifar10: Path) -> None:
    splits = load10(cifar10)
    assert not splits.novel
    assert splits.test.class_names == CIFAR10_CLASSES
    assert [np.bincount(splits[split].labels).tolist() for split in ("train", "val", "test")] == [
        [9] * 10,
        [1] * 10,
        [2] * 10,
    ]
    assert load10(cifar10, seed=3).val.fingerprint != splits.val.fingerprint


def test_planes_become_channels(cifar10: Path) -> None:
    row = records(10, 2, 1, 6)[3]
    image = load10(cifar10).test.images[3]
    assert image.shape == (32, 32, 3)
    assert image[5, 7].tolist() == [int(row[1 + plane * 1024 + 5 * 32 + 7]) for plane in range(3)]


def test_image_folders_are_read_too(tmp_path: Path, write_classes: Callable[..., None]) -> None:
    write_classes(tmp_path / "i" / "train", "airplane bird", per_class=4)
    write_classes(tmp_path / "i" / "test", "airplane bird")
    splits = load10(tmp_path / "i", size=16)
    assert (splits.novel, len(splits.train), len(splits.val), splits.train.height) == (False, 6, 2, 16)


def test_a_file_cut_short_is_refused(cifar10: Path) -> None:
    path = cifar10 / "cifar-10-batches-bin" / "data_batch_3.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"data_batch_3\.bin is damaged: 61,459 bytes"):
        load10(cifar10)


def test_an_empty_file_and_a_missing_one_are_refused(cifar10: Path) -> None:
    path = cifar10 / "cifar-10-batches-bin" / "test_batch.bin"
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"test_batch\.bin is damaged: 0 bytes"):
        load10(cifar10)
    path.unlink()
    with pytest.raises(DataError, match=r"lacks test_batch\.bin"):
        load10(cifar10)


def test_labels_that_do_not_exist_are_refused(cifar10: Path) -> None:
    bad = records(10, 2, 1, 0)
    bad[0, 0] = 10
    bad.tofile(cifar10 / "cifar-10-batches-bin" / "test_batch.bin")
    with pytest.raises(DataError, match=r"labels 0\.\.10, but there are 10 classes"):
        load10(cifar10)


@pytest.mark.parametrize(("folder", "name"), [("cifar-10-batches-py", "cifar10"), ("cifar-100-python", "cifar100")])
def test_pickles_are_refused_with_the_way_out(tmp_path: Path, folder: str, name: str) -> None:
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "data_batch_1").write_bytes(b"\x80\x04.")
    for root in (tmp_path, tmp_path / folder):
        with pytest.raises(DataError, match=rf"pickles.*-binary\.tar\.gz.*edgekd data prepare {name} --download"):
            load_splits(f"{name}:{root}")


def test_cifar_fs_splits_all_hundred_classes() -> None:
    assert [len(CIFAR_FS[split]) for split in ("train", "val", "test")] == [64, 16, 20]
    assert len(set(CIFAR100_CLASSES)) == 100
    assert CIFAR100_CLASSES[:2] == ("apple", "aquarium_fish")
    assert CIFAR100_CLASSES[99] == "worm"


def test_cifar100_is_the_few_shot_set_with_train_and_test_images_joined(cifar100: Path) -> None:
    splits = load_splits(f"cifar100:{cifar100}")
    assert splits.novel
    for split in ("train", "val", "test"):
        assert splits[split].class_names == CIFAR_FS[split]
        assert set(np.bincount(splits[split].labels)) == {4}
    worm = splits.test.images[splits.test.labels == CIFAR_FS["test"].index("worm")]
    assert worm[3, 0, 0, 0] == records(100, 1, 2, 2)[99, 2]


def test_cifar100_folders_are_assigned_by_name(tmp_path: Path, write_classes: Callable[..., None]) -> None:
    write_classes(tmp_path / "i", " ".join(CIFAR100_CLASSES), per_class=1)  # one of the classes is called "train"
    splits = load_splits(f"cifar100:{tmp_path / 'i'}")
    assert splits.val.class_names == CIFAR_FS["val"]
    assert "train" in splits.train.class_names
