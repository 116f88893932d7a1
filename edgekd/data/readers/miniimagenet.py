"""miniImageNet: 100 ImageNet classes, split 64/16/20, images of 84x84 pixels."""

from __future__ import annotations

from dataclasses import replace

from edgekd.data.files import dataset_of_files
from edgekd.data.folders import dataset_of_folders
from edgekd.data.imageset import SPLITS
from edgekd.data.layout import Classes, by_folder, join, pick
from edgekd.data.problems import settle, some
from edgekd.data.registry import Dataset, dataset
from edgekd.data.request import Request
from edgekd.data.source import Source, open_source
from edgekd.data.tables import Table, find_table, listed
from edgekd.errors import DataError
from edgekd.text import counted

SIZE = 84


@dataset(
    "miniimagenet",
    "photographs, 3x84x84, 64/16/20 novel classes of ImageNet",
    licence="ImageNet's terms: non-commercial research and education, each image its owner's "
    "(https://www.image-net.org/download.php)",
    images=60_000,
)
def read_miniimagenet(request: Request) -> Dataset:
    """Read a folder or zip of split/class/file, or of class/file with a table of the split in it or beside the zip.

    The table is splits.json or the three CSV files of Ravi and Larochelle. With a table, split folders do not count:
    train/CLASS and val/CLASS of one class are joined, as the common 500 + 100 images archive needs.

    Source: Vinyals, Blundell, Lillicrap, Kavukcuoglu, Wierstra, "Matching Networks for One Shot Learning", 2016,
    https://arxiv.org/abs/1606.04080; split: Ravi, Larochelle, "Optimization as a Model for Few-Shot Learning", 2017,
    https://openreview.net/forum?id=rJY0-Kcll

    Raises:
        DataError: no table where one is needed, one that does not fit the images, or images that cannot be used.
    """
    shaped = replace(request, size=request.size or SIZE)
    source = open_source(request.root)
    table = find_table(source, request.root)
    if table is not None:
        classes = _classes(table, source, shaped)
        return dataset_of_files(source, pick(classes, table.classes), True, shaped)
    missing = [split for split in SPLITS if split not in by_folder(source).groups]
    if missing:
        raise DataError(
            f"{source.path} has no {some(missing)} folder of class folders, and neither splits.json nor train.csv, "
            "val.csv and test.csv say which class belongs to which split; put one of them beside the images"
        )
    return dataset_of_folders(source, shaped)


def _classes(table: Table, source: Source, request: Request) -> Classes:
    """Return the files of every class in the table."""
    by_name = listed(table, source)
    if by_name is not None:
        classes, problems = by_name
        settle(request.name, problems, sum(map(len, table.files.values())), request)
        return classes
    layout = by_folder(source)
    joined = join(layout.groups.values())
    settle(request.name, layout.problems, sum(map(len, joined.values())) + len(layout.problems), request)
    known = {name for split in SPLITS for name in table.classes[split]}
    others = sorted(set(joined) - known)
    if others:
        found = counted(len(others), "class is", "classes are")
        request.notify(f"{found} not in {table.path} and left out: {some(others)}")
    return joined
