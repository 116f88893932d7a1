"""Anyone's images: folders, or a zip, of class folders."""

from __future__ import annotations

from edgekd.data.folders import dataset_of_folders
from edgekd.data.registry import Dataset, dataset
from edgekd.data.request import Request
from edgekd.data.source import open_source


@dataset(
    "folder",
    "your images: train/[val/]test of class folders, or class folders; a folder or a zip",
    licence="whatever its owner says",
)
def read_folder(request: Request) -> Dataset:
    """Read class folders of JPEG, PNG, BMP, WebP or any other format that PIL decodes.

    Raises:
        DataError: as `dataset_of_folders`.
    """
    return dataset_of_folders(open_source(request.root), request)
