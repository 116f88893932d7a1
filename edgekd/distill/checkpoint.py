"""Checkpoints: tensors and counters of an unfinished stage in one safetensors file, replaced atomically."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from edgekd.errors import RunError
from edgekd.files import write_bytes


@dataclass(frozen=True)
class Snapshot:
    """Named tensors and the JSON values that belong to them."""

    tensors: Mapping[str, Tensor]
    values: Mapping[str, Any]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors under `prefix/`, without the prefix."""
        return {
            name[len(prefix) + 1 :]: tensor for name, tensor in self.tensors.items() if name.startswith(f"{prefix}/")
        }


def save_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Write `snapshot` atomically.

    Raises:
        StorageError: disk full or folder not writable; the previous file stays.
    """
    # Tensors of a state dict may share memory or be views: safetensors wants each on its own.
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in snapshot.tensors.items()}
    metadata = {"values": json.dumps(dict(snapshot.values))}
    write_bytes(path, save(tensors, metadata))


def load_snapshot(path: Path) -> Snapshot:
    """Read a file that `save_snapshot` wrote.

    Raises:
        RunError: missing, truncated, or not a safetensors file of ours.
    """
    try:
        with safe_open(str(path), framework="pt") as stream:
            metadata = stream.metadata() or {}
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 - not a mapping
        return Snapshot(tensors, _json_object(metadata.get("values", "{}")))
    except FileNotFoundError:
        raise RunError(f"no weights at {path}") from None
    except (OSError, SafetensorError, ValueError) as error:
        raise RunError(f"{path} is truncated or not a safetensors file ({error})") from error


def load_network(path: Path, network: torch.nn.Module) -> None:
    """Load the weights that a stage wrote into `network`.

    Raises:
        RunError: the file is damaged or holds another architecture.
    """
    tensors = load_snapshot(path).part("network")
    if not tensors:
        raise RunError(f"{path} holds no network weights; a file that `edgekd distill` wrote is expected")
    load_weights(network, tensors, path)


def _json_object(text: str) -> dict[str, Any]:
    values = json.loads(text)
    if not isinstance(values, dict):
        raise ValueError("its values are not a JSON object")
    return values


def load_weights(module: torch.nn.Module, tensors: Mapping[str, Tensor], source: Path) -> None:
    """Load `tensors` into `module`, each name and shape exactly.

    Raises:
        RunError: names or shapes are those of another architecture.
    """
    try:
        module.load_state_dict(dict(tensors), strict=True)
    except RuntimeError as error:
        first = " ".join(str(error).splitlines()[1:2]).strip()
        name = getattr(getattr(module, "backbone", module), "spec", "") or type(module).__name__
        raise RunError(f"{source} holds another architecture than {name}: {first[:200]}") from error
