"""Image folders as a dataset: split folders of class folders, or class folders to be split."""

from __future__ import annotations

from collections.abc import Mapping

from edgekd.data.files import dataset_of_files, with_val_from_train
from edgekd.data.imageset import SPLITS, Split
from edgekd.data.layout import Classes, by_folder, pick
from edgekd.data.partition import VAL_FRACTION, split_classes
from edgekd.data.problems import settle, some
from edgekd.data.registry import Dataset
from edgekd.data.request import Request
from edgekd.data.source import Source
from edgekd.errors import DataError


def dataset_of_folders(source: Source, request: Request) -> Dataset:
    """Read train, test and perhaps val folders of class folders; or plain class folders, split by class at random.

    Equal classes in train and test make a closed set, different ones a few-shot set. Where val is missing a closed set
    takes a tenth of each class's training images, and a few-shot set a sixth of the training classes.

    Raises:
        DataError: train or test is missing, or some classes are in both and some are not.
    """
    layout = by_folder(source)
    total = sum(len(members) for classes in layout.groups.values() for members in classes.values())
    settle(request.name, layout.problems, total + len(layout.problems), request)
    groups = {split: classes for split, classes in layout.groups.items() if split is not None}
    if not groups:
        plain = layout.groups[None]
        return dataset_of_files(source, pick(plain, split_classes(list(plain), request.seed)), True, request)
    missing = sorted({"train", "test"} - set(groups))
    if missing:
        raise DataError(f"{source.path} has {some(sorted(groups))} but no {' and no '.join(missing)} folder")
    novel = _is_novel(source, groups)
    return dataset_of_files(source, _with_val(groups, novel, request), novel, request)


def _is_novel(source: Source, groups: Mapping[Split, Classes]) -> bool:
    train, test = set(groups["train"]), set(groups["test"])
    if train != test and train & test:
        shared, odd = sorted(train & test), sorted(train ^ test)
        raise DataError(
            f"{source.path}: {len(shared)} classes are in both train and test ({some(shared)}) and {len(odd)} in only "
            f"one of them ({some(odd)}); few-shot splits share no class, a closed set shares them all"
        )
    return train != test


def _with_val(groups: Mapping[Split, Classes], novel: bool, request: Request) -> dict[Split, Classes]:
    if "val" in groups:
        return {split: groups[split] for split in SPLITS}
    train = groups["train"]
    if not novel:
        stay, out = with_val_from_train(train, request.seed)
        request.notify(f"'{request.name}' has no val images: {VAL_FRACTION:.0%} of each train class are taken for it")
        return {"train": stay, "val": out, "test": groups["test"]}
    taken = split_classes(list(train), request.seed)["val"]
    request.notify(f"'{request.name}' has no val classes: {len(taken)} of {len(train)} train classes are taken for it")
    return {
        "train": {name: members for name, members in train.items() if name not in taken},
        "val": {name: train[name] for name in taken},
        "test": groups["test"],
    }
