"""Time and memory stay bounded for graphs that are large in one direction."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekd.errors import ModelError
from edgekd.verify import Request, verify
from edgekd.verify.contained import contained
from edgekd.verify.rehearsal import rehearse

Save = Callable[[onnx.ModelProto | bytes], Path]
Nodes = list[onnx.NodeProto]
SECONDS = 30.0

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot copy a process")


def network(nodes: Nodes, output: str) -> onnx.ModelProto:
    """A network on int8 "x" (1, 3, 8, 8) with a scale "s", a zero point "z" and weights "w" (4, 3, 1, 1)."""
    constants = {"s": np.float32(0.5), "z": np.int8(0), "w": np.ones((4, 3, 1, 1), np.int8), "one": np.array([1])}
    graph = helper.make_graph(
        [helper.make_node("DequantizeLinear", ["x", "s", "z"], ["start"]), *nodes],
        "large",
        [helper.make_tensor_value_info("x", TensorProto.INT8, [1, 3, 8, 8])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


def chain(op: str, length: int, source: str = "start", **attributes: Any) -> Nodes:
    """`length` nodes, each on the one before; the last writes `{op}_end`."""
    names = [source, *(f"{op}_{at}" for at in range(1, length)), f"{op}_end"]
    return [helper.make_node(op, [names[at]], [names[at + 1]], **attributes) for at in range(length)]


def identities() -> onnx.ModelProto:
    return network(chain("Identity", 50_000), "Identity_end")


def relus() -> onnx.ModelProto:
    return network(chain("Relu", 50_000), "Relu_end")


def quantizers() -> onnx.ModelProto:
    nodes, current = [], "start"
    for at in range(10_000):
        nodes.append(helper.make_node("QuantizeLinear", [current, "s", "z"], [f"q{at}"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"q{at}", "s", "z"], [f"d{at}"]))
        current = f"d{at}"
    return network(nodes, current)


def readers_of_one_tensor() -> onnx.ModelProto:
    nodes = [helper.make_node("Relu", ["start"], [f"r{at}"]) for at in range(20_000)]
    return network([*nodes, helper.make_node("Sum", [f"r{at}" for at in range(20_000)], ["end"])], "end")


def layers_behind_a_long_chain() -> onnx.ModelProto:
    pools = chain("MaxPool", 3_000, kernel_shape=[1, 1])
    weights = [helper.make_node("DequantizeLinear", ["w", "s", "z"], ["wf"]), *chain("Identity", 3_000, "wf")]
    layers = [helper.make_node("Conv", ["MaxPool_end", "Identity_end"], [f"c{at}"]) for at in range(3_000)]
    end = helper.make_node("Sum", [f"c{at}" for at in range(3_000)], ["end"])
    return network([*pools, *weights, *layers, end], "end")


def concatenations_that_double() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Concat", ["start" if at == 0 else f"c{at}"] * 2, [f"c{at + 1}"], axis=0) for at in range(30)
    ]
    return network(nodes, "c30")


def clips_of_integers() -> onnx.ModelProto:
    nodes = [helper.make_node("Clip", ["x" if at == 0 else f"k{at}"], [f"k{at + 1}"]) for at in range(5_000)]
    nodes += [helper.make_node("DequantizeLinear", ["k5000", "s", "z"], [f"d{at}"]) for at in range(3_000)]
    return network([*nodes, helper.make_node("Sum", [f"d{at}" for at in range(3_000)], ["end"])], "end")


@pytest.mark.parametrize(
    "build",
    [
        identities,
        relus,
        quantizers,
        readers_of_one_tensor,
        layers_behind_a_long_chain,
        concatenations_that_double,
        clips_of_integers,
    ],
)
def test_large_graphs_take_bounded_time_and_memory(
    build: Callable[[], onnx.ModelProto], save: Save, measured: Callable[[Path], tuple[int, str]]
) -> None:
    begin = time.perf_counter()
    code, _ = measured(save(build()))
    assert code in {0, 1}
    assert time.perf_counter() - begin < SECONDS


def test_a_graph_too_large_to_be_run_is_not_run(save: Save) -> None:
    """Accuracy is asked for, and onnxruntime's optimizer alone would take minutes: it is unknown, and soon."""
    model = network([*chain("Relu", 12_000), *chain("Flatten", 1, "Relu_end")], "Flatten_end")
    begin = time.perf_counter()
    report = verify(save(model), "max78000", options=Request(data="glyphs", size=8))
    assert time.perf_counter() - begin < SECONDS
    (found,) = [item for item in report.findings if item.rule == "few-shot-accuracy"]
    assert (found.status, report.accuracy, report.errors) == ("unknown", (), ())
    assert "12,002 nodes" in found.message
    assert report.verdict != "pass"


def test_many_outputs_and_inputs(save: Save) -> None:
    model = network([], "start")
    for at in range(5_000):
        model.graph.input.append(helper.make_tensor_value_info(f"i{at}", TensorProto.FLOAT, ["n", 3]))
        model.graph.node.append(helper.make_node("Relu", [f"i{at}"], [f"o{at}"]))
        model.graph.output.append(helper.make_tensor_value_info(f"o{at}", TensorProto.FLOAT, None))
    begin = time.perf_counter()
    assert verify(save(model), "stm32h743", static=True).verdict == "fail"
    assert time.perf_counter() - begin < SECONDS


@needs_fork
def test_a_crash_is_contained() -> None:
    with pytest.raises(ModelError, match=r"crashes the library that should read \(SIGABRT\)"):
        contained(os.abort)


@needs_fork
def test_memory_is_limited() -> None:
    with pytest.raises(ModelError, match="more than 64 MiB of memory"):
        contained(lambda: bytes(2**28), memory_bytes=2**26)


@needs_fork
def test_time_is_limited() -> None:
    def sleep() -> bytes:
        time.sleep(60)
        return b""

    begin = time.perf_counter()
    with pytest.raises(ModelError, match=r"more than 0\.5 s"):
        contained(sleep, seconds=0.5)
    assert time.perf_counter() - begin < 10


@needs_fork
def test_a_loop_without_end_is_refused_before_it_is_measured(tmp_path: Path, qcdq: type[Any]) -> None:
    model = qcdq(3, 8).conv(4).op("GlobalAveragePool").op("Flatten").model()
    kinds = {"i": TensorProto.INT64, "go": TensorProto.BOOL}
    carried = [helper.make_tensor_value_info("before", TensorProto.FLOAT, None)]
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Identity", ["before"], ["after"])],
        "body",
        [*(helper.make_tensor_value_info(name, kind, []) for name, kind in kinds.items()), *carried],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, None),
        ],
    )
    constants = {"times": np.array(2**62), "yes": np.array(True)}
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    loop = helper.make_node("Loop", ["times", "yes", model.graph.output[0].name], ["end"], body=body)
    model.graph.node.append(loop)
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("end", TensorProto.FLOAT, [1, 4]))
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=r"model\.onnx: it takes more than 3 s to run on one image"):
        rehearse(path, np.zeros((1, 8, 8, 3), np.uint8), seconds=3)


def test_what_the_work_returns_or_raises_comes_back() -> None:
    def refuse() -> bytes:
        raise ModelError("it is blue")

    assert contained(lambda: b"x" * 5_000_000) == b"x" * 5_000_000
    with pytest.raises(ModelError, match="it is blue"):
        contained(refuse)
