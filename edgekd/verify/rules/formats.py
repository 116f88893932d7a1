"""Rules on number formats: widths, granularity, scales and zero points of weights and activations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgekd.profile import HardwareProfile
from edgekd.verify.facts import Facts
from edgekd.verify.graph import FLOAT_BITS, Array, Graph
from edgekd.verify.layers import Layer
from edgekd.verify.operators import FAKE_QUANTIZERS, Kind, kind_of
from edgekd.verify.quantization import Quantization, bits_for
from edgekd.verify.readers import layer_before
from edgekd.verify.rules.base import SCALES_RULE, Finding, rule, unsaid

_GRANULARITIES = {"per_tensor": ("per_tensor",), "per_channel": ("per_tensor", "per_channel")}
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
_SCALES = {"power_of_two": ("power_of_two",), "float": ("power_of_two", "float")}
_SYMMETRIES = {"symmetric": ("symmetric",), "any": ("symmetric", "asymmetric")}

Located = tuple[str, Quantization]  # the node to name in a finding, and its format
Choice = tuple[str, int | str]


@dataclass(frozen=True)
class _Demand:
    """What a profile says under `key`: `limit` in its own words (None: nothing), `allowed` spelled out.

    `hint` says how to meet it.
    """

    key: str
    limit: str | None
    allowed: Sequence[int | str]
    unit: str = ""
    hint: str = ""

    def words(self) -> str:
        return " or ".join(map(str, self.allowed)) + self.unit


@rule("weight-bits", "weights.bits")
def weight_bits(facts: Facts, profile: HardwareProfile) -> Iterator[Finding]:
    """The target computes with weights of this width."""
    widths = [(layer.node.name, _weight_width(layer)) for layer in facts.layers]
    yield from _check(facts, profile, _widths("weights", profile.weights.bits), widths)


@rule("activation-bits", "activations.bits")
def activation_bits(facts: Facts, profile: HardwareProfile) -> Iterator[Finding]:
    """The target computes with activations of this width."""
    widths = [(found.node, found.bits) for found in facts.activations]
    widths += [(layer.node.name, FLOAT_BITS) for layer in facts.layers if layer.input_quantization is None]
    yield from _check(facts, profile, _widths("activations", profile.activations.bits), widths)


@rule("weight-granularity", "weights.granularity")
def weight_granularity(facts: Facts, profile: HardwareProfile) -> Iterator[Finding]:
    """The target scales weights as finely as the file: per channel, or only per tensor."""
    limit = profile.weights.granularity
    hint = "per_tensor weights"
    if facts.manifest:
        hint += f": `edgekd distill --profile {profile.name}` trains them so"
    demand = _Demand("weights.granularity", limit, _GRANULARITIES.get(limit or "", ()), hint=hint)
    found = [(node, "per_channel" if item.per_channel else "per_tensor") for node, item in _weights(facts)]
    yield from _check(facts, profile, demand, found)


@rule("weight-scale", "weights.scale")
def weight_scale(facts: Facts, profile: HardwareProfile) -> Iterator[Finding]:
    """The target multiplies by the scales of the weights: any float, or only powers of two."""
    limit = profile.weights.scale
    demand = _Demand("weights.scale", limit, _SCALES.get(limit or "", ()), hint=_pot(facts))
    yield from _check(facts, profile, demand, _kinds(_weights(facts)))


@rule("activation-scale", "activations.scale")
def activation_scale(facts: Facts, profile: HardwareProfile) -> Iterator[Finding]:
    """The target multiplies by the scales of the activations: any float, or only powers of two."""
    limit = profile.activations.scale
    demand = _Demand("activations.scale", limit, _SCALES.get(limit or "", ()), hint=_pot(facts))
    yield from _check(facts, profile, demand, _kinds(_activations(facts)))


@rule("weight-symmetry", "weights.symmetric")
def weight_symmetry(facts: Facts, profile: HardwareProfile) -> Iterator[Finding]:
    """The zero points of the weights are 0, where the target has none."""
    demand = _symmetry("weights.symmetric", symmetric=profile.weights.symmetric)
    yield from _check(facts, profile, demand, _zero_points(_weights(facts)))


@rule("activation-symmetry", "activations.symmetric")
def activation_symmetry(facts: Facts, profile: HardwareProfile) -> Iterator[Finding]:
    """The zero points of the activations are 0, where the target has none."""
    demand = _symmetry("activations.symmetric", symmetric=profile.activations.symmetric)
    yield from _check(facts, profile, demand, _zero_points(_activations(facts)))


@rule("bias-bits", "biases.bits")
def bias_bits(facts: Facts, profile: HardwareProfile) -> Iterator[Finding]:
    """The biases fit the width that the target stores, after the shift that it adds them with."""
    widths, shift = profile.biases.bits, profile.biases.shift_bits
    needed = {layer.node.name: _bias_width(facts, layer, shift) for layer in facts.layers if _has_integer_bias(layer)}
    widest = max(needed.values(), default=0)
    if widths is None:
        yield unsaid(profile, "biases.bits", f"biases of {widest} bits" if needed else "no integer biases", widest)
        return
    key, limit, source = "biases.bits", max(widths, default=0), profile.source("biases.bits")
    low, high, step = -(2**limit // 2) << shift, (2**limit // 2 - 1) << shift, 1 << shift
    for node, bits in needed.items():
        if bits > limit:
            has = f"biases of {bits} bits" if bits <= FLOAT_BITS else f"biases that are no multiples of {step:,}"
            message = f"{node} has {has}, the target adds {limit} bits" + f" times {step:,}" * (shift > 0)
            hint = f"round the biases to multiples of {step:,} within {low:,}..{high:,}"
            yield Finding(
                status="fail",
                message=message,
                node=node,
                attribute=key,
                value=bits,
                limit=limit,
                source=source,
                hint=hint,
            )
    if widest <= limit:
        message = f"biases of {widest} bits; the target takes {' or '.join(map(str, widths))} bits"
        yield Finding(status="pass", message=message, attribute=key, value=widest, limit=limit, source=source)


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
    formats = [*_weights(facts), *_activations(facts), *biases]
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


def _weights(facts: Facts) -> list[Located]:
    return [(layer.node.name, found) for layer in facts.layers if (found := layer.weight_quantization)]


def _activations(facts: Facts) -> list[Located]:
    return [(found.node, found) for found in facts.activations]


def _weight_width(layer: Layer) -> int:
    return layer.weight_quantization.bits if layer.weight_quantization else FLOAT_BITS


def _has_integer_bias(layer: Layer) -> bool:
    return layer.bias is not None and layer.bias_quantization is not None


def _bias_width(facts: Facts, layer: Layer, shift: int) -> int:
    """Return the width that holds the biases divided by 2^shift; where that leaves a rest, that of the file."""
    values = facts.graph.constant(layer.bias.tensor) if layer.bias else np.zeros(0, np.int32)
    if values is None:  # folded from constants: its type alone is known
        return layer.bias.bits if layer.bias else 0
    if not values.size or not np.issubdtype(values.dtype, np.integer):
        return 0 if not values.size else FLOAT_BITS
    if np.any(values.astype(np.int64) % (1 << shift)):
        return FLOAT_BITS + shift
    return bits_for(min(int(values.min()) >> shift, -1), int(values.max()) >> shift)


def _unstated_scales(graph: Graph) -> Iterator[tuple[str, str, str]]:
    """Yield (node, operand, reason) of each scale or zero point that is left out or computed while running."""
    for node in graph.nodes:
        for position, operand in _SCALE_INPUTS.get(node.op, {}).items():
            name = node.input(position)
            if not name and operand != "zero point":
                yield node.name, operand, "is missing"
            elif name and name not in graph.fixed:
                yield node.name, operand, "is not constant"


def _pot(facts: Facts) -> str:
    return "power-of-two scales" + ": export with --pot" * (facts.manifest is not None)


def _kinds(formats: Iterable[Located]) -> list[Choice]:
    stated = ((node, found) for node, found in formats if found.scale is not None)
    return [(node, "power_of_two" if found.power_of_two else "float") for node, found in stated]


def _zero_points(formats: Iterable[Located]) -> list[Choice]:
    return [(node, "symmetric" if found.symmetric else "asymmetric") for node, found in formats]


def _widths(what: str, bits: tuple[int, ...] | None) -> _Demand:
    words = None if bits is None else " or ".join(map(str, bits))
    return _Demand(f"{what}.bits", words, bits or (), " bits", f"quantize the {what} to {words} bits")


def _symmetry(key: str, *, symmetric: bool | None) -> _Demand:
    limit = None if symmetric is None else "symmetric" if symmetric else "any"
    return _Demand(key, limit, _SYMMETRIES.get(limit or "", ()), hint="quantize symmetrically: every zero point 0")


def _check(facts: Facts, profile: HardwareProfile, demand: _Demand, found: Sequence[Choice]) -> Iterator[Finding]:
    """Find every node whose format the target does not take; one finding where it takes all, or does not say."""
    has = " and ".join(sorted({f"{value}" for _, value in found})) + demand.unit if found else "no quantized tensor"
    if demand.limit is None:
        yield unsaid(profile, demand.key, has, has)
        return
    target, source = f"the target takes {demand.words()}", profile.source(demand.key)
    bad = [(node, value) for node, value in found if value not in demand.allowed]
    common = {"attribute": demand.key, "limit": demand.limit, "source": source}
    for node, value in bad:
        found_here = {
            "message": f"{_label(facts.graph, node)} has {value}{demand.unit}, {target}",
            "node": node,
            "value": value,
        }
        yield Finding.model_validate({"status": "fail", "hint": demand.hint or None, **found_here, **common})
    if not bad:
        yield Finding.model_validate({"status": "pass", "message": f"{has}; {target}", "value": has, **common})


def _label(graph: Graph, name: str) -> str:
    """Return a node's name, of a quantizer with the layer that it belongs to."""
    node = next((node for node in graph.nodes if node.name == name and kind_of(node) is Kind.QUANTIZER), None)
    layer = layer_before(graph, node) if node else None
    return f"{name}, behind {layer}," if layer else name
