"""Where an image input has its channels: in front of height and width (NCHW), or behind them (NHWC)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

CHANNELS = (1, 3)  # grayscale, RGB
_MOST_ELONGATED = 4  # longer by shorter side of what is still taken for an image

Element = TypeVar("Element", bound=np.generic)


@dataclass(frozen=True)
class Axes:
    """Which axis of a batch holds channels, height and width; `words` say so in a report."""

    words: str
    channels: int
    height: int
    width: int


CHANNELS_FIRST = Axes("channels first (NCHW)", 1, 2, 3)
CHANNELS_LAST = Axes("channels last (NHWC)", 3, 1, 2)


def axes_of(shape: Sequence[object]) -> Axes:
    """Return the axes of an input: channels first, unless 1 or 3 of them are recognizably last.

    They are where axis 1 is neither 1 nor 3 and axis 3 is, and axes 1 and 2 could be the sides of an image. A size that
    is open (None, or a name) could be any side, never a number of channels.
    """
    if len(shape) != 4 or shape[1] in CHANNELS or shape[3] not in CHANNELS:
        return CHANNELS_FIRST
    sides = [size for size in shape[1:3] if isinstance(size, int)]
    elongated = len(sides) == 2 and max(sides) > _MOST_ELONGATED * min(sides)
    return CHANNELS_FIRST if elongated else CHANNELS_LAST


def arranged(images: NDArray[Element], axes: Axes) -> NDArray[Element]:
    """Return images (n, channels, height, width) in the order of `axes`."""
    return images if axes == CHANNELS_FIRST else np.ascontiguousarray(images.transpose(0, 2, 3, 1))
