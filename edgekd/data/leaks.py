"""Images that are in two splits: what was trained on is no test of what was learned."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import combinations

import numpy as np

from edgekd.data.imageset import SPLITS, ImageSet, Splits


def shared_images(splits: Splits) -> Iterator[str]:
    """Yield, for each pair of splits with equal images, a sentence that counts them and names the classes of one."""
    digests = {split: _digests(splits[split]) for split in SPLITS}
    for first, second in combinations(SPLITS, 2):
        both = sorted(digests[first].keys() & digests[second].keys(), key=digests[second].__getitem__)
        if both:
            names = [_class_of(splits[split], digests[split][both[0]]) for split in (first, second)]
            yield (
                f"{len(both):,} of the images of {second} are in {first} too, pixel for pixel, for example one of "
                f"'{names[0]}' in {first} that is '{names[1]}' in {second}: accuracy on them says nothing of new images"
            )


def _digests(images: ImageSet) -> dict[bytes, int]:
    """Return the first row of each different image by its digest."""
    found: dict[bytes, int] = {}
    for row, pixels in enumerate(images.images):
        found.setdefault(hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=16).digest(), row)
    return found


def _class_of(images: ImageSet, row: int) -> str:
    return images.class_names[int(images.labels[row])]
