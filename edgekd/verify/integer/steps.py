"""The steps that a quantized graph is lowered to, and the program that they form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgekd.verify.integer.values import Format, Multiplier, Operand, Output


@dataclass(frozen=True, eq=False)
class Accumulate:
    """Sums of products (or of elements) that are requantized: an ADDING kernel, its bias and its multiplier.

    `terms` is the number of products in one sum; `bias` broadcasts against the sums; `layer` tells whether it counts
    as one (Conv, Gemm, MatMul).
    """

    node: str
    kernel: str
    inputs: tuple[Operand, ...]
    settings: object
    terms: int
    bias: NDArray[np.int64] | None
    multiplier: Multiplier
    output: Output
    layer: bool = False


@dataclass(frozen=True, eq=False)
class AddTerms:
    """An addition of tensors with scales of their own, rounded as the target's addition does."""

    node: str
    inputs: tuple[Operand, ...]
    scale: np.float32
    output: Output


@dataclass(frozen=True, eq=False)
class Move:
    """A MOVING kernel: no new values."""

    node: str
    kernel: str
    inputs: tuple[Operand, ...]
    settings: object
    output: str


Step = Accumulate | AddTerms | Move


@dataclass(frozen=True, eq=False)
class Result:
    """A graph output: which of the program's tensors it is, its format where known, and whether the file scales it."""

    name: str
    tensor: str
    format: Format | None
    dequantized: bool


@dataclass(frozen=True, eq=False)
class Program:
    """Integer steps in the order of the graph; `inputs` and `results` are the graph's inputs and outputs.

    `operands` tells what each integer tensor of the graph has become.
    """

    inputs: tuple[str, ...]
    steps: tuple[Step, ...]
    results: tuple[Result, ...]
    operands: Mapping[str, Operand]


def target(step: Step) -> str:
    """Return the tensor that a step writes."""
    return step.output if isinstance(step, Move) else step.output.tensor


def multiplier_of(scales: tuple[NDArray[np.float32], ...], output: np.float32, count: int = 1) -> Multiplier:
    """Return the multiplier of plain sums."""
    return Multiplier(scales, output, np.array(count, np.int64))
