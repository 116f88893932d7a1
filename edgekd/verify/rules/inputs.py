"""The rule on what enters the network: a target of integers takes no float pixels."""

from __future__ import annotations

from collections.abc import Iterator

from edgekd.profile import HardwareProfile
from edgekd.verify.facts import Facts
from edgekd.verify.operators import Kind, kind_of
from edgekd.verify.rules.base import Finding, rule

_KEY = "compute.arithmetic"


@rule("float-inputs", _KEY)
def float_inputs(facts: Facts, profile: HardwareProfile) -> Iterator[Finding]:
    """A target that computes with integers alone is given integers; a float input that is quantized first passes.

    Quantizing it is left to the host then, which the finding says.
    """
    if profile.compute.arithmetic != "integer":
        return
    graph = facts.graph
    floats = [name for name in graph.inputs if graph.value(name).dtype.startswith(("float", "bfloat"))]
    for name in floats:
        readers = graph.consumers.get(name, ())
        quantized = all(kind_of(reader) is Kind.QUANTIZER for reader in readers)
        dtype = graph.value(name).dtype
        has = f"input '{name}' is {dtype}, '{profile.name}' computes with integers alone"
        host = f"the host must quantize it as {', '.join(reader.name for reader in readers)} does"
        counted = f"its memory is counted at {graph.value(name).bits // 8} B an element"
        yield Finding(
            status="pass" if quantized else "fail",
            message=f"{has}: {host}; {counted}" if quantized else f"{has}, and it is read as it is",
            node=None if quantized else readers[0].name,
            attribute=_KEY,
            value=dtype,
            limit="integer",
            source=profile.source(_KEY),
            hint=None if quantized else f"quantize '{name}' before anything else reads it",
        )
    if not floats:
        message = "every input is of integers"
        yield Finding(status="pass", message=message, attribute=_KEY, limit="integer", source=profile.source(_KEY))
