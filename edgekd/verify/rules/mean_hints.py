"""A mean over height and width is a global pool: what to put in place of a ReduceMean that a target lacks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from edgekd.profile import HardwareProfile
from edgekd.verify.graph import Graph, Node
from edgekd.verify.rules.entries import takes
from edgekd.verify.uses import Use

_HEIGHT_AND_WIDTH = (2, 3)
_FLATTENING = ("Flatten", "Reshape", "Squeeze")


def pool_for_mean(graph: Graph, node: Node, profile: HardwareProfile) -> str | None:
    """Return the pool that computes the same as this mean; None where it is another mean or the target lacks one."""
    use = Use(graph, node, None)
    image = use.image(use.input_shape)
    if use.axes != _HEIGHT_AND_WIDTH or image is None or len(image) != len(_HEIGHT_AND_WIDTH):
        return None
    pools: Mapping[str, str] = {"GlobalAveragePool": "", "AveragePool": " with a window of the whole image"}
    for op, window in pools.items():
        pool = replace(node, op=op, attributes={"kernel_shape": image} if window else {})
        if takes(Use(graph, pool, None), profile):
            return _words(f"{'a' if op[0] == 'G' else 'an'} {op}{window}", node, profile)
    return None


def _words(pool: str, node: Node, profile: HardwareProfile) -> str | None:
    """Name the pool, and behind it what drops the two dimensions of one pixel where the mean does."""
    if node.int("keepdims", 1):
        return f"{pool} computes the same"
    listed = {entry.op for entry in profile.ops or ()}
    flat = next((op for op in _FLATTENING if op in listed), None)
    return f"{pool}, then {flat}, computes the same" if flat else None
