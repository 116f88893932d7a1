"""Published class splits: splits.json, or the train.csv, val.csv and test.csv of Ravi and Larochelle."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgekd.data.imageset import SPLITS, Split, require_disjoint
from edgekd.data.layout import Classes
from edgekd.data.source import Member, Source
from edgekd.errors import DataError


@dataclass(frozen=True)
class Table:
    """Which classes each split has; `files` gives each class's file names where the table lists them.

    Raises:
        DataError: a class is in two splits.
    """

    path: str
    classes: Mapping[Split, tuple[str, ...]]
    files: Mapping[str, tuple[str, ...]]

    def __post_init__(self) -> None:
        require_disjoint(self.path, dict(self.classes))


def find_table(source: Source, root: Path) -> Table | None:
    """Return the table inside a source, or else beside the zip, or None; splits.json goes before CSV files.

    Raises:
        DataError: there is one, but it is malformed, incomplete or has a class in two splits.
    """
    text = find_text(source, root, "splits.json")
    if text is not None:
        return _from_json(*text)
    found = {split: find_text(source, root, f"{split}.csv") for split in SPLITS}
    texts = {split: named for split, named in found.items() if named is not None}
    if not texts:
        return None
    if len(texts) < len(SPLITS):
        missing = [f"{split}.csv" for split in SPLITS if split not in texts]
        raise DataError(
            f"{source.path} has {', '.join(f'{split}.csv' for split in texts)} but not {', '.join(missing)}"
        )
    return _from_csv(texts)


def listed(table: Table, source: Source) -> tuple[Classes, tuple[str, ...]] | None:
    """Return the files that a table lists, by class, and a problem for each that is not there; None if it lists none.

    A table whose file names occur nowhere (the images were renamed) lists none: it still says which class goes where.
    """
    there = {member.parts[-1]: member for member in source.members}
    found: dict[str, list[Member]] = {}
    problems = []
    for name, files in table.files.items():
        for file in files:
            if file in there:
                found.setdefault(name, []).append(there[file])
            else:
                problems.append(f"{file} (missing; {table.path} lists it)")
    return ({name: tuple(found[name]) for name in sorted(found)}, tuple(problems)) if found else None


def _from_json(path: str, text: str) -> Table:
    try:
        content = json.loads(text)
        classes: dict[Split, tuple[str, ...]] = {split: tuple(content[split]) for split in SPLITS}
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise DataError(f'{path} is not {{"train": [class, ...], "val": [...], "test": [...]}}: {error!r}') from error
    if not all(isinstance(name, str) for names in classes.values() for name in names):
        raise DataError(f"{path} holds something other than names of classes")
    return Table(path, classes, {})


def _from_csv(texts: Mapping[Split, tuple[str, str]]) -> Table:
    classes: dict[Split, tuple[str, ...]] = {}
    files: dict[str, list[str]] = {}
    for split, (path, text) in texts.items():
        rows = csv.DictReader(io.StringIO(text))
        if rows.fieldnames is None or not {"filename", "label"} <= set(rows.fieldnames):
            raise DataError(f"{path} does not start with the line 'filename,label'")
        pairs = [(row["filename"], row["label"]) for row in rows]  # None where a line is too short
        if not all(file and label for file, label in pairs):
            raise DataError(f"{path} has a line without a file name or without a label")
        classes[split] = tuple(sorted({label for _, label in pairs}))
        for file, label in pairs:
            files.setdefault(label, []).append(file)
    folder = Path(texts["train"][0]).parent
    return Table(f"{folder}/{{train,val,test}}.csv", classes, {name: tuple(names) for name, names in files.items()})


def find_text(source: Source, root: Path, name: str) -> tuple[str, str] | None:
    """Return where a table is, inside a source or beside it, and its text; None where there is none.

    Raises:
        DataError: it cannot be read.
    """
    inside = next((member for member in source.members if member.parts[-1] == name), None)
    beside = (root if root.is_dir() else root.parent) / name
    try:
        if inside is not None:
            return f"{source.path}/{inside.name}", source.read(inside).decode()
        return (str(beside), beside.read_text(encoding="utf-8")) if beside.is_file() else None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {name} of {source.path}: {error}") from error
