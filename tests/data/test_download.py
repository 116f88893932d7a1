"""Downloads that end early: named, in one line, with nothing half-way taken for the whole."""

from __future__ import annotations

import io
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from http.client import IncompleteRead
from pathlib import Path
from types import SimpleNamespace
from urllib.error import ContentTooShortError

import pytest

from edgekd.data import download
from edgekd.data.registry import DATASETS, Entry, download_dataset
from edgekd.errors import DataError


def packed(kind: str) -> bytes:
    """Return an archive with a file of noise in it, cut off in the middle."""
    content, noise = io.BytesIO(), bytes(range(256)) * 64
    if kind == "zip":
        with zipfile.ZipFile(content, "w") as archive:
            archive.writestr("images/one.bin", noise)
    else:
        with tarfile.open(fileobj=content, mode="w:gz") as tar:
            entry = tarfile.TarInfo("images/one.bin")
            entry.size = len(noise)
            tar.addfile(entry, io.BytesIO(noise))
    return content.getvalue()[: len(content.getvalue()) // 2]


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_an_archive_cut_off_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    source = tmp_path / f"pets.{kind}"
    source.write_bytes(packed(kind))
    monkeypatch.setenv("EDGEKD_DATA", str(tmp_path / "sets"))
    torchvision = pytest.importorskip("torchvision.datasets.utils")

    def unpack(_url: str, folder: str, md5: str) -> None:
        torchvision.extract_archive(str(source), folder)

    fake = SimpleNamespace(utils=SimpleNamespace(download_and_extract_archive=unpack))
    monkeypatch.setattr(download, "_torchvision_datasets", lambda: fake)
    entry = Entry("pets", "cats", DATASETS["folder"].read, download=download.archive_download("https://x/pets", "0"))
    monkeypatch.setitem(DATASETS, "pets", entry)
    with pytest.raises(DataError, match=r"cannot download https://x/pets: .+; run the same command again, it goes on"):
        download_dataset("pets", print)
    assert not (tmp_path / "sets" / "pets").exists()


def fails(error: Exception) -> Callable[[], object]:
    def download_it() -> object:
        raise error

    return download_it


@pytest.mark.parametrize(
    "error",
    [
        IncompleteRead(b"abc", 100),
        ContentTooShortError("retrieval incomplete: got only 3 out of 103 bytes", b"abc"),  # type: ignore[arg-type]
        ConnectionResetError(104, "Connection reset by peer"),
        RuntimeError("File not found or corrupted."),
        zlib.error("incomplete or truncated stream"),
        EOFError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_every_way_a_connection_can_end_is_the_users_to_fix(error: Exception) -> None:
    with pytest.raises(DataError, match=r"cannot download Pets: .+; run the same command again"):
        download._guarded("Pets", fails(error))


def test_a_mistake_of_the_program_is_not_hidden() -> None:
    with pytest.raises(TypeError):
        download._guarded("Pets", fails(TypeError("no such argument")))
