"""The recipes that come with the project: each method on each set is one that can be trained."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgekd.distill.backbones import build_backbone
from edgekd.distill.backbones.size import deployed_parameters
from edgekd.distill.methods import Dims, adapt_recipe, build_method, needs_of
from edgekd.distill.taps import map_shapes
from edgekd.profile import load_profile
from edgekd.recipe import Recipe, load_recipe
from edgekd.search.space import Chosen, space_of

RECIPES = Path(__file__).parents[2] / "models" / "recipes"
SIZES = {"mnist": (28, 1), "cifar10": (32, 3), "omniglot": (28, 1)}  # pixels a side, channels
CLASSES = 10


def built(recipe: Recipe) -> None:
    side, channels = SIZES[recipe.data.spec]
    student, teacher = (build_backbone(part.backbone, channels) for part in (recipe.student, recipe.teacher))
    maps = [map_shapes(backbone, side, side) for backbone in (student, teacher)]
    dims = Dims(student.embedding_dim, teacher.embedding_dim, CLASSES, 100, *maps)
    build_method(recipe.distill.method, dims, recipe.distill.options)


@pytest.mark.parametrize("data", ["mnist", "cifar10", "omniglot"])
@pytest.mark.parametrize("path", sorted((RECIPES / "methods").glob("*.toml")), ids=lambda path: path.stem)
def test_every_method_can_be_trained_on_every_set(path: Path, data: str) -> None:
    recipe = adapt_recipe(load_recipe([RECIPES / "sets" / f"{data}.toml", path]))
    assert needs_of(recipe.distill.method, recipe.distill.options).teacher == (path.stem != "scratch")
    if not path.stem.startswith("feature_mse-direct"):  # wants embeddings of equal width
        built(recipe)


@pytest.mark.parametrize("data", ["mnist-mlp", "cifar10-features"])
def test_the_sets_of_one_question_can_be_built(data: str) -> None:
    method = {"mnist-mlp": "triplet-kd-rkd", "cifar10-features": "feature_mse-direct"}[data]
    built(adapt_recipe(load_recipe([RECIPES / "sets" / f"{data}.toml", RECIPES / "methods" / f"{method}.toml"])))


@pytest.mark.parametrize("path", sorted(RECIPES.rglob("*.toml")), ids=lambda path: path.stem)
def test_every_recipe_tells_what_it_is(path: Path) -> None:
    assert path.read_text().startswith("# ")
    load_recipe(path)


@pytest.mark.parametrize("name", ["miniimagenet", "omniglot"])
def test_students_of_recipes_fit_their_profile(name: str) -> None:
    recipe = load_recipe(RECIPES / f"{name}.toml")
    most = load_profile(recipe.profile).params.max
    assert most
    assert deployed_parameters(build_backbone(recipe.student.backbone, 3)) <= most


def test_the_search_of_a_recipe_begins_with_students_that_fit() -> None:
    recipe = load_recipe(RECIPES / "miniimagenet-search.toml")
    profile = load_profile(recipe.profile)
    space = space_of(recipe.search, profile, 84, 84)
    assert recipe.search.first
    for student in recipe.search.first:
        assert space.suggest(Chosen(space.choices_of(student))).student == student
        assert deployed_parameters(build_backbone(student, 3)) <= (profile.params.max or 0)
    distilling = load_recipe([RECIPES / f"miniimagenet{part}.toml" for part in ("-teacher", "")])
    assert recipe.augment == distilling.augment


def test_the_table_checked_in_is_that_of_the_results() -> None:
    tool = RECIPES.parents[1] / "tools" / "reproduce_methods.py"
    done = subprocess.run([sys.executable, tool, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
