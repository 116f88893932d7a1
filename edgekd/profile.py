"""Hardware profiles: what one target can hold and compute, as frozen values read from TOML.

A key that is absent is *unknown*: no check that needs it can pass. Keys carry their unit, but for plain counts.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, Field, PrivateAttr, ValidationError, field_validator, model_validator

from edgekd.errors import ProfileError, unknown
from edgekd.files import sha256_bytes
from edgekd.profile_extension import Tree
from edgekd.profile_operator import Operator, known_operators
from edgekd.profile_sections import (
    Activations,
    Biases,
    Cap,
    Compute,
    Figure,
    Memory,
    Positive,
    Region,
    Requant,
    Section,
    Shapes,
    Source,
    Weights,
)
from edgekd.profile_toml import locate, profile_names, read_extended, write_toml
from edgekd.schema import explain, nested_model

__all__ = ["Cap", "Figure", "HardwareProfile", "Operator", "Region", "Requant", "load_profile", "profile_names"]

_UNSOURCED = {"name", "description", "vendor", "extends", "without_ops", "sources"}  # no values of the hardware


class HardwareProfile(Section):
    """One target."""

    name: str = Field(min_length=1)
    description: str = ""
    vendor: str = ""
    extends: str | None = None
    """Another profile, laid under this one: sections are merged key by key and operators by name, all else is replaced.
    Gone once this one is read."""
    without_ops: tuple[str, ...] = ()
    """Operators of the extended profile that this target lacks; gone once this one is read."""
    sources: tuple[Source, ...] = ()
    params: Cap = Cap()
    memory: Memory = Memory()
    weights: Weights = Weights()
    biases: Biases = Biases()
    activations: Activations = Activations()
    requant: Requant = Requant()
    accumulator_bits: Positive | None = None
    """Width of the sums."""
    accumulator_overflow: Literal["wrap", "saturate"] | None = None
    """What a sum does that is too large."""
    layers: Cap = Cap()
    """Operators that carry weights: Conv, Gemm, MatMul."""
    shapes: Shapes = Shapes()
    compute: Compute = Compute()
    ops: tuple[Operator, ...] | None = None
    _sha256: str = PrivateAttr(default="")

    @model_validator(mode="after")
    def _sources_name_keys(self) -> Self:
        legal = set(_legal_keys(type(self), self.model_dump()))
        for key in (key for source in self.sources for key in source.keys + source.except_keys):
            if key not in legal and not _names_operator(key, legal):
                raise ValueError(unknown("key in [[sources]]", key, legal, shown=3))
        return self

    @field_validator("without_ops")
    @classmethod
    def _needs_a_base(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if names:
            raise ValueError("there is nothing to take away from where a profile extends no other")
        return names

    @field_validator("name")
    @classmethod
    def _is_name(cls, name: str) -> str:
        if not is_profile_name(name):
            raise ValueError(no_profile_name(name))
        return name

    @property
    def sha256(self) -> str:
        """SHA-256 of those the TOML file extends, followed by the file; the one given for a profile read from text."""
        return self._sha256

    @classmethod
    def read(cls, path: Path) -> HardwareProfile:
        """Read a profile and those it extends.

        Raises:
            ProfileError: naming the file and the key.
        """
        tree, content = read_extended(path)
        return cls._build(tree, f"profile {path}", sha256_bytes(content))

    @classmethod
    def from_text(cls, text: str, *, sha256: str = "", what: str = "profile") -> HardwareProfile:
        """Read a profile that stands alone, such as `text()` writes it; `sha256` becomes the profile's.

        Raises:
            ProfileError: not TOML, a wrong key or value, or it extends another profile.
        """
        try:
            tree = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ProfileError(f"{what} is not TOML: {error}") from error
        if "extends" in tree:
            raise ProfileError(f"{what}: key 'extends': a profile inside a file must stand alone")
        return cls._build(tree, what, sha256 or sha256_bytes(text.encode()))

    @classmethod
    def _build(cls, tree: Tree, what: str, sha256: str) -> HardwareProfile:
        if isinstance(tree.get("extends"), str):
            tree = {key: value for key, value in tree.items() if key != "extends"}
        try:
            profile = cls.model_validate(tree)
        except ValidationError as error:
            raise ProfileError(explain(cls, error, what)) from error
        profile._sha256 = sha256
        return profile

    def text(self) -> str:
        """Return the profile as TOML that stands alone: nothing it extends is left out; `from_text` reads it back."""
        return write_toml(self.model_dump(exclude_none=True, exclude_defaults=True))

    def source(self, key: str) -> str:
        """Return where the value of a dotted key was read, empty where the profile does not say."""
        return next((f"{own.text} {own.url}".strip() for own in self.sources if own.covers(key)), "")

    def operator_source(self, entry: Operator) -> str:
        """Return where the limits of an operator's entry were read."""
        return entry.source or self.source(f"ops.{entry.op}")

    def unsourced(self) -> list[str]:
        """Return the keys that hold a number for which the profile names no source, sorted."""
        sourced_entries = {f"ops.{entry.op}" for entry in self.ops or () if entry.source}
        keys = {key for key, value in self.known() if _is_number(value)}
        return sorted(key for key in keys if not self.source(key) and _above(key) not in sourced_entries)

    def repeated_operators(self) -> list[str]:
        """Return the operators that have several entries which are the same, sorted."""
        entries = self.ops or ()
        return sorted({entry.op for index, entry in enumerate(entries) if entry in entries[:index]})

    def known(self) -> Iterator[tuple[str, Any]]:
        """Yield every value that the profile states, by dotted key; an item of a list is named, as in `ops.Conv`."""
        yield from _flat(self.model_dump(exclude=_UNSOURCED, exclude_none=True, exclude_defaults=True))

    def unknown(self) -> list[str]:
        """Return the dotted keys outside `ops` and `memory.regions` that the profile leaves unknown."""
        stated = [key for key, _ in self.known()]
        wanted = sorted(
            key for key in _leaf_keys(type(self)) if not any(f"{own}.".startswith(f"{key}.") for own in stated)
        )
        caps = {name for name in ("params", "layers") if getattr(self, name).unlimited}
        return [key for key in wanted if key.partition(".")[0] not in caps]


def is_profile_name(name: str) -> bool:
    """Say whether a profile can have this name, which is also that of a file."""
    return name.replace("_", "").replace("-", "").replace(".", "").isalnum()


def no_profile_name(name: str) -> str:
    """Return the message for a name that no profile can have."""
    return f"'{name}' is no name for a profile: letters, digits, '_', '-' and '.' are"


def load_profile(name_or_path: str) -> HardwareProfile:
    """Read a profile that comes with edgekd by its name, or any TOML file by its path.

    Raises:
        ProfileError: no such profile (with the nearest name), not TOML, an unknown key (with the nearest legal one), an
            impossible value, or `extends` in a circle.
    """
    return HardwareProfile.read(locate(name_or_path))


def _legal_keys(model: type[BaseModel], tree: Any, prefix: str = "") -> Iterator[str]:  # noqa: ANN401 - a tree of values
    """Yield every dotted key there can be: sections and their keys, and the named items of lists with theirs."""
    for name, field in model.model_fields.items():
        key, nested = f"{prefix}{name}", nested_model(field.annotation)
        yield key
        if nested is None:
            continue
        yield from _legal_keys(nested, None, f"{key}.")
        items = tree.get(name) if isinstance(tree, dict) else None
        for item in items if isinstance(items, tuple) else ():
            yield f"{key}.{_identity(item)}"
            yield from _legal_keys(nested, item, f"{key}.{_identity(item)}.")
        if isinstance(items, dict):
            yield from _legal_keys(nested, items, f"{key}.")


def _names_operator(key: str, legal: set[str]) -> bool:
    """Say whether a key is `ops.<name>` of an operator that this profile may not list: another one extends it."""
    section, _, rest = key.partition(".")
    name, _, attribute = rest.partition(".")
    return section == "ops" and name in known_operators() and (not attribute or f"ops.{attribute}" in legal)


def _leaf_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield the keys that hold a value which may be unknown; lists of tables count as one."""
    for name, field in model.model_fields.items():
        nested = nested_model(field.annotation)
        if nested and isinstance(field.annotation, type):
            yield from _leaf_keys(nested, f"{prefix}{name}.")
        elif prefix + name not in _UNSOURCED and (field.default is None or field.default == ()):
            yield f"{prefix}{name}"


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - a tree of values
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _flat(item, f"{key}.{name}" if key else name)
    elif isinstance(value, tuple) and value and isinstance(value[0], dict):
        for item in value:
            yield from _flat(item, f"{key}.{_identity(item)}")
    else:
        yield key, value


def _identity(item: dict[str, Any]) -> str:
    return str(item.get("op") or item.get("name") or item.get("text", ""))


def _above(key: str) -> str:
    return key.rpartition(".")[0]


def _is_number(value: object) -> bool:
    if isinstance(value, tuple):
        return any(_is_number(item) for item in value)
    return isinstance(value, int | float) and not isinstance(value, bool)
