"""Which students there are to choose from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pydantic import BaseModel, ConfigDict

from edgekd.errors import ProfileError, RecipeError
from edgekd.profile import HardwareProfile
from edgekd.recipe import Search

FULL_BITS, LEAST_BITS = 8, 2


class Candidate(BaseModel):
    """A student to try: its backbone and the bit-width of its weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    student: str
    weight_bits: int

    def __str__(self) -> str:
        return f"{self.student}, {self.weight_bits}-bit weights"


class Chooser(Protocol):
    """What suggests values: an Optuna trial."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1) -> int:
        """Return a number in low, low + step, ..., high."""

    def suggest_categorical(self, name: str, choices: Sequence[int]) -> int:
        """Return one of `choices`."""


@dataclass(frozen=True)
class Chosen:
    """Suggests what was decided before, the last of the choices where nothing was; `all` is what it suggested.

    Raises:
        ValueError: what was decided is not to choose from.
    """

    decided: dict[str, int]
    all: dict[str, int] = field(default_factory=dict)

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1) -> int:
        """Return the number that was decided."""
        value = self.decided[name]
        if value not in range(low, high + 1, step):
            raise ValueError(f"its {name} is {value}, and those to choose from are {low} to {high} in steps of {step}")
        self.all[name] = value
        return value

    def suggest_categorical(self, name: str, choices: Sequence[int]) -> int:
        """Return the last choice."""
        return self.all.setdefault(name, choices[-1])


@dataclass(frozen=True)
class Space:
    """Plain networks of 3x3 convolutions within `bounds`, for images that can be halved `halvings` times."""

    bounds: Search
    weight_bits: tuple[int, ...]
    halvings: int

    def suggest(self, chooser: Chooser) -> Candidate:
        """Return the candidate that `chooser` makes up."""
        bounds = self.bounds
        depth = chooser.suggest_int("depth", *bounds.depth)
        poolings = chooser.suggest_int("poolings", *bounds.poolings)
        widths = [self._channels(chooser, f"width{block}", bounds.width) for block in range(1, depth)]
        widths.append(self._channels(chooser, "embedding", bounds.embedding))
        bits = self.weight_bits[0]
        if len(self.weight_bits) > 1:
            bits = chooser.suggest_categorical("weight_bits", self.weight_bits)
        return Candidate(student=self._spec(widths, poolings), weight_bits=bits)

    def choices_of(self, student: str) -> dict[str, int]:
        """Return what must be suggested for `student`, with the widest weights there are.

        Raises:
            RecipeError: it is none of the space; the message says why.
        """
        written = re.fullmatch(r"convnet:(\d+(?:-\d+)*)/(\d+)(?:/signed)?", student)
        if not written:
            raise RecipeError(f"search.first: '{student}' is not written as a result is, {self.smallest.student}")
        *widths, embedding = map(int, written[1].split("-"))
        fewest, most = self.bounds.poolings
        poolings = min(max(int(written[2]), fewest), most)  # shallow students and small images have fewer
        named = {f"width{block}": width for block, width in enumerate(widths, 1)}
        chosen = Chosen({"depth": len(widths) + 1, "poolings": poolings, **named, "embedding": embedding})
        try:
            found = self.suggest(chosen).student
        except ValueError as error:
            raise RecipeError(f"search.first: {student} is not among those searched: {error}") from error
        if found != student:
            raise RecipeError(f"search.first: {student} is not among those searched, {found} is; compare search.signed")
        return chosen.all

    @property
    def smallest(self) -> Candidate:
        """The fewest and narrowest blocks, pooled as little as there is."""
        bounds = self.bounds
        widths = [bounds.width[0]] * (bounds.depth[0] - 1) + [bounds.embedding[0]]
        return Candidate(student=self._spec(widths, bounds.poolings[0]), weight_bits=min(self.weight_bits))

    def _channels(self, chooser: Chooser, name: str, bounds: tuple[int, int]) -> int:
        low, high = bounds
        step = self.bounds.width_step
        return chooser.suggest_int(name, low, high - (high - low) % step, step=step)

    def _spec(self, widths: Sequence[int], poolings: int) -> str:
        pooled = min(len(widths), poolings, self.halvings)
        return f"convnet:{'-'.join(map(str, widths))}/{pooled}{'/signed' if self.bounds.signed else ''}"


def space_of(bounds: Search, profile: HardwareProfile, height: int, width: int) -> Space:
    """Return the space of students for images of this size.

    Raises:
        ProfileError: the profile sets no limit, or allows no bit-width to search among, or not those of `bounds`.
    """
    _require_limits(profile)
    return Space(bounds, _weight_bits(bounds, profile), min(height, width).bit_length() - 1)


def _require_limits(profile: HardwareProfile) -> None:
    limits = (profile.params.max, profile.layers.max, profile.memory.regions, profile.ops)
    if not any(limits):
        raise ProfileError(
            f"profile {profile.name} limits neither parameters nor layers, memory or operators: there is nothing to "
            "search under; give it params.max or [[memory.regions]]"
        )


def _weight_bits(bounds: Search, profile: HardwareProfile) -> tuple[int, ...]:
    allowed = profile.weights.bits
    usable = (FULL_BITS,) if allowed is None else tuple(bits for bits in allowed if LEAST_BITS <= bits <= FULL_BITS)
    chosen = bounds.weight_bits or usable
    strange = [bits for bits in chosen if allowed is not None and bits not in allowed]
    if strange or not chosen:
        asked = f", not {strange}" if strange else ""
        raise ProfileError(
            f"profile {profile.name} allows weights of {list(allowed or ())} bits{asked}; search.weight_bits takes "
            f"those from {LEAST_BITS} to {FULL_BITS}"
        )
    return tuple(sorted(set(chosen)))
