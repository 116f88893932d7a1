"""Shared by all tests: a private cache, and tiny image folders that a network can learn in seconds."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

TINY_RECIPE = """
precision = "fp32"
profile = "tu_accel_150k"
[teacher]
backbone = "resnet12:4"
epochs = 2
batch_size = 32
[student]
backbone = "conv4-8"
[distill]
epochs = 2
batch_size = 32
[meta]
epochs = 1
batches_per_epoch = 3
batch_size = 2
query = 3
[quantize]
epochs = 1
batch_size = 32
calibration_images = 64
[validation]
query = 5
shots = [1, 2]
episodes = 50
[test]
query = 5
shots = [1, 5]
episodes = 200
"""


@pytest.fixture(autouse=True)
def _private_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKD_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.delenv("EDGEKD_DATA", raising=False)


def write_images(folder: Path, n_classes: int, per_class: int, seed: int, size: int = 16) -> None:
    """Write class folders of noisy 4x4 checkers, one checker a class."""
    random = np.random.default_rng(seed)
    for label in range(n_classes):
        checker = random.integers(0, 256, (4, 4, 3)).repeat(size // 4, 0).repeat(size // 4, 1)
        place = folder / f"{folder.name}_{label}"
        place.mkdir(parents=True)
        for number in range(per_class):
            noisy = checker + random.normal(0, 30, checker.shape)
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(place / f"{number:03d}.png")


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train/val/test class folders: 8, 5 and 6 classes of 16x16 RGB images, other classes in each."""
    root = tmp_path_factory.mktemp("images")
    for seed, (split, n_classes, per_class) in enumerate((("train", 8, 16), ("val", 5, 10), ("test", 6, 12))):
        write_images(root / split, n_classes, per_class, seed)
    return root


@pytest.fixture(scope="session")
def closed_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train/val/test class folders with other 16x16 RGB images of the same five classes in each."""
    root, images = tmp_path_factory.mktemp("closed"), tmp_path_factory.mktemp("of") / "class"
    write_images(images, 5, 40, 3)
    for split, numbers in (("train", range(20)), ("val", range(20, 30)), ("test", range(30, 40))):
        for folder in images.iterdir():
            (root / split / folder.name).mkdir(parents=True)
            for number in numbers:
                shutil.copy(folder / f"{number:03d}.png", root / split / folder.name)
    return root


@pytest.fixture(scope="session")
def tiny_toml(image_folder: Path) -> str:
    """A recipe that trains the whole chain on `image_folder` in seconds."""
    return TINY_RECIPE + f'[data]\nspec = "folder:{image_folder}"\n'


@pytest.fixture
def tiny_recipe(tmp_path: Path, tiny_toml: str) -> Path:
    """A file with that recipe."""
    path = tmp_path / "tiny.toml"
    path.write_text(tiny_toml)
    return path
