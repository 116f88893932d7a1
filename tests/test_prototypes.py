from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgekd.errors import ModelError, StorageError
from edgekd.prototypes import Prototypes

PROTOTYPES = Prototypes(("cup", "Schlüssel"), np.array([[0.5, -1.0, 0.0], [1 / 3, 2.0, 5.0]]), "cosine", "ab" * 32)


def test_a_file_gives_back_what_was_saved(tmp_path: Path) -> None:
    path = tmp_path / "classes.npz"
    PROTOTYPES.save(path)
    found = Prototypes.load(path)
    assert (found.class_names, found.head, found.model_sha256) == (("cup", "Schlüssel"), "cosine", "ab" * 32)
    np.testing.assert_array_equal(found.vectors, PROTOTYPES.vectors)
    assert [entry.name for entry in tmp_path.iterdir()] == ["classes.npz"]


def test_the_name_is_kept_whatever_its_suffix(tmp_path: Path) -> None:
    PROTOTYPES.save(tmp_path / "classes")
    assert Prototypes.load(tmp_path / "classes").class_names == PROTOTYPES.class_names


def test_a_folder_in_the_way_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot write"):
        PROTOTYPES.save(tmp_path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"absent\.npz is not a file of prototypes"):
        Prototypes.load(tmp_path / "absent.npz")


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 cut off"])
def test_damaged_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "damaged.npz"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"damaged\.npz is not a file of prototypes"):
        Prototypes.load(path)


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    whole = tmp_path / "whole.npz"
    PROTOTYPES.save(whole)
    data = whole.read_bytes()
    for length in range(0, len(data), 97):
        part = tmp_path / "part.npz"
        part.write_bytes(data[:length])
        with pytest.raises(ModelError):
            Prototypes.load(part)


def test_pickled_objects_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "pickled.npz"
    names = np.array(["cup", None], dtype=object)
    np.savez(path, class_names=names, vectors=np.eye(2), head=np.array("cosine"), model_sha256=np.array(""))
    with pytest.raises(ModelError, match="is not a file of prototypes"):
        Prototypes.load(path)


def test_a_plain_array_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "array.npz"
    with path.open("wb") as stream:
        np.save(stream, np.eye(2))
    with pytest.raises(ModelError, match="is not a file of prototypes"):
        Prototypes.load(path)


@pytest.mark.parametrize("left_out", ["class_names", "vectors", "head", "model_sha256"])
def test_an_entry_is_missing(tmp_path: Path, left_out: str) -> None:
    whole, part = tmp_path / "whole.npz", tmp_path / "part.npz"
    PROTOTYPES.save(whole)
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(part, "w") as target:
        for name in source.namelist():
            if name != f"{left_out}.npy":
                target.writestr(name, source.read(name))
    with pytest.raises(ModelError, match=left_out):
        Prototypes.load(part)


def test_names_and_vectors_must_match(tmp_path: Path) -> None:
    path = tmp_path / "odd.npz"
    Prototypes(("cup",), np.eye(2), "cosine", "").save(path)
    with pytest.raises(ModelError, match=r"1 class names for vectors of shape \(2, 2\)"):
        Prototypes.load(path)
