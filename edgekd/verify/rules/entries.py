"""What a node demands of an operator's entry in a profile, and which entry takes it.

`LIMITS` is the table: one row a key of `Operator`, with the rule that speaks of it. A new limit is a key and a row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from edgekd.profile import HardwareProfile, Operator
from edgekd.verify.facts import Facts
from edgekd.verify.operators import Kind, kind_of
from edgekd.verify.rules.base import Finding, Scalar, Status
from edgekd.verify.uses import CONVS, DENSE, GLOBAL_POOLS, POOLS, Shape, Use

Found = int | str | Shape | None
_ORDER: tuple[Status, ...] = ("pass", "unknown", "fail")

_FLAT = frozenset({"Flatten", "Reshape"})
_WINDOWS = CONVS | POOLS
_IMAGES = _WINDOWS | GLOBAL_POOLS


@dataclass(frozen=True)
class Limit:
    """A row: the value that `key` limits, the operators that have it, and whether a value is within."""

    key: str
    rule: str
    ops: frozenset[str]
    value: Callable[[Use], Found]
    holds: Callable[[Found, object], bool]
    unit: str = ""


def _at_most(value: Found, limit: object) -> bool:
    values = value if isinstance(value, tuple) else (value,)
    return all(isinstance(item, int) and isinstance(limit, int) and item <= limit for item in values)


def _one_of(value: Found, limit: object) -> bool:
    return isinstance(limit, tuple) and value in limit


def _each_one_of(value: Found, limit: object) -> bool:
    return isinstance(value, tuple) and isinstance(limit, tuple) and all(item in limit for item in value)


def _area_at_most(value: Found, limit: object) -> bool:
    return isinstance(value, tuple) and isinstance(limit, int) and math.prod(value) <= limit


def _equal(value: Found, _limit: object) -> bool:
    return isinstance(value, tuple) and len(set(value)) <= 1


def _groups(value: Found, limit: object) -> bool:
    """`any` takes all, and a depthwise convolution with one output a channel is a special case of one with several."""
    wider = {"depthwise": "depthwise_multiplied"}.get(str(value))
    return isinstance(limit, tuple) and (value in limit or "any" in limit or wider in limit)


LIMITS = (
    Limit("dims", "dimensions", _IMAGES, lambda use: use.dims, _one_of, "-D"),
    Limit("rank_max", "dimensions", frozenset(), lambda use: use.rank, _at_most),
    Limit("reduced_axes_max", "dimensions", frozenset(), lambda use: use.reduced_axes, _at_most),
    Limit("groups", "groups", CONVS, lambda use: use.groups, _groups),
    Limit("kernels_px", "kernel", _IMAGES, lambda use: use.kernel, _one_of, " px"),
    Limit("kernel_max_px", "kernel", _IMAGES, lambda use: use.kernel, _at_most, " px"),
    Limit("kernel_area_max_px", "kernel", _IMAGES, lambda use: use.kernel, _area_at_most, " px"),
    Limit("dilated_kernel_max_px", "kernel", _WINDOWS, lambda use: use.dilated_kernel, _at_most, " px"),
    Limit("dilated_kernel_area_max_px", "kernel", _WINDOWS, lambda use: use.dilated_kernel, _area_at_most, " px"),
    Limit("strides_px", "stride", _WINDOWS, lambda use: use.strides, _each_one_of, " px"),
    Limit("stride_max_px", "stride", _WINDOWS, lambda use: use.strides, _at_most, " px"),
    Limit("equal_strides", "stride", _WINDOWS, lambda use: use.strides, _equal),
    Limit("padding_max_px", "padding", _WINDOWS, lambda use: use.padding, _at_most, " px"),
    Limit("dilation_max_px", "dilation", _WINDOWS, lambda use: use.dilations, _at_most, " px"),
    Limit("input_channels_max", "channels", _IMAGES | DENSE, lambda use: use.input_channels, _at_most),
    Limit("output_channels_max", "channels", CONVS | DENSE, lambda use: use.output_channels, _at_most),
    Limit("bias_channels_max", "channels", CONVS | DENSE, lambda use: use.bias_channels, _at_most),
    Limit("lone_channels_max", "channels", POOLS | GLOBAL_POOLS, lambda use: use.lone_channels, _at_most),
    Limit("side_max_px", "image-size", _IMAGES, lambda use: use.side, _at_most, " px"),
    Limit("flat_elements_max", "image-size", _FLAT, lambda use: use.flat_elements, _at_most),
    Limit("flat_area_max_px", "image-size", _FLAT, lambda use: use.flat_area, _at_most, " px"),
    Limit("weight_abs_sum_max", "weight-sum", CONVS, lambda use: use.weight_abs_sum, _at_most),
    Limit("batch_max", "batch", _IMAGES, lambda use: use.batch, _at_most),
    Limit("inputs_max", "inputs", frozenset(), lambda use: use.inputs, _at_most),
)
RULES_OF = tuple(dict.fromkeys(limit.rule for limit in LIMITS))
UNLISTED = "limits-stated"


@dataclass(frozen=True, eq=False)
class Assessment:
    """What the best entry of a profile says about one node, by rule; `entry` is None where there is none."""

    use: Use
    entry: Operator
    findings: dict[str, tuple[Finding, ...]]

    @property
    def rank(self) -> tuple[int, int]:
        """Failures weigh most, then what is unknown: the entry of the lowest rank takes most of the node."""
        found = [finding.status for findings in self.findings.values() for finding in findings]
        return _ORDER.index(max(found, key=_ORDER.index, default="pass")), found.count("fail")


@lru_cache(maxsize=2)
def assess(facts: Facts, profile: HardwareProfile) -> tuple[Assessment, ...]:
    """Compare every node that the profile lists with its entries, and keep what the most lenient says of it.

    A node passes where one entry takes all of it, so that tightening any limit can only make it fail.
    """
    return tuple(
        min((_against(use, entry, profile) for entry in entries), key=lambda found: found.rank)
        for use in _uses(facts)
        if (entries := [entry for entry in profile.ops or () if entry.op == use.op])
    )


def takes(use: Use, profile: HardwareProfile) -> bool:
    """Say whether an entry of the profile takes a node as far as it tells."""
    entries = [entry for entry in profile.ops or () if entry.op == use.op]
    return any(_against(use, entry, profile).rank[1] == 0 for entry in entries)


def _uses(facts: Facts) -> Iterator[Use]:
    layers = {layer.node.name: layer for layer in facts.layers}
    for node in facts.graph.nodes:
        if kind_of(node) not in {Kind.QUANTIZER, None} and node.outputs[0] not in facts.graph.fixed:
            yield Use(facts.graph, node, layers.get(node.name))


def _against(use: Use, entry: Operator, profile: HardwareProfile) -> Assessment:
    stated = entry.limits()
    found: dict[str, list[Finding]] = {}
    for limit in LIMITS:
        if limit.key in stated and (use.op in limit.ops or not limit.ops):
            found.setdefault(limit.rule, []).append(_compare(use, entry, limit, stated[limit.key], profile))
    if entry.unlisted is None:
        missing = [
            rule
            for rule in RULES_OF
            if rule not in found and any(use.op in row.ops for row in LIMITS if row.rule == rule)
        ]
        found[UNLISTED] = [_unlisted(use, entry, missing, profile)] if missing else []
    return Assessment(use, entry, {rule: tuple(findings) for rule, findings in found.items()})


def _compare(use: Use, entry: Operator, limit: Limit, allowed: object, profile: HardwareProfile) -> Finding:
    value, name = limit.value(use), _name(limit)
    has = f"{use.node.name} has {name} {_words(value)}{limit.unit}"
    status: Status = "unknown" if value is None else "pass" if limit.holds(value, allowed) else "fail"
    if value is None:
        has = f"the file does not tell the {name} of {use.node.name}"
    return Finding(
        status=status,
        message=f"{has}; {entry.op} takes {_allowed(limit, allowed)}",
        node=use.node.name,
        attribute=f"ops.{entry.op}.{limit.key}",
        value=_scalar(value),
        limit=_allowed(limit, allowed),
        source=profile.operator_source(entry),
    )


def _unlisted(use: Use, entry: Operator, missing: Sequence[str], profile: HardwareProfile) -> Finding:
    return Finding(
        status="unknown",
        message=f"'{profile.name}' does not say which {', '.join(missing)} {entry.op} takes",
        node=use.node.name,
        attribute=f"ops.{entry.op}",
        source=profile.operator_source(entry),
    )


def limit_words(limit: Limit, allowed: object) -> str:
    """Return what an entry allows as words: "stride at most 3 px"."""
    return f"{_name(limit)} {_allowed(limit, allowed)}"


def _name(limit: Limit) -> str:
    return limit.key.removesuffix("_px").removesuffix("_max").replace("_", " ")


def _allowed(limit: Limit, allowed: object) -> str:
    if allowed is True:
        return "only"
    if isinstance(allowed, tuple):
        return " or ".join(map(_words, allowed)) + limit.unit
    return f"at most {_words(allowed)}{limit.unit}"


def _words(value: object) -> str:
    """Write a number with commas, a shape as 3x3; four equal paddings are one."""
    if isinstance(value, tuple):
        alike = len(set(value)) == 1 and len(value) != 2
        return str(value[0]) if alike else "x".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value).replace("_", " ")


def _scalar(value: object) -> Scalar:
    return value if isinstance(value, int | str) or value is None else _words(value)
