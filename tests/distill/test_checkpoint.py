from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch import nn

from edgekd.distill.checkpoint import Snapshot, load_snapshot, load_weights, save_snapshot
from edgekd.errors import RunError, StorageError


def test_round_trip_keeps_every_bit_and_value(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "state.safetensors"
    tensors = {
        "task/weight": torch.randn(3, 4, generator=torch.Generator().manual_seed(0)),
        "task/steps": torch.tensor(7),
        "optimizer/0.step": torch.tensor(float("nan")),
        "empty/x": torch.zeros(0, 2),
        "half/x": torch.ones(2, dtype=torch.bfloat16),
    }
    values = {"step": 3, "best_score": -math.inf, "terms": {"ce": 0.1 + 0.2}, "none": None}
    save_snapshot(path, Snapshot(tensors, values))
    loaded = load_snapshot(path)
    assert loaded.values == values
    assert loaded.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded.tensors[name].dtype == tensor.dtype
        assert torch.equal(loaded.tensors[name].nan_to_num(9), tensor.nan_to_num(9)), name
    assert set(loaded.part("task")) == {"weight", "steps"}
    assert loaded.part("tas") == {}


def test_shared_and_strided_tensors_are_written_each_on_its_own(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    tensors = {"a": base, "b": base, "view": base[1:, ::2], "turned": base.T}
    tensors["image"] = torch.rand(1, 3, 4, 4).to(memory_format=torch.channels_last)
    save_snapshot(tmp_path / "x", Snapshot(tensors, {}))
    loaded = load_snapshot(tmp_path / "x").tensors
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no weights at"):
        load_snapshot(tmp_path / "absent.safetensors")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_named(tmp_path: Path, share: float) -> None:
    path = tmp_path / "state.safetensors"
    save_snapshot(path, Snapshot({"x": torch.ones(1000)}, {"step": 1}))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(RunError, match=r"state\.safetensors is truncated or not a safetensors file"):
        load_snapshot(path)


@pytest.mark.parametrize(
    "content", [b"PK\x03\x04 a zip, as torch writes", b"\xff" * 64, b"{}"], ids=["zip", "ff", "json"]
)
def test_another_kind_of_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    with pytest.raises(RunError, match="not a safetensors file"):
        load_snapshot(path)


def test_a_folder_in_the_place_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(RunError):
        load_snapshot(tmp_path)


@pytest.mark.parametrize("text", ["{", "3", "[1]"])
def test_values_that_are_not_ours(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"x": np.ones(1, np.float32)}, path, {"values": text})
    with pytest.raises(RunError, match="not a safetensors file"):
        load_snapshot(path)


def test_a_safetensors_file_of_someone_else_has_no_values(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"x": np.ones(1, np.float32)}, path)
    assert load_snapshot(path).values == {}


@pytest.mark.parametrize("other", [nn.Linear(3, 3), nn.Linear(2, 2, bias=False), nn.Conv2d(2, 2, 1)])
def test_weights_of_another_architecture(tmp_path: Path, other: nn.Module) -> None:
    with pytest.raises(RunError, match="teacher holds another architecture than Linear"):
        load_weights(nn.Linear(2, 2), other.state_dict(), Path("teacher"))


def test_what_differs_is_counted_and_the_first_is_shown() -> None:
    other = {"weight": torch.zeros(2, 3), "scale": torch.zeros(4), "shift": torch.zeros(4)}
    message = (
        r"file holds another architecture than Linear: 1 of another shape, first weight \(2, 3\) instead of \(2, 2\); "
        r"1 missing, first bias \(2,\); 2 unexpected, first scale \(4,\); it was written for conv4-8$"
    )
    with pytest.raises(RunError, match=message):
        load_weights(nn.Linear(2, 2), other, Path("file"), "conv4-8")


def test_a_failed_write_keeps_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.safetensors"
    save_snapshot(path, Snapshot({"x": torch.ones(2)}, {}))

    def full(temporary: Path, data: bytes) -> None:
        temporary.write_bytes(data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("edgekd.files._write_all", full)
    with pytest.raises(StorageError, match="No space left"):
        save_snapshot(path, Snapshot({"x": torch.zeros(2)}, {}))
    assert torch.equal(load_snapshot(path).tensors["x"], torch.ones(2))
    assert list(tmp_path.iterdir()) == [path]
