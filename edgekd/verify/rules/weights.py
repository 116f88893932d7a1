"""Rule on weights, of the file alone: what is NaN or infinite computes nothing."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgekd.profile import HardwareProfile
from edgekd.verify.facts import Facts
from edgekd.verify.rules.base import WEIGHTS_RULE, Finding, rule

_NORMALIZATION = range(1, 5)  # inputs: scale, shift, mean, variance


@rule(WEIGHTS_RULE)
def finite_weights(facts: Facts, profile: HardwareProfile) -> Iterator[Finding]:  # noqa: ARG001 - of the file alone
    """Every weight and bias is a finite number."""
    bad = [(node, name, value) for node, name in _stored(facts) if (value := _not_finite(facts, name))]
    for node, name, value in bad:
        message = f"'{name}' at {node} holds {value}: a weight or bias is a finite number"
        yield Finding(status="fail", message=message, node=node, attribute="weights", value=value)
    if not bad:
        yield Finding(status="pass", message="weights and biases are finite", attribute="weights")


def _stored(facts: Facts) -> Iterator[tuple[str, str]]:
    """Yield (node, tensor) of the weights and biases of layers and normalizations."""
    for layer in facts.layers:
        yield from ((layer.node.name, item.tensor) for item in (layer.weight, layer.bias) if item)
    for node in facts.graph.nodes:
        if node.op == "BatchNormalization":
            yield from ((node.name, node.input(position)) for position in _NORMALIZATION)


def _not_finite(facts: Facts, name: str) -> str | None:
    """Return the first element that is no finite number, as text."""
    array = facts.graph.numbers(name)
    if array is None or np.issubdtype(array.dtype, np.integer):
        return None
    values = array.astype(np.float64).ravel()
    bad = values[~np.isfinite(values)]
    return str(bad[0]) if bad.size else None
