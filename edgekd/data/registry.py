"""Datasets by name: a reader registers itself, a spec such as "omniglot:PATH" finds it."""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

from edgekd.data.cache import cache_folder
from edgekd.data.imageset import SPLITS, ImageSet, Split, Splits, checked_split
from edgekd.data.leaks import shared_images
from edgekd.data.request import Notify, Options, Request
from edgekd.errors import DataError, StorageError, unknown


@dataclass(frozen=True)
class Dataset:
    """What a reader found: nothing is decoded until `load` is asked for a split."""

    novel: bool
    load: Callable[[Split], ImageSet]


Read = Callable[[Request], Dataset]
Download = Callable[[Path], None]


@dataclass(frozen=True)
class Entry:
    """A dataset that a spec can name.

    `download` fills a folder with the dataset's files; None where that must be done by hand. `licence` is that of the
    images, with its source. `images` is how many the whole set has, None where any number is whole.
    """

    name: str
    summary: str
    read: Read
    embedded: bool = False
    download: Download | None = None
    licence: str = "not known"
    images: int | None = None


DATASETS: dict[str, Entry] = {}


def dataset(
    name: str,
    summary: str,
    *,
    embedded: bool = False,
    download: Download | None = None,
    licence: str = Entry.licence,
    images: int | None = None,
) -> Callable[[Read], Read]:
    """Register the decorated reader under `name`."""

    def register(read: Read) -> Read:
        DATASETS[name] = Entry(name, summary, read, embedded, download, licence, images)
        return read

    return register


def discover() -> None:
    """Import every module of `edgekd.data.readers`, so that each registers its datasets."""
    package = importlib.import_module("edgekd.data.readers")
    for module in pkgutil.iter_modules(package.__path__, prefix=f"{package.__name__}."):
        importlib.import_module(module.name)


def load_splits(spec: str, **options: Unpack[Options]) -> Splits:
    """Return the train, val and test images of "NAME" or "NAME:PATH"; keywords as in `Options`.

    Raises:
        DataError: unknown name, missing path, damaged or contradictory files; the message names and counts them.
    """
    request = parse(spec, **options)
    entry = DATASETS[request.name]
    found = entry.read(request)
    splits = Splits(request.name, **_load_each(found), novel=found.novel)
    there = sum(len(splits[split]) for split in SPLITS)
    if entry.images is not None and there != entry.images:
        request.notify(
            f"{there:,} images of '{entry.name}' are there, and all of it has {entry.images:,}: "
            "figures on them are not comparable with those on all of it"
        )
    if entry.images is None and not entry.embedded:  # somebody's own
        for leak in shared_images(splits):
            request.notify(leak)
    return splits


def _load_each(found: Dataset) -> dict[Split, ImageSet]:
    """Return every split; bad images of one do not hide those of another."""
    images: dict[Split, ImageSet] = {}
    refused: dict[str, None] = {}
    for split in SPLITS:
        try:
            images[split] = found.load(split)
        except DataError as error:
            refused[str(error)] = None
    if refused:
        raise DataError("\n".join(refused))
    return images


def load_split(spec: str, split: str, **options: Unpack[Options]) -> ImageSet:
    """Return one split, equal to that of `load_splits`, without decoding the others.

    Raises:
        DataError: as `load_splits`, or `split` is not train, val or test.
    """
    wanted = checked_split(split)
    request = parse(spec, **options)
    return DATASETS[request.name].read(request).load(wanted)


def parse(spec: str, **options: Unpack[Options]) -> Request:
    """Return the request that `spec` and its options stand for, with the path that the images will be read from.

    Raises:
        DataError: unknown name, an impossible option, or nothing at the path.
    """
    name, colon, path = spec.partition(":")
    if name not in DATASETS:
        raise DataError(unknown("dataset", name, DATASETS))
    entry = DATASETS[name]
    if entry.embedded and colon:
        raise DataError(f"'{name}' is embedded and takes no path: write {name} alone")
    place = None if entry.embedded else _existing(entry, Path(path).expanduser() if path else None)
    return Request.of(name, place, options)


def data_folder() -> Path:
    """Return the folder that holds datasets by name: $EDGEKD_DATA, else `data` in the cache folder."""
    given = os.environ.get("EDGEKD_DATA")
    return Path(given).expanduser() if given else cache_folder() / "data"


def _existing(entry: Entry, path: Path | None) -> Path:
    if path is not None:
        if not path.exists():
            raise DataError(f"there is nothing at {path} (from '{entry.name}:{path}')")
        return path
    usual = data_folder() / entry.name
    if not usual.exists():
        raise DataError(f"'{entry.name}' is not at {usual}. {how_to_get(entry)}")
    return usual


def where(entry: Entry) -> str:
    """Return, in a few words, whether a dataset's files are at hand without naming a path."""
    if entry.embedded:
        return "built in"
    usual = data_folder() / entry.name
    if usual.exists():
        return str(usual)
    return f"{entry.name}:PATH, or --download" if entry.download else f"{entry.name}:PATH"


def download_dataset(spec: str, notify: Notify) -> None:
    """Download a dataset's files to where its name alone finds them; what is there already stays.

    A download that was broken off leaves a folder `.NAME.part`, which the next one goes on with.

    Raises:
        DataError: unknown name, a path in the spec, no download for this dataset, or the download failed.
        StorageError: the folder cannot be written.
    """
    name, colon, _ = spec.partition(":")
    if name not in DATASETS:
        raise DataError(unknown("dataset", name, DATASETS))
    entry, folder = DATASETS[name], data_folder() / name
    if colon or entry.download is None:
        raise DataError(f"'{spec}' cannot be downloaded: {'it names a path' if colon else how_to_get(entry)}")
    if folder.exists():
        notify(f"'{name}' is already at {folder}; remove that folder to download it again")
        return
    part = folder.with_name(f".{name}.part")
    try:
        part.mkdir(parents=True, exist_ok=True)
        entry.download(part)
        part.rename(folder)
    except OSError as error:
        raise StorageError(f"cannot write {folder}: {error.strerror or error}") from error


def how_to_get(entry: Entry) -> str:
    """Return the sentence that tells a user how to get a dataset's files."""
    by_path = f"{entry.name}:PATH"
    if entry.download is None:
        return f"Name the folder or zip that holds it: {by_path}"
    return f"Run `edgekd data prepare {entry.name} --download`, or name a folder that holds it: {by_path}"
