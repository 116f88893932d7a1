"""A graph as it would be with a smaller square input, or with narrower layers: the same nodes, other shapes.

This is what shape inference would say after changing the file, without going back to the file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import numpy as np

from edgekd.verify.graph import Graph, Node, Value
from edgekd.verify.operators import Kind, kind_of, plain_name
from edgekd.verify.pixels import image_axes
from edgekd.verify.windows import window_counts

Shape = tuple[int, ...]
Shapes = dict[str, Shape]
Rule = Callable[[Graph, Node, Shapes], Shape | None]


def square_side(graph: Graph) -> int | None:
    """Return the side of the one square image that a graph takes, channels first or last; None for any other."""
    shape = graph.value(graph.inputs[0]).shape if len(graph.inputs) == 1 else None
    if shape is None or len(shape) != 4:
        return None
    axes = image_axes(graph)
    return shape[axes.height] if shape[axes.height] == shape[axes.width] else None


def resized(graph: Graph, side: int) -> Graph | None:
    """Return the graph for images of `side` x `side`; None where its weights or operators do not allow another size."""
    if square_side(graph) is None:
        return None
    pixels, axes = graph.inputs[0], image_axes(graph)
    shape = list(graph.value(pixels).shape or ())
    shape[axes.height] = shape[axes.width] = side
    return _propagated(graph, {pixels: tuple(shape)})


def with_weights(graph: Graph, weights: Mapping[str, Shape]) -> Graph | None:
    """Return the graph with the constants named in `weights` of these shapes; None where that allows no shapes.

    Only shapes change: the elements of the constants are left as they are.
    """
    inputs = {name: shape for name in graph.inputs if (shape := graph.value(name).shape)}
    if len(inputs) < len(graph.inputs):
        return None
    return _propagated(replace(graph, values={**graph.values, **_values(graph, weights)}), inputs)


def _propagated(graph: Graph, inputs: Mapping[str, Shape]) -> Graph | None:
    """Carry the shapes of the inputs through every operator that depends on them."""
    shapes: Shapes = dict(inputs)
    for node in graph.nodes:
        if node.outputs[0] in graph.fixed:
            continue
        shape = _output_shape(graph, node, shapes)
        if shape is None or any(size < 1 for size in shape):
            return None
        shapes[node.outputs[0]] = shape
    return replace(graph, values={**graph.values, **_values(graph, shapes)})


def _values(graph: Graph, shapes: Mapping[str, Shape]) -> Mapping[str, Value]:
    return {name: replace(graph.value(name), shape=shape) for name, shape in shapes.items()}


def _output_shape(graph: Graph, node: Node, shapes: Shapes) -> Shape | None:
    rule = _RULES.get(plain_name(node.op)) or _BY_KIND.get(kind_of(node))
    return rule(graph, node, shapes) if rule and len(node.outputs) == 1 else None


def _same(_graph: Graph, node: Node, shapes: Shapes) -> Shape | None:
    return shapes.get(node.input(0))


def _elementwise(graph: Graph, node: Node, shapes: Shapes) -> Shape | None:
    """Broadcast all operands, constants with them."""
    known = _operand_shapes(graph, node.inputs, shapes)
    try:
        return None if known is None else np.broadcast_shapes(*known)
    except ValueError:
        return None


def _operand_shapes(graph: Graph, names: Iterable[str], shapes: Shapes) -> list[Shape] | None:
    found = [shapes.get(name) or (graph.value(name).shape if name in graph.fixed else None) for name in names]
    known = [shape for shape in found if shape is not None]
    return known if len(known) == len(found) else None


def _concat(graph: Graph, node: Node, shapes: Shapes) -> Shape | None:
    names = node.inputs[2::3] if node.op == "QLinearConcat" else node.inputs
    found, axis = _operand_shapes(graph, names, shapes), node.int("axis", 1)
    if not found or not -len(found[0]) <= axis < len(found[0]):
        return None
    axis %= len(found[0])
    if len({(len(shape), shape[:axis], shape[axis + 1 :]) for shape in found}) > 1:
        return None
    return (*found[0][:axis], sum(shape[axis] for shape in found), *found[0][axis + 1 :])


def _transpose(_graph: Graph, node: Node, shapes: Shapes) -> Shape | None:
    source = shapes.get(node.input(0))
    if source is None:
        return None
    order = node.ints("perm") or tuple(reversed(range(len(source))))
    return tuple(source[axis] for axis in order) if sorted(order) == list(range(len(source))) else None


def _pad(graph: Graph, node: Node, shapes: Shapes) -> Shape | None:
    """The amounts before each axis and then after each: an attribute, since opset 11 the second input."""
    source, pads = shapes.get(node.input(0)), node.ints("pads") or _integers(graph, node.input(1))
    if source is None or pads is None or node.input(3) or len(pads) != 2 * len(source):
        return None
    return tuple(size + low + high for size, low, high in zip(source, pads, pads[len(source) :], strict=False))


def _reshape(graph: Graph, node: Node, shapes: Shapes) -> Shape | None:
    """A size of 0 is that of the input, one of -1 takes what is left."""
    source, wanted = shapes.get(node.input(0)), _integers(graph, node.input(1))
    if source is None or wanted is None or node.int("allowzero", 0):
        return None
    if len(source) < len(wanted) and 0 in wanted[len(source) :]:
        return None
    sizes = [source[axis] if size == 0 else size for axis, size in enumerate(wanted)]
    if sizes.count(-1) == 1:
        rest = -math.prod(sizes)
        sizes[sizes.index(-1)] = math.prod(source) // rest if rest > 0 else 0
    return tuple(sizes) if math.prod(sizes) == math.prod(source) and min(sizes, default=1) > 0 else None


def _integers(graph: Graph, name: str) -> Shape | None:
    values = graph.numbers(name)
    return None if values is None else tuple(int(value) for value in values.ravel())


def _flatten(_graph: Graph, node: Node, shapes: Shapes) -> Shape | None:
    source = shapes.get(node.input(0))
    return (source[0], math.prod(source[1:])) if source and node.int("axis", 1) == 1 else None


def _global_pool(_graph: Graph, node: Node, shapes: Shapes) -> Shape | None:
    source = shapes.get(node.input(0))
    return (*source[:2], *(1 for _ in source[2:])) if source else None


def _pool(_graph: Graph, node: Node, shapes: Shapes) -> Shape | None:
    source, kernel = shapes.get(node.input(0)), node.ints("kernel_shape")
    windows = window_counts(node, source[2:], kernel) if source and kernel else None
    return (*source[:2], *windows) if source and windows else None


def _conv(graph: Graph, node: Node, shapes: Shapes) -> Shape | None:
    weight = graph.value(node.input(3 if node.op == "QLinearConv" else 1)).shape
    source = shapes.get(node.input(0))
    if source and weight and source[1:2] != (weight[1] * node.int("group", 1),):
        return None
    windows = window_counts(node, source[2:], weight[2:]) if source and weight else None
    return (source[0], weight[0], *windows) if source and weight and windows else None


def _dense(graph: Graph, node: Node, shapes: Shapes) -> Shape | None:
    """A dense layer has weights for one number of features."""
    same = shapes.get(node.input(0)) == graph.value(node.input(0)).shape
    return graph.value(node.outputs[0]).shape if same else None


_RULES: Mapping[str, Rule] = {
    "Conv": _conv,
    "MaxPool": _pool,
    "AveragePool": _pool,
    "GlobalMaxPool": _global_pool,
    "GlobalAveragePool": _global_pool,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Transpose": _transpose,
    "Concat": _concat,
    "Pad": _pad,
    "Softmax": _same,
    "Gemm": _dense,
    "MatMul": _dense,
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Min", "Max"), _elementwise),
    "Identity": _same,
    "Dropout": _same,
}
_BY_KIND: Mapping[Kind | None, Rule] = {Kind.QUANTIZER: _same, Kind.UNARY: _same}
