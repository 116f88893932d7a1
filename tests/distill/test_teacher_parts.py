"""The teacher's stage alone, on the tiny images: where it starts, its parts, and that it resumes to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from edgekd.distill.backbones import build_backbone
from edgekd.distill.backbones.imagenet import ImageNetInput
from edgekd.distill.checkpoint import Snapshot, load_snapshot, save_snapshot
from edgekd.distill.context import Context, load_classifier
from edgekd.distill.inspect import load_stage
from edgekd.distill.pipeline import load_data, open_run, stage_names
from edgekd.distill.resolve import require_trainable, resolve
from edgekd.distill.scheme import resolve_scheme
from edgekd.distill.session import Stopped, open_session
from edgekd.distill.stages import teach
from edgekd.errors import DataError, RecipeError, RunError
from edgekd.profile import load_profile
from edgekd.recipe import load_recipe, section_of
from tests.distill.stopping import StopAt

FAST = ["teacher.backbone=conv4-4", "teacher.epochs=1", "meta.enabled=false", "validation.episodes=20"]


def context(tiny_recipe: Path, folder: Path, assignments: list[str], stop_at: int = 0) -> Context:
    recipe, profile = load_recipe(tiny_recipe, [*FAST, *assignments]), load_profile("tu_accel_150k")
    reporter = StopAt(stop_at)
    session = open_session("fp32", 0, None, reporter, cpu=True)
    reporter.session = session
    splits = load_data(recipe, session, skip_bad=False)
    recipe = resolve(recipe, profile, splits)
    require_trainable(recipe, splits, stage_names(recipe))
    return Context(open_run(recipe, folder, splits, session), session, splits, resolve_scheme(profile, recipe.quantize))


def taught(tiny_recipe: Path, folder: Path, assignments: list[str]) -> Context:
    made = context(tiny_recipe, folder, assignments)
    teach(made)
    return made


def weights(made: Context) -> dict[str, Tensor]:
    return load_snapshot(made.run.stage_file("teach")).part("network")


def stages_of(made: Context) -> list[str]:
    return list(dict.fromkeys(line["stage"] for line in made.run.metrics()))


@pytest.fixture
def imagenet(monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """The state that stands for published weights of MobileNet-v2."""
    import torchvision

    torch.manual_seed(11)
    state: dict[str, Tensor] = torchvision.models.mobilenet_v2().state_dict()
    monkeypatch.setattr(torchvision.models.MobileNet_V2_Weights, "get_state_dict", lambda *_, **__: state)
    return state


def no_fetching(monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("nothing is fetched")

    monkeypatch.setattr(torchvision.models.MobileNet_V2_Weights, "get_state_dict", refuse)


@pytest.mark.parametrize(
    "assignments",
    [
        ["teacher.rotation=1.0", "teacher.mixup=2.0", "teacher.epochs=2"],
        ["teacher.generations=3"],
        ["teacher.weights=START", "teacher.new_head=true", "teacher.freeze_epochs=1", "teacher.generations=2"],
    ],
    ids=["stronger", "generations", "head-first"],
)
def test_a_stopped_teacher_ends_bit_identical(tmp_path: Path, tiny_recipe: Path, assignments: list[str]) -> None:
    if any("START" in assignment for assignment in assignments):
        start = taught(tiny_recipe, tmp_path / "start", ["seed=5"]).run.stage_file("teach")
        assignments = [assignment.replace("START", str(start)) for assignment in assignments]
    whole = taught(tiny_recipe, tmp_path / "whole", assignments)
    for stop_at in (3, 4):  # steps: in the first part, then in a later one where there is one
        with pytest.raises(Stopped):
            teach(context(tiny_recipe, tmp_path / "parts", assignments, stop_at))
    parts = taught(tiny_recipe, tmp_path / "parts", assignments)
    assert all(torch.equal(value, weights(parts)[name]) for name, value in weights(whole).items())
    assert not list(parts.run.folder.glob("checkpoint-*"))
    assert stages_of(parts) == stages_of(whole)


def test_rotation_and_mixup_leave_the_file_of_a_classifier(tmp_path: Path, tiny_recipe: Path) -> None:
    made = taught(tiny_recipe, tmp_path / "run", ["teacher.rotation=2.0", "teacher.mixup=1.0"])
    assert load_classifier(made, "teach", "conv4-4").head.out_features == 8
    assert {"ce", "rotation"} == set(made.run.metrics()[-1]["terms"])


def test_each_generation_learns_from_the_one_before(tmp_path: Path, tiny_recipe: Path) -> None:
    made = taught(tiny_recipe, tmp_path / "run", ["teacher.generations=3"])
    assert stages_of(made) == ["teach", "teach-2", "teach-3"]
    assert set(made.run.metrics()[-1]["terms"]) == {"ce", "kd"}
    assert list(made.run.manifest.stages) == ["teach"]
    assert section_of("teach-3") == section_of("teach-head") == "teacher"


def test_a_given_teacher_is_the_first_generation(tmp_path: Path, tiny_recipe: Path) -> None:
    first = taught(tiny_recipe, tmp_path / "first", [])
    given = [f"teacher.weights={first.run.stage_file('teach')}"]
    assert stages_of(taught(tiny_recipe, tmp_path / "same", given)) == []
    second = taught(tiny_recipe, tmp_path / "second", [*given, "teacher.generations=2"])
    assert stages_of(second) == ["teach-2"]
    assert not torch.equal(weights(second)["head.weight"], weights(first)["head.weight"])


def test_a_new_head_is_trained_on_a_frozen_backbone(tmp_path: Path, tiny_recipe: Path) -> None:
    """The file is of a teacher of other classes; with frozen epochs alone its backbone comes out as it was."""
    first = taught(tiny_recipe, tmp_path / "first", ["seed=3"])
    snapshot = load_snapshot(first.run.stage_file("teach"))
    tensors = {name: value[:5] if "/head." in name else value for name, value in snapshot.tensors.items()}
    save_snapshot(tmp_path / "five.safetensors", Snapshot(tensors, snapshot.values))
    options = [f"teacher.weights={tmp_path / 'five.safetensors'}", "teacher.new_head=true", "teacher.freeze_epochs=2"]
    second = taught(tiny_recipe, tmp_path / "second", [*options, "teacher.epochs=0"])
    before, after = weights(first), weights(second)
    assert all(torch.equal(after[name], before[name]) for name in before if name.startswith("backbone."))
    assert after["head.weight"].shape == before["head.weight"].shape
    assert stages_of(second) == ["teach-head"]
    assert second.run.metrics()[-1]["loss"] < second.run.metrics()[0]["loss"]


def test_all_layers_then_learn_at_a_lower_rate(tmp_path: Path, tiny_recipe: Path) -> None:
    start = taught(tiny_recipe, tmp_path / "first", ["seed=3"]).run.stage_file("teach")
    options = [f"teacher.weights={start}", "teacher.new_head=true", "teacher.freeze_epochs=1", "teacher.lr=0.1"]
    steady = [
        "teacher.schedule=step",
        "teacher.milestones=[1000]",
        "teacher.warmup_epochs=0",
        "teacher.finetune_factor=0.02",
    ]
    made = taught(tiny_recipe, tmp_path / "run", [*options, *steady])
    rates = {line["stage"]: line["lr"] for line in made.run.metrics()}
    assert rates == {"teach-head": pytest.approx(0.1), "teach": pytest.approx(0.002)}


def test_a_pretrained_teacher_starts_with_the_published_weights(
    tmp_path: Path, tiny_recipe: Path, imagenet: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["teacher.backbone=mobilenetv2:small", "teacher.pretrained=true", "teacher.epochs=0"]
    made = taught(tiny_recipe, tmp_path / "run", [*options, "teacher.freeze_epochs=1"])
    found = weights(made)
    for name, value in imagenet.items():
        if not name.startswith("classifier."):
            assert torch.equal(found[f"backbone.body.1.{name}"], value)
    no_fetching(monkeypatch)
    loaded = load_classifier(made, "teach", "mobilenetv2:small")
    assert isinstance(load_stage(made.run, "teach", made.splits).backbone.body.get_submodule("0"), ImageNetInput)
    assert isinstance(loaded.backbone.body.get_submodule("0"), ImageNetInput)
    again = ["teacher.weights=" + str(made.run.stage_file("teach"))]
    taught(tiny_recipe, tmp_path / "again", [*options, *again])
    with pytest.raises(RunError, match=r"was trained with pretrained=true: --set teacher\.pretrained=true"):
        context(tiny_recipe, tmp_path / "other", [options[0], *again])


@pytest.mark.parametrize("pretrained", [False, True], ids=["plain", "as-pretrained"])
def test_a_state_dict_on_disk_is_a_start(
    tmp_path: Path, tiny_recipe: Path, imagenet: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch, *, pretrained: bool
) -> None:
    save_snapshot(tmp_path / "published.safetensors", Snapshot(imagenet, {}))
    no_fetching(monkeypatch)
    options = [
        "teacher.backbone=mobilenetv2",
        "teacher.epochs=0",
        f"teacher.pretrained={str(pretrained).lower()}",
        f"teacher.weights={tmp_path / 'published.safetensors'}",
    ]
    with pytest.raises(
        RecipeError, match=r"a plain state dict, .* --set teacher\.pretrained=true where .*=false where"
    ):
        context(tiny_recipe, tmp_path / "silent", [*options[:2], options[3], "teacher.new_head=true"])
    with pytest.raises(RunError, match=r"holds no network weights .* --set teacher\.new_head=true"):
        context(tiny_recipe, tmp_path / "whole", options)
    found = weights(taught(tiny_recipe, tmp_path / "run", [*options, "teacher.new_head=true"]))
    name = "features.3.conv.0.0.weight"
    assert torch.equal(found[f"backbone.body.{'1.' if pretrained else ''}{name}"], imagenet[name])


@pytest.mark.parametrize(
    ("assignments", "error", "message"),
    [
        (["teacher.new_head=true"], RecipeError, "name it with --teacher-weights"),
        (
            ["teacher.freeze_epochs=2"],
            RecipeError,
            r"freeze_epochs is 2, but .* random weights: set teacher\.pretrained",
        ),
        (["teacher.pretrained=true"], RecipeError, "'conv4-4': there are no pretrained weights"),
        (["teacher.mixup=-1"], RecipeError, r"teacher\.mixup"),
        (["teacher.generations=0"], RecipeError, r"teacher\.generations"),
        (["distill.patience=-1"], RecipeError, r"distill\.patience"),
        (["teacher.schedule=inverse"], RecipeError, r"teacher\.schedule"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_contradictions_are_refused_before_training(
    tmp_path: Path, tiny_recipe: Path, assignments: list[str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        context(tiny_recipe, tmp_path / "run", assignments)
    assert not (tmp_path / "run").exists()


def test_weights_of_another_architecture_name_the_right_one(tmp_path: Path, tiny_recipe: Path) -> None:
    start = taught(tiny_recipe, tmp_path / "first", []).run.stage_file("teach")
    for more in ([], ["teacher.new_head=true"]):
        wrong = ["teacher.backbone=resnet12:4", f"teacher.weights={start}", *more]
        with pytest.raises(
            RunError,
            match=r"another architecture than resnet12:4: .*\d+ missing, first .* unexpected, .*written for conv4-4$",
        ):
            context(tiny_recipe, tmp_path / "second", wrong)


def test_rotations_need_square_images(tmp_path: Path) -> None:
    import numpy as np

    from edgekd.data import ImageSet
    from edgekd.distill.start_weights import require_teacher
    from edgekd.recipe import Teacher

    images = ImageSet("wide", np.zeros((2, 16, 20, 3), np.uint8), np.arange(2), ("a", "b"))
    require_teacher(Teacher(mixup=1.0), images)
    with pytest.raises(DataError, match="these are 16x20: make them square with --size 16"):
        require_teacher(Teacher(rotation=1.0), images)


def test_a_plain_state_needs_every_tensor_of_the_backbone(tmp_path: Path, tiny_recipe: Path) -> None:
    state = build_backbone("conv4-4", 3).body.state_dict()
    del state["conv2.weight"]
    save_snapshot(tmp_path / "part.safetensors", Snapshot(state, {}))
    options = [f"teacher.weights={tmp_path / 'part.safetensors'}", "teacher.new_head=true"]
    with pytest.raises(
        RunError, match=r"another architecture than conv4-4: 1 missing, first body\.conv2\.weight \(4, 4, 3, 3\)$"
    ):
        context(tiny_recipe, tmp_path / "run", options)
