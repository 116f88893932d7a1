"""A first run of an untrusted file on one image, contained: one that crashes, hangs or eats memory is refused there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgekd.errors import ModelError
from edgekd.verify.contained import contained

MEMORY_BYTES = 4 * 2**30
SECONDS = 120.0


def rehearse(path: Path, images: NDArray[np.uint8], *, seconds: float = SECONDS) -> None:
    """Load a file into onnxruntime and embed the first of `images` (n, height, width, channels).

    Raises:
        ModelError: onnxruntime refuses it or crashes, or it goes beyond the limits of memory or time.
    """
    try:
        contained(lambda: _embed(path, images[:1]), memory_bytes=MEMORY_BYTES, seconds=seconds, verb="run on one image")
    except ModelError as error:
        raise error if str(path) in str(error) else ModelError(f"{path}: {error}") from error


def _embed(path: Path, images: NDArray[np.uint8]) -> bytes:
    from edgekd.runtime import Embedder

    return Embedder(path, threads=1).embed(images).tobytes()
