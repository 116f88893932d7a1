"""Omniglot: 1,623 handwritten characters of 50 alphabets, 20 drawings of each; 964 background and 659 evaluation ones.

Test has the evaluation characters. Val has a seeded fifth of the background alphabets, so that a character is novel in
its whole script; train has the rest. Ink is white on black. Rotations as further classes are not the reader's business.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgekd.data.arrays import image_set, of_classes, require_labels
from edgekd.data.download import torchvision_download
from edgekd.data.files import load_files
from edgekd.data.imageset import ImageSet, Split
from edgekd.data.layout import is_image
from edgekd.data.registry import Dataset, dataset
from edgekd.data.request import Request
from edgekd.data.source import Member, open_source
from edgekd.errors import DataError

SIZE = 28
VAL_FRACTION = 0.2
PARTS = ("background", "evaluation")


@dataset(
    "omniglot",
    "handwritten characters, 1x28x28, novel alphabets",
    download=torchvision_download("Omniglot"),
    licence="MIT (https://github.com/brendenlake/omniglot)",
    images=32_460,
)
def read_omniglot(request: Request) -> Dataset:
    """Read images_background and images_evaluation: both as .npz, as .zip or as ALPHABET/character/*.png folders.

    Source: Lake, Salakhutdinov, Tenenbaum, "Human-level concept learning through probabilistic program induction",
    Science 350, 2015, https://github.com/brendenlake/omniglot

    Raises:
        DataError: one of the two is missing or damaged.
    """
    shaped = replace(request, size=request.size or SIZE, channels=request.channels or 1)
    background, evaluation = (_find(request.root, f"images_{part}") for part in PARTS)

    def load(split: Split) -> ImageSet:
        path = evaluation if split == "test" else background
        read = _from_npz if path.suffix == ".npz" else _from_files
        return read(path, split, shaped)

    return Dataset(novel=True, load=load)


def val_classes(names: Sequence[str], seed: int) -> set[str]:
    """Return the classes of a seeded fifth of the alphabets of "alphabet/character" names.

    Names of one alphabet only (an .npz has none) are taken as a run instead, for neighbours share an alphabet: at most
    two alphabets are then cut.
    """
    rng = np.random.default_rng(seed)
    alphabets = sorted({name.rpartition("/")[0] for name in names})
    if len(alphabets) > 1:
        chosen = {
            alphabets[index] for index in rng.permutation(len(alphabets))[: round(VAL_FRACTION * len(alphabets)) or 1]
        }
        return {name for name in names if name.rpartition("/")[0] in chosen}
    length = round(VAL_FRACTION * len(names))
    start = int(rng.integers(len(names) - length + 1))
    return set(sorted(names)[start : start + length])


def _names_of(split: Split, names: Sequence[str], seed: int) -> list[str]:
    if split == "test":
        return list(names)
    taken = val_classes(names, seed)
    return [name for name in names if (name in taken) == (split == "val")]


def _from_npz(path: Path, split: Split, request: Request) -> ImageSet:
    images, labels = _read_npz(path)
    n_classes = int(labels.max(initial=-1)) + 1
    names = [f"{path.stem.removeprefix('images_')}/{label:04d}" for label in range(n_classes)]
    wanted = _names_of(split, names, request.seed)
    chosen, relabelled = of_classes(labels, [names.index(name) for name in wanted])
    paper = images[chosen].astype(np.uint8)[..., None] * np.uint8(255)
    return _inverted(image_set(f"{request.name}/{split}", paper, relabelled, wanted, request))


def _read_npz(path: Path) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Return drawings (n, height, width), True where the paper is blank, and their classes (n,)."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            images, labels = arrays["images"], arrays["labels"]
    except (OSError, ValueError, KeyError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} is damaged or has no arrays 'images' and 'labels': {error}") from error
    if images.dtype != np.bool_ or images.ndim < 3 or labels.size != np.prod(images.shape[:-2]) or not labels.size:
        raise DataError(
            f"{path}: images {images.dtype} {images.shape} and labels {labels.shape} do not belong together"
        )
    flat = labels.reshape(-1).astype(np.int64)
    require_labels(flat, flat.size, str(path))
    return images.reshape(-1, *images.shape[-2:]), flat


def _from_files(path: Path, split: Split, request: Request) -> ImageSet:
    source = open_source(path)
    characters: dict[str, list[Member]] = {}
    for member in filter(is_image, source.members):
        if len(member.parts) < 3 and path.suffix == ".zip":
            raise DataError(f"{path} holds {member.name}, which is not in an ALPHABET/character folder")
        characters.setdefault("/".join(member.parts[-3:-1]), []).append(member)
    if not characters:
        raise DataError(f"{path} holds no images in ALPHABET/character folders")
    wanted = _names_of(split, sorted(characters), request.seed)
    classes = {name: tuple(characters[name]) for name in wanted}
    return _inverted(load_files(source, classes, f"{request.name}/{split}", request))


def _inverted(paper: ImageSet) -> ImageSet:
    """Return white ink on black for black ink on white."""
    return replace(paper, images=255 - paper.images)


def _find(root: Path, stem: str) -> Path:
    """Return the .npz, folder or zip of one part, wherever below `root` it lies."""
    for name in (f"{stem}.npz", stem, f"{stem}.zip"):
        found = next(iter(sorted(root.rglob(name))), None)
        if found is not None:
            return found
    raise DataError(f"{root} has neither {stem}.npz, nor {stem}.zip, nor a folder {stem}")
