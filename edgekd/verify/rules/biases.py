"""The rule on biases: the width and the shift that the target adds them with."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgekd.profile import HardwareProfile
from edgekd.verify.facts import Facts
from edgekd.verify.graph import FLOAT_BITS
from edgekd.verify.layers import Layer
from edgekd.verify.quantization import bits_for
from edgekd.verify.rules.base import Finding, rule, unsaid


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
