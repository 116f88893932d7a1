"""Tensors that an ONNX file keeps in other files: read only from regular files inside the model's own folder."""

from __future__ import annotations

import math
import os
import stat
from pathlib import Path

import onnx

from edgekd.errors import ModelError
from edgekd.verify.bounds import LARGEST_FILE_BYTES, shown_count, tensors_of
from edgekd.verify.graph import dtype_bits
from edgekd.verify.shapes import dtype_name


def load_external_data(path: Path, model: onnx.ModelProto, room_bytes: int = LARGEST_FILE_BYTES) -> None:
    """Read every external tensor of `model` (the content of `path`) into it, `room_bytes` in all.

    Raises:
        ModelError: a tensor lies outside the model's folder, its file is missing, too short or no regular file, its
            length does not match its shape, or there are more bytes than `room_bytes`.
    """
    for tensor in tensors_of(model):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        length = _stored_bytes(tensor)
        room_bytes -= length
        if room_bytes < 0:
            size, limit = shown_count(length), f"{LARGEST_FILE_BYTES:,}"
            raise ModelError(
                f"the data of '{tensor.name}' has {size} bytes, with the rest more than the limit, {limit}"
            )
        tensor.raw_data = _read(_target(path, tensor), tensor, length)
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]


def open_regular(path: Path) -> int:
    """Open a file for reading, never waiting for a writer; return its descriptor.

    Raises:
        ModelError: it is a pipe, a device or anything else than a regular file.
        OSError: it cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ModelError(f"{path} is not a regular file")
    return descriptor


def _stored_bytes(tensor: onnx.TensorProto) -> int:
    """Return the bytes that a tensor's shape and type take in the file; types narrower than a byte are packed."""
    bits = dtype_bits(dtype_name(tensor.data_type))
    if bits is None:
        raise ModelError(f"'{tensor.name}' is external, and of an element type that cannot be")
    return math.ceil(math.prod(tensor.dims) * bits / 8) if math.prod(tensor.dims) < 2**53 else LARGEST_FILE_BYTES + 1


def _target(path: Path, tensor: onnx.TensorProto) -> Path:
    """Return the file that holds a tensor, with symbolic links followed."""
    folder = path.parent.resolve()
    location = _entry(tensor, "location")
    try:
        target = (folder / location).resolve()
    except (OSError, ValueError, RuntimeError) as error:  # a circle of links, or a zero byte
        raise ModelError(f"the data of '{tensor.name}' is at {location!a}, which is no path") from error
    if not location or not target.is_relative_to(folder):
        raise ModelError(f"the data of '{tensor.name}' is at {location!a}, outside the model's folder")
    return target


def _read(target: Path, tensor: onnx.TensorProto, length: int) -> bytes:
    offset, stated = _number(tensor, "offset", 0), _number(tensor, "length", length)
    if stated != length:
        shape = list(tensor.dims)
        raise ModelError(
            f"the data of '{tensor.name}' does not match its shape {shape}: {stated:,} bytes, not {length:,}"
        )
    try:
        with os.fdopen(open_regular(target), "rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            if offset + length > size:
                raise ModelError(f"the data of '{tensor.name}' ends at byte {offset + length}, but {target} is shorter")
            stream.seek(offset)
            return stream.read(length)
    except FileNotFoundError:
        raise ModelError(f"the data of '{tensor.name}' should be in {target}, which does not exist") from None
    except OSError as error:
        raise ModelError(f"the data of '{tensor.name}' cannot be read: {error.strerror}") from error


def _number(tensor: onnx.TensorProto, key: str, default: int) -> int:
    text = _entry(tensor, key)
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ModelError(f"the data of '{tensor.name}' has {key} {text[:40]!a}, which is no number of bytes")
    return int(text)


def _entry(tensor: onnx.TensorProto, key: str) -> str:
    found: str | bytes = next((entry.value for entry in tensor.external_data if entry.key == key), "")
    return found if isinstance(found, str) else found.decode(errors="replace")
