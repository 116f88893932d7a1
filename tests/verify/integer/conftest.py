"""Twins: one network from the same integers, as a QDQ ONNX file and as a TensorFlow Lite file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgekd.verify.integer.lower import lower
from edgekd.verify.integer.requant import ARITHMETICS
from edgekd.verify.integer.simulator import Simulator
from edgekd.verify.integer.steps import Program
from edgekd.verify.reading import read_graph

Array = NDArray[Any]


class Onnx:
    """A chain of float operators between QuantizeLinear and DequantizeLinear; `current` is the last float tensor."""

    def __init__(self, shape: Sequence[int], scale: float, zero: int = 0, dtype: type = np.int8) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.shape, self.dtype = list(shape), dtype
        self.integers = "pixels"
        self.current = self._dequantize(scale, zero)

    def constant(self, array: Array) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def node(self, op: str, inputs: Sequence[str], domain: str = "", **attributes: Any) -> str:
        output = f"t{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(op, list(inputs), [output], name=f"{op}_{len(self.nodes)}", domain=domain, **attributes)
        )
        return output

    def op(self, name: str, *more: str, **attributes: Any) -> Onnx:
        self.current = self.node(name, [self.current, *more], **attributes)
        return self

    def weights(self, integers: Array, scale: float | Array, axis: int = 0) -> str:
        scales = np.asarray(scale, np.float32)
        zeros = np.zeros(scales.shape, integers.dtype)
        names = [self.constant(part) for part in (integers, scales, zeros)]
        attributes: dict[str, Any] = {"axis": axis} if scales.ndim else {}
        return self.node("DequantizeLinear", names, **attributes)

    def quantize(self, scale: float, zero: int = 0) -> Onnx:
        names = [self.current, *self._format(scale, zero)]
        self.integers = self.node("QuantizeLinear", names)
        self.current = self._dequantize(scale, zero)
        return self

    def _format(self, scale: float, zero: int) -> list[str]:
        return [self.constant(np.array(scale, np.float32)), self.constant(np.array(zero, self.dtype))]

    def _dequantize(self, scale: float, zero: int) -> str:
        return self.node("DequantizeLinear", [self.integers, *self._format(scale, zero)])

    def model(self) -> onnx.ModelProto:
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype))
        nodes = [node for node in self.nodes if node.output[0] != self.current]  # the last dequantizer
        graph = helper.make_graph(
            nodes,
            "twin",
            [helper.make_tensor_value_info("pixels", kind, self.shape)],
            [helper.make_tensor_value_info(self.integers, kind, None)],
            self.constants,
        )
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def load(model: onnx.ModelProto, folder: Path) -> Program:
    path = folder / "graph.onnx"
    path.write_bytes(model.SerializeToString())
    return lower(read_graph(path))


def simulate(program: Program, arithmetic: str, *feeds: Array) -> Array:
    names = dict(zip(program.inputs, feeds, strict=True))
    tensor = program.results[0].tensor
    return Simulator(program, ARITHMETICS[arithmetic], threads=1).run(names).tensors[tensor]


@pytest.fixture
def net() -> type[Onnx]:
    return Onnx


@pytest.fixture
def program_of(tmp_path: Path) -> Callable[[onnx.ModelProto], Program]:
    return lambda model: load(model, tmp_path)


@pytest.fixture
def run() -> Callable[..., Array]:
    return simulate


@pytest.fixture
def onnxruntime_of() -> Callable[..., Array]:
    """Runs a model by onnxruntime, with or without its optimizations; where `precise` no sum saturates on any CPU."""

    def execute(model: onnx.ModelProto, *feeds: Array, optimized: bool = True, precise: bool = False) -> Array:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        level = onnxruntime.GraphOptimizationLevel
        options.add_session_config_entry("session.x64quantprecision", str(int(precise)))
        options.graph_optimization_level = level.ORT_ENABLE_ALL if optimized else level.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        names = [item.name for item in session.get_inputs()]
        output: Array = session.run(None, dict(zip(names, feeds, strict=True)))[0]
        return output

    return execute
