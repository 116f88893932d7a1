from __future__ import annotations

from pathlib import Path

import pytest

from edgekd.errors import RecipeError
from edgekd.recipe import Recipe, differing_keys, load_recipe, to_toml


def test_defaults_survive_writing_and_reading(tmp_path: Path) -> None:
    recipe = load_recipe(
        None, ["distill.options.kd.temperature=2", "data.spec=folder:/a b", "teacher.weights=/x.safetensors"]
    )
    path = tmp_path / "recipe.toml"
    path.write_text(to_toml(recipe))
    assert load_recipe(path) == recipe
    assert load_recipe(path).sha256 == recipe.sha256 != Recipe().sha256


def test_assignments_beat_the_file(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text("[distill]\nepochs = 3\nlr = 0.5\n")
    recipe = load_recipe(path, ["distill.epochs=7"])
    assert (recipe.distill.epochs, recipe.distill.lr) == (7, 0.5)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("distil.epochs=3", "unknown key 'distil'. Did you mean 'distill'"),
        ("distill.epoch=3", r"unknown key in \[distill\] 'epoch'. Did you mean 'epochs'"),
        ("teacher.lr=-1", "teacher.lr: Input should be greater than 0"),
        ("meta.way=many", "meta.way"),
        ("seed=-1", "seed: Input should be greater than or equal to 0"),
        ("test.shots=[]", "test.shots"),
        ("meta", "is not key=value"),
        ("seed.x=1", "seed"),
        ("distill.schedule=step", r"distill: schedule is step, but milestones names no epoch.*milestones=\[3.6, 4.8\]"),
        ("search.trial=3", r"unknown key in \[search\] 'trial'. Did you mean 'trials'"),
        ("search.depth=[4, 3]", r"search.depth: the smallest comes first: \[3, 4\]"),
        ("search.embedding=[0, 8]", "search.embedding.0"),
    ],
)
def test_bad_assignments_say_what_is_legal(assignment: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe(None, [assignment])


@pytest.mark.parametrize("text", ["[distill", "\x00", "epochs = "])
def test_a_file_that_is_not_toml(tmp_path: Path, text: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(RecipeError, match="not a readable TOML"):
        load_recipe(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no recipe at"):
        load_recipe(tmp_path / "absent.toml")


def test_differing_keys_are_dotted() -> None:
    assert differing_keys(Recipe(), load_recipe(None, ["seed=1", "meta.way=3"])) == ["meta.way", "seed"]


def test_a_later_file_wins_key_by_key(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('[distill]\nepochs = 3\nmethod = "ce"\n[distill.options.kd]\ntemperature = 2.0\n')
    (tmp_path / "b.toml").write_text('[distill]\nmethod = "ce + kd"\n')
    recipe = load_recipe([tmp_path / "a.toml", tmp_path / "b.toml"], ["distill.epochs=5"])
    assert (recipe.distill.epochs, recipe.distill.method) == (5, "ce + kd")
    assert recipe.distill.options == {"kd": {"temperature": 2.0}}


def test_an_error_names_all_files(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("seed = 1\n")
    (tmp_path / "b.toml").write_text("sed = 1\n")
    with pytest.raises(RecipeError, match=r"a\.toml .*b\.toml.*'sed'"):
        load_recipe([tmp_path / "a.toml", tmp_path / "b.toml"])


def test_steps_with_milestones_are_a_schedule() -> None:
    recipe = load_recipe(None, ["teacher.schedule=step", "teacher.milestones=[4]"])
    assert recipe.teacher.milestones == (4,)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("distill=3", "distill: this is a section: name a key of it"),
        ("search.width=5", "search.width: Input should be a list, such as"),
        ("test.shots=[]", "test.shots: Input should be a longer list"),
    ],
)
def test_values_of_another_shape_are_told_in_words_of_a_recipe(assignment: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe(None, [assignment])
