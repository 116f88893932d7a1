"""Training classes turned by quarters of a circle, each a class of its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgekd.data.imageset import ImageSet, Splits
from edgekd.errors import DataError

QUARTERS = 4


def with_turned_classes(splits: Splits) -> Splits:
    """Return `splits` with four times the training classes; the images that measure stay as they are.

    Source: A. Santoro et al., Meta-Learning with Memory-Augmented Neural Networks, ICML 2016,
    https://proceedings.mlr.press/v48/santoro16.html

    Raises:
        DataError: the test classes are those of training, or the images are not square.
    """
    train = splits.train
    if not splits.novel:
        raise DataError(f"data.turned_classes: {splits.name} is tested on the classes it trains; a turned one is none")
    if train.height != train.width:
        raise DataError(f"data.turned_classes: images of {train.height}x{train.width} do not turn; set data.size")
    return replace(splits, train=_turned(train))


def _turned(images: ImageSet) -> ImageSet:
    """Return every image in four positions, class c turned q times being c + q * n_classes."""
    quarters = range(QUARTERS)
    return ImageSet(
        f"{images.name}/turned",
        np.concatenate([np.rot90(images.images, quarter, axes=(1, 2)) for quarter in quarters]),
        np.concatenate([images.labels + quarter * images.n_classes for quarter in quarters]),
        tuple(f"{name}@{90 * quarter}" for quarter in quarters for name in images.class_names),
    )
