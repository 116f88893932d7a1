"""Arrays that cost time to make, kept on disk: found whole, or made again."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekd.data.request import Notify
from edgekd.errors import StorageError
from edgekd.files import sha256_bytes, sha256_file, write_atomic, write_text


@dataclass(frozen=True)
class Made:
    """Images, the labels of those that were made, and the problems of those that were not.

    Shapes: images (n, height, width, channels) uint8; labels (n,) int64.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Index:
    """What the file beside the pixels says; it is written last, so pixels without it do not count."""

    sha256: str
    labels: list[int]
    problems: list[str]


def cache_folder() -> Path:
    """Return the folder for what can be made again: $EDGEKD_CACHE, else `edgekd` in the user's cache folder."""
    given = os.environ.get("EDGEKD_CACHE")
    if given:
        return Path(given).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "edgekd"


def cached(kind: str, key: dict[str, Any], make: Callable[[], Made], notify: Notify) -> Made:
    """Return what `make` returned for this `key` before, read back from disk and memory-mapped, or call it now.

    A damaged entry is made again. Where the cache cannot be written the result is still returned, after a notice.
    """
    digest = sha256_bytes(json.dumps([key, sys.byteorder], sort_keys=True).encode())[:24]
    path = cache_folder() / kind / f"{digest}.npy"
    found = _read(path)
    if found is not None:
        return found
    made = make()
    try:
        _write(path, made)
    except (StorageError, OSError) as error:
        notify(f"working without the cache: {error}")
        return made
    return _read(path) or made


def _read(path: Path) -> Made | None:
    try:
        index = _Index(**json.loads(path.with_suffix(".json").read_text(encoding="utf-8")))
        if sha256_file(path) != index.sha256:
            return None
        pixels = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
        return Made(pixels, np.array(index.labels, np.int64), tuple(index.problems))
    except (OSError, ValueError, TypeError):
        return None


def _write(path: Path, made: Made) -> None:
    write_atomic(path, lambda temporary: _save(temporary, made.images))
    index = _Index(sha256_file(path), made.labels.tolist(), list(made.problems))
    write_text(path.with_suffix(".json"), json.dumps(asdict(index)))


def _save(path: Path, images: NDArray[np.uint8]) -> None:
    with path.open("wb") as stream:
        np.lib.format.write_array(stream, images, allow_pickle=False)
