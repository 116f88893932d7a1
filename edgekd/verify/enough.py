"""Whether an image set holds enough for a protocol, said in the words of the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgekd.errors import DataError

if TYPE_CHECKING:
    from edgekd.data import ImageSet
    from edgekd.fewshot import Protocol


def require_enough(images: ImageSet, protocols: Sequence[Protocol]) -> None:
    """Check that every protocol can be drawn from the images.

    Raises:
        DataError: too few classes, or a class with too few images: its name, and the options that would do.
    """
    counts = np.bincount(images.labels, minlength=images.n_classes)
    poorest = int(counts.argmin())
    for protocol in protocols:
        if images.n_classes < protocol.way:
            raise DataError(
                f"{protocol} needs {protocol.way} classes, '{images.name}' has {images.n_classes}: "
                f"--way {images.n_classes} would do"
            )
        needed, has = protocol.shot + protocol.query, int(counts[poorest])
        if has < needed:
            raise DataError(
                f"{protocol} needs {needed} images in each class; class '{images.class_names[poorest]}' of "
                f"'{images.name}' has {has}: {_would_do(protocol.shot, has)}"
            )


def _would_do(shot: int, has: int) -> str:
    if has > shot:
        return f"--query {has - shot} would do"
    return f"fewer --shot would do, at most {has - 1} with --query 1" if has > 1 else "give that class more images"
