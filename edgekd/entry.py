"""How images become the input of an ONNX graph: its type, and which of its axes holds the channels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekd.axes import CHANNELS_FIRST, Axes, arranged, axes_of
from edgekd.data.preprocess import PIXELS, normalized, to_int8, to_uint8
from edgekd.errors import ModelError, UsageError, unknown

Pixels = NDArray[np.uint8]
Prepare = Callable[[Pixels], NDArray[Any]]

_FLOAT = "tensor(float)"
_PREPARE: dict[str, Prepare] = {"tensor(int8)": to_int8, "tensor(uint8)": to_uint8}
_WORDS = {"tensor(int8)": "pixel - 128", "tensor(uint8)": "pixel, 0..255"}


@dataclass(frozen=True)
class Entry:
    """What makes an input of images (n, height, width, channels), in `words`; `image_shape` is what of these it takes.

    A size that the graph leaves open is its name, or None.
    """

    prepare: Prepare
    words: str
    axes: Axes
    image_shape: tuple[int | str | None, ...]


def entry_of(tensor: Any, pixels: str) -> Entry:  # noqa: ANN401 - onnxruntime does not export NodeArg's type
    """Return how images enter an input that onnxruntime describes; `pixels` names an entry of `PIXELS`.

    Raises:
        ModelError: the input takes no images.
        UsageError: there is no such way, or an integer input is to have another than its own.
    """
    if tensor.type not in (*_PREPARE, _FLOAT) or len(tensor.shape) != 4:
        raise ModelError(
            f"input '{tensor.name}' must be int8, uint8 or float images, channels first or last, "
            f"not {tensor.type} {tuple(tensor.shape)}"
        )
    axes = axes_of(tensor.shape)
    image_shape = tuple(tensor.shape[axis] for axis in (axes.height, axes.width, axes.channels))
    prepare, words = _values(tensor, pixels)
    if axes == CHANNELS_FIRST:
        return Entry(prepare, words, axes, image_shape)
    return Entry(lambda images: arranged(prepare(images), axes), f"{words}, {axes.words}", axes, image_shape)


def _values(tensor: Any, pixels: str) -> tuple[Prepare, str]:  # noqa: ANN401
    """Return what numbers pixels become, channels first, and that in words."""
    if pixels not in PIXELS:
        raise UsageError(unknown("way of pixels", pixels, PIXELS))
    if tensor.type == _FLOAT:
        return lambda images: normalized(images, pixels), PIXELS[pixels].words
    if pixels != "edgekd":
        raise UsageError(f"pixels '{pixels}' are for float inputs; '{tensor.name}' takes {_WORDS[tensor.type]} itself")
    return _PREPARE[tensor.type], _WORDS[tensor.type]
