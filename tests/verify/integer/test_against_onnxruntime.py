"""Whole graphs against onnxruntime: with power-of-two scales every element, with and without its optimizations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgekd.cpu import cpu_flags, sums_int8_exactly
from edgekd.onnx_session import open_session
from edgekd.verify.integer.certificate import certify
from edgekd.verify.integer.requant import ARITHMETICS, Accumulator
from edgekd.zoo import GOLDEN, MODEL, zoo_names

Array = NDArray[Any]
ROOT = Path(__file__).parents[3]
IN, OUT = 2.0**-6, 2.0**-3


def weight(*shape: int) -> Array:
    return np.random.default_rng(len(shape)).integers(-90, 91, shape).astype(np.int8)


def bias(count: int) -> Array:
    return np.random.default_rng(count).integers(-999, 999, count).astype(np.int32)


def layer(net: Any, op: str, integers: Array, *, per_channel: bool = False, **attributes: Any) -> Any:
    count = integers.shape[0]
    scale = 2.0 ** -np.arange(7, 7 + count).clip(max=9) if per_channel else np.array(2.0**-8)
    names = [net.weights(integers, scale), net.weights(bias(count), scale * IN)]
    return net.op(op, *names, **attributes)


def residual(net: Any) -> Any:
    first = net.current
    layer(net, "Conv", weight(4, 4, 3, 3), pads=[1] * 4).op("Relu").quantize(IN)
    return net.op("Add", first).quantize(OUT)


def joined(net: Any) -> Any:
    first = net.current
    layer(net, "Conv", weight(4, 4, 1, 1)).quantize(OUT)
    net.current = net.node("Concat", [first, net.current], axis=1)
    return net.quantize(2.0**-4)


def gated(net: Any) -> Any:
    first = net.current
    layer(net, "Conv", weight(4, 4, 1, 1)).op("Clip", net.constant(np.float32(-1)), net.constant(np.float32(6)))
    net.quantize(2.0**-4)
    return net.op("Mul", first).quantize(OUT)


def attention(net: Any) -> Any:
    net.op("Reshape", net.constant(np.array([1, 4, 81])))
    flipped = net.node("Transpose", [net.current], perm=[0, 2, 1])
    return net.op("MatMul", flipped).quantize(2.0**-1)


def matmul_with_bias(net: Any) -> Any:
    net.op("Flatten")
    net.op("MatMul", net.weights(weight(324, 5), 2.0**-8))
    return net.op("Add", net.weights(bias(5), 2.0**-8 * IN)).quantize(OUT)


NETS: dict[str, Callable[[Any], Any]] = {
    "conv": lambda net: layer(net, "Conv", weight(6, 4, 3, 3), pads=[1] * 4).quantize(OUT),
    "conv per channel": lambda net: layer(net, "Conv", weight(6, 4, 3, 3), per_channel=True).op("Relu").quantize(OUT),
    "asymmetric padding": lambda net: layer(
        net, "Conv", weight(6, 4, 3, 2), pads=[0, 1, 2, 0], strides=[2, 1]
    ).quantize(OUT),
    "dilation": lambda net: layer(net, "Conv", weight(6, 4, 3, 3), dilations=[2, 3]).quantize(OUT),
    "groups": lambda net: layer(net, "Conv", weight(6, 2, 3, 3), group=2).quantize(OUT),
    "depthwise": lambda net: layer(net, "Conv", weight(8, 1, 3, 3), group=4, pads=[1] * 4).quantize(OUT),
    "same lower": lambda net: layer(net, "Conv", weight(6, 4, 2, 2), auto_pad="SAME_LOWER").quantize(OUT),
    "gemm": lambda net: layer(net.op("Flatten"), "Gemm", weight(5, 324), transB=1).quantize(OUT),
    "matmul and add": matmul_with_bias,
    "max pool": lambda net: net.op("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4).quantize(IN),
    "ceil mode": lambda net: net.op("MaxPool", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1).quantize(IN),
    "average pool": lambda net: net.op("AveragePool", kernel_shape=[2, 2], strides=[2, 2]).quantize(2.0**-5),
    "global average": lambda net: net.op("GlobalAveragePool").op("Flatten").quantize(2.0**-7),
    "reduce mean": lambda net: net.op("ReduceMean", axes=[2, 3], keepdims=0).quantize(2.0**-7),
    "rescaling": lambda net: net.op("Relu").quantize(OUT),
    "add": residual,
    "concat": joined,
    "mul and clip": gated,
    "two activations": attention,
    "pad": lambda net: net.op("Pad", net.constant(np.array([0, 0, 1, 2, 0, 0, 3, 0]))).quantize(IN),
}


@pytest.mark.parametrize("zero", [0, -6])
@pytest.mark.parametrize("name", sorted(NETS))
def test_powers_of_two_leave_no_difference(
    name: str, zero: int, *, net: Any, program_of: Any, run: Any, onnxruntime_of: Any
) -> None:
    made = NETS[name](net((1, 4, 9, 9), IN, zero))
    images = np.random.default_rng(5).integers(-128, 128, (6, 4, 9, 9)).astype(np.int8)
    program = program_of(made.model())
    found = run(program, "ort", images)
    assert len(np.unique(found)) > 10
    assert certify(program, ARITHMETICS["ort"], Accumulator()).reasons == ()
    for optimized in (True, False):
        expected = [onnxruntime_of(made.model(), images[at : at + 1], optimized=optimized) for at in range(6)]
        assert np.count_nonzero(found != np.concatenate(expected)) == 0, optimized


def test_float_scales_differ_rarely_and_by_one(net: Any, program_of: Any, run: Any, onnxruntime_of: Any) -> None:
    made = net((8, 4, 9, 9), 0.0157, 3)
    made.op("Conv", made.weights(weight(6, 4, 3, 3), np.linspace(0.001, 0.004, 6))).op("Relu").quantize(0.0433, -128)
    images = np.random.default_rng(5).integers(-128, 128, (8, 4, 9, 9)).astype(np.int8)
    found = run(program_of(made.model()), "ort", images)
    difference = np.abs(found.astype(int) - onnxruntime_of(made.model(), images, optimized=False))
    assert difference.max() <= 1
    assert np.mean(difference > 0) < 0.01


def quantized_operator(
    op: str, inputs: list[Any], shapes: list[tuple[int, ...]], domain: str, **attributes: Any
) -> Any:
    """A graph of one operator on integers; arrays are constants, strings are inputs."""
    constants, names = [], []
    for at, item in enumerate(inputs):
        names.append(item if isinstance(item, str) else f"c{at}")
        if not isinstance(item, str):
            constants.append(numpy_helper.from_array(np.asarray(item), f"c{at}"))
    feeds = [name for name in dict.fromkeys(names) if name in {"a", "b"}]
    graph = helper.make_graph(
        [helper.make_node(op, names, ["y"], domain=domain, name=op, **attributes)],
        op,
        [
            helper.make_tensor_value_info(name, TensorProto.INT8, shape)
            for name, shape in zip(feeds, shapes, strict=True)
        ],
        [helper.make_tensor_value_info("y", TensorProto.INT8, None)],
        constants,
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def form(scale: float, zero: int = 0) -> list[Array]:
    return [np.array(scale, np.float32), np.array(zero, np.int8)]


MS = "com.microsoft"
IMAGE = (3, 4, 6, 6)
QUANTIZED: dict[str, tuple[onnx.ModelProto, list[tuple[int, ...]]]] = {
    "QLinearConv": (
        quantized_operator(
            "QLinearConv",
            [
                "a",
                *form(IN, 2),
                weight(5, 4, 3, 3),
                np.full(5, 2.0**-8, np.float32),
                np.zeros(5, np.int8),
                *form(OUT, 4),
                bias(5),
            ],
            [IMAGE],
            "",
        ),
        [IMAGE],
    ),
    "QLinearMatMul": (
        quantized_operator(
            "QLinearMatMul", ["a", *form(IN, 2), weight(6, 5), *form(2.0**-8), *form(OUT, 4)], [IMAGE], ""
        ),
        [IMAGE],
    ),
    "QGemm": (
        quantized_operator(
            "QGemm", ["a", *form(IN, 2), weight(5, 24), *form(2.0**-8), bias(5), *form(OUT, 4)], [(3, 24)], MS, transB=1
        ),
        [(3, 24)],
    ),
    "QLinearAdd": (
        quantized_operator("QLinearAdd", ["a", *form(IN, 2), "b", *form(OUT), *form(OUT, 4)], [IMAGE, IMAGE], MS),
        [IMAGE, IMAGE],
    ),
    "QLinearMul": (
        quantized_operator("QLinearMul", ["a", *form(IN, 2), "b", *form(OUT), *form(2.0**-4, 4)], [IMAGE, IMAGE], MS),
        [IMAGE, IMAGE],
    ),
    "QLinearConcat": (
        quantized_operator(
            "QLinearConcat", [*form(2.0**-5, 4), "a", *form(IN, 2), "b", *form(OUT)], [IMAGE, IMAGE], MS, axis=1
        ),
        [IMAGE, IMAGE],
    ),
    "QLinearGlobalAveragePool": (
        quantized_operator(
            "QLinearGlobalAveragePool", ["a", *form(IN, 2), *form(2.0**-8, 4)], [IMAGE], MS, channels_last=0
        ),
        [IMAGE],
    ),
    "QLinearAveragePool": (
        quantized_operator(
            "QLinearAveragePool", ["a", *form(IN, 2), *form(2.0**-7, 4)], [IMAGE], MS, kernel_shape=[2, 2], pads=[1] * 4
        ),
        [IMAGE],
    ),
}


@pytest.mark.parametrize("op", sorted(QUANTIZED))
def test_operators_on_integers(op: str, program_of: Any, run: Any, onnxruntime_of: Any) -> None:
    model, shapes = QUANTIZED[op]
    rng = np.random.default_rng(3)
    feeds = [rng.integers(-128, 128, shape).astype(np.int8) for shape in shapes]
    found = run(program_of(model), "ort", *feeds)
    assert len(np.unique(found)) > 10
    np.testing.assert_array_equal(found, onnxruntime_of(model, *feeds))


@pytest.mark.parametrize("name", zoo_names())
def test_released_students(name: str, program_of: Any, run: Any, onnxruntime_of: Any) -> None:
    """Float scales, yet the trained network's own integers on every golden image.

    onnxruntime without optimizations is a reference on every CPU, but sums in fp32.
    """
    path, golden = ROOT / "models" / name / MODEL, np.load(ROOT / "models" / name / GOLDEN)
    model, images = onnx.load(path), [image[None] for image in golden["pixels"]]
    found = run(program_of(model), "ort", golden["pixels"]).astype(int)
    difference = np.abs(found - np.concatenate([onnxruntime_of(model, image, optimized=False) for image in images]))
    assert difference.max() <= 1
    assert np.mean(difference > 0) <= 0.02
    assert np.mean(found != golden["embedding"]) <= 0.01
    if sums_int8_exactly(cpu_flags()):
        session = open_session(path)
        np.testing.assert_array_equal(
            found, np.concatenate([session.run(None, {"pixels": image})[0] for image in images])
        )
