"""From arrays that a dataset's own files hold to image sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from edgekd.data.imageset import ImageSet, Labels, Pixels, Split
from edgekd.data.partition import VAL_FRACTION, Indices, take_out
from edgekd.data.preprocess import fit
from edgekd.data.registry import Dataset
from edgekd.data.request import Request
from edgekd.errors import DataError

Load = Callable[[], tuple[Pixels, Labels]]


def image_set(name: str, images: Pixels, labels: Labels, class_names: Sequence[str], request: Request) -> ImageSet:
    """Return the images in the size and channels that were asked for.

    Raises:
        DataError: as `ImageSet`.
    """
    height, width = (request.size, request.size) if request.size else images.shape[1:3]
    channels = request.channels or images.shape[3]
    return ImageSet(name, fit(images, height, width, channels), labels, tuple(class_names))


def closed_dataset(train: Load, test: Load, class_names: Sequence[str], request: Request) -> Dataset:
    """Return a dataset with the same classes in every split; val is a seeded tenth of each class's training images."""

    def load(split: Split) -> ImageSet:
        images, labels = test() if split == "test" else train()
        if split != "test":
            stay, taken = take_out(labels, class_names, VAL_FRACTION, request.seed)
            chosen = stay if split == "train" else taken
            images, labels = images[chosen], labels[chosen]
        return image_set(f"{request.name}/{split}", images, labels, class_names, request)

    return Dataset(novel=False, load=load)


def novel_dataset(
    every: Load, class_names: Sequence[str], splits: Mapping[Split, Sequence[str]], request: Request
) -> Dataset:
    """Return a few-shot dataset: each split has the images of its own classes."""

    def load(split: Split) -> ImageSet:
        images, labels = every()
        chosen, relabelled = of_classes(labels, [class_names.index(name) for name in splits[split]])
        return image_set(f"{request.name}/{split}", images[chosen], relabelled, splits[split], request)

    return Dataset(novel=True, load=load)


def of_classes(labels: Labels, wanted: Sequence[int]) -> tuple[Indices, Labels]:
    """Return which images have one of the `wanted` labels, and the position of each one's label in `wanted`."""
    chosen = np.flatnonzero(np.isin(labels, wanted))
    position = np.full(max(*wanted, labels.max(initial=0)) + 1, -1, np.int64)
    position[list(wanted)] = np.arange(len(wanted))
    return chosen, position[labels[chosen]]


def require_labels(labels: Labels, n_classes: int, where: str) -> None:
    """Check labels that come from a file.

    Raises:
        DataError: one is not in 0..n_classes-1.
    """
    if labels.size and (labels.min() < 0 or labels.max() >= n_classes):
        raise DataError(f"{where} has labels {labels.min()}..{labels.max()}, but there are {n_classes} classes")
