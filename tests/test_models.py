"""The released files are what their reports say, and compute their golden vectors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgekd.files import sha256_file
from edgekd.manifest import Manifest
from edgekd.onnx_session import open_session
from edgekd.profile import load_profile
from edgekd.verify import verify

MODELS = Path(__file__).parent.parent / "models"
RELEASED = sorted(path.parent for path in MODELS.glob("*/model.onnx"))


def manifest_of(folder: Path) -> Manifest:
    session = open_session(folder / "model.onnx")
    manifest = Manifest.from_metadata(session.get_modelmeta().custom_metadata_map)
    assert manifest is not None
    return manifest


def test_there_are_released_models() -> None:
    assert RELEASED


@pytest.mark.parametrize("folder", RELEASED, ids=lambda folder: folder.name)
def test_a_report_is_about_the_file_beside_it(folder: Path) -> None:
    report = json.loads((folder / "report.json").read_text())
    assert report["model"]["sha256"] == sha256_file(folder / "model.onnx")
    assert {row["shot"] for row in report["accuracy"]} == {1, 5}
    again = verify(folder / "model.onnx", static=True)
    assert again.params.total == report["params"]["total"]
    assert report["verdict"] in {"pass", "unknown"}


@pytest.mark.parametrize("folder", RELEASED, ids=lambda folder: folder.name)
def test_golden_vectors_are_those_of_the_manifest_and_within_one_step(folder: Path) -> None:
    assert sha256_file(folder / "model.golden.npz") == manifest_of(folder).golden_sha256
    session = open_session(folder / "model.onnx")
    with np.load(folder / "model.golden.npz", allow_pickle=False) as golden:
        found = np.concatenate([session.run(None, {"pixels": row[None]})[0] for row in golden["pixels"]])
        difference = np.abs(found.astype(int) - golden["embedding"].astype(int))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.01


@pytest.mark.parametrize("folder", RELEASED, ids=lambda folder: folder.name)
def test_the_profile_has_not_changed_since(folder: Path) -> None:
    manifest = manifest_of(folder)
    assert load_profile(manifest.profile).sha256 == manifest.profile_sha256
