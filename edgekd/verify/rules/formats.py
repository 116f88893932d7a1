"""Rules on number formats: widths, granularity, kinds of scales and zero points of weights and activations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from edgekd.profile import HardwareProfile
from edgekd.verify.facts import Facts
from edgekd.verify.graph import FLOAT_BITS, Graph
from edgekd.verify.layers import Layer
from edgekd.verify.operators import Kind, kind_of
from edgekd.verify.readers import layer_before
from edgekd.verify.rules.base import Finding, rule, unsaid
from edgekd.verify.rules.located import Located, activation_formats, weight_formats

_GRANULARITIES = {"per_tensor": ("per_tensor",), "per_channel": ("per_tensor", "per_channel")}
_SCALES = {"power_of_two": ("power_of_two",), "float": ("power_of_two", "float")}
_SYMMETRIES = {"symmetric": ("symmetric",), "any": ("symmetric", "asymmetric")}

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
    found = [(node, "per_channel" if item.per_channel else "per_tensor") for node, item in weight_formats(facts)]
    yield from _check(facts, profile, demand, found)


@rule("weight-scale", "weights.scale")
def weight_scale(facts: Facts, profile: HardwareProfile) -> Iterator[Finding]:
    """The target multiplies by the scales of the weights: any float, or only powers of two."""
    limit = profile.weights.scale
    demand = _Demand("weights.scale", limit, _SCALES.get(limit or "", ()), hint=_pot(facts))
    yield from _check(facts, profile, demand, _kinds(weight_formats(facts)))


@rule("activation-scale", "activations.scale")
def activation_scale(facts: Facts, profile: HardwareProfile) -> Iterator[Finding]:
    """The target multiplies by the scales of the activations: any float, or only powers of two."""
    limit = profile.activations.scale
    demand = _Demand("activations.scale", limit, _SCALES.get(limit or "", ()), hint=_pot(facts))
    yield from _check(facts, profile, demand, _kinds(activation_formats(facts)))


@rule("weight-symmetry", "weights.symmetric")
def weight_symmetry(facts: Facts, profile: HardwareProfile) -> Iterator[Finding]:
    """The zero points of the weights are 0, where the target has none."""
    demand = _symmetry("weights.symmetric", symmetric=profile.weights.symmetric)
    yield from _check(facts, profile, demand, _zero_points(weight_formats(facts)))


@rule("activation-symmetry", "activations.symmetric")
def activation_symmetry(facts: Facts, profile: HardwareProfile) -> Iterator[Finding]:
    """The zero points of the activations are 0, where the target has none."""
    demand = _symmetry("activations.symmetric", symmetric=profile.activations.symmetric)
    yield from _check(facts, profile, demand, _zero_points(activation_formats(facts)))


def _weight_width(layer: Layer) -> int:
    return layer.weight_quantization.bits if layer.weight_quantization else FLOAT_BITS


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
