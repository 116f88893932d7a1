"""Files that are either whole or absent: atomic writes and content hashes."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from edgekd.errors import StorageError


def sha256_bytes(data: bytes) -> str:
    """Return the SHA-256 of `data` in hex."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's content in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def require_folder(path: Path) -> None:
    """Refuse a file to write whose folder is not there: a slip of the pen shall make no folders.

    Raises:
        StorageError: naming the folder.
    """
    if not path.parent.is_dir():
        raise StorageError(f"cannot write {path}: there is no folder {path.parent}")


def write_atomic(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file beside `path`, flush it to disk and rename it into place.

    A process killed at any instant leaves the old file or the new one, never a part of one.

    Raises:
        StorageError: the disk is full, the folder is not writable or the path cannot exist.
    """
    write_together({path: write})


def write_together(writers: Mapping[Path, Callable[[Path], None]]) -> None:
    """Write files that belong together: where one cannot be written, all stay as they were.

    Raises:
        StorageError: as `write_atomic`.
    """
    staged = {path: path.with_name(f".{path.name}.{os.getpid()}.tmp") for path in writers}
    try:
        for path, write in writers.items():
            with _named(path):
                _stage(path, staged[path], write)
        for path, temporary in staged.items():
            with _named(path):
                temporary.replace(path)
    finally:
        for temporary in staged.values():
            with contextlib.suppress(OSError):  # gone already, or its folder never was
                temporary.unlink()


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically.

    Raises:
        StorageError: as `write_atomic`.
    """
    write_atomic(path, writer_of(data))


def writer_of(data: bytes) -> Callable[[Path], None]:
    """Return a function that writes `data` to a path."""
    return lambda temporary: _write_all(temporary, data)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 to `path` atomically.

    Raises:
        StorageError: as `write_atomic`.
    """
    write_bytes(path, text.encode())


def _write_all(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _stage(path: Path, temporary: Path, write: Callable[[Path], None]) -> None:
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "it is a folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    write(temporary)
    with temporary.open("rb+") as stream:
        os.fsync(stream.fileno())


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"cannot write {path}: {error.strerror or error}; what was there before is untouched"
        ) from error
