"""Each pass is proved by running the graph before and after."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from edgekd import passes
from edgekd.renaming import rename_all

Array = NDArray[np.generic]


def make(
    nodes: Sequence[NodeProto],
    constants: dict[str, Array],
    in_type: int = TensorProto.FLOAT,
    out_type: int = TensorProto.FLOAT,
    out_rank: int = 4,
) -> ModelProto:
    graph = helper.make_graph(
        list(nodes), "g",
        [helper.make_tensor_value_info("x", in_type, [1, 2, 4, 4])],
        [helper.make_tensor_value_info("y", out_type, [f"d{axis}" for axis in range(out_rank)])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


def run(model: ModelProto, x: Array) -> Array:
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    result: Array = session.run(None, {"x": x})[0]
    return result


def kinds(model: ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


SCALE, ZERO, ZERO_U = np.float32(0.25), np.int8(0), np.uint8(0)
FLOATS = np.random.default_rng(0).normal(0, 3, (1, 2, 4, 4)).astype(np.float32)
CONSTANTS: dict[str, Array] = {"s": np.array(SCALE), "z": np.array(ZERO)}


def node(kind: str, *names: str, **attributes: object) -> NodeProto:
    *inputs, output = names
    return helper.make_node(kind, inputs, [output], **attributes)  # type: ignore[arg-type]


def test_a_clip_of_constants_is_folded() -> None:
    constants = {
        "w": np.array([-128, -3, 127], np.int8),
        "low": np.array(-127, np.int8),
        "high": np.array(127, np.int8),
        "shape": np.array([1, 1, 1, 1, 3]),
    }
    model = make(
        [node("Clip", "w", "low", "high", "clipped"), node("Cast", "clipped", "y", to=TensorProto.FLOAT)],
        constants,
        out_rank=1,
    )
    before = run(model, FLOATS)
    assert passes.fold_weight_clips(model)
    passes.drop_unused_constants(model)
    assert kinds(model) == ["Cast"]
    assert [tensor.name for tensor in model.graph.initializer] == ["clipped"]
    assert np.array_equal(run(model, FLOATS), before)
    assert not passes.fold_weight_clips(model)


def test_a_clip_of_activations_stays() -> None:
    model = make(
        [node("Clip", "x", "low", "high", "y")], {"low": np.array(0, np.float32), "high": np.array(6, np.float32)}
    )
    assert not passes.fold_weight_clips(model)


def test_dequantize_sinks_below_max_pooling() -> None:
    nodes = [
        node("QuantizeLinear", "x", "s", "z", "q"), node("DequantizeLinear", "q", "s", "z", "d"),
        node("MaxPool", "d", "m", kernel_shape=[2, 2], strides=[2, 2]), node("Flatten", "m", "y"),
    ]  # fmt: skip
    model = make(nodes, CONSTANTS, out_rank=2)
    before = run(model, FLOATS)
    passes.run_to_end(model, passes.sink_dequantize)
    assert kinds(model) == ["QuantizeLinear", "MaxPool", "Flatten", "DequantizeLinear"]
    assert np.array_equal(run(model, FLOATS), before)


def test_dequantize_stays_where_another_node_reads_it() -> None:
    nodes = [
        node("QuantizeLinear", "x", "s", "z", "q"), node("DequantizeLinear", "q", "s", "z", "d"),
        node("MaxPool", "d", "m", kernel_shape=[1, 1]), node("Add", "d", "m", "y"),
    ]  # fmt: skip
    assert not passes.sink_dequantize(make(nodes, CONSTANTS))


def test_relu_moves_behind_a_signed_quantizer_only() -> None:
    nodes = [node("Relu", "x", "r"), node("QuantizeLinear", "r", "s", "z", "y")]
    signed = make(nodes, CONSTANTS, out_type=TensorProto.INT8)
    before = run(signed, FLOATS)
    assert passes.rectify_integers(signed)
    assert kinds(signed) == ["QuantizeLinear", "Relu"]
    assert np.array_equal(run(signed, FLOATS), before)
    unsigned = make(nodes, CONSTANTS | {"z": np.array(ZERO_U)}, out_type=TensorProto.UINT8)
    assert not passes.rectify_integers(unsigned)


def test_integers_at_both_ends() -> None:
    nodes = [
        node("QuantizeLinear", "x", "s", "z", "q"), node("DequantizeLinear", "q", "s", "z", "d"), node("Neg", "d", "n"),
        node("QuantizeLinear", "n", "s", "z", "q2"), node("DequantizeLinear", "q2", "s", "z", "y"),
    ]  # fmt: skip
    model = make(nodes, CONSTANTS)
    before = run(model, FLOATS)
    assert passes.integer_input(model)
    assert passes.integer_output(model)
    rename_all(model, "x", "y")
    assert kinds(model) == ["DequantizeLinear", "Neg", "QuantizeLinear"]
    pixels = np.clip(np.rint(FLOATS / SCALE), -128, 127).astype(np.int8)
    assert np.array_equal(run(model, pixels).astype(np.float32) * SCALE, before)
    assert passes.tensor_scale(model, "y") == passes.tensor_scale(model, "x") == SCALE


def test_signed_pixels_enter_an_unsigned_network_exactly() -> None:
    nodes = [
        node("DequantizeLinear", "x", "s", "z", "d"),
        node("Relu", "d", "r"),
        node("QuantizeLinear", "r", "s", "zu", "y"),
    ]
    model = make(nodes, CONSTANTS | {"zu": np.array(ZERO_U)}, TensorProto.INT8, TensorProto.UINT8)
    every_pixel = np.arange(-128, 128, dtype=np.int16).astype(np.int8).reshape(8, 2, 4, 4)
    before = [run(model, pixels[None]) for pixels in every_pixel]
    assert passes.unsigned_entry(model)
    assert not passes.unsigned_entry(model)
    assert kinds(model)[:3] == ["DequantizeLinear", "QuantizeLinear", "DequantizeLinear"]
    assert all(np.array_equal(run(model, pixels[None]), was) for pixels, was in zip(every_pixel, before, strict=True))


def test_an_unknown_scale_is_an_error() -> None:
    with pytest.raises(KeyError):
        passes.tensor_scale(make([node("Relu", "x", "y")], {}), "y")


def test_layers_that_share_a_stored_tensor_get_zero_points_of_their_own() -> None:
    """Untrained layers of one width have the same biases, which the exporter stores once."""
    nodes = [
        node("DequantizeLinear", "w", "s", "z", "a"),
        node("DequantizeLinear", "w", "s", "z", "b"),
        node("DequantizeLinear", "w", "s", "z", "c"),
        node("Add", "a", "b", "ab"),
        node("Add", "ab", "c", "abc"),
        node("Add", "x", "abc", "y"),
    ]
    model = make(nodes, CONSTANTS | {"w": np.array(7, np.int8)})
    before = run(model, FLOATS)
    assert passes.own_zero_points(model)
    assert not passes.own_zero_points(model)
    zero_points = [item.input[2] for item in model.graph.node if item.op_type == "DequantizeLinear"]
    assert zero_points == ["z", "w.zero_point", "w.zero_point.2"]
    assert len({tensor.name for tensor in model.graph.initializer}) == len(model.graph.initializer)
    np.testing.assert_array_equal(run(model, FLOATS), before)
