"""Layers of an image, made for a whole batch at once: placed masks, strokes, blobs, gradients.

Only arithmetic that IEEE 754 fixes to the last bit (+ - * / and square root) is used, no sine, exponential or BLAS, so
that one seed gives the same pixels on every machine.

A position on the canvas is (x, y) in -1..1, from left to right and from top to bottom.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from edgekd.data.glyphs.fonts import GLYPH, MASK

Floats = NDArray[np.float32]

CANVAS = 32  # pixels along an image


@dataclass(frozen=True)
class Pose:
    """Where and how masks lie; each field is (n,).

    `x`, `y`: the centre. `size`: the longer side as a fraction of the canvas. `turn`: tan(angle / 2), so that cosine
    and sine are rational. `shear`: x per y. `stretch`: width over height.
    """

    x: Floats
    y: Floats
    size: Floats
    turn: Floats
    shear: Floats
    stretch: Floats


def uniform(rng: Generator, low: float, high: float, *shape: int) -> Floats:
    """Return float32 numbers from low (included) to high."""
    return np.float32(low) + np.float32(high - low) * rng.random(shape, dtype=np.float32)


def grid(pixels: int = CANVAS) -> tuple[Floats, Floats]:
    """Return x (1, 1, pixels) and y (1, pixels, 1) of the pixels' centres."""
    centres = (np.arange(pixels, dtype=np.float32) * 2 + 1) / np.float32(pixels) - np.float32(1)
    return centres[None, None, :], centres[None, :, None]


def place(masks: NDArray[np.uint8], pose: Pose, oversample: int = 2) -> Floats:
    """Return how much of each pixel the posed masks cover.

    Shapes: masks (n, MASK, MASK) uint8 -> (n, CANVAS, CANVAS) in 0..1.
    """
    across, down = _mask_positions(pose, CANVAS * oversample)
    fine = _sample(masks, across, down)
    return pool(fine, oversample)


def strokes(rng: Generator, n: int, thickness: tuple[float, float]) -> Floats:
    """Return one straight stroke for each image, from anywhere to anywhere: coverage (n, CANVAS, CANVAS)."""
    start_x, start_y, end_x, end_y = uniform(rng, -1.1, 1.1, 4, n, 1, 1)
    half = uniform(rng, *thickness, n, 1, 1)
    x, y = grid()
    along_x, along_y = end_x - start_x, end_y - start_y
    length2 = along_x * along_x + along_y * along_y + np.float32(1e-6)
    part = clip(((x - start_x) * along_x + (y - start_y) * along_y) / length2, 1)  # the nearest point of the stroke
    off_x, off_y = x - start_x - part * along_x, y - start_y - part * along_y
    distance = np.sqrt(off_x * off_x + off_y * off_y)
    return clip((half - distance) * np.float32(CANVAS / 2) + np.float32(0.5), 1)


def blobs(rng: Generator, n: int) -> Floats:
    """Return one soft spot for each image: coverage (n, CANVAS, CANVAS)."""
    centre_x, centre_y = uniform(rng, -1, 1, 2, n, 1, 1)
    radius = uniform(rng, 0.15, 0.6, n, 1, 1)
    x, y = grid()
    ratio2 = ((x - centre_x) ** 2 + (y - centre_y) ** 2) / (radius * radius)
    coverage: Floats = np.float32(1) / (np.float32(1) + ratio2 * ratio2)
    return coverage


def texture(rng: Generator, n: int, cells: int) -> Floats:
    """Return smooth random values in -1..1, shape (n, CANVAS, CANVAS, 1), that change over CANVAS / cells pixels."""
    knots = uniform(rng, -1, 1, n, cells + 1, cells + 1, 1)
    position = (np.arange(CANVAS, dtype=np.float32) + np.float32(0.5)) * np.float32(cells / CANVAS)
    cell = position.astype(np.intp)
    part = (position - np.floor(position))[:, None, None]  # (CANVAS, 1, 1)
    rows = knots[:, cell] + (knots[:, cell + 1] - knots[:, cell]) * part
    columns: Floats = rows[:, :, cell] + (rows[:, :, cell + 1] - rows[:, :, cell]) * part[:, 0]
    return columns


def clip(values: Floats, high: float) -> Floats:
    """Return the values, limited to 0..high."""
    return np.minimum(np.maximum(values, np.float32(0)), np.float32(high))


def pool(fine: Floats, factor: int) -> Floats:
    """Return means over squares of factor x factor pixels, summed in a fixed order."""
    total = sum(fine[:, i::factor, j::factor] for i in range(factor) for j in range(factor))
    return np.asarray(total, np.float32) / np.float32(factor * factor)


def _mask_positions(pose: Pose, pixels: int) -> tuple[Floats, Floats]:
    """Return, for each canvas pixel, the column and row of the mask that lies there (n, pixels, pixels)."""
    x, y = grid(pixels)
    x, y = x - pose.x[:, None, None], y - pose.y[:, None, None]
    square = pose.turn * pose.turn
    cosine, sine = (1 - square) / (1 + square), 2 * pose.turn / (1 + square)
    unit = np.float32(GLYPH / 2) / pose.size  # mask pixels along half a canvas
    wide: Floats = np.sqrt(pose.stretch)
    # Inverse of: stretch, then shear, then turn.
    xx, xy = cosine + pose.shear * sine, sine - pose.shear * cosine
    across = (unit / wide * xx)[:, None, None] * x + (unit / wide * xy)[:, None, None] * y
    down = (unit * wide * -sine)[:, None, None] * x + (unit * wide * cosine)[:, None, None] * y
    middle = np.float32((MASK - 1) / 2)
    return across + middle, down + middle


def _sample(masks: NDArray[np.uint8], across: Floats, down: Floats) -> Floats:
    """Interpolate masks bilinearly; beyond a mask there is no ink, as on its margin."""
    across, down = clip(across, MASK - 1.001), clip(down, MASK - 1.001)
    column, row = np.floor(across), np.floor(down)
    right, low = across - column, down - row
    flat = masks.reshape(-1)
    first = np.arange(len(masks), dtype=np.intp)[:, None, None] * (MASK * MASK)
    corner = first + row.astype(np.intp) * MASK + column.astype(np.intp)
    upper = flat[corner] * (1 - right) + flat[corner + 1] * right
    lower = flat[corner + MASK] * (1 - right) + flat[corner + MASK + 1] * right
    ink: Floats = (upper + (lower - upper) * low) * np.float32(1 / 255)
    return ink
