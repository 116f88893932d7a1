"""What integers cannot compute is refused with the node and a reason; damaged attributes never end in a traceback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from edgekd.errors import ModelError
from edgekd.verify.integer.requant import ARITHMETICS
from edgekd.verify.integer.simulator import Simulator
from edgekd.verify.integer.values import RefusedError

WEIGHT = np.ones((2, 2, 3, 3), np.int8)


def conv(net: Any, **attributes: Any) -> Any:
    return net.op("Conv", net.weights(WEIGHT, 0.5), **attributes)


REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "softmax": (lambda net: net.op("Softmax").quantize(1.0), "exponentials"),
    "unknown operator": (lambda net: net.op("Erf").quantize(1.0), "Erf is not simulated"),
    "float weights": (
        lambda net: net.op("Conv", net.constant(WEIGHT.astype(np.float32))).quantize(1.0),
        "float tensor",
    ),
    "custom operator": (lambda net: net.op("Acme", domain="com.microsoft").quantize(1.0), "Acme is not simulated"),
    "unquantized chain": (lambda net: conv(conv(net)).quantize(1.0), "not quantized"),
    "bias of another grid": (
        lambda net: net.op("Conv", net.weights(WEIGHT, 0.5), net.weights(np.ones(2, np.int32), 0.3)).quantize(1.0),
        "scale_x",
    ),
    "weights of no convolution": (lambda net: conv(net, group=3).quantize(1.0), "groups"),
    "negative pads": (lambda net: conv(net, pads=[-1, 0, 0, 0]).quantize(1.0), "pads"),
    "stride 0": (lambda net: conv(net, strides=[0, 1]).quantize(1.0), "strides"),
    "nan scale": (lambda net: conv(net).quantize(float("nan")), "positive number"),
    "a scale of 1e30": (lambda net: conv(net).quantize(1e30), "so small or large"),
    "an output of another world": (lambda net: conv(net).quantize(1e12), "of that of its sums"),
    "zero scale": (lambda net: conv(net).quantize(0.0), "positive number"),
    "bias on an addition": (
        lambda net: net.op("Add", net.constant(np.float32(1.5))).quantize(1.0),
        "float tensor",
    ),
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_it_is_refused_with_a_reason(name: str, net: Any, program_of: Any) -> None:
    build, reason = REFUSED[name]
    model = build(net((1, 2, 6, 6), 0.5)).model()
    with pytest.raises((RefusedError, ModelError), match=reason) as caught:
        program_of(model)
    if isinstance(caught.value, RefusedError):
        assert caught.value.node


def test_a_float_output_is_refused(net: Any, program_of: Any) -> None:
    made = conv(net((1, 2, 6, 6), 0.5))
    made.integers, made.current = made.current, ""
    model = made.model()
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
    with pytest.raises(RefusedError, match="not an integer"):
        program_of(model)


def test_nodes_that_no_output_needs_are_not_asked(net: Any, program_of: Any) -> None:
    model = conv(net((1, 2, 6, 6), 0.5)).quantize(1.0).model()
    model.graph.node.append(helper.make_node("Softmax", ["pixels"], ["dead"]))
    assert program_of(model).steps


def test_shift_refuses_float_scales(net: Any, program_of: Any) -> None:
    program = program_of(conv(net((1, 2, 6, 6), 0.3)).quantize(1.0).model())
    with pytest.raises(RefusedError, match="powers of two") as caught:
        Simulator(program, ARITHMETICS["shift"])
    assert caught.value.node.startswith("Conv")


def test_channels_that_do_not_fit_are_a_model_error(net: Any, program_of: Any, run: Any) -> None:
    program = program_of(conv(net((1, 2, 6, 6), 0.5)).quantize(1.0).model())
    for shape in [(1, 3, 6, 6), (1, 2, 2, 2), (1, 2)]:
        with pytest.raises(ModelError, match="cannot run"):
            run(program, "ort", np.zeros(shape, np.int8))


def test_absurd_padding_is_a_model_error(net: Any, program_of: Any, run: Any) -> None:
    program = program_of(conv(net((1, 2, 6, 6), 0.5), pads=[2**20] * 4).quantize(1.0).model())
    with pytest.raises(ModelError, match="cannot run"):
        run(program, "ort", np.zeros((1, 2, 6, 6), np.int8))


def test_sums_that_a_target_cannot_hold_end_in_words(net: Any, program_of: Any) -> None:
    """Biases near 2^31, and products on top."""
    bias = net((1, 2, 6, 6), 0.5)
    made = bias.op("Conv", bias.weights(WEIGHT, 0.5), bias.weights(np.full(2, 2**31 - 1, np.int32), 0.25))
    program = program_of(made.quantize(1e6).model())
    simulator = Simulator(program, ARITHMETICS["tflm"])
    with pytest.raises(ModelError, match="32 bits"):
        simulator.run({program.inputs[0]: np.full((1, 2, 6, 6), 127, np.int8)})
