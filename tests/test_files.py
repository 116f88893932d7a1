from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from edgekd.errors import StorageError
from edgekd.files import sha256_bytes, sha256_file, write_atomic, write_bytes, write_text, write_together, writer_of


def test_folders_are_made_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "text.txt"
    write_text(path, "é\n")
    assert path.read_bytes() == b"\xc3\xa9\n"
    write_text(path, "second")
    assert path.read_text() == "second"
    assert [file.name for file in path.parent.iterdir()] == ["text.txt"]


def test_hashes_are_sha256(tmp_path: Path) -> None:
    write_bytes(tmp_path / "x", b"abc")
    assert sha256_file(tmp_path / "x") == sha256_bytes(b"abc") == hashlib.sha256(b"abc").hexdigest()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EDQUOT], ids=errno.errorcode.get)
def test_a_write_that_fails_half_way_keeps_the_old_file(tmp_path: Path, number: int) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def half(temporary: Path) -> None:
        temporary.write_text("ne")
        raise OSError(number, "it failed")

    with pytest.raises(StorageError, match=r"cannot write .*file: it failed; what was there before is untouched"):
        write_atomic(path, half)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_files_that_belong_together_change_together(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    write_together({first: writer_of(b"1"), second: writer_of(b"2")})

    def fails(_: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StorageError, match="second: No space left"):
        write_together({first: writer_of(b"new"), second: fails})
    assert (first.read_bytes(), second.read_bytes()) == (b"1", b"2")
    assert sorted(tmp_path.iterdir()) == [first, second]


@pytest.mark.parametrize(
    "place",
    [lambda root: root / "file" / "below", lambda root: root / "folder", lambda _: Path("/proc/none/file")],
    ids=["below-a-file", "is-a-folder", "read-only"],
)
def test_where_no_file_can_be(tmp_path: Path, place: Callable[[Path], Path]) -> None:
    (tmp_path / "file").write_text("a file")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match="cannot write"):
        write_text(place(tmp_path), "x")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "folder"]
