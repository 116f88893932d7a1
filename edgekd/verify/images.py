"""The images to measure a file on: what its input may ask for, and where they come from."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING

from edgekd.errors import ModelError, UsageError
from edgekd.verify.facts import Facts
from edgekd.verify.graph import Graph
from edgekd.verify.pixels import image_axes

if TYPE_CHECKING:
    from edgekd.data import ImageSet
    from edgekd.manifest import Manifest
    from edgekd.verify.accuracy import Options

Notify = Callable[[str], None]

LARGEST_INPUT_BYTES = 2**28  # of one batch, as the graph fixes it
_LAYOUTS = "(batch, channels, height, width) or (batch, height, width, channels)"


def load_images(facts: Facts, options: Options, spec: str, notify: Notify | None = None) -> ImageSet:
    """Return the images to measure on, in the size and channels that the graph takes.

    Raises:
        DataError: as `edgekd.data.load_split`.
        ModelError: the graph takes no images, or such that would take too much memory.
        UsageError: pixels are asked for that an integer input does not take.
    """
    from edgekd.data import load_split
    from edgekd.data.preprocess import TooLargeError

    require_image_input(facts.graph)
    _require_float(facts.graph, options.pixels)
    channels, height, width = _input_size(facts.graph)
    size = options.size or (height if height == width else None)
    data = facts.manifest.data if facts.manifest else None
    try:
        return load_split(
            spec,
            options.split or (data.split if data else "test"),
            size=size,
            channels=channels,
            skip_bad=options.skip_bad,
            seed=data.seed if data else 0,
            notify=notify,
        )
    except TooLargeError as error:
        raise ModelError(f"{facts.graph.path}: {error}") from error


def chosen_spec(options: Options, manifest: Manifest | None) -> str | None:
    """Return the image set to measure on: the given one, else the manifest's where it is a known set by its bare name.

    The manifest is as trustworthy as its file: a path in it is not read.
    """
    if options.data or manifest is None:
        return options.data
    return None if names_path(manifest) else manifest.data.spec


def names_path(manifest: Manifest) -> bool:
    """Say whether a manifest asks for images at a path."""
    return ":" in manifest.data.spec


def refused_path(spec: str) -> str:
    """Return the message for images at a path that nobody but the file has named."""
    return (
        f"accuracy not measured: the file asks for the images of '{spec}', and no path is read because a file names "
        f"it; if they are yours: --data {shlex.quote(spec)}"
    )


def require_image_input(graph: Graph) -> None:
    """Refuse, before any image is read, an input whose shape is known and not that of one batch of small images.

    Raises:
        ModelError: naming the input and its shape.
    """
    from edgekd.data.preprocess import LARGEST_SIDE, MODES

    name = graph.inputs[0]
    shape = graph.value(name).shape
    if shape is None:
        return
    has = f"{graph.path}: input '{name}' is {' x '.join(map(str, shape)) or 'a scalar'}"
    if len(shape) != 4:
        raise ModelError(f"{has}: images enter as {_LAYOUTS}")
    axes = image_axes(graph)
    if shape[axes.channels] not in MODES:
        raise ModelError(f"{has}, {shape[axes.channels]} channels: images have 1 (grayscale) or 3 (RGB)")
    if max(shape[axes.height], shape[axes.width]) > LARGEST_SIDE:
        raise ModelError(f"{has}: the limit is {LARGEST_SIDE:,} px a side")
    taken = 4 * math.prod(shape)
    if taken > LARGEST_INPUT_BYTES:
        raise ModelError(f"{has}: one batch takes {taken:,} bytes, the limit is {LARGEST_INPUT_BYTES:,}")


def _require_float(graph: Graph, pixels: str) -> None:
    name = graph.inputs[0]
    if pixels != "edgekd" and graph.value(name).is_integer:
        takes = graph.value(name).dtype
        raise UsageError(f"pixels '{pixels}' are for float inputs; '{name}' of {graph.path} takes {takes}")


def _input_size(graph: Graph) -> tuple[int | None, int | None, int | None]:
    """Channels, height and width of the first graph input; None where the graph leaves them open."""
    shape, axes = graph.value(graph.inputs[0]).shape, image_axes(graph)
    return (shape[axes.channels], shape[axes.height], shape[axes.width]) if shape and len(shape) == 4 else (None,) * 3
