from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from edgekd.data.source import Member, open_source
from edgekd.errors import DataError

Pack = Callable[[Path, Path], Path]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "images"
    for name in ("b/2.png", "a/1.png", "a/.hidden", ".git/config", "__MACOSX/a/1.png", "a/Thumbs.db"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / "c").mkdir()
    return root


def test_a_folder_and_its_zip_list_and_read_alike(folder: Path, tmp_path: Path, zip_folder: Pack) -> None:
    for source in (open_source(folder), open_source(zip_folder(folder, tmp_path / "images.zip"))):
        assert [member.name for member in source.members] == ["a/1.png", "b/2.png"]
        assert [source.read(member) for member in source.members] == [b"a/1.png", b"b/2.png"]
        assert source.empty == ("c",)


def test_a_folder_with_only_a_zip_stands_for_it(folder: Path, tmp_path: Path, zip_folder: Pack) -> None:
    place = tmp_path / "download"
    place.mkdir()
    zip_folder(folder, place / "images.zip")
    (place / "splits.json").write_text("{}")
    assert open_source(place).path == place / "images.zip"


def test_what_is_not_there_or_neither_folder_nor_zip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "a.zip").write_text("text")
    (tmp_path / "a.tar.gz").write_text("text")
    for name, message in (
        ("b", "nothing at"),
        ("a.txt", "neither a folder nor a zip file$"),
        ("a.tar.gz", "neither a folder nor a zip file; unpack it and name the folder$"),
        ("a.zip", "not a readable zip"),
    ):
        with pytest.raises(DataError, match=message):
            open_source(tmp_path / name)


def test_a_zip_cut_short_is_refused(folder: Path, tmp_path: Path, zip_folder: Pack) -> None:
    path = zip_folder(folder, tmp_path / "images.zip")
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match="not a readable zip"):
        open_source(path)


@pytest.mark.parametrize("name", ["../evil.png", "/etc/evil.png", "a/../../evil.png", "a\\evil.png"])
def test_names_that_would_leave_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(name, "x")
    with pytest.raises(DataError, match="unsafe name"):
        open_source(tmp_path / "a.zip")


def test_a_damaged_entry_is_an_os_error(folder: Path, tmp_path: Path, zip_folder: Pack) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/1.png", b"content")
    path.write_bytes(path.read_bytes().replace(b"content", b"CONTENT"))
    source = open_source(path)
    with pytest.raises(OSError, match="damaged inside the zip"):
        source.read(source.members[0])


def test_a_file_that_claims_to_be_huge_is_not_read(folder: Path) -> None:
    with pytest.raises(OSError, match="refused"):
        open_source(folder).read(Member("a/1.png", 2**40, 0))


def test_a_link_to_nothing_is_listed_and_fails_on_reading(folder: Path) -> None:
    (folder / "a" / "dead.png").symlink_to(folder / "nowhere.png")
    source = open_source(folder)
    dead = next(member for member in source.members if member.name == "a/dead.png")
    with pytest.raises(FileNotFoundError):
        source.read(dead)


def test_linked_folders_are_followed_but_not_in_circles(folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "3.png").write_text("linked")
    (folder / "d").symlink_to(elsewhere)
    source = open_source(folder)
    assert source.read(source.members[-1]) == b"linked"
    assert source.members[-1].name == "d/3.png"
    (folder / "a" / "up").symlink_to(folder)
    with pytest.raises(DataError, match="links to a folder that it lies in"):
        open_source(folder)


def test_a_pipe_is_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "a" / "pipe.png")
    source = open_source(folder)
    pipe = next(member for member in source.members if member.name == "a/pipe.png")
    with pytest.raises(OSError, match="not a regular file"):
        source.read(pipe)
