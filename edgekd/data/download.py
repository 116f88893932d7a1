"""Downloads through torchvision, which knows where datasets live and what their checksums are."""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable
from functools import partial
from http.client import HTTPException
from pathlib import Path
from tarfile import TarError
from types import ModuleType
from zipfile import BadZipFile

from edgekd.errors import DataError

Fill = Callable[[Path], None]

# No connection, one that ended early, a checksum that is not the file's, an archive cut off.
_BROKEN_OFF = (OSError, RuntimeError, HTTPException, BadZipFile, TarError, EOFError, zlib.error)


def torchvision_download(dataset: str) -> Fill:
    """Return a function that downloads torchvision's `dataset` (a class name) into a folder."""

    def fill(folder: Path) -> None:
        reader = getattr(_torchvision_datasets(), dataset)
        parts = ({"background": True}, {"background": False}) if dataset == "Omniglot" else ({"train": True},)
        for part in parts:
            _guarded(dataset, partial(reader, str(folder), download=True, **part))

    return fill


def archive_download(url: str, md5: str) -> Fill:
    """Return a function that downloads and unpacks one archive, checked by its MD5, into a folder."""

    def fill(folder: Path) -> None:
        unpack = _torchvision_datasets().utils.download_and_extract_archive
        _guarded(url, partial(unpack, url, str(folder), md5=md5))

    return fill


def _torchvision_datasets() -> ModuleType:
    try:
        return importlib.import_module("torchvision.datasets")
    except ImportError as error:
        raise DataError("downloads need torchvision: pip install 'edgekd[train]'") from error


def _guarded(what: str, download: Callable[[], object]) -> None:
    try:
        download()
    except _BROKEN_OFF as error:
        reason = str(error) or type(error).__name__
        raise DataError(f"cannot download {what}: {reason}; run the same command again, it goes on") from error
