"""Images that are in two splits or in two classes: no test of what was learned, and no example of a class."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import combinations

import numpy as np

from edgekd.data.imageset import SPLITS, ImageSet, Splits


def shared_images(splits: Splits) -> Iterator[str]:
    """Yield a sentence on each pair of splits with equal images, and on each split with one in several classes."""
    rows = {split: _rows(splits[split]) for split in SPLITS}
    for split, found in rows.items():
        labels = splits[split].labels
        mixed = [group for group in found.values() if len({int(labels[row]) for row in group}) > 1]
        if mixed:
            names = sorted({_class_of(splits[split], row) for row in mixed[0]})
            some = "image is" if len(mixed) == 1 else "images are"
            yield f"{len(mixed):,} {some} in several classes of {split}, pixel for pixel, such as {', '.join(names)}"
    digests = {split: {digest: group[0] for digest, group in found.items()} for split, found in rows.items()}
    for first, second in combinations(SPLITS, 2):
        both = sorted(digests[first].keys() & digests[second].keys(), key=digests[second].__getitem__)
        if both:
            names = [_class_of(splits[split], digests[split][both[0]]) for split in (first, second)]
            some = f"image of {second} is" if len(both) == 1 else f"images of {second} are"
            yield (
                f"{len(both):,} {some} in {first} too, pixel for pixel, for example one of "
                f"'{names[0]}' in {first} that is '{names[1]}' in {second}: accuracy on them says nothing of new images"
            )


def _rows(images: ImageSet) -> dict[bytes, list[int]]:
    """Return the rows of each different image by its digest."""
    found: dict[bytes, list[int]] = {}
    for row, pixels in enumerate(images.images):
        found.setdefault(hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=16).digest(), []).append(row)
    return found


def _class_of(images: ImageSet, row: int) -> str:
    return images.class_names[int(images.labels[row])]
