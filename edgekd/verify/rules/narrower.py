"""A chain of convolutions as it would be with fewer channels: other shapes and weight bytes, no other weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

from edgekd.profile import HardwareProfile
from edgekd.verify.facts import Facts
from edgekd.verify.layers import Layer
from edgekd.verify.memory import memory_of
from edgekd.verify.placement import deployed_plan, with_graph
from edgekd.verify.regions import arena_room
from edgekd.verify.resizing import with_weights
from edgekd.verify.rules.hints import MOST_NODES, chain_of, chain_text, largest, smaller_input

Shape = tuple[int, ...]


def narrowed(facts: Facts, width: int) -> Facts | None:
    """Return the facts of a chain with `width` channels, as far as they follow from shapes; None for other networks."""
    if chain_of(facts) is None:
        return None
    shapes = {layer.node.name: _weight_shape(facts, layer, width, first=not i) for i, layer in enumerate(facts.layers)}
    operands = {layer.node.input(_operand(layer)): shapes[layer.node.name] for layer in facts.layers}
    graph = with_weights(facts.graph, operands)
    if graph is None:
        return None
    weight_bytes = sum(_layer_bytes(layer, shapes) for layer in facts.layers)
    return replace(facts, graph=graph, memory=memory_of(graph), costs=replace(facts.costs, weight_bytes=weight_bytes))


def narrower(facts: Facts, fits: Callable[[Facts], bool]) -> str | None:
    """Return "Conv4-40 fits": the widest chain narrower than this one that `fits`; None where there is none."""
    found = chain_of(facts)
    if found is None or len(facts.graph.nodes) > MOST_NODES:
        return None

    def tried(width: int) -> bool:
        changed = narrowed(facts, width)
        return changed is not None and fits(changed)

    width = largest(1, found[1] - 1, tried)
    return chain_text(found[0], width) if width else None


def arena_hints(facts: Facts, profile: HardwareProfile) -> list[str]:
    """Return which smaller input and which narrower network has activations that fit the target's memory."""
    side = smaller_input(facts.graph, lambda graph: _arena_fits(with_graph(facts, graph), profile))
    fewer = narrower(facts, lambda changed: _arena_fits(changed, profile))
    found = (f"{side}x{side} input fits" if side else None, fewer)
    return [text for text in found if text]


def fused(profile: HardwareProfile) -> HardwareProfile:
    """Return the profile of a target that fuses each convolution with its pool."""
    memory = profile.memory.model_copy(update={"conv_pool_fused": True})
    return profile.model_copy(update={"memory": memory})


def may_fuse(profile: HardwareProfile) -> bool:
    """Say whether fusing pools with the convolution before is a way out: not where done, or where they fuse ahead."""
    return not profile.memory.conv_pool_fused and not profile.memory.pool_conv_fused


def _arena_fits(facts: Facts, profile: HardwareProfile) -> bool:
    plan, room = deployed_plan(facts, profile), arena_room(profile, facts.costs.weight_bytes)
    return plan is not None and room is not None and plan.peak_bytes <= room.bytes


def _operand(layer: Layer) -> int:
    return 3 if layer.node.op == "QLinearConv" else 1


def _weight_shape(facts: Facts, layer: Layer, width: int, *, first: bool) -> Shape:
    assert layer.weight is not None  # a layer of a chain stores its weights
    stored = facts.graph.constants[layer.weight.tensor].shape
    return (width, stored[1] if first else width, *stored[2:])


def _layer_bytes(layer: Layer, shapes: Mapping[str, Shape]) -> int:
    """Each constant ends in a whole byte."""
    shape, weight_bits = shapes[layer.node.name], layer.weight.bits if layer.weight else 0
    bias_bits = layer.bias.bits if layer.bias else 0
    return math.ceil(math.prod(shape) * weight_bits / 8) + math.ceil(shape[0] * bias_bits / 8)
