"""A search among students of a few channels, each trained for a moment on tiny images."""

from __future__ import annotations

from pathlib import Path

import pytest

SEARCH_TOML = """
[search]
trials = 2
epochs = 0.5
quantize_epochs = 0.5
depth = [2, 3]
width = [8, 16]
embedding = [8, 24]
episodes = 50
startup_trials = 2
"""


@pytest.fixture(scope="session")
def search_toml(tiny_toml: str) -> str:
    """A recipe whose search of two students takes seconds."""
    return tiny_toml.replace('"resnet12:4"\nepochs = 2', '"conv4-8"\nepochs = 1') + SEARCH_TOML


@pytest.fixture
def search_recipe(tmp_path: Path, search_toml: str) -> Path:
    """A file with that recipe."""
    path = tmp_path / "search.toml"
    path.write_text(search_toml)
    return path
