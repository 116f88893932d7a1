"""Hardware profiles: what one target can hold and compute, as frozen values read from TOML.

A key that is absent is *unknown*: no check that needs it can pass. Keys carry their unit, but for plain counts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from edgekd.errors import ProfileError
from edgekd.files import sha256_bytes
from edgekd.profile_toml import locate, profile_names, read_extended
from edgekd.schema import explain

__all__ = ["HardwareProfile", "load_profile", "profile_names"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(_Frozen):
    """Where the values under `keys` (dotted, a section covers all below it) were read."""

    keys: tuple[str, ...]
    text: str
    url: str = ""

    def covers(self, key: str) -> bool:
        """Say whether `key` is one of `keys` or below one."""
        return any(key == own or key.startswith(f"{own}.") for own in self.keys)


class Cap(_Frozen):
    """`max` is the largest count that fits: "fewer than 150,000" is 149_999. `unlimited` = only memory limits it."""

    max: int | None = Field(default=None, ge=0)
    unlimited: bool = False

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.unlimited and self.max is not None:
            raise ValueError("'max' and 'unlimited' contradict each other")
        return self


class Region(_Frozen):
    """One linearly addressed memory; `contiguous` placement keeps an arena inside one bank where there are banks."""

    name: str
    bytes: int = Field(gt=0)
    role: Literal["weights", "activations", "shared"]
    banks: int | None = Field(default=None, gt=0)
    bank_bytes: int | None = Field(default=None, gt=0)
    placement: Literal["contiguous", "split"] = "contiguous"

    @property
    def arena_bytes(self) -> int:
        """The largest arena that this region can hold, in bytes."""
        return self.bank_bytes if self.bank_bytes and self.placement == "contiguous" else self.bytes


class Memory(_Frozen):
    """`conv_pool_fused` = the runtime pools on the fly, so that a convolution's own output is never stored."""

    regions: tuple[Region, ...] = ()
    conv_pool_fused: bool | None = None


class Weights(_Frozen):
    """Weight formats that the hardware computes with; the finest granularity and the freest scale that it allows."""

    bits: tuple[int, ...] | None = None
    granularity: Literal["per_tensor", "per_channel"] | None = None
    symmetric: bool | None = None
    scale: Literal["power_of_two", "float"] | None = None
    packing: Literal["packed", "byte"] | None = None


class Activations(_Frozen):
    """Activation formats that the hardware computes with; `relu_unsigned` = the output of a ReLU is unsigned."""

    bits: tuple[int, ...] | None = None
    symmetric: bool | None = None
    scale: Literal["power_of_two", "float"] | None = None
    relu_unsigned: bool | None = None


class Requant(_Frozen):
    """How an accumulator becomes an activation."""

    multiplier: Literal["shift", "q31", "fp32"] | None = None
    rounding: Literal["half_up", "half_away", "half_even", "floor"] | None = None
    double_rounding: bool | None = None
    saturate: bool | None = None


class Operator(_Frozen):
    """An operator that the target runs, by its ONNX name."""

    op: str
    source: str = ""


class Shapes(_Frozen):
    """`static` = every dimension must be a number in the file."""

    static: bool | None = None


class Compute(_Frozen):
    """Speed of the multiply-accumulate units; `kind` says whether that is a data-sheet peak or was measured."""

    clock_hz: float | None = Field(default=None, gt=0)
    macs_per_cycle: float | None = Field(default=None, gt=0)
    kind: Literal["peak", "measured"] | None = None
    arithmetic: Literal["integer", "any"] | None = None


class HardwareProfile(_Frozen):
    """One target."""

    name: str
    description: str = ""
    vendor: str = ""
    extends: str | None = None
    sources: tuple[Source, ...] = ()
    params: Cap = Cap()
    memory: Memory = Memory()
    weights: Weights = Weights()
    activations: Activations = Activations()
    requant: Requant = Requant()
    accumulator_bits: int | None = Field(default=None, gt=0)
    ops: tuple[Operator, ...] | None = None
    layers: Cap = Cap()  # operators that carry weights: Conv, Gemm, MatMul
    shapes: Shapes = Shapes()
    compute: Compute = Compute()
    energy_pj_per_mac: float | None = Field(default=None, gt=0)
    _sha256: str = PrivateAttr(default="")

    @property
    def sha256(self) -> str:
        """SHA-256 of the TOML file, followed by those it extends."""
        return self._sha256

    @classmethod
    def read(cls, path: Path) -> HardwareProfile:
        """Read a profile and those it extends.

        Raises:
            ProfileError: naming the file and the key.
        """
        tree, content = read_extended(path)
        try:
            profile = cls.model_validate(tree)
        except ValidationError as error:
            raise ProfileError(explain(cls, error, f"profile {path}")) from error
        profile._sha256 = sha256_bytes(content)
        return profile

    def source(self, key: str) -> str:
        """Return where the value of a dotted key was read, empty where the profile does not say."""
        return next((f"{own.text} {own.url}".strip() for own in self.sources if own.covers(key)), "")

    def unsourced(self) -> list[str]:
        """Return the keys that hold a number for which the profile names no source, sorted."""
        return sorted(key for key in _numbers(self.model_dump(exclude={"sources"})) if not self.source(key))


def load_profile(name_or_path: str) -> HardwareProfile:
    """Read a profile that comes with edgekd by its name, or any TOML file by its path.

    Raises:
        ProfileError: no such profile (with the nearest name), not TOML, an unknown key (with the nearest legal one), an
            impossible value, or `extends` in a circle.
    """
    return HardwareProfile.read(locate(name_or_path))


def _numbers(value: object, key: str = "") -> set[str]:
    """Return the dotted keys that hold numbers; the items of a list share its key."""
    prefix = f"{key}." if key else ""
    if isinstance(value, dict):
        return set().union(*(_numbers(item, f"{prefix}{name}") for name, item in value.items()))
    if isinstance(value, tuple | list):
        return set().union(*(_numbers(item, key) for item in value))
    return {key} if isinstance(value, int | float) and not isinstance(value, bool) else set()
