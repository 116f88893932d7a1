"""Downloads through torchvision, which knows where datasets live and what their checksums are."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType

from edgekd.errors import DataError

Fill = Callable[[Path], None]


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
    except (OSError, RuntimeError) as error:
        raise DataError(f"cannot download {what}: {error}") from error
