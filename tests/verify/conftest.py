"""Fixtures for tests of exported files: tiny QCDQ graphs, built node by node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgekd.verify.facts import Facts, facts_of
from edgekd.verify.reading import read_graph


class Qcdq:
    """A chain of quantized layers; each step appends nodes and moves on to its output.

    Weights are int8 initializers behind DequantizeLinear, biases int32; every layer ends in QuantizeLinear and
    DequantizeLinear. The graph input is int8 "pixels" (batch, channels, size, size), the output the last integers.
    """

    def __init__(self, channels: int = 3, size: int = 8, batch: int | str = 1, scale: float = 2.0**-7) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.channels = channels
        self.input_shape = [batch, channels, size, size]
        self.rng = np.random.default_rng(0)
        self.metadata: dict[str, str] = {}
        self.current = "pixels"
        self._dequantize(scale)

    def conv(
        self,
        out_channels: int,
        *,
        kernel: int = 3,
        groups: int = 1,
        stride: int = 1,
        scale: float | Sequence[float] = 2.0**-8,
        zero_point: int = 0,
        clip: tuple[int, int] | None = None,
        float_weights: bool = False,
        act_scale: float = 2.0**-4,
    ) -> Qcdq:
        """Conv with same padding and bias, Relu, quantize."""
        shape = (out_channels, self.channels // groups, kernel, kernel)
        weight = self._weights(shape, scale, zero_point, clip, float_weights=float_weights)
        bias = self._bias(out_channels, scale)
        pads = [kernel // 2] * 4
        self._step(
            "Conv", [weight, bias], kernel_shape=[kernel, kernel], pads=pads, strides=[stride, stride], group=groups
        )
        self._step("Relu")
        self.quantize(act_scale)
        self.channels = out_channels
        return self

    def gemm(self, out_features: int, in_features: int) -> Qcdq:
        """Gemm with weights (out, in) and bias, quantize."""
        weight = self._weights((out_features, in_features), 2.0**-8, 0, None, float_weights=False)
        self._step("Gemm", [weight, self._bias(out_features, 2.0**-8)], transB=1)
        self.quantize(2.0**-4)
        return self

    def pool(self, kernel: int = 2, stride: int = 2) -> Qcdq:
        """MaxPool on the dequantized tensor, as Brevitas exports it."""
        return self._step("MaxPool", kernel_shape=[kernel, kernel], strides=[stride, stride])

    def flatten(self) -> Qcdq:
        return self._step("Flatten")

    def global_pool(self) -> Qcdq:
        self._step("GlobalAveragePool")
        self._step("Flatten")
        return self.quantize(2.0**-4)

    def op(self, name: str, domain: str = "", extra: Sequence[str] = (), **attributes: Any) -> Qcdq:
        """Any operator of one input, with constants behind it."""
        return self._step(name, list(extra), domain=domain, **attributes)

    def add_from(self, tensor: str) -> Qcdq:
        """A residual: add an earlier float tensor, quantize."""
        self._step("Add", [tensor])
        return self.quantize(2.0**-4)

    def constant(self, name: str, array: NDArray[Any]) -> str:
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def model(self) -> onnx.ModelProto:
        """The model; a dequantizer at the end is left off."""
        nodes = self.nodes[:-1] if self.nodes[-1].op_type == "DequantizeLinear" else self.nodes
        output = nodes[-1].output[0]
        integers = nodes[-1].op_type.startswith(("Quantize", "QLinear"))
        kind = TensorProto.INT8 if integers else TensorProto.FLOAT
        graph = helper.make_graph(
            nodes,
            "tiny",
            [helper.make_tensor_value_info("pixels", TensorProto.INT8, self.input_shape)],
            [helper.make_tensor_value_info(output, kind, None)],
            self.initializers,
        )
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("custom", 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10, producer_name="tests")
        helper.set_model_props(model, self.metadata)
        return model

    def save(self, path: Path) -> Path:
        path.write_bytes(self.model().SerializeToString())
        return path

    def _step(self, op: str, more: Sequence[str] = (), domain: str = "", **attributes: Any) -> Qcdq:
        output = f"{op}_{len(self.nodes)}_out"
        inputs = [self.current, *more]
        self.nodes.append(
            helper.make_node(op, inputs, [output], name=f"{op}_{len(self.nodes)}", domain=domain, **attributes)
        )
        self.current = output
        return self

    def quantize(self, scale: float = 2.0**-4) -> Qcdq:
        """Quantize and dequantize."""
        self._step("QuantizeLinear", self._format(scale, np.int8(0)))
        return self._dequantize(scale)

    def _dequantize(self, scale: float) -> Qcdq:
        self.scale = scale
        return self._step("DequantizeLinear", self._format(scale, np.int8(0)))

    def _format(self, scale: float | Sequence[float], zero: np.generic) -> list[str]:
        position = len(self.initializers)
        scales = np.asarray(scale, np.float32)
        zeros = np.full(scales.shape, zero, zero.dtype)
        return [self.constant(f"scale_{position}", scales), self.constant(f"zero_{position}", zeros)]

    def _weights(
        self,
        shape: tuple[int, ...],
        scale: float | Sequence[float],
        zero_point: int,
        clip: tuple[int, int] | None,
        *,
        float_weights: bool,
    ) -> str:
        low, high = clip or (-127, 127)
        integers = self.rng.integers(low, high + 1, shape, dtype=np.int8)
        name = self.constant(f"weight_{len(self.nodes)}", integers)
        if float_weights:
            return self.constant(f"float_{name}", integers.astype(np.float32))
        if clip:
            limits = [self.constant(f"{name}_{end}", np.array(end, np.int8)) for end in clip]
            self.nodes.append(helper.make_node("Clip", [name, *limits], [f"{name}_clipped"], name=f"Clip_{name}"))
            name = f"{name}_clipped"
        self.nodes.append(
            helper.make_node(
                "DequantizeLinear",
                [name, *self._format(scale, np.int8(zero_point))],
                [f"{name}_float"],
                name=f"DequantizeLinear_{name}",
                axis=0,
            )
        )
        return f"{name}_float"

    def _bias(self, count: int, scale: float | Sequence[float]) -> str:
        name = self.constant(f"bias_{len(self.nodes)}", self.rng.integers(-99, 99, count, dtype=np.int32))
        scales = np.asarray(scale, np.float32) * np.float32(self.scale)
        self.nodes.append(
            helper.make_node(
                "DequantizeLinear",
                [name, *self._format(scales.tolist(), np.int32(0))],
                [f"{name}_float"],
                name=f"DequantizeLinear_{name}",
                axis=0,
            )
        )
        return f"{name}_float"


@pytest.fixture
def qcdq() -> type[Qcdq]:
    """The builder of tiny QCDQ graphs."""
    return Qcdq


@pytest.fixture
def conv4(qcdq: type[Qcdq]) -> Callable[..., Qcdq]:
    """Four blocks of Conv, Relu, MaxPool, then a global average pool: the students of few-shot learning."""

    def build(width: int = 4, size: int = 32, channels: int = 3, **options: Any) -> Qcdq:
        net = qcdq(channels, size, **options)
        for _ in range(4):
            net.conv(width).pool()
        return net.global_pool()

    return build


@pytest.fixture
def analyse(tmp_path: Path) -> Callable[[Qcdq], Facts]:
    """Save a graph and return its facts."""
    return lambda net: facts_of(read_graph(net.save(tmp_path / "model.onnx")))


@pytest.fixture(scope="session")
def many_facts(tmp_path_factory: pytest.TempPathFactory) -> list[Facts]:
    """Facts of small graphs of every kind: dense, grouped, narrow, float, asymmetric, per channel, of an open batch."""
    nets = [
        Qcdq().conv(4).pool().conv(6).global_pool(),
        Qcdq(4, 9).conv(4, groups=4, kernel=5).conv(4, groups=2).pool(3, 2).quantize(),
        Qcdq(3, 8).conv(4, clip=(-7, 7)).flatten().gemm(5, 256),
        Qcdq().conv(4, scale=0.3, zero_point=3, act_scale=0.3),
        Qcdq(batch="n").conv(4, scale=[0.5, 0.25, 0.3, 0.5]).conv(4, float_weights=True),
        Qcdq(3, 16).conv(70).pool().conv(3).op("Sigmoid").quantize(),
        Qcdq().conv(4).op("Magic", domain="custom"),
    ]
    folder = tmp_path_factory.mktemp("many")
    return [facts_of(read_graph(net.save(folder / f"{index}.onnx"))) for index, net in enumerate(nets)]
