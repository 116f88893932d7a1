"""One node as the limits of a profile see it: kernel, channels, groups, sizes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from edgekd.verify.graph import Graph, Node
from edgekd.verify.layers import Layer
from edgekd.verify.operators import plain_name
from edgekd.verify.readers import computing_readers

Shape = tuple[int, ...]

CONVS = frozenset({"Conv", "ConvTranspose"})
POOLS = frozenset({"MaxPool", "AveragePool"})
GLOBAL_POOLS = frozenset({"GlobalMaxPool", "GlobalAveragePool"})
DENSE = frozenset({"Gemm", "MatMul"})


@dataclass(frozen=True, eq=False)
class Use:
    """One node as the limits see it; what the file does not tell is None."""

    graph: Graph
    node: Node
    layer: Layer | None

    @property
    def op(self) -> str:
        """The name that a profile lists it under."""
        return plain_name(self.node.op)

    @cached_property
    def input_shape(self) -> Shape | None:
        """Of the activation that it reads."""
        return self.graph.value(self.layer.input if self.layer else self.node.input(0)).shape

    @cached_property
    def output_shape(self) -> Shape | None:
        """Of what it writes."""
        return self.graph.value(self.node.outputs[0]).shape

    @cached_property
    def weight_shape(self) -> Shape | None:
        """Of the stored weights, as the operator reads them."""
        if self.layer is None or self.layer.weight is None:
            return None
        position = next((i for i, name in enumerate(self.node.inputs) if i and name in self.graph.fixed), 1)
        if self.node.op.startswith("QLinear") or self.node.op == "QGemm":
            position = 3
        return self.graph.value(self.node.input(position)).shape or self.layer.weight.shape

    def image(self, shape: Shape | None) -> Shape | None:
        """Height and width: what is behind batch and channels."""
        return shape[2:] if shape and len(shape) > 2 else None

    @cached_property
    def dims(self) -> int | None:
        """Spatial dimensions."""
        return None if self.input_shape is None else len(self.input_shape) - 2

    @cached_property
    def rank(self) -> int | None:
        """Dimensions of the largest tensor."""
        shapes = [shape for shape in (self.input_shape, self.output_shape) if shape]
        return max(map(len, shapes), default=None)

    @cached_property
    def kernel(self) -> Shape | None:
        """The window; of a global pool the whole image."""
        if self.op in GLOBAL_POOLS:
            return self.image(self.input_shape)
        stated = self.node.ints("kernel_shape")
        return stated or (self.weight_shape[2:] if self.weight_shape else None)

    @cached_property
    def dilated_kernel(self) -> Shape | None:
        """The window with the gaps that dilation leaves."""
        if self.kernel is None:
            return None
        return tuple(gap * (side - 1) + 1 for side, gap in zip(self.kernel, self._each("dilations"), strict=False))

    @cached_property
    def strides(self) -> Shape | None:
        """One a spatial dimension, 1 where the file says nothing."""
        return self._each("strides")

    @cached_property
    def dilations(self) -> Shape | None:
        """One a spatial dimension, 1 where the file says nothing."""
        return self._each("dilations")

    @cached_property
    def padding(self) -> Shape | None:
        """Each side; "same" padding is spelled out."""
        if str(self.node.attributes.get("auto_pad", "NOTSET")).startswith("SAME"):
            return self._same_padding()
        return self.node.ints("pads") or (0,)

    @cached_property
    def groups(self) -> str | None:
        """one, depthwise (a channel each), depthwise_multiplied (one input channel each), or the number of groups."""
        count, channels, written = self.node.int("group", 1), self.input_channels, self.output_channels
        if count == 1:
            return "one"
        if channels is None or written is None:
            return None
        return str(count) if count != channels else "depthwise" if written == channels else "depthwise_multiplied"

    @cached_property
    def input_channels(self) -> int | None:
        """Channels, or the features of a dense layer."""
        if self.op in DENSE:
            return self._features(first=not self.node.int("transB", 0))
        return self.input_shape[1] if self.input_shape and len(self.input_shape) > 1 else None

    @cached_property
    def output_channels(self) -> int | None:
        """Channels, or the features of a dense layer."""
        if self.op in DENSE:
            return self._features(first=bool(self.node.int("transB", 0)))
        return self.output_shape[1] if self.output_shape and len(self.output_shape) > 1 else None

    @cached_property
    def bias_channels(self) -> int | None:
        """Channels that have a bias; 0 without one."""
        return self.layer.bias.elements if self.layer and self.layer.bias else 0

    @cached_property
    def lone_channels(self) -> int | None:
        """Channels of a pool that no convolution reads, 0 where one does or where the image is 1x1 already."""
        pixels, readers = self.image(self.input_shape), computing_readers(self.graph, self.node.outputs[0])
        fused = bool(readers) and all(plain_name(reader.op) in CONVS for reader in readers)
        return 0 if fused or (pixels and math.prod(pixels) == 1) else self.input_channels

    @cached_property
    def side(self) -> Shape | None:
        """Height and width of input and output."""
        sides = (self.image(self.input_shape), self.image(self.output_shape))
        return None if None in sides else tuple(side for image in sides if image for side in image)

    @cached_property
    def flat_elements(self) -> int | None:
        """Elements of the image that is flattened, 0 where it is flat already."""
        if self.input_shape is None:
            return None
        return math.prod(self.input_shape[1:]) if len(self.input_shape) > 2 else 0

    @cached_property
    def flat_area(self) -> int | None:
        """Height times width of that image."""
        return None if self.input_shape is None else math.prod(self.input_shape[2:]) if self.flat_elements else 0

    @cached_property
    def weight_abs_sum(self) -> int | None:
        """The largest sum of absolute weights of one output channel, in units of the integers."""
        layer = self.layer
        if layer is None or layer.weight is None or layer.weight_quantization is None:
            return None
        weights = self.graph.constant(layer.weight.tensor)
        if (
            weights is None
            or not weights.size
            or not np.issubdtype(weights.dtype, np.integer)
            or self.weight_shape != weights.shape
        ):
            return None
        channels = 1 if self.op == "ConvTranspose" else 0
        zero_point = layer.weight_quantization.zero_point
        offset = np.zeros(1, np.int64) if zero_point is None else zero_point.ravel()
        if (
            not np.issubdtype(offset.dtype, np.integer)
            or channels >= weights.ndim
            or offset.size not in {1, weights.shape[channels]}
        ):
            return None
        each = np.moveaxis(weights.astype(np.int64), channels, 0).reshape(weights.shape[channels], -1)
        return int(np.abs(each - offset.astype(np.int64)[:, None]).sum(1).max())

    @cached_property
    def batch(self) -> int | None:
        """Images at once; a symbolic batch counts as one."""
        return self.input_shape[0] if self.input_shape else None

    @cached_property
    def inputs(self) -> int:
        """Tensors that it reads."""
        return sum(bool(name) for name in self.node.inputs)

    @cached_property
    def axes(self) -> Shape | None:
        """The dimensions that a reduction goes over, from the front, sorted; None where the file does not tell."""
        if self.input_shape is None:
            return None
        rank, listed = len(self.input_shape), self.node.ints("axes")
        if not listed and (name := self.node.input(1)):
            constant = self.graph.constant(name)
            if constant is None or not np.issubdtype(constant.dtype, np.integer) or constant.size > rank:
                return None
            listed = tuple(int(axis) for axis in constant.ravel())
        if not listed:
            return () if self.node.int("noop_with_empty_axes", 0) else tuple(range(rank))
        return tuple(sorted({axis % rank for axis in listed})) if rank else None

    @cached_property
    def reduced_axes(self) -> int | None:
        """How many dimensions a reduction goes over."""
        return None if self.axes is None else len(self.axes)

    def _each(self, attribute: str) -> Shape:
        return self.node.ints(attribute) or (1,) * len(self.kernel or (1, 1))

    def _same_padding(self) -> Shape | None:
        """Half of (ceil(n / stride) - 1) * stride + window - n, rounded up."""
        image, window = self.image(self.input_shape), self.dilated_kernel
        if image is None or window is None:
            return None
        needed = (
            max((math.ceil(n / step) - 1) * step + side - n, 0)
            for n, step, side in zip(image, self._each("strides"), window, strict=False)
        )
        return tuple(math.ceil(total / 2) for total in needed)

    def _features(self, *, first: bool) -> int | None:
        shape = self.weight_shape
        return None if shape is None or len(shape) < 2 else shape[-2 if first else -1]
