"""The sections of a hardware profile, as frozen values; the unit of a number is in its key.

A key that is absent is *unknown*. In an operator's entry `unlisted = "any"` states the opposite: its source lists every
limit, so that an attribute which the entry does not mention is free.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from typing import Annotated, Literal, Self, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, field_validator, model_validator

from edgekd.errors import unknown

Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(gt=0)]
Groups = Literal["one", "depthwise", "depthwise_multiplied", "any"]
Role = Literal["weights", "biases", "activations", "shared"]


class Section(BaseModel):
    """A frozen value that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _as_range(value: object) -> object:
    return (value, value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _ordered(value: tuple[float, float]) -> tuple[float, float]:
    if not 0 < value[0] <= value[1]:
        raise ValueError("a figure is one positive number, or [low, high]")
    return value


# One figure, or [low, high] where the source gives a range; kept as both ends.
Figure = Annotated[
    tuple[float, float],
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
    text: str
    url: str = ""

    def covers(self, key: str) -> bool:
        """Say whether `key` is one of `keys` or below one."""
        return any(key == own or key.startswith(f"{own}.") for own in self.keys)


class Cap(Section):
    """`max` is the largest count that fits: "fewer than 150,000" is 149_999. `unlimited` = only memory limits it."""

    max: Count | None = None
    unlimited: bool = False

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.unlimited and self.max is not None:
            raise ValueError("'max' and 'unlimited' contradict each other")
        return self


class Region(Section):
    """One memory; `placement` tells what must lie together.

    contiguous: an arena lies inside one bank, or in the region where it has no banks. split: an arena may be spread over
    all regions. channels: a channel lies in one bank; `interleaved_channels` of them share the bank (4: one byte of each
    in a word), the next ones lie in the next bank, and behind the last bank the first one follows.
    """

    name: str = Field(min_length=1)
    bytes: Positive
    role: Role
    banks: Positive | None = None
    bank_bytes: Positive | None = None
    placement: Literal["contiguous", "split", "channels"] = "contiguous"
    interleaved_channels: Positive = 1
    planar_input: bool = False  # the network's input may lie one channel a bank instead

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
    conv_pool_fused: bool | None = None
    pool_conv_fused: bool | None = None


class Weights(Section):
    """Weight formats that the hardware computes with; the finest granularity and the freest scale that it allows."""

    bits: tuple[Positive, ...] | None = None
    granularity: Literal["per_tensor", "per_channel"] | None = None
    symmetric: bool | None = None
    scale: Literal["power_of_two", "float"] | None = None
    packing: Literal["packed", "byte"] | None = None


class Biases(Section):
    """Bias formats; the hardware adds a stored bias times 2^`shift_bits` to the accumulator."""

    bits: tuple[Positive, ...] | None = None
    shift_bits: Count = 0


class Activations(Section):
    """Activation formats that the hardware computes with; `relu_unsigned` = the output of a ReLU is unsigned."""

    bits: tuple[Positive, ...] | None = None
    symmetric: bool | None = None
    scale: Literal["power_of_two", "float"] | None = None
    relu_unsigned: bool | None = None


class Requant(Section):
    """How an accumulator becomes an activation."""

    multiplier: Literal["shift", "q31", "fp32"] | None = None
    rounding: Literal["half_up", "half_away", "half_even", "floor"] | None = None
    double_rounding: bool | None = None
    saturate: bool | None = None


class Operator(Section):
    """An operator that the target runs, by its ONNX name, with the limits of its attributes.

    An operator may have several entries (1-D and 2-D, dense and depthwise): a node needs one that takes all of it.
    `unlisted = "any"`: the source lists every limit; without it an attribute that is not listed is unknown.
    """

    op: str
    source: str = ""
    unlisted: Literal["any"] | None = None
    dims: tuple[Positive, ...] | None = None  # spatial dimensions: 2 for images
    rank_max: Positive | None = None  # dimensions of each tensor, with batch and channels
    groups: tuple[Groups, ...] | None = None
    kernels_px: tuple[tuple[Positive, ...], ...] | None = None  # each (height, width) that there is
    kernel_max_px: Positive | None = None  # each side
    kernel_area_max_px: Positive | None = None
    dilated_kernel_max_px: Positive | None = None  # each side of the window, with the gaps of dilation
    dilated_kernel_area_max_px: Positive | None = None
    strides_px: tuple[Positive, ...] | None = None  # each side, one of these
    stride_max_px: Positive | None = None
    equal_strides: Literal[True] | None = None  # the same in both directions
    padding_max_px: Count | None = None  # each side
    dilation_max_px: Positive | None = None  # 1: no dilation
    input_channels_max: Positive | None = None
    output_channels_max: Positive | None = None
    bias_channels_max: Positive | None = None
    lone_channels_max: Positive | None = None  # of a pool that no convolution follows
    side_max_px: Positive | None = None  # height and width of input and output
    flat_elements_max: Positive | None = None  # of an image that is flattened
    flat_area_max_px: Positive | None = None  # height times width of one
    weight_abs_sum_max: Positive | None = None  # of one output channel, in units of the integers
    batch_max: Positive | None = None

    @field_validator("op")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in known_operators():
            raise ValueError(unknown("ONNX operator", name, _near(name)))
        return name

    def limits(self) -> dict[str, object]:
        """Return the limits that are set, by key."""
        return self.model_dump(exclude={"op", "source", "unlisted"}, exclude_none=True)


class Shapes(Section):
    """`static` = every dimension must be a number in the file."""

    static: bool | None = None


class Compute(Section):
    """Speed and energy of the multiply-accumulate units; *peak* is a data sheet's, *measured* was measured on a network.

    A figure is one number or [low, high]. A MAC is one multiplication with its addition.
    """

    arithmetic: Literal["integer", "any"] | None = None
    clock_hz: Figure | None = None
    macs_per_cycle_peak: Figure | None = None
    macs_per_cycle_measured: Figure | None = None
    energy_pj_per_mac_peak: Figure | None = None
    energy_pj_per_mac_measured: Figure | None = None

    @field_validator("*")
    @classmethod
    def _figures(cls, value: object) -> object:
        return _ordered(value) if isinstance(value, tuple) else value


@cache
def known_operators() -> Collection[str]:
    """Return the names of the operators that ONNX defines."""
    from onnx.defs import get_all_schemas

    return frozenset(schema.name for schema in get_all_schemas() if schema.domain == "")


def _near(name: str) -> list[str]:
    """Return the known names that look like `name`, else the commonest: nobody wants to read two hundred."""
    import difflib

    common = ["Conv", "Gemm", "MatMul", "MaxPool", "AveragePool", "GlobalAveragePool", "Relu", "Clip", "Add", "Flatten"]
    folded = {known.lower(): known for known in known_operators()}
    close = difflib.get_close_matches(name.lower(), folded, n=3, cutoff=0.5)
    return [folded[found] for found in close] or common


def choices(annotation: object) -> tuple[object, ...]:
    """Return the literals that an annotation allows, through `| None` and tuples; empty where it is no choice."""
    found: list[object] = []
    for item in get_args(annotation):
        found += [item] if isinstance(item, str) else choices(item)
    return tuple(found)
