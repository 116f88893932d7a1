"""A first run of an untrusted file on one image, contained: one that crashes, hangs or eats memory is refused there."""

from __future__ import annotations

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


def rehearse(
    path: Path,
    images: NDArray[np.uint8],
    *,
    seconds: float = SECONDS,
    pixels: str = "edgekd",
    output: OutputFormat | None = None,
) -> int:
    """Load a file into onnxruntime, embed the first of `images` (n, height, width, channels); return the dimensions.

    Raises:
        ModelError: onnxruntime refuses it or crashes, or it goes beyond the limits of memory or time.
    """
    try:
        embedding = contained(
            lambda: _embed(path, images[:1], pixels, output),
            memory_bytes=MEMORY_BYTES,
            seconds=seconds,
            verb="run on one image",
        )
    except ModelError as error:
        raise error if str(path) in str(error) else ModelError(f"{path}: {error}") from error
    return len(embedding) // np.dtype(np.float32).itemsize


def _embed(path: Path, images: NDArray[np.uint8], pixels: str, output: OutputFormat | None) -> bytes:
    from edgekd.runtime import Embedder

    return Embedder(path, threads=1, pixels=pixels, output=output).embed(images).tobytes()
