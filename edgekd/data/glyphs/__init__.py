"""The embedded set `glyphs`: needs no download, is made in seconds, and equal for equal seeds."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgekd.data.cache import Made, cached
from edgekd.data.glyphs.alphabets import ALPHABETS, CLUTTER, IMAGES_PER_CLASS, SCRIPTS, characters
from edgekd.data.imageset import SPLITS, Labels, Split
from edgekd.data.request import Notify
from edgekd.files import sha256_bytes

__all__ = ["ALPHABETS", "SCRIPTS", "make_split"]

BATCH = 256  # images drawn together, from their own random stream; changing it changes the pixels


def make_split(split: Split, seed: int, notify: Notify) -> Made:
    """Return the images of a split, from the cache or newly drawn; labels are positions in `SCRIPTS[split]`.

    Raises:
        DataError: this matplotlib's fonts lack a character.
    """

    def make() -> Made:
        notify(f"drawing the images of 'glyphs/{split}' (once for each seed)")
        labels = np.repeat(np.arange(len(SCRIPTS[split]), dtype=np.int64), IMAGES_PER_CLASS[split])
        return Made(draw_all(split, labels, seed), labels)

    return cached("glyphs", _key(split, seed), make, notify)


def draw_all(split: Split, labels: Labels, seed: int) -> NDArray[np.uint8]:
    """Draw one image for each label, batch by batch in threads: (n, 32, 32, 3)."""
    from edgekd.data.glyphs.fonts import masks_of
    from edgekd.data.glyphs.scene import draw

    glyphs, clutter = masks_of(characters(split)), masks_of(CLUTTER)

    def draw_batch(start: int) -> NDArray[np.uint8]:
        rng = np.random.default_rng([seed, SPLITS.index(split), start])
        return draw(labels[start : start + BATCH], glyphs, clutter, rng)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return np.concatenate(list(pool.map(draw_batch, range(0, len(labels), BATCH))))


def _key(split: Split, seed: int) -> dict[str, object]:
    """Return everything that decides the pixels: this package's own text, and the libraries that draw for it."""
    from PIL import features

    return {
        "generator": sha256_bytes(b"".join(file.read_bytes() for file in sorted(Path(__file__).parent.glob("*.py")))),
        "split": split,
        "seed": seed,
        "matplotlib": version("matplotlib"),
        "pillow": version("pillow"),
        "freetype": features.version("freetype2"),
        "numpy": np.__version__,
    }
