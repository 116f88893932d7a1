"""Formats of weights and activations, each with the node to name in a finding."""

from __future__ import annotations

from edgekd.verify.facts import Facts
from edgekd.verify.quantization import Quantization

Located = tuple[str, Quantization]  # the node to name in a finding, and its format


def weight_formats(facts: Facts) -> list[Located]:
    """Return the format of the weights of every layer that has quantized ones."""
    return [(layer.node.name, found) for layer in facts.layers if (found := layer.weight_quantization)]


def activation_formats(facts: Facts) -> list[Located]:
    """Return the format of every activation that is quantized."""
    return [(found.node, found) for found in facts.activations]
