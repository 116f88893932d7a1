"""Where image files lie: a folder or a zip, listed and read alike; nothing is ever extracted."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from edgekd.errors import DataError

MAX_FILE_BYTES = 256 * 2**20  # no image of a dataset is larger; a file that claims more is refused

PACKED = frozenset({".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar", ".tar"})  # archives that are not read

JUNK = frozenset({"Thumbs.db", "desktop.ini", "__MACOSX"})  # written by operating systems, no one's data


@dataclass(frozen=True)
class Member:
    """One file of a source: its name with forward slashes, and what changes when its content does.

    `stamp` is the time of the last change in ns since 1970 in a folder, and the CRC-32 in a zip.
    """

    name: str
    size_bytes: int
    stamp: int

    @property
    def parts(self) -> tuple[str, ...]:
        """The folders and the file name."""
        return PurePosixPath(self.name).parts


@dataclass(frozen=True)
class Source:
    """Files sorted by name, without hidden ones; `empty` names the folders that hold nothing at all.

    `fetch` returns a file's bytes, from any thread, and raises OSError where it cannot.
    """

    path: Path
    members: tuple[Member, ...]
    empty: tuple[str, ...]
    fetch: Callable[[str], bytes]

    def read(self, member: Member) -> bytes:
        """Return the content of a file.

        Raises:
            OSError: it is gone, damaged, encrypted or larger than any image.
        """
        if member.size_bytes > MAX_FILE_BYTES:
            raise OSError(f"{member.size_bytes:,} bytes, refused")
        return self.fetch(member.name)


def open_source(path: Path) -> Source:
    """Return the files of a folder or a zip; a folder with no other folder and one zip stands for that zip.

    Raises:
        DataError: nothing is there, or it is neither a folder nor a zip, or it cannot be listed.
    """
    if path.is_dir():
        only = _only_zip(path)
        return open_zip(only) if only else open_folder(path)
    if not path.exists():
        raise DataError(f"there is nothing at {path}")
    if zipfile.is_zipfile(path) or path.suffix.lower() == ".zip":
        return open_zip(path)
    packed = "; unpack it and name the folder" if path.suffix.lower() in PACKED else ""
    raise DataError(f"{path} is neither a folder nor a zip file{packed}")


def open_folder(path: Path) -> Source:
    """List the files below a folder, and below those it links to.

    Raises:
        DataError: a folder cannot be read, or links to one that it lies in.
    """
    members, empty = [], []
    for place, folders, files in os.walk(path, onerror=_cannot_list, followlinks=True):
        folders[:] = [name for name in folders if _counts([name])]
        _refuse_loops(Path(place), folders)
        kept = [Path(place, name) for name in files if _counts([name])]
        members += [_member(file, file.relative_to(path).as_posix()) for file in kept]
        if not folders and not kept:
            empty.append(Path(place).relative_to(path).as_posix())
    return Source(path, _sorted(members), tuple(sorted(empty)), lambda name: _read_file(path / name))


def open_zip(path: Path) -> Source:
    """List the files of a zip.

    Raises:
        DataError: it is damaged, or holds a name that would leave the folder it is unpacked in.
    """
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise DataError(f"{path} is not a readable zip file: {error}") from error
    entries = [info for info in archive.infolist() if _counts(info.filename.split("/"))]
    for info in entries:
        if info.filename.startswith("/") or "\\" in info.filename or ".." in info.filename.split("/"):
            raise DataError(f"{path} holds the unsafe name '{info.filename}'; no honest archive does")
    members = [Member(info.filename, info.file_size, info.CRC) for info in entries if not info.is_dir()]
    parents = {str(parent) for info in entries for parent in PurePosixPath(info.filename).parents}
    empty = sorted(info.filename.rstrip("/") for info in entries if info.is_dir())
    barren = tuple(name for name in empty if name not in parents)
    return Source(path, _sorted(members), barren, lambda name: _read_entry(archive, name))


def _read_file(path: Path) -> bytes:
    if path.exists() and not path.is_file():
        raise OSError("not a regular file")  # reading a pipe would wait for ever
    return path.read_bytes()


def _read_entry(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        return archive.read(name)
    except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError) as error:
        raise OSError(f"damaged inside the zip: {error}") from error


def _member(file: Path, name: str) -> Member:
    try:
        status = file.stat()
    except OSError:  # a link to nothing, say; reading it will tell
        return Member(name, 0, 0)
    return Member(name, status.st_size, status.st_mtime_ns)


def _only_zip(folder: Path) -> Path | None:
    entries = [entry for entry in folder.iterdir() if _counts([entry.name])]
    zips = [entry for entry in entries if entry.suffix.lower() == ".zip"]
    return zips[0] if len(zips) == 1 and not any(entry.is_dir() for entry in entries) else None


def _sorted(members: Iterable[Member]) -> tuple[Member, ...]:
    return tuple(sorted(members, key=lambda member: member.name))


def _counts(parts: Iterable[str]) -> bool:
    """Whether no part of a path is hidden or an operating system's leftover; '..' is left for the check of names."""
    return not any((part.startswith(".") and part != "..") or part in JUNK for part in parts)


def _refuse_loops(place: Path, folders: Iterable[str]) -> None:
    for folder in folders:
        if place.resolve().is_relative_to((place / folder).resolve()):
            raise DataError(f"{place / folder} links to a folder that it lies in")


def _cannot_list(error: OSError) -> None:
    raise DataError(f"cannot list {error.filename}: {error.strerror}") from error
