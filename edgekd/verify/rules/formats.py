"""Rules on number formats: widths, granularity, scales and zero points of weights and activations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edgekd.profile import HardwareProfile
from edgekd.verify.facts import Facts
from edgekd.verify.graph import FLOAT_BITS
from edgekd.verify.layers import Layer
from edgekd.verify.quantization import Quantization
from edgekd.verify.rules.base import Finding, rule, unsaid

_GRANULARITIES = {"per_tensor": ("per_tensor",), "per_channel": ("per_tensor", "per_channel")}
_SCALES = {"power_of_two": ("power_of_two",), "float": ("power_of_two", "float")}
_SYMMETRIES = {"symmetric": ("symmetric",), "any": ("symmetric", "asymmetric")}

Located = tuple[str, Quantization]  # the node to name in a finding, and its format
Choice = tuple[str, int | str]


@dataclass(frozen=True)
class _Demand:
    """What a profile says under `key`: `limit` in its own words (None: nothing), `allowed` spelled out."""

    key: str
    limit: str | None
    allowed: Sequence[int | str]
    unit: str = ""

    def words(self) -> str:
        return " or ".join(map(str, self.allowed)) + self.unit


@rule("weight-bits")
def weight_bits(facts: Facts, profile: HardwareProfile) -> Iterator[Finding]:
    """The target computes with weights of this width."""
    widths = [(layer.node.name, _weight_width(layer)) for layer in facts.layers]
    yield from _check(profile, _widths("weights.bits", profile.weights.bits), widths)


@rule("activation-bits")
def activation_bits(facts: Facts, profile: HardwareProfile) -> Iterator[Finding]:
    """The target computes with activations of this width."""
    widths = [(found.node, found.bits) for found in facts.activations]
    widths += [(layer.node.name, FLOAT_BITS) for layer in facts.layers if layer.input_quantization is None]
    yield from _check(profile, _widths("activations.bits", profile.activations.bits), widths)


@rule("weight-granularity")
def weight_granularity(facts: Facts, profile: HardwareProfile) -> Iterator[Finding]:
    """The target scales weights as finely as the file: per channel, or only per tensor."""
    limit = profile.weights.granularity
    demand = _Demand("weights.granularity", limit, _GRANULARITIES.get(limit or "", ()))
    found = [(node, "per_channel" if item.per_channel else "per_tensor") for node, item in _weights(facts)]
    yield from _check(profile, demand, found)


@rule("weight-scale")
def weight_scale(facts: Facts, profile: HardwareProfile) -> Iterator[Finding]:
    """The target multiplies by the scales of the weights: any float, or only powers of two."""
    limit = profile.weights.scale
    yield from _check(profile, _Demand("weights.scale", limit, _SCALES.get(limit or "", ())), _kinds(_weights(facts)))


@rule("activation-scale")
def activation_scale(facts: Facts, profile: HardwareProfile) -> Iterator[Finding]:
    """The target multiplies by the scales of the activations: any float, or only powers of two."""
    limit = profile.activations.scale
    demand = _Demand("activations.scale", limit, _SCALES.get(limit or "", ()))
    yield from _check(profile, demand, _kinds(_activations(facts)))


@rule("weight-symmetry")
def weight_symmetry(facts: Facts, profile: HardwareProfile) -> Iterator[Finding]:
    """The zero points of the weights are 0, where the target has none."""
    demand = _symmetry("weights.symmetric", symmetric=profile.weights.symmetric)
    yield from _check(profile, demand, _zero_points(_weights(facts)))


@rule("activation-symmetry")
def activation_symmetry(facts: Facts, profile: HardwareProfile) -> Iterator[Finding]:
    """The zero points of the activations are 0, where the target has none."""
    demand = _symmetry("activations.symmetric", symmetric=profile.activations.symmetric)
    yield from _check(profile, demand, _zero_points(_activations(facts)))


@rule("valid-scales")
def valid_scales(facts: Facts, profile: HardwareProfile) -> Iterator[Finding]:  # noqa: ARG001 - of the file alone
    """Every scale is a positive number."""
    biases = [(layer.node.name, found) for layer in facts.layers if (found := layer.bias_quantization)]
    formats = [*_weights(facts), *_activations(facts), *biases]
    bad = [(node, _first_bad_scale(found)) for node, found in formats if not found.valid_scale]
    for node, value in bad:
        message = f"a scale at {node} is {value}: not a positive number"
        yield Finding(status="fail", message=message, node=node, attribute="scale", value=value)
    if not bad:
        yield Finding(status="pass", message=f"{len(formats)} tensors with valid scales", attribute="scale")


def _weights(facts: Facts) -> list[Located]:
    return [(layer.node.name, found) for layer in facts.layers if (found := layer.weight_quantization)]


def _activations(facts: Facts) -> list[Located]:
    return [(found.node, found) for found in facts.activations]


def _weight_width(layer: Layer) -> int:
    return layer.weight_quantization.bits if layer.weight_quantization else FLOAT_BITS


def _kinds(formats: Iterable[Located]) -> list[Choice]:
    stated = ((node, found) for node, found in formats if found.scale is not None)
    return [(node, "power_of_two" if found.power_of_two else "float") for node, found in stated]


def _zero_points(formats: Iterable[Located]) -> list[Choice]:
    return [(node, "symmetric" if found.symmetric else "asymmetric") for node, found in formats]


def _widths(key: str, bits: tuple[int, ...] | None) -> _Demand:
    return _Demand(key, None if bits is None else " or ".join(map(str, bits)), bits or (), " bits")


def _symmetry(key: str, *, symmetric: bool | None) -> _Demand:
    limit = None if symmetric is None else "symmetric" if symmetric else "any"
    return _Demand(key, limit, _SYMMETRIES.get(limit or "", ()))


def _check(profile: HardwareProfile, demand: _Demand, found: Sequence[Choice]) -> Iterator[Finding]:
    """Find every node whose format the target does not take; one finding where it takes all, or does not say."""
    has = " and ".join(sorted({f"{value}" for _, value in found})) + demand.unit if found else "no quantized tensor"
    if demand.limit is None:
        yield unsaid(profile, demand.key, has, has)
        return
    target, source = f"the target takes {demand.words()}", profile.source(demand.key)
    bad = [(node, value) for node, value in found if value not in demand.allowed]
    common = {"attribute": demand.key, "limit": demand.limit, "source": source}
    for node, value in bad:
        message = f"{node} has {value}{demand.unit}, {target}"
        yield Finding.model_validate({"status": "fail", "message": message, "node": node, "value": value, **common})
    if not bad:
        yield Finding.model_validate({"status": "pass", "message": f"{has}; {target}", "value": has, **common})


def _first_bad_scale(found: Quantization) -> str:
    scales = np.atleast_1d(np.asarray(found.scale, np.float64))
    return str(scales[~(np.isfinite(scales) & (scales > 0))][0])
