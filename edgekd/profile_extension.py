"""How one hardware profile extends another: what its file states takes the place of what the other one says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from edgekd.errors import ProfileError, unknown

Tree = dict[str, Any]

WITHOUT = "without_ops"
_NO_VALUES = {"name", "description", "vendor", "extends", "sources", WITHOUT}


@dataclass(frozen=True)
class Extension:
    """What became of the values of the extended profile, by dotted key; an operator is one, with all its limits."""

    replaced: tuple[str, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    inherited: tuple[str, ...]


def extend(base: Tree, own: Tree, what: str) -> Tree:
    """Return `own` laid over the profile it extends.

    Sections are merged key by key, operators by their name: all entries of one give way to those of the same name.
    Other lists and values are replaced. A source of the extended profile no longer covers what `own` states.

    Raises:
        ProfileError: an operator is taken away that the extended profile does not list.
    """
    merged = _merge_sections(base, own)
    without = own.get(WITHOUT, [])
    if isinstance(without, list) and len(_names(without)) == len(without):  # else the schema will say what is wrong
        merged.pop(WITHOUT, None)
    if without or _entries(base.get("ops")):
        merged["ops"] = _merge_operators(base, own, what)
    if isinstance(base.get("sources"), list) and isinstance(own.get("sources", []), list):
        stated = tuple(_stated(own))
        kept = [_less(source, stated) for source in base["sources"]]
        merged["sources"] = [*own.get("sources", []), *(source for source in kept if source)]
    return merged


def compare(base: Tree, own: Tree) -> Extension:
    """Say what of `base` a profile that extends it replaces, adds, takes away and keeps."""
    before, stated = tuple(_stated(base)), tuple(_stated(own))
    removed = {f"ops.{op}" for op in _names(own.get(WITHOUT))} | _contradicted(own) & set(before)
    return Extension(
        replaced=tuple(key for key in stated if key in before),
        added=tuple(key for key in stated if key not in before),
        removed=tuple(key for key in before if key in removed),
        inherited=tuple(key for key in before if key not in removed and key not in stated),
    )


def _merge_sections(base: Tree, own: Tree) -> Tree:
    merged = base | own
    for key, value in own.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            kept = {name: item for name, item in base[key].items() if f"{key}.{name}" not in _contradicted(own)}
            merged[key] = _merge_sections(kept, value)
    return merged


def _contradicted(own: Tree) -> set[str]:
    """Return what cannot stand beside what `own` states: a cap and that there is none."""
    sections = {key: value for key, value in own.items() if isinstance(value, dict)}
    caps = {f"{key}.unlimited" for key, value in sections.items() if "max" in value and "unlimited" not in value}
    return caps | {
        f"{key}.max" for key, value in sections.items() if value.get("unlimited") is True and "max" not in value
    }


def _merge_operators(base: Tree, own: Tree, what: str) -> object:
    before, entries = _entries(base.get("ops")), own.get("ops", [])
    if not isinstance(entries, list):
        return entries  # the schema will say what is wrong
    listed, without = {entry.get("op") for entry in before}, _names(own.get(WITHOUT))
    for name in without:
        if name not in listed:
            text = unknown("operator of the extended profile", name, [str(op) for op in listed], shown=3)
            raise ProfileError(f"{what}: {WITHOUT}: {text}")
    gone = {entry.get("op") for entry in _entries(entries)} | set(without)
    return [*(entry for entry in before if entry.get("op") not in gone), *entries]


def _less(source: object, stated: tuple[str, ...]) -> object:
    """Return a source without the keys that are stated anew, None where it has no other."""
    keys = source.get("keys") if isinstance(source, dict) else None
    if not isinstance(source, dict) or not isinstance(keys, list):
        return source
    kept = [key for key in keys if not any(_within(str(key), own) for own in stated)]
    anew = [own for own in stated if any(_within(own, str(key)) for key in kept)]
    excepted = [*source.get("except_keys", []), *anew]
    return source | {"keys": kept} | ({"except_keys": excepted} if excepted else {}) if kept else None


def _within(key: str, section: str) -> bool:
    return key == section or key.startswith(f"{section}.")


def _stated(tree: Tree) -> Iterator[str]:
    """Yield the dotted key of each value; of operators one for each name."""
    for key, value in tree.items():
        if key == "ops":
            yield from dict.fromkeys(f"ops.{entry.get('op')}" for entry in _entries(value))
        elif isinstance(value, dict):
            yield from (f"{key}.{name}" for name in _stated(value))
        elif key not in _NO_VALUES:
            yield key


def _entries(ops: object) -> list[Tree]:
    return [entry for entry in ops if isinstance(entry, dict)] if isinstance(ops, list) else []


def _names(listed: object) -> list[str]:
    return [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []
