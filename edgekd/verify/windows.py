"""How many windows of a convolution or pool fit an image: what runtimes compute, which ONNX's inference is not always.

With `ceil_mode` a window may reach beyond the padding, yet one that would start in the padding behind the image is
dropped: so do onnxruntime and torch, and ONNX since opset 22; before, its shape inference counts that window.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx

from edgekd.verify.bounds import LARGEST_DIM
from edgekd.verify.graph import Graph, Node
from edgekd.verify.operators import plain_name

Shape = tuple[int, ...]

_POOLS = frozenset({"MaxPool", "AveragePool", "LpPool"})
WINDOWED = frozenset({"Conv", "MaxPool", "AveragePool"})
_WEIGHTS = {"QLinearConv": 3}  # input; 1 elsewhere


def window_counts(node: Node, image: Sequence[int], kernel: Sequence[int]) -> Shape | None:
    """Count the windows along each side of an image, at least 0.

    None where the attributes are not of one rank, or move a window nowhere.
    """
    rank = len(kernel)
    strides, dilations = node.ints("strides") or (1,) * rank, node.ints("dilations") or (1,) * rank
    if not len(image) == len(strides) == len(dilations) == rank or min(strides, default=1) < 1:
        return None
    auto = str(node.attributes.get("auto_pad", "NOTSET"))
    if auto.startswith("SAME"):
        return tuple(math.ceil(size / stride) for size, stride in zip(image, strides, strict=True))
    pads = _pads(node, rank)
    if len(pads) != 2 * rank:
        return None
    spans = [gap * (side - 1) + 1 for side, gap in zip(kernel, dilations, strict=True)]
    behind = pads[rank:]
    if node.int("ceil_mode", 0):
        behind = padding_behind(behind, strides, spans)
    axes = zip(image, pads, behind, spans, strides, strict=False)
    return tuple(max((size + low + high - span) // stride + 1, 0) for size, low, high, span, stride in axes)


def padding_behind(pads: Sequence[int], strides: Sequence[int], spans: Sequence[int]) -> Shape:
    """Return the padding behind an image with which rounding down counts the windows that `ceil_mode` keeps.

    Rounding up adds stride - 1; no window may start behind the image, so that span - 1 is the most.
    """
    axes = zip(pads, strides, spans, strict=True)
    return tuple(min(pad + stride - 1, span - 1) if pad < span else pad for pad, stride, span in axes)


def too_large(graph: Graph, node: Node) -> str | None:
    """Say that no window of a convolution or pool fits its padded image, with both sizes; None where one does."""
    shape, kernel = graph.value(node.input(0)).shape, _kernel(graph, node)
    counts = window_counts(node, shape[2:], kernel) if shape and kernel else None
    if not shape or not kernel or counts is None or min(counts, default=1) > 0:
        return None
    rank = len(kernel)
    pads, dilations = _pads(node, rank), node.ints("dilations") or (1,) * rank
    if not _possible((*kernel, *dilations, *(pad + 1 for pad in pads))):
        return None
    padded = [size + pads[axis] + pads[axis + rank] for axis, size in enumerate(shape[2:])]
    spans = [gap * (side - 1) + 1 for side, gap in zip(kernel, dilations, strict=True)]
    dilated = " with its dilations" if max(dilations) > 1 else ""
    return f"its window of {_sides(spans)}{dilated} is larger than its padded input, {_sides(padded)}"


def count_as_runtimes(node: onnx.NodeProto) -> bool:
    """Write a pool's `ceil_mode` as padding, so that shape inference counts its windows as runtimes do.

    Returns False, and changes nothing, where there is no `ceil_mode`, or attributes do not fit each other.
    """
    attributes = {item.name: item for item in node.attribute}
    ceil, auto = attributes.get("ceil_mode"), attributes.get("auto_pad")
    if node.op_type not in _POOLS or ceil is None or not ceil.i or (auto and auto.s.startswith(b"SAME")):
        return False
    kernel = list(attributes["kernel_shape"].ints) if "kernel_shape" in attributes else []
    rank, valid = len(kernel), auto is not None and auto.s == b"VALID"
    strides = list(attributes["strides"].ints) if "strides" in attributes else [1] * rank
    dilations = list(attributes["dilations"].ints) if "dilations" in attributes else [1] * rank
    pads = list(attributes["pads"].ints) if "pads" in attributes and not valid else [0] * (2 * rank)
    sizes = (*kernel, *strides, *dilations, *(pad + 1 for pad in pads))
    if not 0 < rank == len(strides) == len(dilations) == len(pads) / 2 or not _possible(sizes):
        return False
    spans = [gap * (side - 1) + 1 for side, gap in zip(kernel, dilations, strict=True)]
    behind = padding_behind(pads[rank:], strides, spans)
    kept = [item for name, item in attributes.items() if name not in {"ceil_mode", "auto_pad", "pads"}]
    del node.attribute[:]
    node.attribute.extend([*kept, onnx.helper.make_attribute("pads", [*pads[:rank], *behind])])
    return True


def _possible(values: Sequence[int]) -> bool:
    """Say whether kernels, strides and dilations can be a window's; a rule names those that cannot."""
    return all(1 <= value <= LARGEST_DIM for value in values)


def _kernel(graph: Graph, node: Node) -> Shape | None:
    if plain_name(node.op) not in WINDOWED or node.int("channels_last", 0):
        return None
    if plain_name(node.op) != "Conv":
        return node.ints("kernel_shape")
    weight = graph.value(node.input(_WEIGHTS.get(node.op, 1))).shape
    return None if weight is None else weight[2:]


def _pads(node: Node, rank: int) -> Shape:
    given = node.ints("pads") if node.attributes.get("auto_pad", "NOTSET") == "NOTSET" else None
    return given or (0,) * (2 * rank)


def _sides(sides: Sequence[int]) -> str:
    return " x ".join(map(str, sides))
