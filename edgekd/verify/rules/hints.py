"""What would make a failure pass, as one line: only what was computed and found to pass."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from edgekd.verify.facts import Facts
from edgekd.verify.graph import Graph
from edgekd.verify.layers import Layer
from edgekd.verify.operators import plain_name
from edgekd.verify.resizing import resized, square_side

MOST_NODES = 400  # of a graph that is planned again and again: a file may have any number
LARGEST_LEAST = 1_024  # px: a network that needs a larger image at least gets no hint

# What replaces an operator that a target lacks and computes the same, or what to do without it.
REPLACEMENTS = {
    "BatchNormalization": "fold it into the convolution before it",
    "Dropout": "drop it: it does nothing at inference",
    "Flatten": "Reshape",
    "Gemm": "a 1x1 Conv on a 1x1 image",
    "GlobalAveragePool": "AveragePool with a window of the whole image",
    "GlobalMaxPool": "MaxPool with a window of the whole image",
    "Identity": "remove it: it does nothing",
    "MatMul": "Gemm, or a 1x1 Conv",
    "Relu": "Clip with min 0",
    "Reshape": "Flatten",
    "Softmax": "leave it out: the largest score is the same",
    "Squeeze": "Reshape",
    "Unsqueeze": "Reshape",
}
# What computes something else: another network, of which a student loses little when it is trained again.
SUBSTITUTES = {
    "AveragePool": "MaxPool",
    "ConvTranspose": "Resize and Conv",
    **dict.fromkeys(("Elu", "Gelu", "HardSwish", "LeakyRelu", "PRelu", "Selu", "Swish"), "Relu"),
    **dict.fromkeys(("HardSigmoid", "Sigmoid", "Tanh"), "Clip"),
}


def replacement(op: str, legal: set[str]) -> str | None:
    """Return what the target has in place of `op`; None where nothing known is among its operators."""
    text = REPLACEMENTS.get(op) or SUBSTITUTES.get(op)
    named = {word.strip(",") for word in (text or "").split() if word[0].isupper()}
    if text is None or (named and not named & legal):
        return None
    if op in SUBSTITUTES:
        return f"another network: {text} in place of {op}, and train again, since it computes something else"
    return f"replace {op}: {text}" if named else text


@dataclass(frozen=True)
class Chain:
    """Equally wide convolutions with biases, one behind the other, and no other parameters."""

    layers: int
    channels: int
    kernel_area: int

    def weights(self, width: int) -> int:
        """How many weights there are: w c k^2 + (n - 1) w^2 k^2."""
        return (width * self.channels + (self.layers - 1) * width * width) * self.kernel_area

    def biases(self, width: int) -> int:
        """One a channel and layer."""
        return self.layers * width


def chain_of(facts: Facts) -> tuple[Chain, int] | None:
    """Return the chain that a network is, and its width; None for any other network."""
    shapes = [shape for layer in facts.layers if len(shape := _weight_shape(layer)) == 4]
    plain = all(plain_name(layer.node.op) == "Conv" and layer.node.int("group", 1) == 1 for layer in facts.layers)
    if not shapes or len(shapes) != len(facts.layers) or not plain:
        return None
    (width, channels, *window), rest = shapes[0], shapes[1:]
    chain = Chain(len(shapes), channels, math.prod(window))
    uniform = all(shape == (width, width, *window) for shape in rest)
    if not uniform or chain.weights(width) + chain.biases(width) != facts.costs.parameters:
        return None
    return chain, width


def widest(facts: Facts, fits: Callable[[int, int], bool]) -> str | None:
    """Return "Conv4-40 fits": the widest chain like this one whose numbers of weights and biases fit."""
    found = chain_of(facts)
    if found is None:
        return None
    chain, width = found
    narrower = largest(1, width - 1, lambda tried: fits(chain.weights(tried), chain.biases(tried)))
    if narrower is None:
        return None
    return chain_text(chain, narrower)


def chain_text(chain: Chain, width: int) -> str:
    """Return "Conv4-40 fits", with its parameters."""
    return f"Conv{chain.layers}-{width} fits: {chain.weights(width) + chain.biases(width):,} parameters"


def smaller_input(graph: Graph, fits: Callable[[Graph], bool]) -> int | None:
    """Return the side of the largest square input with which the graph `fits`; None where none is known to."""
    side = square_side(graph)
    if side is None:
        return None

    def tried(smaller: int) -> bool:
        changed = resized(graph, smaller)
        return changed is not None and fits(changed)

    if len(graph.nodes) > MOST_NODES or resized(graph, side - 1) is None:
        return None
    least = next((size for size in range(1, min(side, LARGEST_LEAST)) if resized(graph, size)), None)
    return None if least is None else largest(least, side - 1, tried)


def largest(low: int, high: int, holds: Callable[[int], bool]) -> int | None:
    """Return the largest number in low..high that holds, if each smaller one does too; None where `low` does not."""
    if high < low or not holds(low):
        return None
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low


def _weight_shape(layer: Layer) -> tuple[int, ...]:
    return layer.weight.shape if layer.weight else ()


def too_many(facts: Facts, excess: int, unit: str) -> str | None:
    """Return how much must go and the layer that has most, for networks of which no narrower one can be named."""
    largest_layer = max(facts.costs.layers, key=lambda row: row.parameters, default=None)
    if largest_layer is None or not largest_layer.parameters:
        return None
    has = f"{largest_layer.parameters:,} parameters, {largest_layer.weight_bytes:,} B"
    return f"{excess:,} {unit} must go; the largest layer is {largest_layer.node} ({has})"
