"""A small frozen view of an ONNX graph: all that costs, memory and rules need, and nothing of protobuf."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

FLOAT_BITS = 32  # of a tensor whose type nothing tells

_NO_NUMBERS = frozenset("OSUcb")  # NumPy's kinds

Array = NDArray[np.generic]
Attribute = int | float | str | tuple[int, ...] | tuple[float, ...] | tuple[str, ...]
K = TypeVar("K")
T = TypeVar("T")
Flavour = Literal["qcdq", "qdq", "qoperator", "qonnx", "float"]


@dataclass(frozen=True)
class Value:
    """A tensor; `shape` is None unless every dimension is a number, `dtype` is empty where nothing tells it."""

    name: str
    dtype: str
    shape: tuple[int, ...] | None

    @property
    def bits(self) -> int:
        """Width of one element."""
        return dtype_bits(self.dtype) or FLOAT_BITS

    @property
    def is_integer(self) -> bool:
        """True for int4, uint8, int32 and the like."""
        return self.dtype.lstrip("u").startswith("int")

    @property
    def elements(self) -> int | None:
        """The number of elements."""
        return None if self.shape is None else math.prod(self.shape)


@dataclass(frozen=True)
class Node:
    """One operator; attributes that are tensors or graphs are left out, `has_subgraph` tells of the latter."""

    name: str
    op: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute]
    has_subgraph: bool = False

    def input(self, index: int) -> str:
        """The name of an input; empty where it is left out."""
        return self.inputs[index] if index < len(self.inputs) else ""

    def ints(self, attribute: str) -> tuple[int, ...] | None:
        """An attribute that is a list of integers, such as `kernel_shape`."""
        value = self.attributes.get(attribute)
        if not isinstance(value, tuple):
            return None
        integers = tuple(item for item in value if isinstance(item, int))
        return integers if len(integers) == len(value) else None

    def int(self, attribute: str, default: int) -> int:
        """An attribute that is one integer, such as `group`."""
        value = self.attributes.get(attribute, default)
        return value if isinstance(value, int) else default


@dataclass(frozen=True)
class SymbolicDim:
    """A dimension of a graph input that is a name, not a number; `label` is "?" where it has no name either."""

    tensor: str
    axis: int
    label: str


@dataclass(frozen=True, eq=False)
class Graph:
    """An ONNX graph in its own (topological) order. A symbolic batch is seen as batch 1; `symbolic` says so.

    `flaws` tell where operators, attributes and shapes contradict each other.
    """

    path: Path
    sha256: str
    producer: str
    metadata: Mapping[str, str]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    values: Mapping[str, Value]
    constants: Mapping[str, Array]
    symbolic: tuple[SymbolicDim, ...]
    flaws: tuple[str, ...] = ()

    @cached_property
    def producers(self) -> Mapping[str, Node]:
        """The node that writes each tensor."""
        return {name: node for node in self.nodes for name in node.outputs if name}

    @cached_property
    def consumers(self) -> Mapping[str, tuple[Node, ...]]:
        """The nodes that read each tensor, each once."""
        readers: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                readers.setdefault(name, []).append(node)
        return {name: tuple(nodes) for name, nodes in readers.items()}

    @cached_property
    def fixed(self) -> frozenset[str]:
        """Every tensor that does not depend on a graph input: constants and what is computed from them alone."""
        known = set(self.constants)
        for node in self.nodes:  # a subgraph may read what is not among the node's inputs
            if not node.has_subgraph and all(name in known for name in node.inputs if name):
                known.update(filter(None, node.outputs))
        return frozenset(known)

    @cached_property
    def results(self) -> frozenset[str]:
        """The graph's outputs, to look names up in."""
        return frozenset(self.outputs)

    def value(self, name: str) -> Value:
        """What is known of a tensor."""
        return self.values.get(name) or Value(name, "", None)

    def constant(self, name: str) -> Array | None:
        """The elements of a tensor that is stored in the file."""
        return self.constants.get(name)

    def numbers(self, name: str) -> Array | None:
        """The elements of a tensor that is stored in the file, None where they are text, complex or true and false."""
        array = self.constants.get(name)
        return None if array is None or array.dtype.kind in _NO_NUMBERS else array

    def number(self, name: str) -> float | None:
        """The element of a tensor that stores one finite number."""
        array = self.numbers(name)
        if array is None or array.size != 1:
            return None
        value = float(array.astype(np.float64).item())
        return value if math.isfinite(value) else None


def dtype_bits(dtype: str) -> int | None:
    """Return the width in bits that a type's name tells: 4 for uint4, 8 for float8e4m3fn; a bool takes a byte."""
    digits = re.search(r"\d+", dtype)
    return int(digits[0]) if digits else 8 if dtype == "bool" else None


def once_each(compute: Callable[[K], T]) -> Callable[[K], T]:
    """Keep what the decorated function returns for an object (a graph, a step) for as long as that lives."""
    kept: WeakKeyDictionary[K, T] = WeakKeyDictionary()

    @functools.wraps(compute)
    def once(of: K) -> T:
        if of not in kept:
            kept[of] = compute(of)
        return kept[of]

    return once
