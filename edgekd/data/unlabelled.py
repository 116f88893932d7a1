"""Images without labels: any folder or zip of them, whatever its layout, or the training images of a known set."""

from __future__ import annotations

import dataclasses
from typing import Unpack

import numpy as np

from edgekd.data.files import load_files
from edgekd.data.imageset import ImageSet
from edgekd.data.layout import is_image
from edgekd.data.registry import DATASETS, parse
from edgekd.data.request import Options, Request
from edgekd.data.source import open_source
from edgekd.errors import DataError

NO_LABEL = "unlabelled"


def load_unlabelled(spec: str, **options: Unpack[Options]) -> ImageSet:
    """Return the images of "folder:PATH", at any depth, or the training images of another set, as one class.

    Raises:
        DataError: unknown name, missing path, no images there, or some that cannot be used.
    """
    request = parse(spec, **options)
    if request.name == "folder":
        return _of_files(request)
    train = DATASETS[request.name].read(request).load("train")
    labels = np.zeros(len(train), np.int64)
    return dataclasses.replace(train, name=f"{request.name}/{NO_LABEL}", labels=labels, class_names=(NO_LABEL,))


def _of_files(request: Request) -> ImageSet:
    source = open_source(request.root)
    members = tuple(member for member in source.members if is_image(member))
    if not members:
        raise DataError(f"there are no images in {source.path}")
    return load_files(source, {NO_LABEL: members}, f"{request.name}/{NO_LABEL}", request)
