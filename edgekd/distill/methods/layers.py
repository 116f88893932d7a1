"""Which layers of both networks a term compares, and how two maps come to the same size."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.nn import functional

from edgekd.distill.methods.base import Dims, MapShape
from edgekd.errors import RecipeError

Layers = tuple[int, ...]


def paired_layers(term: str, dims: Dims, layers: Layers, teacher_layers: Layers) -> tuple[Layers, Layers]:
    """Return the student's layers and the teacher's, one for one; without `teacher_layers` the numbers are the same.

    Raises:
        RecipeError: none, not as many on both sides, or one that a network does not have.
    """
    taught = teacher_layers or layers
    if not layers:
        raise RecipeError(f"{term}: layers is empty; name at least one, for example layers = [4]")
    if len(layers) != len(taught):
        raise RecipeError(
            f"{term}: layers {list(layers)} and teacher_layers {list(taught)} are compared one by one; "
            "give as many of each"
        )
    _require(term, "student", layers, dims.student_maps)
    _require(term, "teacher", taught, dims.teacher_maps)
    return layers, taught


def common_size(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return maps (n, c, h, w) averaged to the smaller of both heights and widths."""
    size = (min(a.shape[2], b.shape[2]), min(a.shape[3], b.shape[3]))
    return _averaged(a, size), _averaged(b, size)


def _averaged(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return maps if tuple(maps.shape[2:]) == size else functional.adaptive_avg_pool2d(maps, size)


def _require(term: str, network: str, layers: Layers, maps: Mapping[int, MapShape]) -> None:
    for layer in layers:
        if layer not in maps:
            has = f"its layers are {min(maps)} to {max(maps)}" if maps else "it has no layers that can be looked at"
            raise RecipeError(f"{term}: the {network} has no layer {layer}: {has}")
