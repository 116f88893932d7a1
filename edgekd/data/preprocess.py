"""The only way pixels enter a network, in training, calibration, verification and on the device.

`fit` gives every image the network's height, width and channels; `to_int8` subtracts 128; one integer step is worth
1/128, so the network sees -1 .. 127/128. No mean or standard deviation per channel: a device subtracts 128 for free.
Files that others trained on floats may have seen pixels in another way: `PIXELS` names those.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgekd.errors import DataError, UsageError, unknown

if TYPE_CHECKING:
    from PIL.Image import Image

INPUT_OFFSET = 128
INPUT_SCALE = 1 / 128

LARGEST_SIDE = 4096  # px of an image; far beyond any network for a small device
LARGEST_SET_BYTES = 2**33  # of all images of a split together, one byte a value

MODES = {1: "L", 3: "RGB"}  # channels -> PIL mode; "L" is ITU-R BT.601 luma


class TooLargeError(DataError):
    """Images that would take more memory than `LARGEST_SIDE` and `LARGEST_SET_BYTES` allow."""


@dataclass(frozen=True)
class Pixels:
    """A way to enter a float network: (pixel - mean) / std for each of 1 or 3 channels; `words` say so in a report."""

    words: str
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)


_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PIXELS: Mapping[str, Pixels] = {
    "edgekd": Pixels("(pixel - 128) / 128", (128.0,), (128.0,)),
    "unit": Pixels("pixel / 255", (0.0,), (255.0,)),
    "imagenet": Pixels(
        "(pixel / 255 - mean) / std of ImageNet's channels",
        tuple(255 * value for value in _IMAGENET_MEAN),
        tuple(255 * value for value in _IMAGENET_STD),
    ),
    "raw": Pixels("pixel, 0..255"),
}


def require_room(count: int, height: int, width: int, channels: int) -> None:
    """Refuse images that are too large, one or all together, before memory is taken for them.

    Raises:
        TooLargeError: with the sizes.
    """
    size = f"{height} x {width} x {channels}"
    if max(height, width) > LARGEST_SIDE:
        raise TooLargeError(f"images of {size} are too large: the limit is {LARGEST_SIDE:,} px a side")
    total = count * height * width * channels
    if total > LARGEST_SET_BYTES:
        limit = f"{LARGEST_SET_BYTES:,}"
        raise TooLargeError(f"{count:,} images of {size} take {total:,} bytes together, the limit is {limit}")


def to_int8(images: NDArray[np.uint8]) -> NDArray[np.int8]:
    """Return pixel - 128, exactly.

    Shapes: images (n, height, width, channels) uint8 -> (n, channels, height, width) int8.

    Raises:
        DataError: the images are not uint8 with four dimensions.
    """
    _require_pixels(images)
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


def to_uint8(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the pixels as they are, channels first.

    Shapes: images (n, height, width, channels) uint8 -> (n, channels, height, width) uint8.

    Raises:
        DataError: as `to_int8`.
    """
    _require_pixels(images)
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def normalized(images: NDArray[np.uint8], name: str) -> NDArray[np.float32]:
    """Return the pixels as the entry `name` of `PIXELS` says.

    Shapes: images (n, height, width, channels) uint8 -> (n, channels, height, width) float32.

    Raises:
        DataError: as `to_int8`.
        UsageError: there is no such entry.
    """
    if name == "edgekd":
        return to_float(images)  # exact: a division by 2^7
    mean, std = (np.array(values, np.float32)[None, :, None, None] for values in _statistics(name))
    scaled: NDArray[np.float32] = (to_uint8(images).astype(np.float32) - mean) / std
    return scaled


def _statistics(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if name not in PIXELS:
        raise UsageError(unknown("way of pixels", name, PIXELS))
    return PIXELS[name].mean, PIXELS[name].std


def _require_pixels(images: NDArray[np.uint8]) -> None:
    if images.dtype != np.uint8 or images.ndim != 4:
        raise DataError(f"images are {images.dtype} {images.shape}, not uint8 (n, height, width, channels)")


def fit(images: NDArray[np.uint8], height: int, width: int, channels: int) -> NDArray[np.uint8]:
    """Convert to grayscale or RGB, then resize with a bilinear filter that is antialiased when shrinking (PIL).

    Shapes: images (n, h, w, 1 or 3) uint8 -> (n, height, width, channels) uint8; the same array where nothing changes.

    Raises:
        DataError: a size below 1 or beyond `require_room`, channels other than 1 or 3, or images of another shape.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in MODES:
        raise DataError(f"images are {images.dtype} {images.shape}, not uint8 (n, height, width, 1 or 3)")
    convert = fitter(height, width, channels)
    if images.shape[1:] == (height, width, channels):
        return images
    require_room(len(images), height, width, channels)
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
