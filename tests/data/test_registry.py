from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgekd.data import DATASETS, ImageSet, load_split, load_splits
from edgekd.data import registry as registry_module
from edgekd.data.registry import Dataset, Entry, dataset, download_dataset, parse, where
from edgekd.data.request import Request
from edgekd.errors import DataError


def test_every_reader_module_has_registered_itself() -> None:
    assert set(DATASETS) == {
        "glyphs", "omniglot", "miniimagenet", "cifar10", "cifar100", "mnist", "fashion-mnist", "folder", "mhist"
    }  # fmt: skip


def test_a_new_dataset_is_one_decorated_function(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(registry_module, "DATASETS", dict(DATASETS))
    asked: list[Request] = []

    @dataset("pets", "cats and dogs")
    def read(request: Request) -> Dataset:
        asked.append(request)
        pixels = np.zeros((2, 4, 4, 3), np.uint8)
        return Dataset(True, lambda split: ImageSet(split, pixels, np.arange(2), (f"{split} cat", f"{split} dog")))

    assert load_splits(f"pets:{tmp_path}", seed=7, size=4).test.class_names == ("test cat", "test dog")
    assert (asked[0].path, asked[0].seed, asked[0].size, asked[0].skip_bad) == (tmp_path, 7, 4, False)


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(DataError, match=r"unknown dataset 'omniglott'\. Did you mean 'omniglot'"):
        load_splits("omniglott")


def test_a_path_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing at .*nowhere"):
        load_splits(f"folder:{tmp_path}/nowhere")


def test_a_name_alone_is_looked_for_in_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        DataError, match=r"'mnist' is not at .*own-cache/data/mnist.*edgekd data prepare mnist --download"
    ):
        parse("mnist")
    monkeypatch.setenv("EDGEKD_DATA", str(tmp_path / "sets"))
    (tmp_path / "sets" / "mnist").mkdir(parents=True)
    assert parse("mnist").path == tmp_path / "sets" / "mnist"
    assert where(DATASETS["mnist"]) == str(tmp_path / "sets" / "mnist")
    with pytest.raises(DataError, match="miniimagenet:PATH"):
        parse("miniimagenet")


def test_embedded_sets_take_no_path() -> None:
    with pytest.raises(DataError, match="takes no path"):
        load_splits("glyphs:/tmp")


@pytest.mark.parametrize("options", [{"size": 0}, {"channels": 2}, {"seed": -1}])
def test_impossible_options_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(DataError, match=r"at least 1|must be 1|must not be negative"):
        load_splits("glyphs", **options)  # type: ignore[arg-type]


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(DataError, match="unknown split 'tset'"):
        load_split("glyphs", "tset")


def test_a_download_appears_only_when_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts: list[Path] = []

    def fill(folder: Path) -> None:
        attempts.append(folder)
        (folder / f"part{len(attempts)}").write_text("x")
        if len(attempts) == 1:
            raise DataError("cannot download pets: connection lost")

    entry = Entry("pets", "cats and dogs", DATASETS["folder"].read, download=fill)
    monkeypatch.setitem(DATASETS, "pets", entry)
    monkeypatch.setenv("EDGEKD_DATA", str(tmp_path / "sets"))
    with pytest.raises(DataError, match="connection lost"):
        download_dataset("pets", print)
    assert not (tmp_path / "sets" / "pets").exists()
    download_dataset("pets", print)
    assert {path.name for path in (tmp_path / "sets" / "pets").iterdir()} == {"part1", "part2"}
    notices: list[str] = []
    download_dataset("pets", notices.append)
    assert len(attempts) == 2
    assert "already" in notices[0]


@pytest.mark.parametrize("spec", ["miniimagenet", "glyphs", "mnist:here", "nothing"])
def test_what_cannot_be_downloaded_is_said(spec: str) -> None:
    with pytest.raises(DataError, match=r"cannot be downloaded|unknown dataset"):
        download_dataset(spec, print)


def test_reading_images_needs_neither_torch_nor_plotting() -> None:
    code = "import sys, edgekd.data; sys.exit(bool({'torch', 'matplotlib', 'PIL', 'onnxruntime'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
