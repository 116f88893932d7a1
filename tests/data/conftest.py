"""Small image files for the readers."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

WriteImage = Callable[..., Path]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKD_CACHE", str(tmp_path / "own-cache"))
    monkeypatch.delenv("EDGEKD_DATA", raising=False)


@pytest.fixture
def write_image() -> WriteImage:
    """Write an image of one colour, `size` = (width, height)."""

    def write(path: Path, colour: tuple[int, int, int] = (10, 20, 30), size: tuple[int, int] = (8, 8)) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, colour).save(path)
        return path

    return write


@pytest.fixture
def write_classes(write_image: WriteImage) -> Callable[..., None]:
    """Write class folders of images, each of its own colour."""

    def write(folder: Path, names: str, per_class: int = 3, suffix: str = ".png") -> None:
        for label, name in enumerate(names.split()):
            for number in range(per_class):
                write_image(folder / name / f"{name}{number}{suffix}", (20 * label, 30 * number, 7))

    return write


@pytest.fixture
def zip_folder() -> Callable[[Path, Path], Path]:
    """Pack a folder's files, with names relative to it, into a zip."""

    def pack(folder: Path, path: Path) -> Path:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(folder.rglob("*")):
                archive.write(file, file.relative_to(folder).as_posix())
        return path

    return pack


@pytest.fixture
def noise() -> Callable[..., np.ndarray]:
    """Random pixels of a shape, seeded by it."""
    return lambda *shape: np.random.default_rng(list(shape)).integers(0, 256, shape, dtype=np.uint8)
