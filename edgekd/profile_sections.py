"""The sections of a hardware profile, as frozen values; the unit of a number is in its key.

A key that is absent is *unknown*.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, field_validator, model_validator

Count = Annotated[int, Field(ge=0, strict=True)]
Positive = Annotated[int, Field(gt=0, strict=True)]
Flag = Annotated[bool, Field(strict=True)]


def _a_boolean(value: object) -> object:
    if not isinstance(value, bool):
        raise ValueError("true is the only value")  # 1 is equal to true
    return value


Only = Annotated[Literal[True], BeforeValidator(_a_boolean)]
Role = Literal["weights", "biases", "activations", "shared"]


class Section(BaseModel):
    """A frozen value that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, defer_build=True)


def _as_range(value: object) -> object:
    return (value, value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _ordered(value: tuple[float, float]) -> tuple[float, float]:
    if not 0 < value[0] <= value[1]:
        raise ValueError("a figure is one positive number, or [low, high]")
    return value


_Number = Annotated[float, Field(strict=True)]

# One figure, or [low, high] where the source gives a range; kept as both ends.
Figure = Annotated[
    tuple[_Number, _Number],
    BeforeValidator(_as_range),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0},
                {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2},
            ]
        }
    ),
]


class Source(Section):
    """Where the values under `keys` were read; a key is dotted, a section covers all below it.

    An item of a list is named: `ops.Conv`, `memory.regions.flash`.
    """

    keys: tuple[str, ...]
    """Dotted keys; a section covers all below it, an item of a list is named: ops.Conv, memory.regions.flash."""
    text: str
    """Author, title, year, page or section."""
    url: str = ""
    """Where to read it."""
    except_keys: tuple[str, ...] = ()
    """Below those of keys, and not from this source."""

    def covers(self, key: str) -> bool:
        """Say whether `key` is one of `keys` or below one, and not excepted."""
        return _below(key, self.keys) and not _below(key, self.except_keys)


def _below(key: str, sections: tuple[str, ...]) -> bool:
    return any(key == own or key.startswith(f"{own}.") for own in sections)


class Cap(Section):
    """`max` is the largest count that fits: "fewer than 150,000" is 149_999. `unlimited` = only memory limits it."""

    max: Count | None = None
    """The largest count that fits."""
    unlimited: Flag = False
    """true: only memory limits it."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.unlimited and self.max is not None:
            raise ValueError("'max' and 'unlimited' contradict each other")
        return self


class Region(Section):
    """One memory; `placement` tells what must lie together.

    contiguous: an arena lies inside one bank, or in the region where it has no banks. split: an arena may be spread
    over all regions. channels: a channel lies in one bank; `interleaved_channels` of them share the bank (4: one byte
    of each in a word), the next ones lie in the next bank, and behind the last bank the first one follows.
    """

    name: str = Field(min_length=1)
    """As the data sheet calls it."""
    bytes: Positive
    """Its size, all banks together."""
    role: Role
    """What is stored there."""
    banks: Positive | None = None
    """How many there are."""
    bank_bytes: Positive | None = None
    """The size of one."""
    placement: Literal["contiguous", "split", "channels"] = "contiguous"
    """What must lie together."""
    interleaved_channels: Positive = 1
    """Channels that share a bank, a byte of each in a word."""
    planar_input: Flag = False
    """true: the network's input may lie one channel a bank instead."""

    @model_validator(mode="after")
    def _banks_for_channels(self) -> Self:
        if self.placement == "channels" and not (self.banks and self.bank_bytes):
            raise ValueError("placement = \"channels\" needs 'banks' and 'bank_bytes'")
        return self

    @property
    def arena_bytes(self) -> int:
        """The largest arena that this region can hold, in bytes."""
        return self.bank_bytes if self.bank_bytes and self.placement == "contiguous" else self.bytes


class Memory(Section):
    """Regions, and what is never stored.

    `conv_pool_fused`: a convolution pools as it writes, so that its own output is never stored. `pool_conv_fused`: a
    convolution pools as it reads, so that the pooled image is never stored.
    """

    regions: tuple[Region, ...] = ()
    """The memories of the target."""
    conv_pool_fused: Flag | None = None
    """true: a convolution pools as it writes, its own output is never stored."""
    pool_conv_fused: Flag | None = None
    """true: a convolution pools as it reads, the pooled image is never stored."""


class Weights(Section):
    """Weight formats that the hardware computes with; the finest granularity and the freest scale that it allows."""

    bits: tuple[Positive, ...] | None = None
    """Widths that there are."""
    granularity: Literal["per_tensor", "per_channel"] | None = None
    """per_channel: a scale for each output channel, or one for all."""
    symmetric: Flag | None = None
    """true: the zero point is 0."""
    scale: Literal["power_of_two", "float"] | None = None
    """float: any."""
    packing: Literal["packed", "byte"] | None = None
    """packed: narrow weights share bytes."""


class Biases(Section):
    """Bias formats; the hardware adds a stored bias times 2^`shift_bits` to the accumulator."""

    bits: tuple[Positive, ...] | None = None
    """Widths that there are."""
    shift_bits: Count = 0
    """A stored bias counts 2^shift times."""


class Activations(Section):
    """Activation formats that the hardware computes with; `relu_unsigned` = the output of a ReLU is unsigned."""

    bits: tuple[Positive, ...] | None = None
    """Widths that there are."""
    symmetric: Flag | None = None
    """true: the zero point is 0."""
    scale: Literal["power_of_two", "float"] | None = None
    """float: any."""
    relu_unsigned: Flag | None = None
    """true: the output of a ReLU is unsigned."""


class Requant(Section):
    """How an accumulator becomes an activation."""

    multiplier: Literal["shift", "q31", "fp32"] | None = None
    """shift: a power of two; q31: 32-bit fixed point; fp32: a float."""
    rounding: Literal["half_up", "half_away", "half_even", "floor"] | None = None
    """Of what is exactly between two integers."""
    double_rounding: Flag | None = None
    """true: the high multiply rounds, and then the shift."""
    saturate: Flag | None = None
    """true: what is too large becomes the largest."""


class Shapes(Section):
    """`static` = every dimension must be a number in the file."""

    static: Flag | None = None
    """true: every dimension must be a number in the file."""


class Compute(Section):
    """Speed and energy of the multiply-accumulate units; *peak* is a data sheet's, *measured* was seen on a network.

    A figure is one number or [low, high]. A MAC is one multiplication with its addition.
    """

    arithmetic: Literal["integer", "any"] | None = None
    """any: floats too."""
    clock_hz: Figure | None = None
    """Of the multiply-accumulate units."""
    macs_per_cycle_peak: Figure | None = None
    """The data sheet's, all units busy."""
    macs_per_cycle_measured: Figure | None = None
    """Seen on a whole network or kernel."""
    energy_pj_per_mac_peak: Figure | None = None
    """The data sheet's, in picojoule."""
    energy_pj_per_mac_measured: Figure | None = None
    """Seen on a whole network, in picojoule."""

    @field_validator("*")
    @classmethod
    def _figures(cls, value: object) -> object:
        return _ordered(value) if isinstance(value, tuple) else value


def choices(annotation: object) -> tuple[object, ...]:
    """Return the literals that an annotation allows, through `| None` and tuples; empty where it is no choice."""
    found: list[object] = []
    for item in get_args(annotation):
        found += [item] if isinstance(item, str) else choices(item)
    return tuple(found)
