"""Random graphs with power-of-two scales: where a certificate is given, no engine that it names may differ.

`EDGEKD_FUZZ=2000` tries as many graphs of each kind.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from edgekd.verify.integer.certificate import certify
from edgekd.verify.integer.requant import ARITHMETICS, Accumulator
from edgekd.verify.integer.values import RefusedError

Array = NDArray[Any]
TRIES = int(os.environ.get("EDGEKD_FUZZ", "6"))
IMAGES, SIDE = 3, 9


class Rng:
    """Random parts of graphs; half of the zero points are 0."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.dtype = np.int8 if self.rng.random() < 0.6 else np.uint8

    def pick(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def scale(self, low: int, high: int) -> float:
        return 2.0 ** self.pick(low, high)

    def zero(self) -> int:
        limits = np.iinfo(self.dtype)
        return 0 if self.rng.random() < 0.5 else self.pick(limits.min, limits.max)

    def images(self, channels: int) -> Array:
        limits = np.iinfo(self.dtype)
        return self.rng.integers(limits.min, limits.max + 1, (IMAGES, channels, SIDE, SIDE)).astype(self.dtype)


def conv(rng: Rng, net: Any, channels: int) -> None:
    out, kernel = rng.pick(1, 4), rng.pick(1, 3)
    scale = 2.0 ** rng.rng.integers(-9, -5, out) if rng.pick(0, 1) else np.array(rng.scale(-9, -5))
    weight = rng.rng.integers(-127, 128, (out, channels, kernel, kernel)).astype(np.int8)
    bias = rng.rng.integers(-3000, 3000, out).astype(np.int32)
    names = [net.weights(weight, scale), net.weights(bias, scale * net.scale)]
    net.op("Conv", *names, strides=[rng.pick(1, 2)] * 2, pads=[rng.pick(0, 1) for _ in range(4)])
    if rng.pick(0, 1):
        net.op("Relu")


def gemm(rng: Rng, net: Any, channels: int) -> None:
    weight = rng.rng.integers(-127, 128, (4, channels * SIDE * SIDE)).astype(np.int8)
    bias = rng.rng.integers(-3000, 3000, 4).astype(np.int32)
    net.op("Flatten").op("Gemm", net.weights(weight, 2.0**-8), net.weights(bias, 2.0**-8 * net.scale), transB=1)


def average(rng: Rng, net: Any, _channels: int) -> None:
    kernel = rng.pick(1, 4)
    net.op(
        "AveragePool",
        kernel_shape=[kernel] * 2,
        strides=[rng.pick(1, 2)] * 2,
        pads=[rng.pick(0, kernel // 2) * (rng.pick(0, 2) == 0) for _ in range(4)],
        ceil_mode=int(rng.pick(0, 4) == 0),
        count_include_pad=rng.pick(0, 1),
    )


def global_average(rng: Rng, net: Any, _channels: int) -> None:
    side = rng.pick(1, 8)
    net.op("MaxPool", kernel_shape=[SIDE + 1 - side] * 2)
    if rng.pick(0, 1):
        net.op("GlobalAveragePool")
    else:
        net.op("ReduceMean", axes=[2, 3])


def combined(op: str) -> Callable[[Rng, Any, int], None]:
    def build(rng: Rng, net: Any, _channels: int) -> None:
        first = net.current
        net.op("Relu").quantize(rng.scale(-8, -2), rng.zero())
        net.current = net.node(op, [first, net.current], **({"axis": 1} if op == "Concat" else {}))

    return build


def maximum(rng: Rng, net: Any, _channels: int) -> None:
    net.op("MaxPool", kernel_shape=[2, 2], strides=[rng.pick(1, 2)] * 2, ceil_mode=rng.pick(0, 1))


def clip(rng: Rng, net: Any, _channels: int) -> None:
    limits = [net.constant(np.float32(value)) for value in (-rng.rng.random(), 2 * rng.rng.random())]
    net.op("Clip", *limits)


KINDS: dict[str, Callable[[Rng, Any, int], None]] = {
    "Conv": conv,
    "Gemm": gemm,
    "AveragePool": average,
    "GlobalAveragePool": global_average,
    "Add": combined("Add"),
    "Mul": combined("Mul"),
    "Concat": combined("Concat"),
    "MaxPool": maximum,
    "Clip": clip,
}


def made(kind: str, seed: int, net: Any) -> tuple[onnx.ModelProto, Array]:
    """A graph of one operator between quantizers, and images."""
    rng = Rng(seed)
    channels, scale = rng.pick(1, 5), rng.scale(-8, -3)
    graph = net((IMAGES, channels, SIDE, SIDE), scale, rng.zero(), rng.dtype)
    graph.scale = scale
    KINDS[kind](rng, graph, channels)
    graph.quantize(rng.scale(-9, 0), rng.zero())
    return graph.model(), rng.images(channels)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_what_is_certified_does_not_differ(kind: str, net: Any, program_of: Any, run: Any, onnxruntime_of: Any) -> None:
    certified = 0
    for seed in range(TRIES):
        model, images = made(kind, seed, net)
        try:
            program = program_of(model)
        except RefusedError:
            continue
        certificate = certify(program, ARITHMETICS["ort"], Accumulator())
        if not certificate.bit_exact:
            continue
        certified += 1
        found = run(program, "ort", images)
        engines = {name: run(program, name, images) for name in certificate.arithmetics}
        engines |= {str(on): onnxruntime_of(model, images, optimized=on, precise=True) for on in (True, False)}
        differing = {name: int(np.count_nonzero(found != other)) for name, other in engines.items()}
        assert not any(differing.values()), f"seed {seed}: {differing}"
    assert certified
