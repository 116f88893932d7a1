"""How much of each kind of memory a profile's regions offer and a network takes, in bytes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgekd.profile import HardwareProfile, Region
from edgekd.verify.costs import Costs
from edgekd.verify.results import RegionRow

_FOR_ACTIVATIONS = {"activations", "shared"}


@dataclass(frozen=True)
class ArenaRoom:
    """The largest arena for activations: in which region, and how much all regions would hold together."""

    region: str
    bytes: int
    total_bytes: int
    can_split: bool


def weight_room(profile: HardwareProfile) -> int | None:
    """Return the bytes that all regions for weights hold; None where the profile names none."""
    regions = [region for region in profile.memory.regions if region.role in {"weights", "shared"}]
    return sum(region.bytes for region in regions) if regions else None


def bias_room(profile: HardwareProfile) -> int | None:
    """Return the bytes that all regions for biases alone hold; None where they lie beside the weights."""
    regions = [region for region in profile.memory.regions if region.role == "biases"]
    return sum(region.bytes for region in regions) if regions else None


def stored_biases(costs: Costs, profile: HardwareProfile) -> int:
    """Return the bytes of the biases at the width the target stores, that of the file where the profile is silent."""
    widths = profile.biases.bits
    return sum(
        math.ceil(row.elements * min(widths or (row.bits,)) / 8) for row in costs.by_bits if row.kind == "biases"
    )


def stored_weights(costs: Costs, profile: HardwareProfile, *, packed: bool) -> int:
    """Return the bytes in the memory for weights: with the biases, unless these have a memory of their own."""
    total = costs.weight_bytes if packed else costs.unpacked_weight_bytes
    return total if bias_room(profile) is None else total - costs.bias_bytes


def weight_regions(costs: Costs, profile: HardwareProfile) -> tuple[RegionRow, ...]:
    """Return how the weights and biases fill the regions for them, their own ones before the shared."""
    packed = profile.weights.packing != "byte"
    left = {"weights": stored_weights(costs, profile, packed=packed), "biases": stored_biases(costs, profile)}
    roles = ("weights", "biases", "shared")
    regions = sorted(
        (item for item in profile.memory.regions if item.role in roles), key=lambda item: roles.index(item.role)
    )
    rows = []
    for region in regions:
        kind = "biases" if region.role == "biases" else "weights"
        used = min(left[kind], region.bytes)
        left[kind] -= used
        rows.append(RegionRow(region=region.name, role=region.role, bytes=region.bytes, used_bytes=used))
    return tuple(rows)


def arena_room(profile: HardwareProfile, weight_bytes: int) -> ArenaRoom | None:
    """Return the room for activations beside `weight_bytes`; None where the profile names no region for them.

    Weights go to their own regions first, and what is left of them to the shared ones.
    """
    regions = [region for region in profile.memory.regions if region.role in _FOR_ACTIVATIONS]
    if not regions:
        return None
    own = sum(region.bytes for region in profile.memory.regions if region.role == "weights")
    spilled = max(0, weight_bytes - own)
    room = {region.name: _free(region, spilled) for region in regions}
    largest = max(room, key=room.__getitem__)
    can_split = any(region.placement == "split" for region in regions)
    return ArenaRoom(largest, room[largest], sum(room.values()), can_split)


def _free(region: Region, spilled: int) -> int:
    return max(0, region.arena_bytes - spilled) if region.role == "shared" else region.arena_bytes
