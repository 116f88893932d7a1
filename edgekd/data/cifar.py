"""The binary version of CIFAR-10 and CIFAR-100: records of label bytes and 3x32x32 pixels; and CIFAR-FS's classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgekd.data.arrays import require_labels
from edgekd.data.imageset import Labels, Pixels, Split
from edgekd.errors import DataError

PIXEL_BYTES = 3 * 32 * 32

CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip

_CIFAR_FS: dict[Split, str] = {
    "train": """
        apple aquarium_fish bear bee bottle bowl boy bridge bus can castle caterpillar chair clock cloud
        cockroach couch cup dinosaur dolphin elephant forest girl hamster house kangaroo keyboard lawn_mower
        lion lizard lobster mountain mouse mushroom oak_tree orange orchid palm_tree pear pine_tree plate
        porcupine possum rabbit raccoon ray road seal shrew skunk skyscraper snake spider squirrel streetcar
        sunflower tank tiger train trout tulip turtle willow_tree wolf""",
    "val": """
        beaver beetle butterfly camel cattle crab crocodile flatfish lamp maple_tree motorcycle otter sea
        shark television tractor""",
    "test": """
        baby bed bicycle chimpanzee fox leopard man pickup_truck plain poppy rocket rose snail sweet_pepper
        table telephone wardrobe whale woman worm""",
}

# Bertinetto, Henriques, Torr, Vedaldi, "Meta-learning with differentiable closed-form solvers", 2019,
# https://arxiv.org/abs/1805.08136: the classes of CIFAR-FS.
CIFAR_FS: dict[Split, tuple[str, ...]] = {split: tuple(names.split()) for split, names in _CIFAR_FS.items()}

CIFAR100_CLASSES = tuple(sorted(name for names in CIFAR_FS.values() for name in names))  # the official order


def read_records(paths: Sequence[Path], label_bytes: int, n_classes: int) -> tuple[Pixels, Labels]:
    """Return the images (n, 32, 32, 3) and labels (n,) of binary files; the last label byte is the class.

    Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009,
    https://www.cs.toronto.edu/~kriz/cifar.html

    Raises:
        DataError: a file is missing, empty or cut short, or has labels that do not exist.
    """
    records = np.concatenate([_records(path, label_bytes + PIXEL_BYTES) for path in paths])
    labels = records[:, label_bytes - 1].astype(np.int64)
    require_labels(labels, n_classes, str(paths[0].parent))
    planes = records[:, label_bytes:].reshape(-1, 3, 32, 32)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels


def find_binary(root: Path, names: Sequence[str]) -> list[Path] | None:
    """Return the binary files, wherever below `root` they lie together; None where the first is not there.

    Raises:
        DataError: some of them are missing, or there are only pickles.
    """
    first = next(iter(sorted(root.rglob(names[0]))), None) if root.is_dir() else None
    if first is None:
        _refuse_pickles(root)
        return None
    paths = [first.with_name(name) for name in names]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise DataError(f"{first.parent} lacks {', '.join(missing)}")
    return paths


def _refuse_pickles(root: Path) -> None:
    names = {path.name for path in root.rglob("cifar-10*-*")} | {root.name}
    pickled = sorted(name for name in names if name.startswith(("cifar-10-batches-py", "cifar-100-python")))
    if pickled or root.name.endswith("-python.tar.gz"):
        version = "cifar-100" if "100" in (pickled or [root.name])[0] else "cifar-10"
        raise DataError(
            f"{root} holds the Python version of CIFAR, whose files are pickles. A pickle can run any code, so edgekd "
            f"never loads one. Take {version}-binary.tar.gz from https://www.cs.toronto.edu/~kriz/cifar.html instead "
            f"(`edgekd data prepare {version.replace('-', '')} --download` does), or folders of images"
        )


def _records(path: Path, record_bytes: int) -> Pixels:
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    if not data.size or data.size % record_bytes:
        raise DataError(f"{path} is damaged: {data.size:,} bytes are not a whole number of {record_bytes}-byte records")
    return data.reshape(-1, record_bytes)
