"""Rules on scales, of the file alone: each is stated as a constant, and is a positive number."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from edgekd.profile import HardwareProfile
from edgekd.verify.facts import Facts
from edgekd.verify.graph import Array, Graph
from edgekd.verify.operators import FAKE_QUANTIZERS
from edgekd.verify.rules.base import SCALES_RULE, Finding, rule
from edgekd.verify.rules.located import activation_formats, weight_formats

# Where operators state how their tensors are quantized.
_PAIR = {1: "scale", 2: "zero point"}
_SCALE_INPUTS = {
    "QuantizeLinear": _PAIR,
    "DequantizeLinear": _PAIR,
    **{op: {1: "scale"} for op in FAKE_QUANTIZERS},
    "QLinearConv": {1: "input scale", 4: "weight scale", 6: "output scale"},
    "QLinearMatMul": {1: "input scale", 4: "weight scale", 6: "output scale"},
    "QGemm": {1: "input scale", 4: "weight scale"},
}


@rule("scales-stated")
def scales_stated(facts: Facts, profile: HardwareProfile) -> Iterator[Finding]:  # noqa: ARG001 - of the file alone
    """Every quantizer states its scale and zero point as constants in the file."""
    missing = list(_unstated_scales(facts.graph))
    for node, operand, reason in missing:
        message = f"the {operand} of {node} {reason}: what its integers are worth is not known before it runs"
        hint = "quantize statically: calibrate the scales and store them in the file"
        yield Finding(
            status="fail", message=message, node=node, attribute=operand, value=reason, limit="constant", hint=hint
        )
    if not missing:
        yield Finding(status="pass", message="every scale is a constant", attribute="scale")


@rule(SCALES_RULE)
def valid_scales(facts: Facts, profile: HardwareProfile) -> Iterator[Finding]:  # noqa: ARG001 - of the file alone
    """Every scale is a positive number."""
    biases = [(layer.node.name, found) for layer in facts.layers if (found := layer.bias_quantization)]
    formats = [*weight_formats(facts), *activation_formats(facts), *biases]
    stated = [(node, found.scale) for node, found in formats if found.scale is not None]
    seen = {id(scale) for _, scale in stated}
    stated += [(node, scale) for node, scale in _constant_scales(facts.graph) if id(scale) not in seen]
    bad = [(node, scale) for node, scale in stated if _bad(scale).any()]
    names = {id(array): name for name, array in facts.graph.constants.items()}
    for node, scale in bad:
        value, name = str(np.atleast_1d(scale.astype(np.float64))[_bad(scale)][0]), names.get(id(scale), "")
        message = f"a scale at {node} is {value} (in '{name}'): not a positive number"
        yield Finding(status="fail", message=message, node=node, attribute="scale", value=value)
    if not bad:
        yield Finding(status="pass", message=f"{len(formats)} tensors with valid scales", attribute="scale")


def _constant_scales(graph: Graph) -> Iterator[tuple[str, Array]]:
    """Yield (node, scale) of every quantizer, also where no activation or weight of a layer hangs on it."""
    for node in graph.nodes:
        for position, operand in _SCALE_INPUTS.get(node.op, {}).items():
            scale = None if operand == "zero point" else graph.numbers(node.input(position))
            if scale is not None:
                yield node.name, scale


def _bad(scale: Array) -> NDArray[np.bool_]:
    values = np.atleast_1d(scale.astype(np.float64))
    return ~(np.isfinite(values) & (values > 0))


def _unstated_scales(graph: Graph) -> Iterator[tuple[str, str, str]]:
    """Yield (node, operand, reason) of each scale or zero point that is left out or computed while running."""
    for node in graph.nodes:
        for position, operand in _SCALE_INPUTS.get(node.op, {}).items():
            name = node.input(position)
            if not name and operand != "zero point":
                yield node.name, operand, "is missing"
            elif name and name not in graph.fixed:
                yield node.name, operand, "is not constant"
