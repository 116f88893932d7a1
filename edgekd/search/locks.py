"""Locks that end with the process that holds them: on one host, and on several where the file system passes them on."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from edgekd.errors import StorageError

POLL_S = 0.2


@contextmanager
def exclusive(path: Path, while_waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the lock of `path`, after waiting for whoever holds it; `while_waiting` is called now and then, to give up.

    Raises:
        StorageError: the file cannot be written.
    """
    with _opened(path) as stream:
        while not _taken(stream):
            while_waiting()
            time.sleep(POLL_S)
        yield


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the lock of a new file until the block ends, and delete the file then.

    Raises:
        StorageError: the file cannot be written.
    """
    with exclusive(path, lambda: None):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def is_held(path: Path) -> bool:
    """Say whether a process that lives holds the lock of `path`."""
    if not path.exists():
        return False
    with _opened(path) as stream:
        return not _taken(stream)


def _taken(stream: TextIO) -> bool:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _opened(path: Path) -> TextIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+")
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error
