"""IDX, the file format of MNIST: a magic number, big-endian sizes, then bytes; plain or gzipped."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgekd.errors import DataError

UBYTE = 0x08  # the third byte of the magic number: unsigned bytes; the fourth is the number of dimensions
MAX_BYTES = 2**31  # a header that promises more, or a gzip that unpacks to more, is refused


def read_idx(path: Path, ndim: int) -> NDArray[np.uint8]:
    """Return the array of an IDX file of unsigned bytes, with `ndim` dimensions.

    Source: LeCun, Cortes, Burges, "The MNIST database of handwritten digits", 1998, http://yann.lecun.com/exdb/mnist/

    Raises:
        DataError: it is no such file, or shorter or longer than its header says.
    """
    data = _content(path)
    header_bytes = 4 + 4 * ndim
    if len(data) < header_bytes or data[:4] != bytes([0, 0, UBYTE, ndim]):
        raise DataError(f"{path} is not an IDX file of unsigned bytes with {ndim} dimensions")
    shape = struct.unpack(f">{ndim}I", data[4:header_bytes])
    if len(data) - header_bytes != math.prod(shape):
        raise DataError(
            f"{path} is damaged: its header promises {' x '.join(map(str, shape))} = {math.prod(shape):,} bytes, "
            f"it has {len(data) - header_bytes:,}"
        )
    return np.frombuffer(data, np.uint8, offset=header_bytes).reshape(shape)


def _content(path: Path) -> bytes:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            data: bytes = stream.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is damaged: {error}") from error
    if len(data) > MAX_BYTES:
        raise DataError(f"{path} holds more than {MAX_BYTES:,} bytes, which no IDX image set does")
    return data
