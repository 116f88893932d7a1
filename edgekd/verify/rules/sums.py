"""What makes sums narrower whatever the weights are: fewer channels, or weights of fewer bits.

A network that is trained again has other weights, so that a hint counts on the largest that its width allows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edgekd.verify.facts import Facts
from edgekd.verify.integer.bounds import accumulators, reach_of, signed_bits, widest
from edgekd.verify.integer.steps import Accumulate
from edgekd.verify.operators import plain_name
from edgekd.verify.rules.hints import chain_of, chain_text, largest
from edgekd.verify.uses import Use


def sums_hint(facts: Facts, limit_bits: int) -> str | None:
    """Return the widest chain, and the widest weights, with which every sum fits; None where none is known to."""
    steps = accumulators(facts.lowered.program) if facts.lowered.program else ()
    layers = [step for step in steps if step.layer and len(step.inputs) > 1 and step.inputs[1].values is not None]
    if len(layers) != len(facts.layers) or not all(_fits(step, limit_bits) for step in steps if step not in layers):
        return None
    found = (_narrower(facts, layers, limit_bits), _fewer_bits(facts, layers, limit_bits))
    return "; ".join(filter(None, found)) or None


def abs_sum_hint(facts: Facts, most: int) -> str | None:
    """Return the widest chain, and the range of weights, whose absolute weights sum to at most `most` in a channel.

    None where weights have zero points, or other layers than convolutions.
    """
    bits, shapes = _weight_bits(facts), [Use(facts.graph, layer.node, layer).weight_shape for layer in facts.layers]
    convolutions = all(plain_name(layer.node.op) == "Conv" for layer in facts.layers)
    symmetric = all(layer.weight_quantization and layer.weight_quantization.symmetric for layer in facts.layers)
    if bits is None or not convolutions or not symmetric or None in shapes:
        return None
    terms = max(math.prod(shape[1:]) for shape in shapes if shape)
    within = largest(1, 2 ** (bits - 1) - 1, lambda weight: terms * weight <= most)
    found = (_narrower_abs(facts, most, 2 ** (bits - 1)), f"weights within -{within}..{within} fit" if within else None)
    return "; ".join(filter(None, found)) or None


def _narrower_abs(facts: Facts, most: int, weight: int) -> str | None:
    found = chain_of(facts)
    if found is None:
        return None
    chain, width = found

    def fits(tried: int) -> bool:
        channels = max(chain.channels, tried if chain.layers > 1 else 0)
        return channels * chain.kernel_area * weight <= most

    narrower = largest(1, width - 1, fits)
    return f"{chain_text(chain, narrower)}, whatever its weights" if narrower else None


def _narrower(facts: Facts, layers: Sequence[Accumulate], limit_bits: int) -> str | None:
    found, bits = chain_of(facts), _weight_bits(facts)
    if found is None or bits is None:
        return None
    chain, width = found

    def fits(tried: int) -> bool:
        terms = [step.terms if first else step.terms * tried // width for first, step in _numbered(layers)]
        sums = zip(layers, terms, strict=True)
        return all(_worst_bits(step, count, 2 ** (bits - 1)) <= limit_bits for step, count in sums)

    narrower = largest(1, width - 1, fits)
    return f"{chain_text(chain, narrower)}, whatever its weights" if narrower else None


def _fewer_bits(facts: Facts, layers: Sequence[Accumulate], limit_bits: int) -> str | None:
    """Symmetric weights of b bits lie in -2^(b - 1)..2^(b - 1) - 1."""
    bits = _weight_bits(facts)
    if bits is None:
        return None

    def fits(tried: int) -> bool:
        return all(_worst_bits(step, step.terms, 2 ** (tried - 1)) <= limit_bits for step in layers)

    fewer = largest(2, bits - 1, fits)
    return f"weights of {fewer} bits fit, whatever their values" if fewer else None


def _numbered(layers: Sequence[Accumulate]) -> list[tuple[bool, Accumulate]]:
    return [(index == 0, step) for index, step in enumerate(layers)]


def _weight_bits(facts: Facts) -> int | None:
    widths = {layer.weight.bits for layer in facts.layers if layer.weight}
    return max(widths, default=None)


def _fits(step: Accumulate, limit_bits: int) -> bool:
    reach = reach_of(step)
    return signed_bits(reach.low, reach.high) <= limit_bits


def _worst_bits(step: Accumulate, terms: int, weight: int) -> int:
    """Width of `terms` products of the largest input and `weight`, with the largest bias."""
    low, high = widest(step.inputs[0])
    bias = 0 if step.bias is None else int(np.abs(step.bias).max(initial=0))
    total = terms * max(-low, high) * weight + bias
    return signed_bits(-total, total)
