"""Checkpoints: tensors and counters of an unfinished stage in one safetensors file, replaced atomically."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from edgekd.errors import RunError
from edgekd.files import write_bytes

PRETRAINED = "pretrained"  # the mark in the file of a network that was built for published weights


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
        RunError: missing, a folder, truncated, or not a safetensors file of ours.
    """
    if path.is_dir():
        raise RunError(f"{path} is a folder; name the safetensors file in it")
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
    snapshot = load_snapshot(path)
    tensors = snapshot.part("network")
    if not tensors:
        raise RunError(f"{path} holds no network weights; a file that `edgekd distill` wrote is expected")
    load_weights(network, tensors, path, backbone_in(snapshot))


def _json_object(text: str) -> dict[str, Any]:
    values = json.loads(text)
    if not isinstance(values, dict):
        raise ValueError("its values are not a JSON object")
    return values


def load_weights(module: torch.nn.Module, tensors: Mapping[str, Tensor], source: Path, made_of: str = "") -> None:
    """Load `tensors` into `module`, each name and shape exactly; `made_of` is the backbone that their file tells.

    Raises:
        RunError: names or shapes are those of another architecture, or a weight is not finite.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise RunError(f"{source} holds weights that are NaN or infinite, first in {name}: it cannot be used")
    expected = module.state_dict()
    try:
        module.load_state_dict(dict(tensors), strict=True)
    except RuntimeError as error:
        name = getattr(getattr(module, "backbone", module), "spec", "") or type(module).__name__
        hint = f"; it was written for {made_of}" if made_of and made_of != name else ""
        what = "; ".join(_differences(expected, tensors)) or "its tensors do not fit"
        raise RunError(f"{source} holds another architecture than {name}: {what}{hint}") from error


def backbone_in(snapshot: Snapshot) -> str:
    """Return the backbone that a file of ours was written for, "" where it does not tell."""
    return str(snapshot.values.get("backbone", ""))


def _differences(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> Iterator[str]:
    """Say how many tensors are missing, of another shape or too many, with the first of each."""
    missing = [name for name in expected if name not in found]
    reshaped = [name for name in expected if name in found and found[name].shape != expected[name].shape]
    more = [name for name in found if name not in expected]
    if reshaped:
        shapes = " instead of ".join(str(tuple(tensors[reshaped[0]].shape)) for tensors in (found, expected))
        yield f"{len(reshaped)} of another shape, first {reshaped[0]} {shapes}"
    if missing:
        yield f"{len(missing)} missing, first {missing[0]} {tuple(expected[missing[0]].shape)}"
    if more:
        yield f"{len(more)} unexpected, first {more[0]} {tuple(found[more[0]].shape)}"
