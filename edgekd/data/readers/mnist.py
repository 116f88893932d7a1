"""MNIST and Fashion-MNIST: IDX files as published, or image folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgekd.data.arrays import closed_dataset, require_labels
from edgekd.data.download import torchvision_download
from edgekd.data.folders import dataset_of_folders
from edgekd.data.idx import read_idx
from edgekd.data.imageset import Labels, Pixels
from edgekd.data.partition import take_out
from edgekd.data.registry import Dataset, dataset
from edgekd.data.request import Request
from edgekd.data.source import open_source
from edgekd.errors import DataError

DIGITS = tuple(str(digit) for digit in range(10))
CLOTHES = ("T-shirt-top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle-boot")

TEST_FRACTION = 0.2  # of the 10,000 published test images, where they are all there is

Pair = tuple[Path, Path]  # the files of images and of labels


@dataset(
    "mnist",
    "handwritten digits, 1x28x28, 10 classes, closed",
    download=torchvision_download("MNIST"),
    licence="CC BY-SA 3.0, by what its mirrors say (https://keras.io/api/datasets/mnist)",
    images=70_000,
)
def read_mnist(request: Request) -> Dataset:
    """Read LeCun's handwritten digits.

    Source: LeCun, Cortes, Burges, "The MNIST database of handwritten digits", 1998, http://yann.lecun.com/exdb/mnist/

    Raises:
        DataError: as `read_idx`, or a file is missing.
    """
    return _read(request, DIGITS)


@dataset(
    "fashion-mnist",
    "articles of clothing, 1x28x28, 10 classes, closed",
    download=torchvision_download("FashionMNIST"),
    licence="MIT (https://github.com/zalandoresearch/fashion-mnist)",
    images=70_000,
)
def read_fashion_mnist(request: Request) -> Dataset:
    """Read Zalando's articles of clothing.

    Source: Xiao, Rasul, Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms",
    2017, https://arxiv.org/abs/1708.07747

    Raises:
        DataError: as `read_idx`, or a file is missing.
    """
    return _read(request, CLOTHES)


def _read(request: Request, names: tuple[str, ...]) -> Dataset:
    train, test = _find(request.root, "train"), _find(request.root, "t10k")
    if train and test:
        return closed_dataset(lambda: _load(train, names), lambda: _load(test, names), names, request)
    if test:
        return _from_test_only(test, names, request)
    if train:
        raise DataError(f"{request.root} has the training images but not t10k-images-idx3-ubyte")
    return dataset_of_folders(open_source(request.root), request)


def _from_test_only(test: Pair, names: tuple[str, ...], request: Request) -> Dataset:
    """Split the published test images into three, where the training images are absent."""
    images, labels = _load(test, names)
    stay, taken = take_out(labels, names, TEST_FRACTION, request.seed)
    request.notify(
        f"'{request.name}' has only its {len(labels):,} test images: {len(taken):,} of them stay test, the others "
        "become train and val. Accuracies are not those of the benchmark"
    )
    return closed_dataset(lambda: (images[stay], labels[stay]), lambda: (images[taken], labels[taken]), names, request)


def _find(root: Path, prefix: str) -> Pair | None:
    """Return the two files of a split, wherever below `root` they lie, plain rather than gzipped."""
    names = (f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte")
    found = [next((path for end in ("", ".gz") for path in sorted(root.rglob(name + end))), None) for name in names]
    images, labels = found
    if (images is None) != (labels is None):
        raise DataError(f"{root} has {(images or labels)} but not the file that belongs to it ({' and '.join(names)})")
    return (images, labels) if images and labels else None


def _load(pair: Pair, names: tuple[str, ...]) -> tuple[Pixels, Labels]:
    images, labels = read_idx(pair[0], 3), read_idx(pair[1], 1).astype(np.int64)
    if len(images) != len(labels):
        raise DataError(f"{pair[0]} has {len(images):,} images, but {pair[1].name} has {len(labels):,} labels")
    require_labels(labels, len(names), str(pair[1]))
    return images[..., None], labels
