"""`tflm` and `xnnpack` against the real kernels: a TensorFlow Lite file and an ONNX file from the same integers.

Oracles: the TensorFlow Lite Micro interpreter, and LiteRT with its default delegate, XNNPACK.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

Array = NDArray[Any]
flatbuffers = pytest.importorskip("flatbuffers")
schema = pytest.importorskip("ai_edge_litert.schema_py_generated")


class TfLite:
    """A chain of int8 operators in a TensorFlow Lite file; images are (1, h, w, c)."""

    def __init__(self, shape: tuple[int, ...], scale: float, zero: int) -> None:
        self.model, self.graph = schema.ModelT(), schema.SubGraphT()
        self.model.version, self.model.description = 3, b"twin"
        self.model.buffers, self.model.operatorCodes, self.model.subgraphs = [schema.BufferT()], [], [self.graph]
        self.graph.name, self.graph.tensors, self.graph.operators = b"main", [], []
        self.current = self.tensor(shape, schema.TensorType.INT8, [scale], zero)
        self.graph.inputs = np.array([self.current], np.int32)

    def tensor(
        self, shape: tuple[int, ...], kind: int, scale: Any, zero: int = 0, *, data: Array | None = None, axis: int = 0
    ) -> int:
        item, form = schema.TensorT(), schema.QuantizationParametersT()
        form.scale = np.atleast_1d(np.array(scale, np.float32))
        form.zeroPoint, form.quantizedDimension = np.full(form.scale.shape, zero, np.int64), axis
        item.name, item.shape, item.type = f"t{len(self.graph.tensors)}".encode(), np.array(shape, np.int32), kind
        item.quantization, item.buffer = form, 0 if data is None else self._buffer(data)
        self.graph.tensors.append(item)
        return len(self.graph.tensors) - 1

    def constant(self, data: Array, scale: Any = 1.0, axis: int = 0) -> int:
        kind = schema.TensorType.INT8 if data.dtype == np.int8 else schema.TensorType.INT32
        return self.tensor(data.shape, kind, scale, data=data, axis=axis)

    def op(self, name: str, inputs: list[int], shape: tuple[int, ...], form: tuple[float, int], options: Any) -> None:
        code, version = getattr(schema.BuiltinOperator, name), 3 if "CONV" in name else 2
        item = schema.OperatorCodeT()
        item.deprecatedBuiltinCode, item.builtinCode, item.version = code, code, version
        self.model.operatorCodes.append(item)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self.model.operatorCodes) - 1
        output = self.tensor(shape, schema.TensorType.INT8, [form[0]], form[1])
        operator.inputs, operator.outputs = np.array(inputs, np.int32), np.array([output], np.int32)
        operator.builtinOptions = options
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        self.graph.operators.append(operator)
        self.current = output

    def content(self) -> bytes:
        self.graph.outputs = np.array([self.current], np.int32)
        builder = flatbuffers.Builder(1 << 16)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _buffer(self, data: Array) -> int:
        item = schema.BufferT()
        item.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
        self.model.buffers.append(item)
        return len(self.model.buffers) - 1


class Twin:
    """The same layers in both files. Every layer's input has scale 0.02 or a scale and zero point of its own."""

    def __init__(self, net: Any, channels: int = 4, size: int = 9, scale: float = 0.0157, zero: int = -7) -> None:
        self.rng = np.random.default_rng(7)
        self.channels, self.size, self.form = channels, size, (scale, zero)
        self.onnx = net((1, channels, size, size), scale, zero)
        self.lite = TfLite((1, size, size, channels), scale, zero)

    def images(self, count: int = 8) -> Array:
        return self.rng.integers(-128, 128, (count, self.channels, self.size, self.size)).astype(np.int8)

    def conv(self, out: int, *, per_channel: bool, depthwise: bool = False, stride: int = 1, relu: bool = True) -> Twin:
        per = 1 if depthwise else self._channels
        weight = np.clip(np.rint(self.rng.normal(0, 40, (out, per, 3, 3))), -127, 127).astype(np.int8)
        scales = self.rng.uniform(0.001, 0.004, out) if per_channel else np.array(0.0021)
        bias = self.rng.integers(-3000, 3000, out).astype(np.int32)
        form = (0.0443, -128 if relu else 9)
        self._onnx_layer(
            "Conv", weight, scales, bias, {"group": self._channels if depthwise else 1, **self._pads(stride)}
        )
        self._activate(form, relu=relu)
        options = schema.DepthwiseConv2DOptionsT() if depthwise else schema.Conv2DOptionsT()
        options.padding, options.strideW, options.strideH = schema.Padding.SAME, stride, stride
        options.dilationWFactor = options.dilationHFactor = 1
        options.fusedActivationFunction = int(relu)
        if depthwise:
            options.depthMultiplier = out // self._channels
        axes = (1, 2, 3, 0) if depthwise else (0, 2, 3, 1)
        inputs = self._lite_layer(weight.transpose(axes), scales, bias, axis=3 if depthwise else 0)
        self._shape = (1, -(-self._side // stride), -(-self._side // stride), out)
        self.lite.op("DEPTHWISE_CONV_2D" if depthwise else "CONV_2D", inputs, self._shape, form, options)
        self.form = form
        return self

    def fully_connected(self, out: int, *, per_channel: bool = False) -> Twin:
        features = int(np.prod(self._shape))
        weight = np.clip(np.rint(self.rng.normal(0, 40, (out, features))), -127, 127).astype(np.int8)
        scales = self.rng.uniform(0.001, 0.004, out) if per_channel else np.array(0.0021)
        bias = self.rng.integers(-3000, 3000, out).astype(np.int32)
        form = (0.0111, 5)
        side, channels = self._side, self._channels
        self.onnx.op("Flatten")
        self._onnx_layer("Gemm", weight, scales, bias, {"transB": 1})
        self.onnx.quantize(*form)
        last = weight.reshape(out, channels, side, side).transpose(0, 2, 3, 1).reshape(out, -1)
        inputs = self._lite_layer(last, scales, bias)
        options = schema.FullyConnectedOptionsT()
        self._shape = (1, out)
        self.lite.op("FULLY_CONNECTED", inputs, self._shape, form, options)
        return self

    def pool(self, kind: str) -> Twin:
        self.onnx.op("MaxPool" if kind == "MAX" else "AveragePool", kernel_shape=[2, 2], strides=[2, 2])
        self.onnx.quantize(*self.form)
        options = schema.Pool2DOptionsT()
        options.padding = schema.Padding.VALID
        options.strideW = options.strideH = options.filterWidth = options.filterHeight = 2
        self._shape = (1, self._side // 2, self._side // 2, self._channels)
        self.lite.op(f"{kind}_POOL_2D", [self.lite.current], self._shape, self.form, options)
        return self

    def mean(self) -> Twin:
        form = (0.0123, 3)
        self.onnx.op("GlobalAveragePool").quantize(*form)
        options = schema.ReducerOptionsT()
        options.keepDims = True
        axes = self.lite.constant(np.array([1, 2], np.int32))
        self._shape = (1, 1, 1, self._channels)
        self.lite.op("MEAN", [self.lite.current, axes], self._shape, form, options)
        return self

    def add_to_itself_pooled(self) -> Twin:
        """x + conv(x): a residual, the operands with scales of their own."""
        first, before = self.onnx.current, self.lite.current
        self.conv(self._channels, per_channel=False, relu=False)
        form = (0.0377, -11)
        self.onnx.op("Add", first).quantize(*form)
        self.lite.op("ADD", [self.lite.current, before], self._shape, form, schema.AddOptionsT())
        return self

    @property
    def _shape(self) -> tuple[int, ...]:
        return getattr(self, "_own_shape", (1, self.size, self.size, self.channels))

    @_shape.setter
    def _shape(self, shape: tuple[int, ...]) -> None:
        self._own_shape = shape

    @property
    def _side(self) -> int:
        return self._shape[1]

    @property
    def _channels(self) -> int:
        return self._shape[-1]

    def _pads(self, stride: int) -> dict[str, Any]:
        return {"auto_pad": "SAME_UPPER", "strides": [stride, stride]}

    def _activate(self, form: tuple[float, int], *, relu: bool) -> None:
        (self.onnx.op("Relu") if relu else self.onnx).quantize(*form)

    def _onnx_layer(self, op: str, weight: Array, scales: Array, bias: Array, attributes: dict[str, Any]) -> None:
        products = np.float32(self.form[0]) * scales.astype(np.float32)
        names = [self.onnx.weights(weight, scales), self.onnx.weights(bias, products)]
        self.onnx.op(op, *names, **attributes)

    def _lite_layer(self, weight: Array, scales: Array, bias: Array, axis: int = 0) -> list[int]:
        products = np.float32(self.form[0]) * scales.astype(np.float32)
        return [
            self.lite.current,
            self.lite.constant(weight, scales, axis),
            self.lite.constant(bias, products),
        ]


def tflm(content: bytes, images: Array) -> Array:
    runtime = pytest.importorskip("tflite_micro").runtime
    interpreter = runtime.Interpreter.from_bytes(content, arena_size=1_000_000)

    def one(image: Array) -> Array:
        interpreter.set_input(np.ascontiguousarray(image[None]), 0)
        interpreter.invoke()
        output: Array = interpreter.get_output(0)
        return output

    return np.concatenate([one(image) for image in images.transpose(0, 2, 3, 1)])


def xnnpack(content: bytes, images: Array) -> Array:
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    interpreter = litert.Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    entry, exit_ = (part()[0]["index"] for part in (interpreter.get_input_details, interpreter.get_output_details))

    def one(image: Array) -> Array:
        interpreter.set_tensor(entry, np.ascontiguousarray(image[None]))
        interpreter.invoke()
        output: Array = interpreter.get_tensor(exit_)
        return output

    return np.concatenate([one(image) for image in images.transpose(0, 2, 3, 1)])


ORACLES = {"tflm": tflm, "xnnpack": xnnpack}
NETS: dict[str, Callable[[Twin], Twin]] = {
    "conv per tensor": lambda twin: twin.conv(8, per_channel=False),
    "conv per channel": lambda twin: twin.conv(8, per_channel=True),
    "conv stride 2": lambda twin: twin.conv(8, per_channel=True, stride=2, relu=False),
    "depthwise": lambda twin: twin.conv(4, per_channel=True, depthwise=True),
    "depthwise multiplier 2": lambda twin: twin.conv(8, per_channel=True, depthwise=True, relu=False),
    "fully connected": lambda twin: twin.fully_connected(6),
    "max pool": lambda twin: twin.conv(8, per_channel=True).pool("MAX"),
    "average pool": lambda twin: twin.pool("AVERAGE"),
    "mean": lambda twin: twin.mean(),
    "residual": lambda twin: twin.add_to_itself_pooled(),
    "four layers": lambda twin: (
        twin.conv(8, per_channel=True)
        .conv(8, per_channel=True, depthwise=True)
        .pool("MAX")
        .conv(16, per_channel=False)
        .fully_connected(5)
    ),
}


@pytest.mark.parametrize("arithmetic", sorted(ORACLES))
@pytest.mark.parametrize("layers", sorted(NETS))
def test_the_real_kernels_give_the_same_integers(
    layers: str, arithmetic: str, net: Any, program_of: Any, run: Callable[..., Array]
) -> None:
    twin = NETS[layers](Twin(net))
    images = twin.images()
    expected = ORACLES[arithmetic](twin.lite.content(), images)
    found = run(program_of(twin.onnx.model()), arithmetic, images)
    found = found.transpose(0, 2, 3, 1) if found.ndim == 4 else found
    assert len(np.unique(expected)) > 10
    assert np.count_nonzero(found != expected.reshape(found.shape)) == 0
