"""The only way pixels enter a network, in training, calibration, verification and on the device.

`fit` gives every image the network's height, width and channels; `to_int8` subtracts 128; one integer step is worth
1/128, so the network sees -1 .. 127/128. No mean or standard deviation per channel: a device subtracts 128 for free.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgekd.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

INPUT_OFFSET = 128
INPUT_SCALE = 1 / 128

MODES = {1: "L", 3: "RGB"}  # channels -> PIL mode; "L" is ITU-R BT.601 luma


def to_int8(images: NDArray[np.uint8]) -> NDArray[np.int8]:
    """Return pixel - 128, exactly.

    Shapes: images (n, height, width, channels) uint8 -> (n, channels, height, width) int8.

    Raises:
        DataError: the images are not uint8 with four dimensions.
    """
    if images.dtype != np.uint8 or images.ndim != 4:
        raise DataError(f"images are {images.dtype} {images.shape}, not uint8 (n, height, width, channels)")
    flipped = np.bitwise_xor(
        images, np.uint8(INPUT_OFFSET)
    )  # flipping the top bit is subtracting 128 in two's complement
    return np.ascontiguousarray(flipped.transpose(0, 3, 1, 2)).view(np.int8)


def to_float(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return (pixel - 128) / 128: what DequantizeLinear makes of `to_int8`, exactly.

    Shapes: images (n, height, width, channels) uint8 -> (n, channels, height, width) float32.

    Raises:
        DataError: as `to_int8`.
    """
    return to_int8(images).astype(np.float32) * np.float32(INPUT_SCALE)


def fit(images: NDArray[np.uint8], height: int, width: int, channels: int) -> NDArray[np.uint8]:
    """Convert to grayscale or RGB, then resize with a bilinear filter that is antialiased when shrinking (PIL).

    Shapes: images (n, h, w, 1 or 3) uint8 -> (n, height, width, channels) uint8; the same array where nothing changes.

    Raises:
        DataError: a size below 1, channels other than 1 or 3, or images of another shape or type.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in MODES:
        raise DataError(f"images are {images.dtype} {images.shape}, not uint8 (n, height, width, 1 or 3)")
    convert = fitter(height, width, channels)
    if images.shape[1:] == (height, width, channels):
        return images
    fitted = np.empty((len(images), height, width, channels), np.uint8)
    for index, pixels in enumerate(images):
        fitted[index] = as_array(convert(as_image(pixels)))
    return fitted


def fitter(height: int, width: int, channels: int) -> Callable[[Image], Image]:
    """Return the function behind `fit`, for one PIL image.

    Raises:
        DataError: a size below 1, or channels other than 1 or 3.
    """
    from PIL.Image import Resampling

    if min(height, width) < 1:
        raise DataError(f"image size {height}x{width}: height and width must be at least 1")
    if channels not in MODES:
        raise DataError(f"channels must be 1 (grayscale) or 3 (RGB), not {channels}")

    def convert(image: Image) -> Image:
        coloured = image if image.mode == MODES[channels] else image.convert(MODES[channels])
        same = coloured.size == (width, height)
        return coloured if same else coloured.resize((width, height), Resampling.BILINEAR)

    return convert


def as_image(pixels: NDArray[np.uint8]) -> Image:
    """Return one (height, width, 1 or 3) array as a PIL image."""
    from PIL.Image import fromarray

    return fromarray(np.ascontiguousarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels))


def as_array(image: Image) -> NDArray[np.uint8]:
    """Return a PIL image of mode L or RGB as (height, width, 1 or 3) uint8."""
    pixels = np.asarray(image)
    return pixels[:, :, None] if pixels.ndim == 2 else pixels
