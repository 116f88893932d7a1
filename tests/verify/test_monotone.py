"""A verdict never gets better when a limit is tightened, nor passes because a key was forgotten.

Every profile, graph and limit is drawn at random; what tightening means is written down for each key.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgekd.profile import HardwareProfile
from edgekd.profile_operator import Operator
from edgekd.verify.facts import Facts
from edgekd.verify.report import verdict_of
from edgekd.verify.rules import KEYS, check_all

Tree = dict[str, Any]
ORDER = ("pass", "unknown", "fail")
OPS = ("Conv", "Relu", "MaxPool", "GlobalAveragePool", "Flatten", "Gemm", "Sigmoid")
bits = st.lists(st.sampled_from([2, 4, 8, 16, 32]), min_size=1, max_size=3, unique=True)


def optional(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


def section(**keys: st.SearchStrategy[Any]) -> st.SearchStrategy[Tree]:
    """Draw some of the keys; None is a key that is absent."""
    drawn = st.fixed_dictionaries({key: optional(values) for key, values in keys.items()})
    return drawn.map(lambda tree: {key: value for key, value in tree.items() if value is not None})


LIMIT_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "dims": st.lists(st.integers(1, 3), min_size=1, max_size=2, unique=True),
    "groups": st.lists(st.sampled_from(["one", "depthwise", "depthwise_multiplied", "any"]), min_size=1, unique=True),
    "kernels_px": st.lists(st.sampled_from([[1, 1], [2, 2], [3, 3], [5, 5]]), min_size=1, max_size=3),
    "strides_px": st.lists(st.integers(1, 3), min_size=1, max_size=2, unique=True),
    "equal_strides": st.just(True),
    "padding_max_px": st.integers(0, 3),
}
NUMBERS = [key for key in Operator.model_fields if "_max" in key and key not in LIMIT_VALUES]
entries = st.builds(
    lambda op, limits, unlisted: {"op": op, **limits, **({"unlisted": "any"} if unlisted else {})},
    st.sampled_from(OPS),
    section(**LIMIT_VALUES, **dict.fromkeys(NUMBERS, st.integers(1, 300))),
    st.booleans(),
)
regions = st.builds(
    lambda role, size, banks, placement: {
        "name": f"{role}{size}",
        "bytes": size,
        "role": role,
        "placement": placement,
        "banks": banks,
        "bank_bytes": max(1, size // banks),
        "interleaved_channels": 2,
    },
    st.sampled_from(["weights", "biases", "activations", "shared"]),
    st.integers(16, 30_000),
    st.integers(1, 4),
    st.sampled_from(["contiguous", "split", "channels"]),
)
cap = section(max=st.integers(0, 3_000))
scale = st.sampled_from(["power_of_two", "float"])
trees = st.fixed_dictionaries(
    {
        "name": st.just("drawn"),
        "accumulator_bits": optional(st.integers(8, 40)),
        "params": cap,
        "layers": section(max=st.integers(0, 5)),
        "memory": section(regions=st.lists(regions, max_size=4), conv_pool_fused=st.booleans()),
        "weights": section(
            bits=bits,
            granularity=st.sampled_from(["per_tensor", "per_channel"]),
            symmetric=st.booleans(),
            scale=scale,
            packing=st.sampled_from(["packed", "byte"]),
        ),
        "biases": section(bits=bits, shift_bits=st.just(0)),
        "activations": section(bits=bits, symmetric=st.booleans(), scale=scale),
        "shapes": section(static=st.booleans()),
        "compute": section(arithmetic=st.sampled_from(["integer", "any"])),
        "ops": st.lists(entries, min_size=1, max_size=12),
    }
)

# The stricter words of each pair; numbers shrink, lists lose an item, and these are all that is left.
STRICTER = {
    ("weights", "granularity"): "per_tensor",
    ("weights", "scale"): "power_of_two",
    ("weights", "symmetric"): True,
    ("weights", "packing"): "byte",
    ("activations", "scale"): "power_of_two",
    ("activations", "symmetric"): True,
    ("shapes", "static"): True,
    ("compute", "arithmetic"): "integer",
    ("memory", "conv_pool_fused"): False,
}
NOT_LIMITS = {"name", "banks", "interleaved_channels", "shift_bits", "op", "role", "placement"}


@pytest.fixture(scope="session")
def bare_facts(many_facts: list[Facts]) -> list[Facts]:
    """The same without hints, which nobody reads here and which take most of the time."""
    return [replace(facts, hinted=False) for facts in many_facts]


def verdict(facts: Facts, tree: Tree) -> int:
    return ORDER.index(verdict_of(check_all(facts, HardwareProfile.model_validate(tree))))


def verdicts(facts: Facts, tree: Tree) -> dict[str, int]:
    """Return the worst of each rule, those on operators' entries together: another entry may be the nearest now."""
    worst: dict[str, int] = {}
    for finding in check_all(facts, HardwareProfile.model_validate(tree)):
        group = "ops" if KEYS[finding.rule] == ("ops",) else finding.rule
        worst[group] = max(worst.get(group, 0), ORDER.index(finding.status))
    return worst


def edits(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[tuple[Any, ...], Callable[[Any], Any]]]:
    """List every place that can be tightened, with what to do there."""
    found: list[tuple[tuple[Any, ...], Callable[[Any], Any]]] = []
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        here = (*path, key)
        if key in NOT_LIMITS:
            continue
        if here in STRICTER:
            found.append((here, partial(_instead, STRICTER[here])))
        elif isinstance(value, bool) or value is None or isinstance(value, str):
            continue
        elif isinstance(value, int):
            least = 0 if key in {"max", "padding_max_px"} else 1
            found += [(here, partial(_divided, least, by)) for by in (2, 20)]
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            found += edits(value, here)
            found += [(here, lambda old: old[1:])] if key == "ops" else []
        elif isinstance(value, list):
            found.append((here, lambda old: old[1:]))
        else:
            found += edits(value, here)
    return found


def _instead(strict: Any, _old: Any) -> Any:
    return strict


def _divided(least: int, by: int, old: int) -> int:
    return max(least, old // by)


def changed(node: Any, path: tuple[Any, ...], change: Callable[[Any], Any]) -> Any:
    key, *rest = path
    copy = dict(node) if isinstance(node, dict) else list(node)
    copy[key] = change(node[key]) if not rest else changed(node[key], tuple(rest), change)
    return copy


fast = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(trees, st.data())
def test_tightening_a_limit_makes_no_verdict_better(bare_facts: list[Facts], tree: Tree, data: st.DataObject) -> None:
    facts = data.draw(st.sampled_from(bare_facts), "graph")
    before = verdicts(facts, tree)
    for path, change in edits(tree):
        after = verdicts(facts, changed(tree, path, change))
        assert {rule: status for rule, status in after.items() if status < before.get(rule, 0)} == {}, path
        assert max(after.values()) >= max(before.values())


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(trees, st.data())
def test_no_finding_depends_on_hints(many_facts: list[Facts], tree: Tree, data: st.DataObject) -> None:
    facts = data.draw(st.sampled_from(many_facts), "graph")
    profile = HardwareProfile.model_validate(tree)
    bare = [item.model_dump(exclude={"hint"}) for item in check_all(replace(facts, hinted=False), profile)]
    assert [item.model_dump(exclude={"hint"}) for item in check_all(facts, profile)] == bare


@fast
@given(trees, st.data())
def test_forgetting_a_key_never_makes_a_failure_pass(bare_facts: list[Facts], tree: Tree, data: st.DataObject) -> None:
    """A key that is gone is unknown: what did not pass does not pass now."""
    facts = data.draw(st.sampled_from(bare_facts), "graph")
    sections = [key for key, value in tree.items() if isinstance(value, dict) and value]
    if not sections:
        return
    name = data.draw(st.sampled_from(sections), "section")
    key = data.draw(st.sampled_from(sorted(tree[name])), "key")
    if key in NOT_LIMITS:
        return
    kept = {other: value for other, value in tree[name].items() if other != key}
    assert verdict(facts, {**tree, name: kept}) > 0 or verdict(facts, tree) == 0


@fast
@given(trees, st.data())
def test_a_forgotten_limit_of_an_operator_is_unknown(bare_facts: list[Facts], tree: Tree, data: st.DataObject) -> None:
    """`unlisted` goes too: it says that all limits are listed, and now they are not."""
    facts = data.draw(st.sampled_from(bare_facts), "graph")
    index = data.draw(st.integers(0, len(tree["ops"]) - 1), "entry")
    entry = tree["ops"][index]
    limits = sorted(entry.keys() - {"op", "unlisted"})
    if not limits:
        return
    bare = {"op": entry["op"]}
    ops = [*tree["ops"][:index], bare, *tree["ops"][index + 1 :]]
    before, after = verdict(facts, tree), verdict(facts, {**tree, "ops": ops})
    assert after > 0 or before == 0 or entry["op"] in {"Relu", "Sigmoid"}


def test_every_key_of_the_schema_is_drawn_or_no_limit() -> None:
    """A new limit must be drawn here, or be named as one that is none."""
    drawn = set(LIMIT_VALUES) | set(NUMBERS)
    assert set(Operator.model_fields) - drawn == {"op", "source", "unlisted"}
