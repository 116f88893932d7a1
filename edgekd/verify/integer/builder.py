"""The state of a lowering: what every ONNX tensor has become so far, and the steps made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from edgekd.verify.graph import Graph, Node, dtype_bits
from edgekd.verify.integer.kernels import MOVING
from edgekd.verify.integer.rounded import LARGEST_SCALE, narrowed, quantized, require_multiplier
from edgekd.verify.integer.steps import Accumulate, Move, Step
from edgekd.verify.integer.values import Format, Integers, Operand, Output, RefusedError

LARGEST_BITS = 32  # wider integers are shapes and indices, never data


Emit = Callable[["Builder", Output, np.float32], Step]
Reshaping = Callable[["Builder", Operand], Operand]


@dataclass(frozen=True, eq=False)
class Real:
    """Floats: constants of the file, or None for what enters the graph as floats, as its input `entry`.

    `moves` wait until these floats are quantized, each element by itself, so that they may as well come after it.
    """

    values: NDArray[np.float32] | None
    entry: str = ""
    moves: tuple[Reshaping, ...] = ()

    def then(self, move: Reshaping) -> Real:
        """The same behind a move."""
        return replace(self, moves=(*self.moves, move))


@dataclass(frozen=True, eq=False)
class Pending:
    """The float result of an operator, to become one integer step where it is quantized.

    `emit` makes that step; `low`..`high` (real values) is what activations leave; `moves` follow it, on integers:
    rounding is monotone, so a maximum, a clamp or another shape may as well come after it.
    """

    node: Node
    emit: Emit
    low: float = -np.inf
    high: float = np.inf
    moves: tuple[Reshaping, ...] = ()
    sum: Accumulate | None = None  # where a constant may still be added to its bias; its output is a placeholder

    def clamped(self, low: float, high: float) -> Pending:
        """The same behind a clamp of the real value."""
        return replace(self, low=max(low, min(self.low, high)), high=min(high, max(self.high, low)), sum=None)

    def then(self, move: Reshaping) -> Pending:
        """The same behind a move."""
        return replace(self, moves=(*self.moves, move), sum=None)


Value = Operand | Pending | Real | RefusedError


@dataclass(eq=False)
class Builder:
    """What the lowering of one graph has found so far."""

    graph: Graph
    values: dict[str, Value] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)

    def read(self, node: Node, index: int) -> Operand | Pending | Real:
        """Return what an input has become.

        Raises:
            RefusedError: it was refused before, is left out, or is nothing that integers can stand for.
        """
        name = node.input(index)
        found = self.values.get(name)
        if found is None:
            found = self._stored(node, name)
        if isinstance(found, RefusedError):
            raise found
        return found

    def integers(self, node: Node, index: int) -> Operand:
        """Return an input that is integer, constant or not.

        Raises:
            RefusedError: it is a float that is never quantized.
        """
        found = self.read(node, index)
        if isinstance(found, Operand):
            return found
        raise RefusedError(node.name, f"{node.op} reads the float tensor '{node.input(index)}', which is not quantized")

    def quantized(self, node: Node, index: int) -> Operand:
        """Return an input that is integer, with its scale.

        Raises:
            RefusedError: it is a float, or nothing tells its scale.
        """
        found = self.integers(node, index)
        if found.format is None:
            raise RefusedError(node.name, f"nothing tells the scale of '{node.input(index)}'")
        return found

    def activation(self, node: Node, index: int) -> Operand:
        """Return a quantized input with one scale and zero point.

        Raises:
            RefusedError: as `quantized`; more than one scale.
        """
        found = self.quantized(node, index)
        require_one_scale(node, found)
        return found

    def shape(self, node: Node, name: str) -> tuple[int, ...]:
        """Return a tensor's shape.

        Raises:
            RefusedError: it is not known.
        """
        shape = self.graph.value(name).shape
        if shape is None:
            raise RefusedError(node.name, f"the shape of '{name}' is not known")
        return shape

    def indices(self, node: Node, index: int) -> tuple[int, ...]:
        """Return an input that holds axes or amounts.

        Raises:
            RefusedError: it is not constant.
        """
        array = self.graph.constant(node.input(index))
        if array is None or not np.issubdtype(array.dtype, np.integer):
            raise RefusedError(node.name, f"its input {index} is not constant integers")
        return tuple(int(item) for item in array.ravel())

    def format(self, node: Node, scale: int, dtype: str = "", *, rank: int = 0, axis: int | None = None) -> Format:
        """Read the scale at input `scale` and the zero point behind it; `axis` is that of several scales.

        Raises:
            RefusedError: they are not constant, not positive numbers, or of a type that is no integer.
        """
        scales, zeros = self.graph.constant(node.input(scale)), self.graph.constant(node.input(scale + 1))
        if scales is None or (zeros is None and node.input(scale + 1)):
            raise RefusedError(node.name, "its scale or zero point is not constant")
        if zeros is not None and not np.issubdtype(zeros.dtype, np.integer):
            raise RefusedError(node.name, f"its zero point is {zeros.dtype}, no integer")
        real = scales.astype(np.float32)
        if not np.all(np.isfinite(real) & (real > 0)):
            raise RefusedError(node.name, "a scale is not a positive number")
        if np.any((real < 1 / LARGEST_SCALE) | (real > LARGEST_SCALE)):
            raise RefusedError(node.name, "a scale is so small or large that float32 products of it mean nothing")
        low, high = _type_range(node, dtype or (str(zeros.dtype) if zeros is not None else "uint8"))
        zero_point = np.zeros(real.shape, np.int64) if zeros is None else zeros.astype(np.int64)
        return Format(_placed(node, real, rank, axis), _placed(node, zero_point, rank, axis), low, high)

    def move(
        self,
        node: Node,
        kernel: str,
        inputs: Sequence[Operand],
        settings: object,
        *,
        limits: tuple[int, int] | None = None,
    ) -> Operand:
        """Append a move, or apply it to constants at once; return what it writes, in the format of its first input."""
        low, high = limits or (min(item.low for item in inputs), max(item.high for item in inputs))
        first = inputs[0]
        tensor = f"{node.outputs[0]}/{len(self.steps)}"
        constants = [item.values for item in inputs if item.values is not None]
        if len(constants) == len(inputs):
            return Operand(tensor, low, high, first.format, MOVING[kernel](constants, settings))
        self.steps.append(Move(node.name, kernel, tuple(inputs), settings, tensor))
        return Operand(tensor, low, high, first.format)

    def round(self, pending: Pending, form: Format, tensor: str) -> Operand:
        """Append the step of a pending result that is quantized to `form`, and the moves behind it.

        Raises:
            RefusedError: the output has more than one scale.
        """
        if form.scale.size > 1 or form.zero_point.size > 1:
            raise RefusedError(pending.node.name, f"'{tensor}' has a scale for each channel")
        zero = int(form.zero_point.item())
        low, high = (quantized(real, form) for real in (pending.low, pending.high))
        output = Output(f"{tensor}/{len(self.steps)}", zero, low, high, form.low, form.high)
        step = pending.emit(self, output, np.float32(form.scale.item()))
        self.steps.append(step)
        require_multiplier(step)
        if isinstance(step, Accumulate):
            low, high = narrowed(step)
        operand = Operand(output.tensor, low, high, Format(form.scale.reshape(()), np.array(zero), form.low, form.high))
        for move in pending.moves:
            operand = move(self, operand)
        return operand

    def _stored(self, node: Node, name: str) -> Value:
        array = self.graph.constant(name)
        if array is None:
            raise RefusedError(node.name, f"it has no input '{name}'" if name else f"{node.op} lacks an input")
        if str(array.dtype) in {"float32", "float64", "float16", "bfloat16"}:
            return Real(array.astype(np.float32))
        low, high = _type_range(node, str(array.dtype))
        return Operand(name, low, high, None, _integers(array))


def require_one_scale(node: Node, operand: Operand) -> None:
    """Refuse an activation with a scale for each channel.

    Raises:
        RefusedError: it has more than one.
    """
    if operand.format and (operand.format.scale.size > 1 or operand.format.zero_point.size > 1):
        raise RefusedError(node.name, f"{node.op} reads a tensor with a scale for each channel")


def _type_range(node: Node, dtype: str) -> tuple[int, int]:
    bits = dtype_bits(dtype)
    if bits is None or bits > LARGEST_BITS or not dtype.lstrip("u").startswith("int"):
        raise RefusedError(node.name, f"{dtype or 'an unknown type'} is no integer type that is simulated")
    return (0, 2**bits - 1) if dtype.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def _placed(node: Node, array: NDArray[np.generic], rank: int, axis: int | None) -> NDArray:  # type: ignore[type-arg]
    """Give one value no dimensions, and several those of a tensor of `rank`, all 1 but `axis`."""
    if array.size == 1:
        return array.reshape(())
    if array.ndim != 1 or axis is None or not -rank <= axis < rank:
        raise RefusedError(node.name, "its scales are neither one for the tensor nor one for each channel")
    shape = [1] * rank
    shape[axis] = array.size
    return array.reshape(shape)


def _integers(array: NDArray[np.generic]) -> Integers:
    whole: Integers = array.astype(array.dtype if np.issubdtype(array.dtype, np.integer) else np.int32)  # int4 is none
    return whole
