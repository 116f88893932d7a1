"""From image files to pixels: decoded in threads, checked one by one."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgekd.data.cache import Made
from edgekd.data.preprocess import as_array, fitter, require_room
from edgekd.data.request import Notify
from edgekd.data.source import Member, Source

if TYPE_CHECKING:
    from PIL.Image import Image

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_PIXELS = 2**26  # 64 megapixels; an image that claims more is refused before it is unpacked
ORIENTATION = 0x0112  # EXIF tag; 5 to 8 mean that width and height are swapped

# Formats whose decoder starts another program or needs one to be installed.
FOREIGN = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "WMF"})

# What PIL's decoders raise on damaged files, found by flipping bytes in 15 formats.
DAMAGED = (
    OSError, SyntaxError, ValueError, EOFError, LookupError, ArithmeticError, TypeError, RuntimeError, MemoryError,
    struct.error, zlib.error,
)  # fmt: skip


class _UnfitError(ValueError):
    """An image that can be decoded but not used."""


@dataclass(frozen=True)
class Files:
    """Image files of one source and the class of each (n,)."""

    source: Source
    members: Sequence[Member]
    labels: NDArray[np.int64]


def decode(files: Files, size: int | None, channels: int, notify: Notify) -> Made:
    """Decode every file; one that cannot be used becomes a problem such as "a.jpg (empty file)".

    Phone photographs are turned upright (EXIF), transparency is laid over white, 16-bit gray keeps its high byte.
    With `size` None all images must have one size: the most frequent, and each other size is a problem.
    """
    source, members = files.source, files.members
    width, height = (size, size) if size else _usual_size(source, members)
    require_room(len(members), height, width, channels)
    images = np.zeros((len(members), height, width, channels), np.uint8)
    convert = fitter(height, width, channels)

    def decode_into(index: int) -> str | None:
        def use(image: Image) -> None:
            if not size and image.size != (width, height):
                raise _UnfitError(
                    f"{image.width}x{image.height}, not {width}x{height} as most; --size N makes all N x N"
                )
            images[index] = as_array(convert(image))

        return _attempt(source, members[index], use)

    problems = list(_progress(_in_threads(decode_into, range(len(members))), len(members), notify))
    good = np.array([problem is None for problem in problems])
    kept = images if good.all() else images[good]
    return Made(kept, files.labels[good], tuple(problem for problem in problems if problem is not None))


def open_image(data: bytes) -> Image:
    """Return an upright image of mode L or RGB.

    Raises:
        OSError, ValueError and others in `DAMAGED`: it is not an image, damaged, or larger than 64 megapixels.
    """
    from PIL import ImageOps

    image = _header(data)
    ImageOps.exif_transpose(image, in_place=True)
    return _opaque(image)


def _attempt(source: Source, member: Member, use: Callable[[Image], None]) -> str | None:
    """Return what is wrong with a file, or None once `use` has its image."""
    try:
        use(open_image(source.read(member)))
    except DAMAGED as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return f"{member.name} ({reason})"
    return None


def _header(data: bytes) -> Image:
    from PIL import Image, UnidentifiedImageError

    if not data:
        raise _UnfitError("empty file")
    try:
        image = Image.open(io.BytesIO(data), formats=_formats())
    except UnidentifiedImageError as error:
        raise _UnfitError("not an image") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _UnfitError("too many pixels, refused as a decompression bomb") from error
    if image.width * image.height > MAX_PIXELS:
        raise _UnfitError(f"{image.width}x{image.height} pixels, refused as a decompression bomb")
    return image


def _opaque(image: Image) -> Image:
    from PIL import Image as Images

    if image.mode in {"L", "RGB"}:
        return image
    if image.mode.startswith("I;16"):
        return Images.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in {"I", "F"}:
        raise _UnfitError(f"32-bit pixels (mode {image.mode}) have no fixed range")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Images.alpha_composite(Images.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("L" if image.mode == "1" else "RGB")


def _usual_size(source: Source, members: Sequence[Member]) -> tuple[int, int]:
    """Return the (width, height) that most images have; (1, 1) where none can be read."""

    def upright_size(member: Member) -> tuple[int, int] | None:
        try:
            image = _header(source.read(member))
            turned = image.getexif().get(ORIENTATION, 1) >= 5
        except DAMAGED:
            return None
        return (image.height, image.width) if turned else (image.width, image.height)

    sizes = Counter(found for found in _in_threads(upright_size, members) if found)
    return sizes.most_common(1)[0][0] if sizes else (1, 1)


@cache
def _formats() -> list[str]:
    from PIL import Image

    Image.init()
    return [name for name in Image.ID if name not in FOREIGN]


def _in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(function, items)


def _progress(results: Iterable[Result], total: int, notify: Notify, step: int = 5000) -> Iterator[Result]:
    for done, result in enumerate(results, start=1):
        if done % step == 0 or (done == total and total >= step):
            notify(f"decoded {done:,} of {total:,} images")
        yield result
