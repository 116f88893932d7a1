"""A student that starts with weights: its stage, its parts, what it refuses, and the chain that follows."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from torch import Tensor

from edgekd.distill.backbones import build_backbone
from edgekd.distill.checkpoint import Snapshot, load_snapshot, save_snapshot
from edgekd.distill.pipeline import run_distillation, stage_names
from edgekd.distill.session import Stopped, open_session
from edgekd.errors import DataError, EdgekdError, ModelError, RecipeError, RunError
from edgekd.recipe import load_recipe
from edgekd.run import Run
from tests.distill.stopping import StopAt

FAST = ["distill.epochs=1", "validation.episodes=10", "test.episodes=20", "quantize.epochs=0", "distill.method=ce"]
SHORT = [*FAST, "meta.enabled=false", "quantize.enabled=false"]


def ran(recipe: Path, folder: Path, assignments: list[str], stop_at: int = 0) -> Run:
    reporter = StopAt(stop_at)
    session = open_session("fp32", 0, None, reporter, cpu=True)
    reporter.session = session
    return run_distillation(load_recipe(recipe, [*SHORT, *assignments]), folder, session)


def weights(path: Path) -> dict[str, Tensor]:
    return load_snapshot(path).part("network")


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, tiny_toml: str) -> Path:
    """The float student of a run."""
    folder = tmp_path_factory.mktemp("first")
    (folder / "tiny.toml").write_text(tiny_toml)
    return ran(folder / "tiny.toml", folder / "run", ["seed=3", "baseline.enabled=false"]).stage_file("distill")


def test_the_whole_chain_goes_on_from_a_file(tmp_path: Path, tiny_recipe: Path, first: Path) -> None:
    run = ran(tiny_recipe, tmp_path / "run", [f"student.weights={first}", "quantize.enabled=true"])
    assert list(run.manifest.stages) == ["start", "scratch", "distill", "student", "quantize"]
    start = weights(run.stage_file("start"))
    assert all(torch.equal(value, start[name]) for name, value in weights(first).items())
    assert run.manifest.stages["start"].result.parameters == run.manifest.stages["distill"].result.parameters
    assert not any(line["stage"] == "start" for line in run.metrics())


def test_what_scratch_and_distilling_begin_with_is_the_file(tmp_path: Path, tiny_recipe: Path, first: Path) -> None:
    run = ran(tiny_recipe, tmp_path / "run", [f"student.weights={first}", "distill.epochs=0"])
    for stage in ("scratch", "distill"):
        assert all(torch.equal(value, weights(first)[name]) for name, value in weights(run.stage_file(stage)).items())


def test_a_head_is_trained_on_the_frozen_encoder_and_then_all_layers(
    tmp_path: Path, tiny_recipe: Path, first: Path
) -> None:
    steady = [
        "distill.schedule=step",
        "distill.milestones=[1000]",
        "distill.warmup_epochs=0",
        "student.finetune_factor=0.5",
        "distill.lr=0.01",
    ]
    options = [f"student.weights={first}", "student.new_head=true", "student.freeze_epochs=1", *steady]
    run = ran(tiny_recipe, tmp_path / "run", options)
    before, start, after = weights(first), weights(run.stage_file("start")), weights(run.stage_file("distill"))
    encoder = [name for name in before if name.startswith("backbone.")]
    assert all(torch.equal(before[name], start[name]) for name in encoder)
    assert not torch.equal(before["head.weight"], start["head.weight"])
    assert set(start) == set(after)
    rates = {line["stage"]: line["lr"] for line in run.metrics() if line["stage"] != "start"}
    assert rates == {"scratch": pytest.approx(0.005), "distill": pytest.approx(0.005)}


def test_a_stopped_start_ends_bit_identical(tmp_path: Path, tiny_recipe: Path, first: Path) -> None:
    options = [f"student.weights={first}", "student.new_head=true", "student.freeze_epochs=1", "head.batch_size=32"]
    whole = ran(tiny_recipe, tmp_path / "whole", options)
    with pytest.raises(Stopped):
        ran(tiny_recipe, tmp_path / "parts", options, stop_at=2)
    parts = ran(tiny_recipe, tmp_path / "parts", options)
    for stage in ("start", "distill"):
        found = weights(parts.stage_file(stage))
        assert all(torch.equal(value, found[name]) for name, value in weights(whole.stage_file(stage)).items())


def test_a_pretrained_student_sees_imagenet_pixels_in_every_stage(
    tmp_path: Path, tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torchvision

    torch.manual_seed(11)
    state = torchvision.models.mobilenet_v2().state_dict()
    monkeypatch.setattr(torchvision.models.MobileNet_V2_Weights, "get_state_dict", lambda *_, **__: state)
    options = ["profile=cmsis_nn", "student.backbone=mobilenetv2:small", "student.pretrained=true", "distill.epochs=0"]
    run = ran(tiny_recipe, tmp_path / "run", [*options, "baseline.enabled=false"])
    name = "features.3.conv.0.0.weight"
    assert torch.equal(weights(run.stage_file("distill"))[f"backbone.body.1.{name}"], state[name])
    assert load_snapshot(run.stage_file("distill")).values["pretrained"] is True
    with pytest.raises(RunError, match=r"trained with pretrained=true: --set student\.pretrained=true"):
        ran(tiny_recipe, tmp_path / "other", [*options[:2], f"student.weights={run.stage_file('distill')}"])


@pytest.mark.parametrize("spec", ["mobilenetv2:small-0.35", "conv4-8"])
@pytest.mark.parametrize("role", ["teacher", "student"])
def test_imagenet_pixels_go_with_a_file_of_any_backbone(
    tmp_path: Path, tiny_recipe: Path, role: str, spec: str
) -> None:
    state = build_backbone(spec, 3).body.state_dict()
    save_snapshot(tmp_path / "plain.safetensors", Snapshot(state, {}))
    options = [
        "profile=cmsis_nn",
        f"{role}.backbone={spec}",
        f"{role}.weights={tmp_path / 'plain.safetensors'}",
        "distill.method=ce + kd",
        f"{role}.new_head=true",
        f"{role}.pretrained=true",
        "teacher.epochs=0",
        "distill.epochs=0",
        "baseline.enabled=false",
    ]
    run = ran(tiny_recipe, tmp_path / "run", options)
    found = weights(run.stage_file("teach" if role == "teacher" else "distill"))
    name = next(name for name in state if name.endswith("weight"))
    assert torch.equal(found[f"backbone.body.1.{name}"], state[name])


def test_weights_that_cannot_be_fetched_leave_no_folder(
    tmp_path: Path, tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torchvision

    def offline(*_: Any, **__: Any) -> None:
        raise URLError("no network")

    monkeypatch.setattr(torchvision.models.MobileNet_V2_Weights, "get_state_dict", offline)
    for role in ("teacher", "student"):
        options = [f"{role}.backbone=mobilenetv2", f"{role}.pretrained=true", "distill.method=ce + kd"]
        with pytest.raises(ModelError, match="could not be fetched"):
            ran(tiny_recipe, tmp_path / "run", ["profile=cmsis_nn", *options])
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("assignments", "error", "message"),
    [
        (["student.new_head=true"], RecipeError, "name it with --student-weights"),
        (["student.freeze_epochs=1"], RecipeError, "random weights: set student.pretrained=true"),
        (["student.pretrained=true"], RecipeError, "'conv4-8': there are no pretrained weights"),
        (
            ["student.weights=FIRST", "student.freeze_epochs=1", "distill.method=feature_mse"],
            RecipeError,
            "trains a head that no term of method 'feature_mse' goes on with",
        ),
        (
            ["student.weights=FIRST", "student.backbone=conv4-4"],
            RunError,
            r"\d+ of another shape, first .*conv1\.weight \(8, 3, 3, 3\) instead of \(4, 3, 3, 3\); .* for conv4-8$",
        ),
        (["student.weights=OTHER"], DataError, r"the student in .* knows 5 classes.* --set student\.new_head=true"),
        (["student.weights=INT8"], RunError, "holds a quantized student; give the float one beside it"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_cannot_start_is_refused_before_the_run_begins(
    tmp_path: Path, tiny_recipe: Path, first: Path, *, assignments: list[str], error: type[EdgekdError], message: str
) -> None:
    snapshot = load_snapshot(first)
    five = {name: value[:5] if "/head." in name else value for name, value in snapshot.tensors.items()}
    files = {"FIRST": first, "OTHER": tmp_path / "other.safetensors", "INT8": tmp_path / "int8.safetensors"}
    save_snapshot(files["OTHER"], Snapshot(five, snapshot.values))
    save_snapshot(files["INT8"], Snapshot(snapshot.tensors, {**snapshot.values, "scheme": {}}))
    for word, path in files.items():
        assignments = [text.replace(word, str(path)) for text in assignments]
    with pytest.raises(error, match=message):
        ran(tiny_recipe, tmp_path / "run", assignments)
    assert not (tmp_path / "run").exists()


def test_rotations_are_marked_and_their_lack_is_told(tmp_path: Path, tiny_recipe: Path) -> None:
    class Notes(StopAt):
        def __init__(self) -> None:
            super().__init__(0)
            self.notes: list[str] = []

        def note(self, text: str) -> None:
            self.notes.append(text)

    def notes(folder: str, assignments: list[str]) -> list[str]:
        watcher = Notes()
        session = open_session("fp32", 0, None, watcher, cpu=True)
        quick = [*SHORT, "teacher.epochs=1", "distill.method=dfkd", "distill.epochs=0", "baseline.enabled=false"]
        run_distillation(load_recipe(tiny_recipe, [*quick, *assignments]), tmp_path / folder, session)
        return [text for text in watcher.notes if text.startswith("dfkd ")]

    assert notes("trained", []) == []
    path = tmp_path / "trained" / "teacher.safetensors"
    assert load_snapshot(path).values["rotation"] == 1.0
    assert notes("again", [f"teacher.weights={path}"]) == []
    assert notes("third", [f"teacher.weights={tmp_path / 'again' / 'teacher.safetensors'}"]) == []
    save_snapshot(tmp_path / "plain.safetensors", Snapshot(load_snapshot(path).tensors, {"backbone": "resnet12:4"}))
    assert len(notes("plain", [f"teacher.weights={tmp_path / 'plain.safetensors'}"])) == 1


def test_only_a_student_with_weights_has_a_start() -> None:
    assert "start" not in stage_names(load_recipe(None))
    assert "start" in stage_names(load_recipe(None, ["student.weights=/x.safetensors"]))


def test_weights_that_are_not_finite_are_told_by_file_and_tensor(
    tmp_path: Path, tiny_recipe: Path, first: Path
) -> None:
    snapshot, path = load_snapshot(first), tmp_path / "broken.safetensors"
    name = next(name for name in snapshot.tensors if name.endswith("norm2.weight"))
    broken = snapshot.tensors[name].clone()
    broken[0] = float("nan")
    save_snapshot(path, Snapshot({**snapshot.tensors, name: broken}, snapshot.values))
    with pytest.raises(RunError, match=r"broken\.safetensors holds weights .* NaN .* first in .*norm2\.weight"):
        ran(tiny_recipe, tmp_path / "run", [f"student.weights={path}"])
    assert not (tmp_path / "run").exists()


def test_a_folder_and_a_pickle_are_refused_with_what_to_do(tmp_path: Path, tiny_recipe: Path) -> None:
    with pytest.raises(RunError, match="is a folder; name the safetensors file in it"):
        ran(tiny_recipe, tmp_path / "run", [f"student.weights={tmp_path}"])
    backbone, pickled = build_backbone("conv4-8", 3), tmp_path / "mine.pth"
    torch.save(backbone.body.state_dict(), pickled)
    with pytest.raises(RunError, match="never loaded") as refused:
        ran(tiny_recipe, tmp_path / "run", [f"student.weights={pickled}"])
    exec("\n".join(line.strip() for line in str(refused.value).splitlines()[1:]), {})
    options = [f"student.weights={tmp_path / 'mine.safetensors'}", "student.new_head=true", "distill.epochs=0"]
    found = weights(ran(tiny_recipe, tmp_path / "run", options).stage_file("start"))
    assert torch.equal(found["backbone.body.conv1.weight"], backbone.state_dict()["body.conv1.weight"])
