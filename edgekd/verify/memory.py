"""Activation memory of the deployed integer network, which is not what the ONNX file says.

The conventions:

- A tensor between quantize and dequantize is one integer tensor: the float output of a convolution that is then
  quantized is never stored, and dequantizing makes no copy. What is never quantized is stored as the float it is.
- Views (Flatten, Reshape) rename; activations (Relu) work in place. Both take no memory of their own.
- Operators run in the file's order; the inputs and the outputs of one are live together. Graph inputs are live from the
  start, graph outputs to the end, those too that are computed from constants alone. An element takes whole bytes.
  Weights and kernels' scratch are not activations.
- *Fused* means that a convolution and the pool behind it run as one: only the pooled output is stored. Pools whose
  windows overlap are left alone, because fusing them would compute elements twice or keep lines.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from edgekd.verify.graph import Graph, Node
from edgekd.verify.operators import Kind, kind_of
from edgekd.verify.planner import Buffer, Plan, plan_arena
from edgekd.verify.storage import storage_bits


@dataclass(frozen=True)
class ActivationMemory:
    """The plan as the file stands, and with pools fused; both None where the sizes of `unsized` are not known."""

    plan: Plan | None
    fused: Plan | None
    steps: tuple[Node, ...]
    unsized: tuple[str, ...] = ()


@dataclass
class _Tensor:
    """A buffer on its way: where it was first written, last read, and whether a later operator may overwrite it."""

    name: str
    shape: tuple[int, ...]
    bytes: int
    first_step: int
    last_step: int
    readers: list[Node] = field(default_factory=list)
    lasting: bool = False

    def buffer(self) -> Buffer:
        return Buffer(self.name, self.shape, self.bytes, self.first_step, self.last_step)


def memory_of(graph: Graph) -> ActivationMemory:
    """Plan the activation memory of a graph."""
    names = dict.fromkeys((*graph.inputs, *(name for node in graph.nodes for name in node.outputs if name)))
    stored = graph.fixed - graph.results
    unsized = tuple(name for name in names if name not in stored and graph.value(name).shape is None)
    if unsized:
        return ActivationMemory(None, None, (), unsized)
    walk = _Walk(graph)
    tensors = walk.tensors()
    fused = _fuse_pools(walk.steps, tensors)
    return ActivationMemory(_plan(tensors), _plan(fused), tuple(walk.steps))


def _plan(tensors: Iterable[_Tensor]) -> Plan:
    return plan_arena([tensor.buffer() for tensor in tensors])


class _Walk:
    """One pass over the nodes in order; `steps` are those that write a buffer of their own."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.bits = storage_bits(graph)
        self.steps: list[Node] = []
        self.homes: dict[str, _Tensor] = {}  # tensor name -> the buffer it lies in

    def tensors(self) -> list[_Tensor]:
        """Return every buffer, in order of birth."""
        for name in self.graph.inputs:
            self._give_home(name, 0)
            self.homes[name].lasting = True
        for node in self.graph.nodes:
            if node.outputs[0] not in self.graph.fixed or self.graph.results.intersection(node.outputs):
                self._visit(node)
        for name in self.graph.outputs:
            if name in self.homes:
                self.homes[name].last_step = max(len(self.steps) - 1, 0)
        return list({id(tensor): tensor for tensor in self.homes.values()}.values())

    def _visit(self, node: Node) -> None:
        homes = {name: self.homes[name] for name in node.inputs if name in self.homes}
        source = homes.get(node.input(0))
        if source and self._shares(node, source):
            self.homes[node.outputs[0]] = source
            source.lasting |= node.outputs[0] in self.graph.results
            return
        step = len(self.steps)
        self.steps.append(node)
        for home in homes.values():
            home.last_step = step
            home.readers.append(node)
        for name in node.outputs:
            if name in self.bits:
                self._give_home(name, step)

    def _shares(self, node: Node, source: _Tensor) -> bool:
        """Say whether a node's output lies where its input lies; note where a tensor is read more than once."""
        name, output = node.input(0), node.outputs[0]
        source.lasting |= len(self.graph.consumers[name]) > 1
        if not output or self._bytes(output) != source.bytes:
            return False
        if kind_of(node) is Kind.VIEW or node.op == "DequantizeLinear":
            return True
        return kind_of(node) in {Kind.UNARY, Kind.QUANTIZER} and not source.lasting

    def _give_home(self, name: str, step: int) -> None:
        lasting = name in self.graph.results
        shape = self.graph.value(name).shape or ()
        self.homes[name] = _Tensor(name, shape, self._bytes(name), step, step, lasting=lasting)

    def _bytes(self, name: str) -> int:
        return (self.graph.value(name).elements or 0) * math.ceil(self.bits[name] / 8)


def _fuse_pools(steps: list[Node], tensors: list[_Tensor]) -> list[_Tensor]:
    """Drop each convolution's output that only a pool reads; the pooled output is born with the convolution."""
    births = {tensor.name: tensor.first_step for tensor in tensors}
    gone: set[str] = set()
    for tensor in tensors:
        if tensor.lasting or len(tensor.readers) != 1 or kind_of(steps[tensor.first_step]) is not Kind.LAYER:
            continue
        pool = tensor.readers[0]
        if kind_of(pool) is Kind.POOL and not _windows_overlap(pool):
            gone.add(tensor.name)
            births[pool.outputs[0]] = tensor.first_step
    return [replace(tensor, first_step=births[tensor.name]) for tensor in tensors if tensor.name not in gone]


def _windows_overlap(pool: Node) -> bool:
    kernel = pool.ints("kernel_shape") or ()  # a global pool has one window
    strides = pool.ints("strides") or (1,) * len(kernel)
    return any(size > stride for size, stride in zip(kernel, strides, strict=False))
