"""How much of each kind of memory a profile's regions offer, in bytes."""

from __future__ import annotations

from dataclasses import dataclass

from edgekd.profile import HardwareProfile, Region


@dataclass(frozen=True)
class ArenaRoom:
    """The largest arena for activations: in which region, and how much all regions would hold together."""

    region: str
    bytes: int
    total_bytes: int
    can_split: bool


def weight_room(profile: HardwareProfile) -> int | None:
    """Return the bytes that all regions for weights hold; None where the profile names none."""
    regions = [region for region in profile.memory.regions if region.role != "activations"]
    return sum(region.bytes for region in regions) if regions else None


def arena_room(profile: HardwareProfile, weight_bytes: int) -> ArenaRoom | None:
    """Return the room for activations beside `weight_bytes`; None where the profile names no region for them.

    Weights go to their own regions first, and what is left of them to the shared ones.
    """
    regions = [region for region in profile.memory.regions if region.role != "weights"]
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
