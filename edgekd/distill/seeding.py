"""Randomness without state: each draw is seeded by what it is for, so that a resumed run draws the same."""

from __future__ import annotations

import hashlib

import torch


def derive_seed(seed: int, *purpose: str | int) -> int:
    """Return a 63-bit seed that depends on `seed` and every part of `purpose`."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """Return a CPU generator seeded for `purpose`."""
    return torch.Generator().manual_seed(derive_seed(seed, *purpose))
