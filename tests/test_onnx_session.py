from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgekd import onnx_session
from edgekd.cpu import cpu_flags, sums_int8_exactly
from edgekd.onnx_session import open_session

ALLOWED, PRECISE = "session.qdqisint8allowed", "session.x64quantprecision"
CHANNELS = 64


def save_signed(path: Path, weights: NDArray[np.int8]) -> Path:
    """One 1x1 convolution (2, 64, 1, 1) of int8 activations; the scales divide the sum by 2^14."""
    values = {
        "one": np.float32(1),
        "scale": np.float32(2.0**14),
        "zero": np.int8(0),
        "weight": weights,
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "one", "zero"], ["real"]),
        helper.make_node("DequantizeLinear", ["weight", "one", "zero"], ["w"]),
        helper.make_node("Conv", ["real", "w"], ["sums"]),
        helper.make_node("QuantizeLinear", ["sums", "scale", "zero"], ["y"]),
    ]
    entry, result = (
        [helper.make_tensor_value_info(name, TensorProto.INT8, [1, count, 3, 3])]
        for name, count in (("x", CHANNELS), ("y", 2))
    )
    constants = [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()]
    graph = helper.make_graph(nodes, "signed", entry, result, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path)
    return path


@pytest.mark.parametrize(("exact", "set_option", "other"), [(True, ALLOWED, PRECISE), (False, PRECISE, ALLOWED)])
def test_a_cpu_that_sums_exactly_gets_kernels_of_signed_activations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exact: bool, set_option: str, other: str
) -> None:
    monkeypatch.setattr(onnx_session, "sums_int8_exactly", lambda flags: exact)
    path = save_signed(tmp_path / "m.onnx", np.ones((2, CHANNELS, 1, 1), np.int8))
    options = open_session(path).get_session_options()
    assert options.get_session_config_entry(set_option) == "1"
    with pytest.raises(RuntimeError, match=other):
        options.get_session_config_entry(other)


@pytest.mark.parametrize("pixel", [-128, 127])
@pytest.mark.parametrize("weight", [-127, 127])
def test_the_largest_sums_of_signed_activations_do_not_saturate(tmp_path: Path, pixel: int, weight: int) -> None:
    path = save_signed(tmp_path / "m.onnx", np.full((2, CHANNELS, 1, 1), weight, np.int8))
    found = open_session(path).run(None, {"x": np.full((1, CHANNELS, 3, 3), pixel, np.int8)})[0]
    expected = np.rint(CHANNELS * pixel * weight / 2**14)
    assert abs(expected) > 60
    np.testing.assert_array_equal(found, np.full((1, 2, 3, 3), expected))


def test_signed_activations_are_summed_in_integers_where_that_is_exact(tmp_path: Path) -> None:
    weights = np.ones((2, CHANNELS, 1, 1), np.int8)
    options = open_session(save_signed(tmp_path / "m.onnx", weights)).get_session_options()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(str(tmp_path / "m.onnx"), options, providers=["CPUExecutionProvider"])
    kinds = {node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node}
    assert kinds & {"Conv", "QLinearConv"} == {"QLinearConv" if sums_int8_exactly(cpu_flags()) else "Conv"}
