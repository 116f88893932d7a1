"""What would make a failure pass, as one line: only what was computed and found to pass."""

from __future__ import annotations

import math
from collections.abc import Callable

from edgekd.verify.facts import Facts
from edgekd.verify.graph import Graph
from edgekd.verify.layers import Layer
from edgekd.verify.resizing import resized, square_side

# What replaces an operator that a target lacks, where it computes the same or a student loses little.
REPLACEMENTS = {
    "AveragePool": "MaxPool",
    "BatchNormalization": "fold it into the convolution before it",
    "ConvTranspose": "Resize and Conv",
    "Dropout": "drop it: it does nothing at inference",
    "Elu": "Relu",
    "Flatten": "Reshape",
    "Gelu": "Relu",
    "Gemm": "a 1x1 Conv on a 1x1 image",
    "GlobalAveragePool": "AveragePool with a window of the whole image",
    "GlobalMaxPool": "MaxPool with a window of the whole image",
    "HardSigmoid": "Clip",
    "HardSwish": "Relu",
    "LeakyRelu": "Relu",
    "MatMul": "Gemm, or a 1x1 Conv",
    "PRelu": "Relu",
    "Reshape": "Flatten",
    "Selu": "Relu",
    "Sigmoid": "Clip",
    "Softmax": "leave it out: the largest logit is the same",
    "Squeeze": "Reshape",
    "Swish": "Relu",
    "Tanh": "Clip",
    "Unsqueeze": "Reshape",
}


def replacement(op: str, legal: set[str]) -> str | None:
    """Return what the target has in place of `op`; None where nothing known is among its operators."""
    text = REPLACEMENTS.get(op)
    if text is None or (text[0].isupper() and text.partition(" ")[0].strip(",") not in legal):
        return None
    return f"replace {op}: {text}" if text[0].isupper() else text


def conv_widths(facts: Facts) -> tuple[int, int, int] | None:
    """Return (layers, width, input channels) of a chain of equally wide convolutions with biases, and nothing else.

    None for any other network: then the closed formula below does not count its parameters.
    """
    shapes = [_weight_shape(facts.graph, layer) for layer in facts.layers]
    if not shapes or any(shape is None or len(shape) != 4 for shape in shapes):
        return None
    first, *rest = [shape for shape in shapes if shape]
    width, channels = first[0], first[1]
    uniform = all(shape[:2] == (width, width) and shape[2:] == first[2:] for shape in rest)
    if not uniform or uniform_parameters(len(shapes), width, channels, math.prod(first[2:])) != facts.costs.parameters:
        return None
    return len(shapes), width, channels


def uniform_parameters(layers: int, width: int, channels: int, kernel_area: int = 9) -> int:
    """Return weights and biases of `layers` convolutions: w (c k^2 + 1) + (n - 1) w (w k^2 + 1)."""
    return width * (channels * kernel_area + 1) + (layers - 1) * width * (width * kernel_area + 1)


def widest(facts: Facts, fits: Callable[[int], bool]) -> str | None:
    """Return "Conv4-40 fits": the widest chain like this one whose number of parameters `fits`."""
    chain = conv_widths(facts)
    if chain is None:
        return None
    layers, width, channels = chain
    area = math.prod((_weight_shape(facts.graph, facts.layers[0]) or ())[2:])
    found = largest(1, width - 1, lambda tried: fits(uniform_parameters(layers, tried, channels, area)))
    if found is None:
        return None
    return f"Conv{layers}-{found} fits: {uniform_parameters(layers, found, channels, area):,} parameters"


def smaller_input(graph: Graph, fits: Callable[[Graph], bool]) -> int | None:
    """Return the side of the largest square input with which the graph `fits`; None where none is known to."""
    side = square_side(graph)
    if side is None:
        return None

    def tried(smaller: int) -> bool:
        changed = resized(graph, smaller)
        return changed is not None and fits(changed)

    least = next((size for size in range(1, side) if resized(graph, size)), None)
    return None if least is None else largest(least, side - 1, tried)


def largest(low: int, high: int, holds: Callable[[int], bool]) -> int | None:
    """Return the largest number in low..high that holds, if each smaller one does too; None where `low` does not."""
    if high < low or not holds(low):
        return None
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low


def _weight_shape(graph: Graph, layer: Layer) -> tuple[int, ...] | None:
    return tuple(graph.constants[layer.weight.tensor].shape) if layer.weight else None
