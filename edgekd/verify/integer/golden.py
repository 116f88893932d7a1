"""The golden vectors beside an exported file: inputs, the integers expected of them, and float activations.

`<stem>.golden.npz`, or `golden.npz` beside a `model.onnx`, holds `pixels` int8 (n, c, h, w), `embedding` integers
(n, d) and maybe `float/<tensor>`, float arrays (n or fewer, ...): the float student's values of a quantized tensor of
the graph. The file is untrusted: read without pickles, bounded.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekd.errors import ModelError
from edgekd.files import sha256_bytes
from edgekd.manifest import GOLDEN_FLOAT

FLOAT_PREFIX = f"{GOLDEN_FLOAT}/"
LARGEST_BYTES = 2**29  # of the file, and of everything in it unpacked
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    ValueError,
    KeyError,
    EOFError,
    OSError,
    MemoryError,
    NotImplementedError,
    RuntimeError,
)


@dataclass(frozen=True, eq=False)
class Golden:
    """Golden vectors; `floats` are by the name of the tensor in the graph."""

    sha256: str
    pixels: NDArray[np.int8]
    embedding: NDArray[np.int64]
    floats: Mapping[str, NDArray[np.float64]]


def golden_path(model: Path) -> Path:
    """Return where the golden vectors of a model file lie; a folder that holds one `model.onnx` may call them so."""
    own, plain = model.with_name(f"{model.stem}.golden.npz"), model.with_name("golden.npz")
    return plain if model.name == "model.onnx" and plain.exists() and not own.exists() else own


def read_golden(path: Path) -> Golden:
    """Read golden vectors.

    Raises:
        ModelError: the file cannot be read, is damaged, too large, or does not hold what it should.
    """
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise ModelError(f"{path} is larger than {LARGEST_BYTES} bytes: no golden vectors are")
        content = path.read_bytes()
        arrays = _arrays(path, content)
    except _DAMAGE as error:
        raise ModelError(f"{path} does not hold golden vectors, or is damaged: {error}") from error
    pixels, embedding = arrays.pop("pixels", None), arrays.pop("embedding", None)
    if pixels is None or pixels.dtype != np.int8 or pixels.ndim != 4 or not len(pixels):
        raise ModelError(f"{path} does not hold 'pixels' as int8 (n, c, h, w)")
    if embedding is None or not np.issubdtype(embedding.dtype, np.integer) or len(embedding) != len(pixels):
        raise ModelError(f"{path} does not hold 'embedding' as integers (n, d), one row for each image")
    floats = {
        name.removeprefix(FLOAT_PREFIX): array.astype(np.float64)
        for name, array in arrays.items()
        if name.startswith(FLOAT_PREFIX) and np.issubdtype(array.dtype, np.floating)
    }
    return Golden(sha256_bytes(content), pixels, embedding.astype(np.int64).reshape(len(pixels), -1), floats)


def _arrays(path: Path, content: bytes) -> dict[str, NDArray[Any]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > LARGEST_BYTES:
        raise ModelError(f"{path} would unpack to {unpacked} bytes: no golden vectors do")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return {name: np.asarray(arrays[name]) for name in arrays.files}
