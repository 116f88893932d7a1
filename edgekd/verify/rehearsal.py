"""A first run of an untrusted file on one image, contained: one that crashes, hangs or eats memory is refused there."""

from __future__ import annotations

import struct
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgekd.errors import ModelError
from edgekd.verify.contained import contained

if TYPE_CHECKING:
    from edgekd.runtime import OutputFormat

MEMORY_BYTES = 4 * 2**30
SECONDS = 120.0
_RUNS, _LONG_S = 3, 1.0  # the first run of a session is slower, unless it is long anyway
_HEAD = struct.Struct("<dq")


@dataclass(frozen=True)
class Rehearsed:
    """The length of an embedding, and how long a run with one image took on one core, in seconds."""

    dimensions: int
    run_s: float


def rehearse(
    path: Path,
    images: NDArray[np.uint8],
    *,
    seconds: float = SECONDS,
    pixels: str = "edgekd",
    output: OutputFormat | None = None,
) -> Rehearsed:
    """Load a file into onnxruntime, embed the first of `images` (n, height, width, channels).

    Raises:
        ModelError: onnxruntime refuses it or crashes, or it goes beyond the limits of memory or time.
    """
    try:
        answer = contained(
            lambda: _embed(path, images[:1], pixels, output),
            memory_bytes=MEMORY_BYTES,
            seconds=seconds,
            verb="run on one image",
        )
    except ModelError as error:
        raise error if str(path) in str(error) else ModelError(f"{path}: {error}") from error
    run_s, dimensions = _HEAD.unpack_from(answer)
    return Rehearsed(dimensions, run_s)


def _embed(path: Path, images: NDArray[np.uint8], pixels: str, output: OutputFormat | None) -> bytes:
    from edgekd.runtime import Embedder

    embedder = Embedder(path, threads=1, pixels=pixels, output=output)
    seconds: list[float] = []
    while not seconds or (len(seconds) < _RUNS and sum(seconds) < _LONG_S):
        begin = time.perf_counter()
        embedding = embedder.embed(images)
        seconds.append(time.perf_counter() - begin)
    return _HEAD.pack(min(seconds), embedding.size)
