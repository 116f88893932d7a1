"""Which layers of both networks a term compares, and how two maps come to the same size."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.nn import functional

from edgekd.distill.backbones.base import missing_layer
from edgekd.distill.methods.base import Dims, LayerShapes, MapShape
from edgekd.errors import RecipeError

Layers = tuple[int, ...]


def paired_layers(term: str, dims: Dims, layers: Layers, teacher_layers: Layers) -> tuple[Layers, Layers]:
    """Return the student's layers and the teacher's, one for one; without `teacher_layers` the numbers are the same.

    Raises:
        RecipeError: none, not as many on both sides, or one that a network does not have.
    """
    if not layers:
        raise RecipeError(f"{term}: layers is empty; name at least one, for example layers = [4]")
    taught = require_pairs(term, layers, teacher_layers)
    require_layers(term, dims, layers, taught)
    return layers, taught


def require_pairs(term: str, layers: Layers, teacher_layers: Layers) -> Layers:
    """Return the teacher's layers, which have the student's numbers where none are given.

    Raises:
        RecipeError: there are more of one network than of the other.
    """
    taught = teacher_layers or layers
    if len(layers) != len(taught):
        raise RecipeError(
            f"{term}: layers {list(layers)} and teacher_layers {list(taught)} are compared one by one; "
            "give as many of each"
        )
    return taught


def require_layers(term: str, dims: Dims, layers: Layers, teacher_layers: Layers) -> None:
    """Refuse layers that a network does not have.

    Raises:
        RecipeError: naming the term, the network and the layers there are.
    """
    for network, wanted, maps in (
        ("student", layers, dims.student_maps),
        ("teacher", teacher_layers, dims.teacher_maps),
    ):
        for layer in wanted:
            if layer not in maps:
                refusal = missing_layer(network_name(term, network, maps), layer, len(maps))
                raise RecipeError(f"{refusal}{_instead(term, dims, layers)}")


def _instead(term: str, dims: Dims, layers: Layers) -> str:
    """Return the setting that names layers which both networks have, "" where there are none."""
    both = sorted(set(dims.student_maps) & set(dims.teacher_maps))
    fitting = [layer for layer in layers if layer in both] or both[-1:]
    if not fitting:
        return ""
    key = f"distill.options.{term}"
    return (
        f'; set what both have, --set "{key}.layers={fitting}", and with {key}.teacher_layers those of the teacher '
        "where they are counted differently"
    )


def network_name(term: str, network: str, maps: Mapping[int, MapShape]) -> str:
    """Return "TERM: the NETWORK", followed by its backbone where its maps tell."""
    return f"{term}: the {network} {maps.spec if isinstance(maps, LayerShapes) else ''}".rstrip()


def common_size(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return maps (n, c, h, w) averaged to the smaller of both heights and widths."""
    size = (min(a.shape[2], b.shape[2]), min(a.shape[3], b.shape[3]))
    return _averaged(a, size), _averaged(b, size)


def _averaged(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return maps if tuple(maps.shape[2:]) == size else functional.adaptive_avg_pool2d(maps, size)
