"""How files stand for classes: `class/file`, perhaps below `train`, `val` and `test` folders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from edgekd.data.imageset import SPLITS, Split
from edgekd.data.problems import some
from edgekd.data.source import Member, Source
from edgekd.errors import DataError
from edgekd.text import counted

SPLIT_FOLDERS: dict[str, Split] = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip

IMAGE_SUFFIXES = (
    ".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tga", ".tif", ".tiff", ".webp",
)  # fmt: skip

Classes = Mapping[str, tuple[Member, ...]]  # class name -> its files


@dataclass(frozen=True)
class Layout:
    """The classes of each split folder, or of the whole source under the key None; problems as in `settle`.

    An image outside any class folder is a problem; other files there (a README, a table of splits) are not data.
    """

    groups: Mapping[Split | None, Classes]
    problems: tuple[str, ...] = ()


def by_folder(source: Source) -> Layout:
    """Sort a source's files into classes by the folders they lie in; folders below a class folder belong to the class.

    Raises:
        DataError: there are no class folders, or one is empty.
    """
    place = _Places.of(source)
    groups: dict[Split | None, dict[str, list[Member]]] = {}
    problems = []
    for member in source.members:
        split, rest = place(member.parts)
        if len(rest) >= 2:
            groups.setdefault(split, {}).setdefault(rest[0], []).append(member)
        elif is_image(member):
            problems.append(f"{member.name} (outside any class folder)")
    _refuse_empty(source, place, groups)
    if not groups:
        raise DataError(f"{source.path} has no class folders with files in them (class/file, or split/class/file)")
    return Layout({split: _frozen(classes) for split, classes in groups.items()}, tuple(problems))


def is_image(member: Member) -> bool:
    """Whether a file is named like an image."""
    return member.name.lower().endswith(IMAGE_SUFFIXES)


def join(groups: Iterable[Classes]) -> Classes:
    """Return the classes of several groups as one; a class in two of them gets the files of both."""
    joined: dict[str, tuple[Member, ...]] = {}
    for classes in groups:
        for name, members in classes.items():
            joined[name] = joined.get(name, ()) + members
    return {name: joined[name] for name in sorted(joined)}


def pick(classes: Classes, names: Mapping[Split, Iterable[str]]) -> dict[Split, Classes]:
    """Return the named classes of each split.

    Raises:
        DataError: a named class has no images.
    """
    missing = [name for split in SPLITS for name in names[split] if name not in classes]
    if missing:
        raise DataError(f"{counted(len(missing), 'class has', 'classes have')} no images: {some(missing)}")
    return {split: {name: classes[name] for name in sorted(names[split])} for split in SPLITS}


@dataclass(frozen=True)
class _Places:
    """How to read the paths of a source: `depth` folders around everything, then split folders or classes at once."""

    depth: int
    with_splits: bool

    @classmethod
    def of(cls, source: Source) -> _Places:
        """Judge by the images: "train" among other class names is a class (of CIFAR-100, say), not a split.

        Raises:
            DataError: several split folders lie beside folders that are none.
        """
        images = [member for member in source.members if is_image(member)]
        paths = [member.parts for member in images or source.members]
        first = paths[0][0] if paths else ""
        wrapped = all(len(parts) >= 3 and parts[0] == first for parts in paths) and not _is_split(first)
        depth = int(bool(paths) and wrapped)
        tops = {parts[depth] for parts in paths if len(parts) > depth + 1}
        named = sorted(filter(_is_split, tops))
        if len(named) >= 2 and len(named) < len(tops):
            others = sorted(tops.difference(named))
            raise DataError(
                f"{source.path} has split folders ({some(named)}) beside others with images ({some(others)})"
            )
        return cls(depth, bool(named) and len(named) == len(tops))

    def __call__(self, parts: tuple[str, ...]) -> tuple[Split | None, tuple[str, ...]]:
        """Return the split, None where there are no split folders, and the path from the class folder on."""
        rest = parts[self.depth :]
        if not self.with_splits:
            return None, rest
        return (SPLIT_FOLDERS[rest[0].lower()], rest[1:]) if rest and _is_split(rest[0]) else (None, ())


def _is_split(folder: str) -> bool:
    return folder.lower() in SPLIT_FOLDERS


def _refuse_empty(source: Source, place: _Places, groups: Mapping[Split | None, Mapping[str, object]]) -> None:
    empty = []
    for name in source.empty:
        split, rest = place(PurePosixPath(name).parts)
        if rest and rest[0] not in groups.get(split, {}):
            empty.append(name)
    if empty:
        found = counted(len(empty), "empty class folder", "empty class folders")
        raise DataError(f"{found} in {source.path}: {some(empty)}. Fill or remove what is empty")


def _frozen(classes: Mapping[str, list[Member]]) -> Classes:
    return {name: tuple(classes[name]) for name in sorted(classes)}
