"""Settings: the runs of one recipe, whatever its seed, and where the recipes of settings differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from edgekd.recipe import Recipe, flatten
from edgekd.run import Run
from edgekd.text import escaped

LONGEST_NAME = 60  # characters


class Setting(BaseModel):
    """One recipe and its repetitions; `choices` are its values of the keys in which the settings differ."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    runs: tuple[str, ...]
    seeds: tuple[int, ...]
    choices: dict[str, str]


@dataclass(frozen=True)
class Group:
    """The runs of one setting, and what to call it."""

    name: str
    runs: tuple[Run, ...]


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """Group runs that differ in the seed alone; a network from disk may be another for each seed."""
    alike: dict[str, list[Run]] = {}
    for run in runs:
        alike.setdefault(_key(run.recipe, weights=False), []).append(run)
    parts: list[tuple[Run, ...]] = []
    for members in alike.values():
        if len({run.recipe.seed for run in members}) == len(members):
            parts.append(tuple(members))
            continue
        by_weights: dict[str, list[Run]] = {}
        for run in members:
            by_weights.setdefault(_key(run.recipe, weights=True), []).append(run)
        parts += [tuple(some) for some in by_weights.values()]
    return [Group(name, part) for name, part in zip(_group_names(parts, runs), parts, strict=True)]


def _key(recipe: Recipe, *, weights: bool) -> str:
    """Return what is alike in the runs of a setting, the files of `weights` or only that there are some."""
    given = {
        name: part if weights else part.model_copy(update={"weights": part.weights and Path("given")})
        for name, part in (("teacher", recipe.teacher), ("student", recipe.student))
    }
    return recipe.model_copy(update={"seed": 0, **given}).sha256


def _group_names(parts: Sequence[tuple[Run, ...]], runs: Sequence[Run]) -> list[str]:
    """Call settings by the value of the one key in which they differ; where there are more, by their first folder."""
    choices = _choices(parts)
    folders = dict(zip(map(id, runs), run_names(runs), strict=True))
    if len(choices) == 1:
        (values,) = choices.values()
        if all(0 < len(value) <= LONGEST_NAME for value in values):
            return values
    more = [f" and {len(part) - 1} more" if len(part) > 1 else "" for part in parts]
    return [folders[id(part[0])] + words for part, words in zip(parts, more, strict=True)]


def run_names(runs: Sequence[Run]) -> list[str]:
    """The name of each folder; where two are the same, the path."""
    names = [run.folder.resolve().name for run in runs]
    return [escaped(name if names.count(name) == 1 else str(run.folder)) for name, run in zip(names, runs, strict=True)]


def _choices(parts: Sequence[tuple[Run, ...]]) -> dict[str, list[str]]:
    """Return the dotted keys in which settings differ, with each setting's value."""
    trees = [[flatten(run.recipe.model_dump(mode="json")) for run in part] for part in parts]
    keys = sorted({key for part in trees for tree in part for key in tree} - {"seed"})
    found = {key: [_values(part, key) for part in trees] for key in keys}
    return {key: values for key, values in found.items() if len(set(values)) > 1}


def _values(trees: Sequence[dict[str, Any]], key: str) -> str:
    values = dict.fromkeys(escaped(str(tree[key])) if tree.get(key) is not None else "" for tree in trees)
    return next(iter(values)) if len(values) == 1 else "one a seed"


def settings_of(groups: Sequence[Group]) -> tuple[Setting, ...]:
    """Return what is said of each group."""
    choices = _choices([group.runs for group in groups])
    return tuple(
        Setting(
            name=group.name,
            runs=tuple(escaped(str(run.folder)) for run in group.runs),
            seeds=tuple(run.recipe.seed for run in group.runs),
            choices={key: values[place] for key, values in choices.items()},
        )
        for place, group in enumerate(groups)
    )
