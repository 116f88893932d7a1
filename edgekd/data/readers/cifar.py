"""CIFAR-10 as a closed set, CIFAR-100 as the few-shot set CIFAR-FS: binary files as published, or image folders."""

from __future__ import annotations

from edgekd.data.arrays import closed_dataset, novel_dataset
from edgekd.data.cifar import CIFAR10_CLASSES, CIFAR100_CLASSES, CIFAR_FS, find_binary, read_records
from edgekd.data.download import archive_download
from edgekd.data.files import dataset_of_files
from edgekd.data.folders import dataset_of_folders
from edgekd.data.layout import by_folder, join, pick
from edgekd.data.problems import settle
from edgekd.data.registry import Dataset, dataset
from edgekd.data.request import Request
from edgekd.data.source import open_source

SITE = "https://www.cs.toronto.edu/~kriz"
LICENCE = f"none stated; its authors ask for a citation ({SITE}/cifar.html)"
CIFAR10_FILES = (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin")
CIFAR100_FILES = ("train.bin", "test.bin")

download_cifar10 = archive_download(f"{SITE}/cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530")
download_cifar100 = archive_download(f"{SITE}/cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8")


@dataset(
    "cifar10", "photographs, 3x32x32, 10 classes, closed", download=download_cifar10, licence=LICENCE, images=60_000
)
def read_cifar10(request: Request) -> Dataset:
    """Read CIFAR-10: the same ten classes in train, val (a seeded tenth of the training images) and test.

    Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009, https://www.cs.toronto.edu/~kriz/

    Raises:
        DataError: damaged or missing files; pickles, which are never loaded.
    """
    files = find_binary(request.root, CIFAR10_FILES)
    if files is None:
        return dataset_of_folders(open_source(request.root), request)
    train, test = files[:-1], files[-1:]
    return closed_dataset(
        lambda: read_records(train, 1, 10), lambda: read_records(test, 1, 10), CIFAR10_CLASSES, request
    )


@dataset(
    "cifar100",
    "CIFAR-FS: photographs, 3x32x32, 64/16/20 novel classes of CIFAR-100",
    download=download_cifar100,
    licence=LICENCE,
    images=60_000,
)
def read_cifar100(request: Request) -> Dataset:
    """Read CIFAR-100 as CIFAR-FS: classes split 64/16/20 as published, each with its 600 training and test images.

    Source: Bertinetto, Henriques, Torr, Vedaldi, "Meta-learning with differentiable closed-form solvers", 2019,
    https://arxiv.org/abs/1805.08136

    Raises:
        DataError: damaged or missing files; pickles, which are never loaded; a class of CIFAR-FS without images.
    """
    files = find_binary(request.root, CIFAR100_FILES)  # each record has a superclass byte, then a class byte
    if files is not None:
        return novel_dataset(lambda: read_records(files, 2, 100), CIFAR100_CLASSES, CIFAR_FS, request)
    source = open_source(request.root)
    layout = by_folder(source)
    classes = join(layout.groups.values())
    total = sum(map(len, classes.values())) + len(layout.problems)
    settle(request.name, layout.problems, total, request)
    return dataset_of_files(source, pick(classes, CIFAR_FS), True, request)
