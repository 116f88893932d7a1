"""Element types at every operator against the signature that ONNX gives it: runtimes refuse what does not fit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache

import onnx

from edgekd.verify.graph import Value

_ONNX_NAMES = {"float32": "float", "float64": "double"}
STANDARD_DOMAINS = frozenset({"", "ai.onnx"})
_VARIADIC = onnx.defs.OpSchema.FormalParameterOption.Variadic


def type_flaws(nodes: Iterable[onnx.NodeProto], opset: int, values: Mapping[str, Value]) -> Iterator[str]:
    """Yield a sentence for each node of the standard operators whose inputs are of types that it does not take."""
    for node in nodes:
        schema = _schema(node.op_type, opset) if node.domain in STANDARD_DOMAINS else None
        flaw = _flaw(node, schema, values) if schema else None
        if flaw:
            yield f"{node.op_type} '{node.name or node.output[0]}' {flaw}"


def _flaw(node: onnx.NodeProto, schema: onnx.defs.OpSchema, values: Mapping[str, Value]) -> str | None:
    """Bind each type variable (`T`) to the first tensor of it; name the first tensor that does not agree."""
    allowed = {item.type_param_str: frozenset(item.allowed_type_strs) for item in schema.type_constraints}
    bound: dict[str, tuple[str, str]] = {}
    for name, variable in _parameters(node, schema):
        value = values.get(name)
        if value is None or not value.dtype:
            continue
        found = f"tensor({_ONNX_NAMES.get(value.dtype, value.dtype)})"
        if found not in allowed.get(variable, {variable}):
            return f"does not take '{name}' of type {value.dtype}"
        other, before = bound.setdefault(variable, (name, found))
        if found != before:
            return f"needs '{other}' and '{name}' of one type, not {before} and {found}"
    return None


def _parameters(node: onnx.NodeProto, schema: onnx.defs.OpSchema) -> Iterator[tuple[str, str]]:
    """Yield each input that is given, with its type variable; free (heterogeneous) ones are left out."""
    formal = schema.inputs
    for position, name in enumerate(node.input):
        parameter = formal[min(position, len(formal) - 1)] if formal else None
        if parameter is None or not name or not parameter.is_homogeneous:
            continue
        if position < len(formal) or parameter.option == _VARIADIC:
            yield name, parameter.type_str


@lru_cache(maxsize=512)
def _schema(op: str, opset: int) -> onnx.defs.OpSchema | None:
    try:
        return onnx.defs.get_schema(op, opset, "")
    except onnx.defs.SchemaError:
        return None
