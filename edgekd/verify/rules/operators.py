"""Rules on operators: what the target runs, what edgekd can count, shapes, integers all the way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgekd.profile import HardwareProfile
from edgekd.verify.facts import Facts
from edgekd.verify.graph import Graph, Node, SymbolicDim
from edgekd.verify.layers import Layer
from edgekd.verify.operators import Kind, kind_of, plain_name
from edgekd.verify.rules.base import Finding, rule, unsaid
from edgekd.verify.rules.hints import replacement
from edgekd.verify.rules.mean_hints import pool_for_mean


@rule("operators", "ops")
def operators(facts: Facts, profile: HardwareProfile) -> Iterator[Finding]:
    """The target runs every operator of the network."""
    used: dict[str, list[Node]] = {}
    for node in facts.graph.nodes:
        if kind_of(node) is not Kind.QUANTIZER and node.outputs[0] not in facts.graph.fixed:
            used.setdefault(plain_name(node.op), []).append(node)
    names = ", ".join(sorted(used))
    if profile.ops is None:
        yield unsaid(profile, "ops", names, names)
        return
    legal = {item.op for item in profile.ops}
    source = profile.source("ops")
    for op in sorted(used.keys() - legal):
        message = f"{op} is not among the operators of '{profile.name}'; {len(used[op])} in the file"
        yield Finding(
            status="fail",
            message=message,
            node=used[op][0].name,
            attribute="op",
            value=op,
            source=source,
            hint=_instead(facts, profile, used[op]),
        )
    if used.keys() <= legal:
        yield Finding(status="pass", message=f"all supported: {names}", attribute="op", value=names, source=source)


def _instead(facts: Facts, profile: HardwareProfile, nodes: Sequence[Node]) -> str | None:
    """What to put in place of an operator that the target lacks."""
    op = plain_name(nodes[0].op)
    if op == "ReduceMean":
        hints = {pool_for_mean(facts.graph, node, profile) for node in nodes}
        return hints.pop() if len(hints) == 1 else None
    return replacement(op, {item.op for item in profile.ops or ()})


@rule("costs-known")
def costs_known(facts: Facts, profile: HardwareProfile) -> Iterator[Finding]:  # noqa: ARG001 - a rule on the file alone
    """The MACs and parameters of every operator can be counted."""
    for node in facts.costs.unknown:
        name = f"{node.domain}.{node.op}" if node.domain else node.op
        reason = _uncounted(facts.graph, node)
        message = f"{name} {reason}: its MACs are not in the total"
        yield Finding(status="unknown", message=message, node=node.name, attribute="op", value=name)
    if not facts.costs.unknown:
        yield Finding(status="pass", message=f"{facts.costs.macs:,} MACs in {len(facts.layers)} layers")


def _uncounted(graph: Graph, node: Node) -> str:
    """Say why the MACs of an operator cannot be counted."""
    if node.has_subgraph:
        return "holds a graph of its own"
    if kind_of(node) is None:
        return "is unknown to edgekd"
    unsized = [f"'{name}'" for name in (*node.inputs, *node.outputs) if name and graph.value(name).shape is None]
    return f"has tensors whose shape is not known ({', '.join(unsized)})"


@rule("static-shapes", "shapes.static")
def static_shapes(facts: Facts, profile: HardwareProfile) -> Iterator[Finding]:
    """Every dimension is a number in the file, or the target takes others."""
    symbolic, static = facts.graph.symbolic, profile.shapes.static
    if not symbolic:
        yield Finding(status="pass", message="every dimension is fixed", attribute="shapes.static", limit=static)
    for dim in symbolic:
        yield Finding(
            status="unknown" if static is None else "fail" if static else "pass",
            message=_symbolic_message(dim, profile),
            node=dim.tensor,
            attribute=f"shape[{dim.axis}]",
            value=dim.label,
            limit=static,
            source=profile.source("shapes.static"),
            hint=(_batch_hint(facts) if dim.axis == 0 else "store a fixed size in the file") if static else None,
        )


def _batch_hint(facts: Facts) -> str:
    return "export without --dynamic-batch" if facts.manifest else "store a fixed batch in the file"


def _symbolic_message(dim: SymbolicDim, profile: HardwareProfile) -> str:
    takes = {
        True: "takes fixed shapes only",
        False: "takes any",
        None: "does not say whether it takes others than fixed",
    }
    target = f"'{profile.name}' {takes[profile.shapes.static]}"
    if dim.axis == 0:
        counted = "memory and MACs are counted for one image"
        return f"input '{dim.tensor}' has an open batch dimension '{dim.label}'; {target}; {counted}"
    return f"dimension {dim.axis} of input '{dim.tensor}' is open ('{dim.label}'); {target}"


@rule("integer-layers")
def integer_layers(facts: Facts, profile: HardwareProfile) -> Iterator[Finding]:
    """Every layer multiplies integers, unless the profile says that the target computes with floats too."""
    floats = {layer.node.name: parts for layer in facts.layers if (parts := _float_parts(layer))}
    if profile.compute.arithmetic == "any" or not floats:
        count = f"{len(facts.layers) - len(floats)} of {len(facts.layers)} layers multiply integers"
        message = count if facts.layers else "no layers"
        yield Finding(status="pass", message=message, attribute="arithmetic", value=len(facts.layers) - len(floats))
        return
    for node, parts in floats.items():
        message = f"{node} computes in float: {', '.join(parts)} not quantized"
        hint = f"quantize its {' and '.join(parts)}"
        yield Finding(
            status="fail", message=message, node=node, attribute="arithmetic", value="float", limit="integer", hint=hint
        )


def _float_parts(layer: Layer) -> list[str]:
    operands = {
        "input": layer.input_quantization,
        "weights": layer.weight_quantization,
        "bias": layer.bias_quantization or layer.bias is None,
    }
    return [name for name, quantized in operands.items() if not quantized]
