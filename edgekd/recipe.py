"""Recipe: everything that decides what `distill` does, as frozen values read from TOML."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from edgekd.errors import RecipeError
from edgekd.files import sha256_bytes
from edgekd.recipe_search import Search
from edgekd.recipe_sections import (
    AUTO,
    DEFAULT_METHOD,
    NONE,
    WAY,
    Assistant,
    Augment,
    Baseline,
    Connect,
    Data,
    Distill,
    Head,
    HeadKind,
    Learning,
    Meta,
    Options,
    Quantize,
    Schedule,
    Section,
    Start,
    Student,
    Teacher,
    Test,
    Validation,
)
from edgekd.schema import explain

__all__ = [
    "AUTO",
    "DEFAULT_METHOD",
    "NONE",
    "WAY",
    "Assistant",
    "Augment",
    "Baseline",
    "Connect",
    "Data",
    "Distill",
    "Head",
    "HeadKind",
    "Learning",
    "Meta",
    "Options",
    "Quantize",
    "Recipe",
    "Schedule",
    "Search",
    "Section",
    "Start",
    "Student",
    "Teacher",
    "Test",
    "Validation",
    "differing_keys",
    "flatten",
    "followed",
    "load_recipe",
    "section_of",
    "to_toml",
]


class Recipe(Section):
    """All choices of one run."""

    seed: int = Field(default=0, ge=0)
    profile: str = "tu_accel_150k"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    data: Data = Data()
    augment: Augment = Augment()
    teacher: Teacher = Teacher()
    student: Student = Student()
    assistant: Assistant = Assistant()
    baseline: Baseline = Baseline()
    connect: Connect = Connect()
    distill: Distill = Distill()
    head: Head = Head()
    meta: Meta = Meta()
    quantize: Quantize = Quantize()
    validation: Validation = Validation()
    test: Test = Test()
    search: Search = Search()

    @property
    def sha256(self) -> str:
        """SHA-256 over the canonical JSON of every key."""
        return sha256_bytes(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode())


def followed(recipe: Recipe) -> tuple[str, str]:
    """Return the stage and the backbone of the network that the student is distilled from."""
    return ("assist", recipe.assistant.backbone) if recipe.assistant.backbone else ("teach", recipe.teacher.backbone)


def section_of(stage: str) -> str:
    """Return the section of a recipe that holds a stage's schedule; what follows a hyphen is a part of the stage."""
    stage = stage.partition("-")[0]
    return {"teach": "teacher", "assist": "assistant", "scratch": "distill", "start": "head"}.get(stage, stage)


def load_recipe(paths: Path | Sequence[Path] | None, assignments: Sequence[str] = ()) -> Recipe:
    """Read recipe files, later ones over earlier ones, and apply `key.path=value` assignments, values in TOML syntax.

    Without a file the defaults are taken.

    Raises:
        RecipeError: no such file, not TOML, an unknown key (with the nearest legal one) or an impossible value.
    """
    files = [paths] if isinstance(paths, Path) else list(paths or ())
    tree: dict[str, Any] = {}
    for file in files:
        tree = _merged(tree, _read_toml(file))
    for assignment in assignments:
        _assign(tree, assignment)
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        raise RecipeError(explain(Recipe, error, " ".join(["recipe", *map(str, files)]))) from error


def differing_keys(a: Recipe, b: Recipe) -> list[str]:
    """Return the dotted keys in which two recipes differ, sorted."""
    flat_a, flat_b = flatten(a.model_dump(mode="json")), flatten(b.model_dump(mode="json"))
    return sorted(key for key in flat_a.keys() | flat_b.keys() if flat_a.get(key) != flat_b.get(key))


def to_toml(recipe: Recipe) -> str:
    """Return the recipe as TOML text, every key spelled out, absent values left out."""
    top = [(key, value) for key, value in recipe.model_dump(mode="json").items() if value is not None]
    lines = [f"{key} = {json.dumps(value)}" for key, value in top if not isinstance(value, dict)]
    for name, section in top:
        if isinstance(section, dict):
            lines += ["", *_toml_section(name, section)]
    return "\n".join(lines) + "\n"


def _toml_section(name: str, section: dict[str, Any]) -> list[str]:
    plain = [
        f"{key} = {json.dumps(value)}"
        for key, value in section.items()
        if value is not None and not isinstance(value, dict)
    ]
    nested = [(key, value) for key, value in section.items() if isinstance(value, dict)]
    lines = [f"[{name}]", *plain]
    for key, value in nested:
        if value:
            lines += ["", *_toml_section(f"{name}.{key}", value)]
    return lines


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Return `below` with the values of `above` in the place of its own, section by section."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(below.get(key), dict)
        merged[key] = _merged(below[key], value) if both else value
    return merged


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise RecipeError(f"no recipe at {path}") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(f"{path} is not a readable TOML file: {error}") from error


def _assign(tree: dict[str, Any], assignment: str) -> None:
    key, separator, text = assignment.partition("=")
    if not separator or not key.strip():
        raise RecipeError(f"'{assignment}' is not key=value, for example distill.epochs=30")
    *parents, leaf = key.strip().split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
        if not isinstance(tree, dict):
            raise RecipeError(f"'{assignment}': {parent} is a value, not a section")
    tree[leaf] = _toml_value(text.strip())


def _toml_value(text: str) -> Any:  # noqa: ANN401 - a TOML value is any of TOML's types
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text  # a bare word is a string, as shells strip quotes


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return every value of nested sections under its dotted key."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
