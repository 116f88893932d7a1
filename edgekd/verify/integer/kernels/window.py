"""Where the windows of a convolution or a pool lie."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Placed:
    """Windows on one image size: zeros to add before and after each spatial axis, and the output's size."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    out: tuple[int, ...]


@dataclass(frozen=True)
class Window:
    """Kernel, strides, dilations and padding of each spatial axis, as ONNX defines them."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]  # all befores, then all afters
    auto_pad: str = "NOTSET"
    ceil_mode: bool = False

    @property
    def taps(self) -> int:
        """Elements of one window."""
        return int(np.prod(self.kernel))

    def place(self, sizes: Sequence[int]) -> Placed:
        """Return the padding and output size for an image of these sizes; `after` reaches the last window's end.

        Raises:
            ValueError: the windows do not fit the image.
        """
        axes = [self._axis(axis, size) for axis, size in enumerate(sizes)]
        if len(sizes) != len(self.kernel) or min(out for _, _, out in axes) < 1:
            raise ValueError(f"windows of {self.kernel} on an image of {tuple(sizes)}")
        before, after, out = zip(*axes, strict=True)
        return Placed(before, after, out)

    def offsets(self) -> Iterator[tuple[int, ...]]:
        """Where each element of a window lies from its corner."""
        return product(*(range(0, k * d, d) for k, d in zip(self.kernel, self.dilations, strict=True)))

    def slices(self, offset: Sequence[int], out: Sequence[int]) -> tuple[slice, ...]:
        """The elements of a padded image that lie at `offset` in the windows of the output."""
        axes = zip(offset, out, self.strides, strict=True)
        return tuple(slice(start, start + (count - 1) * step + 1, step) for start, count, step in axes)

    def counts(self, sizes: Sequence[int], *, include_pad: bool) -> NDArray[np.int64]:
        """Return how many elements each window averages, (1, 1, *out); padding counts where asked."""
        inside = np.zeros([size + sum(self._padding(axis, size)) for axis, size in enumerate(sizes)], np.int64)
        befores = [self._padding(axis, size)[0] for axis, size in enumerate(sizes)]
        inside[tuple(slice(low, low + size) for low, size in zip(befores, sizes, strict=True))] = 1
        inside = np.ones_like(inside) if include_pad else inside
        placed = self.place(sizes)
        spans = [size + low + high for size, low, high in zip(sizes, placed.before, placed.after, strict=True)]
        room = [(0, max(0, span - have)) for span, have in zip(spans, inside.shape, strict=True)]
        padded = np.pad(inside, room)
        return np.asarray(sum(padded[self.slices(offset, placed.out)] for offset in self.offsets()))[None, None]

    def _axis(self, axis: int, size: int) -> tuple[int, int, int]:
        before, after = self._padding(axis, size)
        step, span = self.strides[axis], (self.kernel[axis] - 1) * self.dilations[axis] + 1
        room = size + before + after - span
        out = (-(-room // step) if self.ceil_mode else room // step) + 1
        if self.ceil_mode and (out - 1) * step >= size + before:  # a window must not start in the padding behind
            out -= 1
        return before, max(after, (out - 1) * step + span - size - before), out

    def _padding(self, axis: int, size: int) -> tuple[int, int]:
        if self.auto_pad not in {"SAME_UPPER", "SAME_LOWER"}:
            return (0, 0) if self.auto_pad == "VALID" else (self.pads[axis], self.pads[axis + len(self.kernel)])
        step, span = self.strides[axis], (self.kernel[axis] - 1) * self.dilations[axis] + 1
        total = max(0, (-(-size // step) - 1) * step + span - size)
        less, more = total // 2, total - total // 2
        return (less, more) if self.auto_pad == "SAME_UPPER" else (more, less)
