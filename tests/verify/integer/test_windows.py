"""Sizes behind convolutions and pools are those of onnxruntime, at every opset, and go on through the graph."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from edgekd.verify.graph import Node
from edgekd.verify.integer.kernels.window import Window
from edgekd.verify.memory import memory_of
from edgekd.verify.reading import read_graph
from edgekd.verify.resizing import resized
from edgekd.verify.windows import window_counts

SIDES = range(5, 12)
Session = onnxruntime.InferenceSession


def pool(op: str, opset: int, shape: list[int | str], output: list[int] | None = None, **attributes: Any) -> Any:
    """A pool and a Flatten behind it, of floats."""
    nodes = [
        helper.make_node(op, ["x"], ["pooled"], name="pool", **attributes),
        helper.make_node("Flatten", ["pooled"], ["y"], name="flat"),
    ]
    graph = helper.make_graph(
        nodes,
        "pool",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, output)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def session(model: onnx.ModelProto, output: str = "") -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if output:
        model.graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, None))
    return Session(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def settings(seed: int, count: int, *, dilations: bool) -> list[dict[str, Any]]:
    """Different kernels, strides, pads and dilations along both axes, with and without `ceil_mode`."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        kernel = rng.integers(1, 5, 2)
        found.append(
            {
                "kernel_shape": kernel.tolist(),
                "strides": rng.integers(1, 5, 2).tolist(),
                "pads": [int(rng.integers(0, side)) for side in (*kernel, *kernel)],
                "ceil_mode": int(rng.integers(0, 4) > 0),
                **({"dilations": rng.integers(1, 3, 2).tolist()} if dilations else {}),
            }
        )
    return found


def window_of(given: dict[str, Any]) -> Window:
    """The same windows, as the simulator places them."""
    kernel, strides, pads = (tuple(given[key]) for key in ("kernel_shape", "strides", "pads"))
    dilations = tuple(given.get("dilations", (1, 1)))
    return Window(kernel, strides, dilations, pads, ceil_mode=bool(given["ceil_mode"]))


@pytest.mark.parametrize("opset", range(11, 23))
@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_sizes_are_those_of_onnxruntime(op: str, opset: int) -> None:
    checked = 0
    for given in settings(opset, 40, dilations=op == "MaxPool" or opset >= 19):
        run = session(pool(op, opset, [1, 1, "h", "w"], **given), "pooled")
        attributes = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
        node = Node("pool", op, "", ("x",), ("y",), attributes)
        window = window_of(given)
        for image in zip(SIDES, reversed(SIDES), strict=True):
            counts = window_counts(node, image, given["kernel_shape"])
            if counts is None or min(counts) < 1:
                continue
            size = run.run(None, {"x": np.zeros((1, 1, *image), np.float32)})[1].shape[2:]
            assert size == counts, (given, image)
            assert size == window.place(image).out, (given, image)
            checked += 1
    assert checked > 200


@pytest.mark.parametrize("opset", range(11, 23))
@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_a_file_has_the_sizes_of_onnxruntime(op: str, opset: int, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    for at, given in enumerate(settings(100 + opset, 6, dilations=False)):
        given["ceil_mode"] = 1
        shape = [1, 2, 6 + at, 11 - at]
        model = pool(op, opset, [*shape], **given)
        path.write_bytes(model.SerializeToString())
        graph = read_graph(path)
        flat = session(model).run(None, {"x": np.zeros(shape, np.float32)})[0].shape
        assert graph.value("y").shape == flat, given
        assert not graph.flaws


@pytest.mark.parametrize("auto_pad", ["VALID", "SAME_UPPER"])
def test_automatic_padding_has_the_sizes_of_onnxruntime(auto_pad: str, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    for kernel, stride, side in product((3, 4), (1, 2, 3), SIDES):  # onnxruntime refuses SAME where strides leave gaps
        window = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2}
        model = pool("MaxPool", 13, [1, 1, side, side], auto_pad=auto_pad, ceil_mode=1, **window)
        path.write_bytes(model.SerializeToString())
        found = session(model).run(None, {"x": np.zeros((1, 1, side, side), np.float32)})[0].shape
        assert read_graph(path).value("y").shape == found


@pytest.mark.parametrize("include", [0, 1])
@pytest.mark.parametrize("opset", [11, 18, 19, 22])
def test_averages_count_the_elements_that_onnxruntime_counts(opset: int, include: int) -> None:
    for given in settings(opset, 40, dilations=False):
        run = session(pool("AveragePool", opset, [1, 1, "h", "w"], count_include_pad=include, **given), "pooled")
        window = window_of(given)
        for image in zip(SIDES, reversed(SIDES), strict=True):
            inside = window.counts(image, include_pad=False)
            means = run.run(None, {"x": np.ones((1, 1, *image), np.float32)})[1]
            np.testing.assert_allclose(means, inside / window.counts(image, include_pad=bool(include)), rtol=1e-5)


def dropped(net: Any) -> Any:
    """A pool whose last window would start in its padding, and an average over what it leaves."""
    net.conv(4)
    net.op("MaxPool", kernel_shape=[2, 2], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1).quantize()
    return net.global_pool()


def test_sizes_go_on_through_the_graph(qcdq: Any, tmp_path: Path) -> None:
    graph = read_graph(dropped(qcdq(3, 15)).save(tmp_path / "m.onnx"))
    shapes = {node.op: graph.value(node.outputs[0]).shape for node in graph.nodes}
    assert shapes["MaxPool"] == (1, 4, 8, 8)
    plan = memory_of(graph).plan
    assert plan is not None
    assert (1, 4, 8, 8) in {buffer.shape for buffer in plan.buffers}
    smaller = resized(graph, 7)
    assert smaller is not None
    assert smaller.value(next(node for node in graph.nodes if node.op == "MaxPool").outputs[0]).shape == (1, 4, 4, 4)


@pytest.mark.parametrize("stated", [8, 9])
def test_what_inference_wrote_into_a_file_is_no_contradiction(stated: int, qcdq: Any, tmp_path: Path) -> None:
    """A file may hold the size that ONNX's inference says, or the one that runtimes compute."""
    net = dropped(qcdq(3, 15))
    model = net.model()
    name = next(node.output[0] for node in model.graph.node if node.op_type == "MaxPool")
    model.graph.value_info.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4, stated, stated]))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    graph = read_graph(tmp_path / "m.onnx")
    assert graph.value(name).shape == (1, 4, 8, 8)
    assert not graph.flaws


def test_another_size_stated_behind_a_pool_is_one(qcdq: Any, tmp_path: Path) -> None:
    model = dropped(qcdq(3, 15)).model()
    name = next(node.output[0] for node in model.graph.node if node.op_type == "MaxPool")
    model.graph.value_info.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4, 7, 7]))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    assert read_graph(tmp_path / "m.onnx").flaws


def test_the_simulator_averages_what_onnxruntime_averages(
    qcdq: Any, program_of: Callable[..., Any], run: Callable[..., Any], onnxruntime_of: Callable[..., Any]
) -> None:
    model = dropped(qcdq(3, 15)).model()
    pixels = np.random.default_rng(0).integers(-128, 128, (1, 3, 15, 15)).astype(np.int8)
    wanted = onnxruntime_of(model, pixels, optimized=False)
    np.testing.assert_array_equal(run(program_of(model), "ort", pixels).reshape(wanted.shape), wanted)
