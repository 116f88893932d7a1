"""Images of characters: a background, clutter, the character in a colour of some contrast, blur and noise."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from edgekd.data.glyphs.fonts import Masks
from edgekd.data.glyphs.layers import Floats, Pose, blobs, clip, grid, place, strokes, texture, uniform

MIN_CONTRAST = 0.3  # of luma, between the character and the mean background, where full scale is 1
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


def draw(characters: NDArray[np.int64], glyphs: Masks, clutter: Masks, rng: Generator) -> NDArray[np.uint8]:
    """Draw one image of each character, an index into `glyphs`; `clutter` has characters of no class.

    Shapes: characters (n,) -> (n, CANVAS, CANVAS, 3) uint8.
    """
    n = len(characters)
    backdrop, mean_colour = _background(rng, n)
    scene = _over(backdrop, blobs(rng, n) * uniform(rng, 0, 0.6, n, 1, 1), _colours(rng, n))
    for _ in range(3):
        scene = _over(scene, _fragments(rng, n, clutter), _colours(rng, n))
    scene = _over(scene, strokes(rng, n, (0.02, 0.07)) * _sometimes(rng, n, 0.4), _colours(rng, n))
    glyph = place(_pick(rng, glyphs, characters), _pose_of_glyph(rng, n))
    scene = _over(scene, glyph * uniform(rng, 0.7, 1, n, 1, 1), _contrasting(rng, mean_colour))
    scene = _over(scene, strokes(rng, n, (0.01, 0.04)) * _sometimes(rng, n, 0.3), _colours(rng, n))
    scene = _blurred(scene, uniform(rng, 0, 1, n, 1, 1, 1) * _sometimes(rng, n, 0.5)[..., None])
    return _as_pixels(_noisy(rng, scene))


def _background(rng: Generator, n: int) -> tuple[Floats, Floats]:
    """Return a gradient between two near colours, with a soft texture; and the mean colour (n, 3)."""
    mean_colour = uniform(rng, 0.05, 0.95, n, 3)
    slope = uniform(rng, -0.25, 0.25, n, 1, 1, 3)
    x, y = grid()
    tilt_x, tilt_y = uniform(rng, -1, 1, 2, n, 1, 1)
    gradient = (tilt_x * x + tilt_y * y)[..., None] * slope
    rough = texture(rng, n, cells=6) * uniform(rng, 0, 0.15, n, 1, 1, 1)
    return mean_colour[:, None, None, :] + gradient + rough, mean_colour


def _fragments(rng: Generator, n: int, clutter: Masks) -> Floats:
    """Return parts of characters of no class, most of them beyond the edge: coverage (n, CANVAS, CANVAS)."""
    chosen = _pick(rng, clutter, rng.integers(len(clutter.count), size=n))
    away = uniform(rng, 0.8, 1.15, n)
    along = uniform(rng, -1, 1, n)
    side = rng.integers(4, size=n)  # left, right, top, bottom
    x = np.where(side == 0, -away, np.where(side == 1, away, along)).astype(np.float32)
    y = np.where(side == 2, -away, np.where(side == 3, away, along)).astype(np.float32)
    size, turn, still = uniform(rng, 0.4, 0.8, n), uniform(rng, -1, 1, n), np.zeros(n, np.float32)
    return place(chosen, Pose(x, y, size, turn, still, still + 1), oversample=1) * _sometimes(rng, n, 0.55)


def _pose_of_glyph(rng: Generator, n: int) -> Pose:
    size = uniform(rng, 0.55, 0.9, n)
    room = np.float32(1.05) - size  # a large character cannot be far from the middle
    return Pose(
        x=uniform(rng, -1, 1, n) * room,
        y=uniform(rng, -1, 1, n) * room,
        size=size,
        turn=uniform(rng, -0.22, 0.22, n),  # about 25 degrees either way
        shear=uniform(rng, -0.3, 0.3, n),
        stretch=uniform(rng, 0.8, 1.25, n),
    )


def _pick(rng: Generator, masks: Masks, characters: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return a mask of each character, in a face drawn at random."""
    chosen: NDArray[np.uint8] = masks.masks[masks.first[characters] + rng.integers(masks.count[characters])]
    return chosen


def _sometimes(rng: Generator, n: int, probability: float) -> Floats:
    """Return 1 with the given probability, else 0: shape (n, 1, 1)."""
    return (rng.random((n, 1, 1), dtype=np.float32) < probability).astype(np.float32)


def _colours(rng: Generator, n: int) -> Floats:
    return uniform(rng, 0, 1, n, 3)


def _contrasting(rng: Generator, background: Floats) -> Floats:
    """Return the first of 16 random colours that is light or dark enough, else black or white: (n, 3)."""
    n = len(background)
    candidates = uniform(rng, 0, 1, n, 16, 3)
    opposite = np.where(_luma(background) > 0.5, 0, 1).astype(np.float32)
    enough = np.abs(_luma(candidates) - _luma(background)[:, None]) >= MIN_CONTRAST
    first = candidates[np.arange(n), enough.argmax(axis=1)]
    return np.where(enough.any(axis=1)[:, None], first, opposite[:, None])


def _luma(colours: Floats) -> Floats:
    red, green, blue = np.moveaxis(colours, -1, 0)
    return np.asarray(red * LUMA[0] + green * LUMA[1] + blue * LUMA[2])


def _over(scene: Floats, coverage: Floats, colours: Floats) -> Floats:
    """Lay a colour (n, 3) over the scene where it covers."""
    return scene + coverage[..., None] * (colours[:, None, None, :] - scene)


def _blurred(scene: Floats, amount: Floats) -> Floats:
    """Mix each image with its mean over 3 x 3 pixels."""
    padded = np.pad(scene, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    rows = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    mean: Floats = (rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]) * np.float32(1 / 9)
    return scene + amount * (mean - scene)


def _noisy(rng: Generator, scene: Floats) -> Floats:
    """Add noise that is nearly Gaussian (a sum of four uniforms) and different in strength for each image."""
    bell = rng.integers(-128, 128, (4, *scene.shape), dtype=np.int8).sum(axis=0, dtype=np.int16).astype(np.float32)
    strength = uniform(rng, 0.01, 0.075, len(scene), 1, 1, 1)
    noisy: Floats = scene + bell * (strength / np.float32(148))  # 148 = deviation of four int8 uniforms
    return noisy


def _as_pixels(scene: Floats) -> NDArray[np.uint8]:
    return (clip(scene, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8)
