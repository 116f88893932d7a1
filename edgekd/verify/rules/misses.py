"""A node beyond a limit of its operator's entry, and what entries of the target would take instead."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgekd.profile import Operator
from edgekd.verify.facts import Facts
from edgekd.verify.uses import Shape, Use

SAME = "which computes the same"
ALMOST_SAME = f"{SAME} but for rounding"

Limits = Mapping[str, object]


@dataclass(frozen=True, eq=False)
class Miss:
    """A node whose value for one of the `limits` of its entry is not `allowed`; `entries` are all of the target."""

    facts: Facts
    use: Use
    allowed: object
    limits: Limits
    entries: Sequence[Operator]

    def lists(self, op: str) -> bool:
        """Say whether the target has an operator at all."""
        return any(entry.op == op for entry in self.entries)

    def takes_window(self, side: int, dilation: int = 1) -> bool:
        """Say whether every limit of this entry takes a window of side x side."""
        return takes_window(self.limits, (side, side), dilation)

    def takes_stride(self, stride: int) -> bool:
        """Say whether every limit of this entry takes a stride in both directions."""
        return takes_strides(self.limits, (stride, stride))

    def runs_pool(self, op: str, window: Shape, channels: int | None, *, lone: bool) -> bool:
        """Say whether an entry takes a pool that moves by its own window; `lone`: no convolution reads what it makes.

        What an entry does not mention may be taken.
        """
        keys = ("input_channels_max", "lone_channels_max") if lone else ("input_channels_max",)
        return any(
            takes_window(limits, window) and takes_strides(limits, window) and _at_most(limits, keys, channels)
            for limits in self._limits_of(op)
        )

    def runs_point_conv(self, channels: int) -> bool:
        """Say whether an entry takes a convolution of 1x1 that leaves the number of channels as it is."""
        return any(
            takes_window(limits, (1, 1))
            and takes_strides(limits, (1, 1))
            and _at_most(limits, ("input_channels_max", "output_channels_max"), channels)
            and _listed(limits.get("groups"), ("one", "any"))
            for limits in self._limits_of("Conv")
        )

    def _limits_of(self, op: str) -> list[Limits]:
        return [entry.limits() for entry in self.entries if entry.op == op]


def takes_window(limits: Limits, window: Shape, dilation: int = 1) -> bool:
    """Say whether every limit on windows takes this one."""
    dilated = tuple(dilation * (side - 1) + 1 for side in window)
    return (
        _at_most(limits, ("kernel_max_px",), *window)
        and _at_most(limits, ("kernel_area_max_px",), math.prod(window))
        and _at_most(limits, ("dilated_kernel_max_px",), *dilated)
        and _at_most(limits, ("dilated_kernel_area_max_px",), math.prod(dilated))
        and _at_most(limits, ("dilation_max_px",), dilation)
        and _listed(limits.get("kernels_px"), (window,))
        and _listed(limits.get("dims"), (len(window),))
    )


def takes_strides(limits: Limits, strides: Shape) -> bool:
    """Say whether every limit on strides takes these."""
    each = all(_listed(limits.get("strides_px"), (stride,)) for stride in strides)
    equal = not limits.get("equal_strides") or len(set(strides)) == 1
    return each and equal and _at_most(limits, ("stride_max_px",), *strides)


def square(shape: Shape | None) -> int | None:
    """Return the side of a square window, or the one step of equal strides."""
    return shape[0] if shape and len(set(shape)) == 1 else None


def padding_kind(use: Use) -> str:
    """Return how a node states its padding."""
    return str(use.node.attributes.get("auto_pad", "NOTSET"))


def _at_most(limits: Limits, keys: Sequence[str], *values: int | None) -> bool:
    """Say whether every value is known and within each of the limits that are stated."""
    stated = [most for key in keys if isinstance(most := limits.get(key), int)]
    return all(value is not None and value <= most for most in stated for value in values)


def _listed(listed: object, wanted: Sequence[object]) -> bool:
    """Say whether one of `wanted` is in a list, or there is none."""
    return not isinstance(listed, tuple) or any(item in listed for item in wanted)
