"""What a tensor is to the integer simulator: integers with a scale and a zero point, and how sums become integers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.integer]
Scales = NDArray[np.float32]
_STORAGE = (np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32)


class RefusedError(Exception):
    """A node that the simulator does not compute, and why: verify makes a finding of it."""

    def __init__(self, node: str, reason: str) -> None:
        super().__init__(f"{node}: {reason}")
        self.node = node
        self.reason = reason


@dataclass(frozen=True, eq=False)
class Format:
    """`real = scale * (integer - zero_point)`, with integers of a type that holds low..high.

    Scale and zero point have no dimensions, or as many as a constant tensor, size 1 but for the channels.
    """

    scale: Scales
    zero_point: NDArray[np.int64]
    low: int
    high: int

    @property
    def dtype(self) -> np.dtype[np.integer]:
        """The narrowest NumPy type that holds low..high."""
        return storage(self.low, self.high)

    def transposed(self, axes: Sequence[int]) -> Format:
        """The same for a tensor whose axes are reordered."""
        scale = self.scale.transpose(axes) if self.scale.ndim else self.scale
        zero_point = self.zero_point.transpose(axes) if self.zero_point.ndim else self.zero_point
        return replace(self, scale=scale, zero_point=zero_point)


@dataclass(frozen=True, eq=False)
class Operand:
    """A tensor of the program: `values` where it is constant; every value lies in low..high.

    `format` is None for integers whose scale nothing has told yet.
    """

    tensor: str
    low: int
    high: int
    format: Format | None = None
    values: Integers | None = None

    @property
    def zero_point(self) -> NDArray[np.int64]:
        """The integer that stands for 0; 0 where no format is known."""
        return self.format.zero_point if self.format else np.array(0, np.int64)

    @property
    def centred(self) -> tuple[int, int]:
        """The range of integer - zero point."""
        return self.low - int(self.zero_point.max()), self.high - int(self.zero_point.min())

    def with_format(self, form: Format) -> Operand:
        """The same integers, read with another scale and zero point."""
        return replace(self, format=form)


@dataclass(frozen=True, eq=False)
class Multiplier:
    """What a sum is worth in steps of the output: product of `factors` / (`output` * `count`).

    Factors broadcast against the sums; `count` is the number of averaged elements, else 1.
    """

    factors: tuple[Scales, ...]
    output: np.float32
    count: NDArray[np.int64]

    def as_float32(self) -> Scales:
        """In the order of float32 operations of onnxruntime and XNNPACK: (a * b) / (output * count)."""
        product = self.factors[0]
        for factor in self.factors[1:]:
            product = product * factor
        return np.asarray(product / (self.output * np.asarray(self.count, np.float32)), np.float32)

    def as_float64(self) -> NDArray[np.float64]:
        """The same in double precision, without the count."""
        product = self.factors[0].astype(np.float64)
        for factor in self.factors[1:]:
            product = product * factor.astype(np.float64)
        return np.asarray(product / np.float64(self.output))

    def exponents(self) -> NDArray[np.int64] | None:
        """Return k where every multiplier is 2^k, None where one is not; proven on the scales themselves."""
        mantissas, exponents = np.frexp(self.as_float64() / self.count)
        exact = all(np.all(np.frexp(np.asarray(part))[0] == 0.5) for part in (*self.factors, self.output))
        counts = np.frexp(self.count.astype(np.float64))[0]
        if not exact or not np.all(counts == 0.5) or not np.all(mantissas == 0.5):
            return None
        return np.asarray(exponents, np.int64) - 1


@dataclass(frozen=True)
class Output:
    """The integers that a step writes.

    `low`..`high` is what an activation (Relu, Clip) leaves of the type's range `type_low`..`type_high`.
    """

    tensor: str
    zero_point: int
    low: int
    high: int
    type_low: int
    type_high: int

    @property
    def dtype(self) -> np.dtype[np.integer]:
        """The NumPy type that holds the whole type's range."""
        return storage(self.type_low, self.type_high)


def storage(low: int, high: int) -> np.dtype[np.integer]:
    """Return the narrowest NumPy integer type that holds low..high, int64 where none of 32 bits does."""
    for kind in _STORAGE:
        limits = np.iinfo(kind)
        if limits.min <= low and high <= limits.max:
            return np.dtype(kind)
    return np.dtype(np.int64)
