"""An image set: uint8 pixels, integer labels, class names; and three of them as train, val and test splits."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from edgekd.errors import DataError, unknown

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

Pixels = NDArray[np.uint8]  # (n, height, width, channels)
Labels = NDArray[np.int64]  # (n,)


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Labelled images of one size; `name` reads like "glyphs/test".

    Shapes: images (n, height, width, channels) uint8 with 1 or 3 channels; labels (n,) int64 in 0..n_classes-1.

    Raises:
        DataError: shapes, types or labels do not fit together, a class has no image, or two classes share a name.
    """

    name: str
    images: Pixels
    labels: Labels
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        for problem in _problems(self):
            raise DataError(f"image set '{self.name}': {problem}")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def n_classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)

    @property
    def height(self) -> int:
        """The height of every image, in pixels."""
        return int(self.images.shape[1])

    @property
    def width(self) -> int:
        """The width of every image, in pixels."""
        return int(self.images.shape[2])

    @property
    def channels(self) -> int:
        """1 for grayscale, 3 for RGB."""
        return int(self.images.shape[3])

    @cached_property
    def fingerprint(self) -> str:
        """The SHA-256, in hex, of shape, pixels, labels and class names; the set's name does not count."""
        digest = hashlib.sha256(f"{self.images.shape}".encode())
        for chunk in _chunks(self.images):  # a memory-mapped set is hashed without loading it whole
            digest.update(np.ascontiguousarray(chunk).data)
        digest.update(np.ascontiguousarray(self.labels, dtype="<i8").data)
        digest.update("\0".join(self.class_names).encode())
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Splits:
    """Train, val and test images of one dataset.

    `novel` True: no class is in two splits, as few-shot learning needs. False: every split has the same classes.

    Raises:
        DataError: the class names contradict `novel`, and the message names them; or images differ in shape.
    """

    name: str
    train: ImageSet
    val: ImageSet
    test: ImageSet
    novel: bool

    def __post_init__(self) -> None:
        _require_one_shape(self)
        names: dict[Split, tuple[str, ...]] = {split: self[split].class_names for split in SPLITS}
        if self.novel:
            require_disjoint(self.name, names)
        else:
            _require_same(self.name, names)

    def __getitem__(self, split: Split) -> ImageSet:
        return {"train": self.train, "val": self.val, "test": self.test}[split]


def checked_split(name: str) -> Split:
    """Return `name` as the name of a split.

    Raises:
        DataError: it is not train, val or test.
    """
    for split in SPLITS:
        if split == name:
            return split
    raise DataError(unknown("split", name, SPLITS))


def require_disjoint(name: str, classes: dict[Split, tuple[str, ...]]) -> None:
    """Check that no class is in two splits.

    Raises:
        DataError: one is; the message names the first five and counts them.
    """
    for first, second in itertools.combinations(classes, 2):
        shared = sorted(set(classes[first]) & set(classes[second]))
        if shared:
            raise DataError(
                f"'{name}': {_some(shared)} in both {first} and {second}; "
                "novel classes must not be seen in another split, so each class belongs to exactly one"
            )


def _require_one_shape(splits: Splits) -> None:
    shapes = {split: "x".join(str(side) for side in splits[split].images.shape[1:]) for split in SPLITS}
    if len(set(shapes.values())) > 1:
        described = ", ".join(f"{split} images {shape}" for split, shape in shapes.items())
        raise DataError(f"'{splits.name}': {described} (height x width x channels); --size N makes all of them N x N")


def _require_same(name: str, classes: dict[Split, tuple[str, ...]]) -> None:
    for split in SPLITS[1:]:
        odd = sorted(set(classes["train"]) ^ set(classes[split]))
        if odd:
            raise DataError(
                f"'{name}': {_some(odd)} in only one of train and {split}; a closed set has the same in each"
            )
        if classes[split] != classes["train"]:
            raise DataError(f"'{name}': train and {split} list the same classes in a different order")


def _problems(images: ImageSet) -> Iterator[str]:
    """Yield what is wrong with an image set; later checks rely on earlier ones, so only the first counts."""
    pixels, labels, names = images.images, images.labels, images.class_names
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] not in {1, 3}:
        yield f"images are {pixels.dtype} {pixels.shape}, not uint8 (n, height, width, 1 or 3)"
    if 0 in pixels.shape:
        yield f"there are no pixels in images of shape {pixels.shape}"
    if labels.dtype != np.int64 or labels.shape != pixels.shape[:1]:
        yield f"labels are {labels.dtype} {labels.shape}, not int64 ({len(pixels)},)"
    if len(set(names)) != len(names):
        yield "two classes have the same name"
    if labels.min() < 0 or labels.max() >= len(names):
        yield f"labels run from {labels.min()} to {labels.max()}, but there are {len(names)} classes"
    empty = np.flatnonzero(np.bincount(labels, minlength=len(names)) == 0)
    if len(empty):
        yield f"{_some([names[index] for index in empty])} without an image"


def _some(names: list[str]) -> str:
    more = ", ..." if len(names) > 5 else ""
    plural = "class" if len(names) == 1 else "classes"
    return f"{len(names)} {plural} ({', '.join(names[:5])}{more})"


def _chunks(images: Pixels, size: int = 1024) -> Iterator[Pixels]:
    for start in range(0, len(images), size):
        yield images[start : start + size]
