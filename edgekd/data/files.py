"""From classified image files to a dataset: decoded split by split, when asked, through the cache."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgekd.data.cache import Made, cached
from edgekd.data.decode import Files, decode
from edgekd.data.imageset import SPLITS, ImageSet, Labels, Split, require_disjoint
from edgekd.data.layout import Classes
from edgekd.data.partition import VAL_FRACTION, Indices, take_out
from edgekd.data.problems import settle
from edgekd.data.registry import Dataset
from edgekd.data.request import Request
from edgekd.data.source import Member, Source

DECODER_VERSION = 1  # raise it when the same file would give other pixels
DEFAULT_CHANNELS = 3


def dataset_of_files(source: Source, splits: Mapping[Split, Classes], novel: bool, request: Request) -> Dataset:
    """Return the dataset whose splits hold these classes.

    Raises:
        DataError: `novel`, and a class is in two splits; on loading, an image cannot be used.
    """
    if novel:
        require_disjoint(request.name, {split: tuple(splits[split]) for split in SPLITS})
    return Dataset(novel, lambda split: load_files(source, splits[split], f"{request.name}/{split}", request))


def load_files(source: Source, classes: Classes, name: str, request: Request) -> ImageSet:
    """Decode the files of one split, or find them decoded.

    Raises:
        DataError: an image cannot be used and the request does not say `skip_bad`.
    """
    members = [member for of_class in classes.values() for member in of_class]
    labels = _labels(classes)
    channels = request.channels or DEFAULT_CHANNELS

    def make() -> Made:
        request.notify(f"decoding {len(members):,} images of '{name}'")
        return decode(Files(source, members, labels), request.size, channels, request.notify)

    made = cached("images", _key(source, members, labels.tolist(), request.size, channels), make, request.notify)
    settle(name, made.problems, len(members), request)
    return ImageSet(name, made.images, made.labels, tuple(classes))


def with_val_from_train(train: Classes, seed: int) -> tuple[Classes, Classes]:
    """Take a tenth of each class's files out of train; returns what is left and what was taken.

    Raises:
        DataError: a class has a single image.
    """
    members = [member for of_class in train.values() for member in of_class]
    names = tuple(train)
    labels = _labels(train)

    def select(indices: Indices) -> Classes:
        chosen: dict[str, list[Member]] = {name: [] for name in names}
        for index in indices:
            chosen[names[labels[index]]].append(members[index])
        return {name: tuple(of_class) for name, of_class in chosen.items()}

    stay, taken = take_out(labels, names, VAL_FRACTION, seed)
    return select(stay), select(taken)


def _labels(classes: Classes) -> Labels:
    return np.repeat(np.arange(len(classes), dtype=np.int64), [len(members) for members in classes.values()])


def _key(
    source: Source, members: list[Member], labels: list[int], size: int | None, channels: int
) -> dict[str, object]:
    """Return everything that decides the decoded pixels; a changed file changes its size or its stamp."""
    import PIL

    return {
        "decoder": DECODER_VERSION,
        "pillow": PIL.__version__,
        "source": str(source.path.resolve()),
        "files": [(member.name, member.size_bytes, member.stamp) for member in members],
        "labels": labels,
        "size": size,
        "channels": channels,
    }
