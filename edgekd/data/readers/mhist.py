"""MHIST: patches of colorectal polyps in two classes, listed in a table beside a folder of images."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping

from edgekd.data.files import dataset_of_files, with_val_from_train
from edgekd.data.layout import Classes
from edgekd.data.problems import settle
from edgekd.data.registry import Dataset, dataset
from edgekd.data.request import Request
from edgekd.data.source import Member, Source, open_source
from edgekd.data.tables import find_text
from edgekd.errors import DataError, unknown

TABLE = "annotations.csv"
IMAGE, LABEL, PARTITION = "Image Name", "Majority Vote Label", "Partition"
CLASSES = ("HP", "SSA")  # hyperplastic polyp, sessile serrated adenoma
PARTITIONS = ("train", "test")

Rows = Mapping[tuple[str, str], tuple[str, ...]]  # partition and class -> file names


@dataset(
    "mhist",
    "histology of polyps, 3x224x224, 2 classes, closed: annotations.csv and images",
    licence="a research use agreement (https://bmirds.github.io/MHIST)",
    images=3_152,
)
def read_mhist(request: Request) -> Dataset:
    """Read annotations.csv and the images that it lists, wherever they lie, or in a zip beside it.

    The same two classes are in train and test; val is a seeded tenth of each class's training images. The label is that
    of most annotators; how many of the seven agreed is not read.

    Source: J. Wei et al., A Petri Dish for Histopathology Image Analysis, AIME 2021, https://arxiv.org/abs/2101.12355,
    https://bmirds.github.io/MHIST

    Raises:
        DataError: no table, a column is missing, an unknown label or partition, an image twice or missing.
    """
    source = open_source(request.root)
    found = find_text(source, request.root, TABLE)
    if found is None:
        raise DataError(f"{source.path} has no {TABLE}; put the one that comes with MHIST beside the images")
    train, test = _classes(_rows(*found), source, request)
    stay, taken = with_val_from_train(train, request.seed)
    return dataset_of_files(source, {"train": stay, "val": taken, "test": test}, False, request)


def _rows(path: str, text: str) -> Rows:
    """Return the file names of each partition and class."""
    lines = csv.DictReader(io.StringIO(text.removeprefix("\N{BYTE ORDER MARK}")))
    missing = [name for name in (IMAGE, LABEL, PARTITION) if name not in (lines.fieldnames or ())]
    if missing:
        raise DataError(f"{path} has no column '{missing[0]}'; its columns are {', '.join(lines.fieldnames or ())}")
    rows: dict[tuple[str, str], list[str]] = {(part, label): [] for part in PARTITIONS for label in CLASSES}
    seen: set[str] = set()
    for line in lines:
        where = f"{path}, line {lines.line_num}"
        key, file = (_one_of(line, PARTITION, PARTITIONS, where), _one_of(line, LABEL, CLASSES, where)), line[IMAGE]
        if not file or file in seen:
            raise DataError(f"{where}: {f'{file} is listed twice' if file else 'no image is named'}")
        seen.add(file)
        rows[key].append(file)
    empty = [f"{label} in {part}" for (part, label), files in rows.items() if not files]
    if empty:
        raise DataError(f"{path} lists no images of {', '.join(empty)}")
    return {key: tuple(files) for key, files in rows.items()}


def _one_of(line: Mapping[str, str | None], column: str, legal: tuple[str, ...], where: str) -> str:
    value = line[column] or ""
    if value not in legal:
        raise DataError(f"{where}: {unknown(column.lower(), value, legal)}")
    return value


def _classes(rows: Rows, source: Source, request: Request) -> tuple[Classes, Classes]:
    """Return the classes of train and of test."""
    there = {member.parts[-1]: member for member in source.members}
    listed = [file for files in rows.values() for file in files]
    missing = [f"{file} (missing; {TABLE} lists it)" for file in listed if file not in there]
    settle(request.name, missing, len(listed), request)
    train, test = ({label: _present(rows[part, label], there) for label in CLASSES} for part in PARTITIONS)
    return train, test


def _present(files: tuple[str, ...], there: Mapping[str, Member]) -> tuple[Member, ...]:
    return tuple(there[file] for file in files if file in there)
