"""How long an engine would take on a file, estimated before it runs: what would not end soon is not begun.

The estimates follow from counts alone, so that a file is treated alike everywhere: MACs, elements read and written,
nodes, and pairs of nodes, which onnxruntime's optimizer may compare. The rates are those of two cores of a server CPU,
rounded: a Conv4-64 on 12,000 images of 84x84 takes a minute and a half.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgekd.verify.facts import Facts
from edgekd.verify.graph import Graph, Node
from edgekd.verify.operators import Kind, kind_of
from edgekd.verify.rules import Finding

if TYPE_CHECKING:
    from edgekd.fewshot import Protocol

MOST_SECONDS = 120.0  # of each engine, unless the user says otherwise
LARGEST_LIMIT_S = 30 * 24 * 3600
_MACS_PER_S, _ELEMENTS_PER_S, _EPISODE_ELEMENTS_PER_S = 2e10, 1e9, 2e8
_NODE_S, _STEP_S = 5e-6, 1e-4  # of a call in onnxruntime, in the simulator
_PAIR_S = 1.2e-6  # of onnxruntime's optimizer, for a tensor that every second node reads


@dataclass(frozen=True)
class Duration:
    """What an engine would take, in seconds, and of what."""

    seconds: float
    what: str

    def excess(self, rule: str, limit_s: float) -> Finding | None:
        """Return what is said where it is more than `limit_s`, None where it is not."""
        if self.seconds <= limit_s:
            return None
        message = (
            f"not run: {self.what} would take about {self.seconds:,.0f} s, the bound is {limit_s:g} s for each engine; "
            f"--most-seconds {_rounded_up(self.seconds)} raises it"
        )
        return Finding(
            rule=rule,
            status="unknown",
            message=message,
            attribute="most-seconds",
            value=round(self.seconds),
            limit=limit_s,
        )


def runs_of(graph: Graph, images: int) -> int:
    """Return how often a graph runs for as many images: a fixed batch is filled."""
    shape = graph.value(graph.inputs[0]).shape
    return math.ceil(images / max(shape[0] if shape else 1, 1))


def onnxruntime_duration(facts: Facts, images: int) -> Duration:
    """Return what onnxruntime takes to open a file and run it; operators whose shapes are not known count as free."""
    nodes, runs = len(facts.graph.nodes), runs_of(facts.graph, images)
    seconds = nodes**2 * _PAIR_S + runs * (nodes * _NODE_S + _computing_s(facts))
    return Duration(seconds, f"onnxruntime, {images:,} images through {nodes:,} nodes and {facts.costs.macs:,} MACs,")


def simulator_duration(facts: Facts, images: int) -> Duration:
    """Return what the integer simulator takes to run a program that a file is lowered to."""
    steps = len(facts.lowered.program.steps) if facts.lowered.program else 0
    seconds = runs_of(facts.graph, images) * (steps * _STEP_S + _computing_s(facts))
    return Duration(seconds, f"the simulator, {images:,} images in {steps:,} steps and {facts.costs.macs:,} MACs,")


def episodes_duration(protocols: Iterable[Protocol], dimensions: int) -> Duration:
    """Return what episodes of embeddings with as many dimensions take."""
    drawn = sum(item.episodes * item.way * (item.shot + item.query) for item in protocols)
    return Duration(
        drawn * dimensions / _EPISODE_ELEMENTS_PER_S, f"{drawn:,} embeddings of {dimensions:,} dimensions in episodes"
    )


def _computing_s(facts: Facts) -> float:
    elements = sum(_elements(facts.graph, node) for node in facts.graph.nodes)
    return facts.costs.macs / _MACS_PER_S + elements / _ELEMENTS_PER_S


def _elements(graph: Graph, node: Node) -> int:
    """Elements that a node reads and writes; a pool reads a window for each that it writes."""
    read = sum(graph.value(name).elements or 0 for name in node.inputs)
    written = sum(graph.value(name).elements or 0 for name in node.outputs)
    window = math.prod(node.ints("kernel_shape") or ()) if kind_of(node) is Kind.POOL else 1
    return read + written * max(window, 1)


def _rounded_up(seconds: float) -> int:
    """The next number of two digits and zeros."""
    unit = int(10 ** max(len(f"{seconds:.0f}") - 2, 0))
    return math.ceil(seconds / unit) * unit
