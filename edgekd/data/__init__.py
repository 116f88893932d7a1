"""Image sets as uint8 arrays: the embedded set, readers for real ones, splits and the one preprocessing."""

from __future__ import annotations

from edgekd.data.imageset import SPLITS, ImageSet, Split, Splits
from edgekd.data.registry import DATASETS, discover, load_split, load_splits
from edgekd.data.turned import with_turned_classes
from edgekd.data.unlabelled import load_unlabelled

__all__ = [
    "DATASETS",
    "SPLITS",
    "ImageSet",
    "Split",
    "Splits",
    "load_split",
    "load_splits",
    "load_unlabelled",
    "with_turned_classes",
]

discover()
