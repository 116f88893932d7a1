"""Distilling in phases: a connector before, images without labels, a new head on a still encoder after."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from edgekd.data import ImageSet
from edgekd.distill.backbones import build_backbone
from edgekd.distill.checkpoint import load_snapshot
from edgekd.distill.context import Context
from edgekd.distill.phases import distilled_stage, has_head
from edgekd.distill.pipeline import load_data, load_images, open_run, run_distillation, run_teaching, stage_names
from edgekd.distill.resolve import dims_of
from edgekd.distill.session import Session, Silent, Stopped, open_session
from edgekd.distill.stages import STAGES
from edgekd.errors import DataError, RecipeError, RunError
from edgekd.manifest import QuantScheme
from edgekd.recipe import Recipe, load_recipe
from edgekd.run import Run

SHORT = [
    "baseline.enabled=false", "teacher.epochs=0", "distill.epochs=1",
    "connect.batch_size=32", "connect.epochs=1", "head.batch_size=32", "head.epochs=1",
    "validation.episodes=2", "test.episodes=2",
]  # fmt: skip
STAGE_NAMES = ["teach", "connect", "distill", "head", "meta", "quantize"]


class Watcher(Silent):
    """Counts the steps of each stage and stops the session at one of them."""

    def __init__(self, stop_in: str = "") -> None:
        self.stop_in, self.current = stop_in, ""
        self.trained: list[str] = []
        self.session: Session | None = None

    def stage(self, name: str, total_steps: int, done_steps: int) -> None:
        self.current = name

    def step(self, images: int) -> None:
        self.trained.append(self.current)
        if self.stop_in == self.current and self.session:
            self.session.deadline.signalled = "enough"


def session(watcher: Watcher | None = None) -> Session:
    opened = open_session("fp32", 0, None, watcher, cpu=True)
    if watcher:
        watcher.session = opened
    return opened


def write_loose(folder: Path, count: int) -> Path:
    """Write `count` noisy images of 24x24 pixels, gray, in no class folder."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(count)
    for number in range(count):
        Image.fromarray(random.integers(0, 256, (24, 24), np.uint8)).save(folder / f"{number:02d}.png")
    return folder


@pytest.fixture
def loose(tmp_path: Path) -> Path:
    return write_loose(tmp_path / "loose", 40)


def phased(tiny_recipe: Path, loose: Path, *assignments: str) -> Recipe:
    method = ["distill.method=feature_bce", f"distill.images=folder:{loose}", "distill.batch_size=16"]
    return load_recipe(tiny_recipe, [*SHORT, *method, *assignments])


def carried_out(recipe: Recipe, folder: Path, stages: Sequence[str], watcher: Watcher | None = None) -> Run:
    """Run these stages alone; a run that exists goes on."""
    opened = session(watcher)
    splits = load_data(recipe, opened, skip_bad=False)
    unlabelled = load_images(recipe, splits.train, opened, skip_bad=False)
    run = open_run(recipe, folder, splits, opened, unlabelled)
    context = Context(run, opened, splits, QuantScheme(), unlabelled)
    for stage in stages:
        STAGES[stage](context)
    return run


def network(run: Run, stage: str) -> dict[str, torch.Tensor]:
    return load_snapshot(run.stage_file(stage)).part("network")


def test_the_phases_leave_what_they_say(tmp_path: Path, tiny_recipe: Path, loose: Path) -> None:
    watcher = Watcher()
    recipe = phased(tiny_recipe, loose, "distill.epochs=2")
    run = carried_out(recipe, tmp_path / "run", ("teach", "connect", "distill", "head", "student"), watcher)
    assert watcher.trained.count("distill") == 2 * (40 // 16)  # epochs of the loose images
    distilled, headed, student = (network(run, stage) for stage in ("distill", "head", "student"))
    still = [name for name in headed if not name.startswith("head.")]
    assert all(torch.equal(distilled[name], headed[name]) for name in still)  # BatchNorm's statistics as well
    assert not torch.equal(distilled["head.weight"], headed["head.weight"])
    assert torch.equal(headed["head.weight"], student["head.weight"])  # what comes later reads from the head
    layers = {f"feature_bce.{layer}.{kind}" for layer in ("attributes", "head") for kind in ("weight", "bias")}
    assert set(network(run, "connect")) == layers
    assert run.manifest.stages["connect"].result.accuracy == ()
    assert run.manifest.stages["head"].result.accuracy == run.manifest.stages["distill"].result.accuracy


def test_the_connector_and_the_head_learn(tmp_path: Path, tiny_recipe: Path, loose: Path) -> None:
    more = ["connect.epochs=15", "connect.lr=0.05", "head.epochs=15", "head.lr=0.05"]
    recipe = phased(tiny_recipe, loose, *more, "teacher.epochs=1")
    run = carried_out(recipe, tmp_path / "run", ("teach", "connect", "distill", "head"))
    for stage in ("connect", "head"):
        losses = [line["loss"] for line in run.metrics() if line["stage"] == stage]
        assert losses[-1] < min(losses[0], np.log(8)) - 0.05  # eight classes: better than chance


@pytest.mark.parametrize("stage", ["connect", "head"])
def test_a_stopped_phase_goes_on_to_the_bit(tmp_path: Path, tiny_recipe: Path, loose: Path, stage: str) -> None:
    recipe, names = phased(tiny_recipe, loose), ["teach", "connect", "distill", "head"]
    whole, at = carried_out(recipe, tmp_path / "whole", names), names.index(stage)
    with pytest.raises(Stopped):
        carried_out(recipe, tmp_path / "parts", names[: at + 1], Watcher(stop_in=stage))
    assert stage not in Run.open(tmp_path / "parts").manifest.stages
    parts = carried_out(recipe, tmp_path / "parts", names[at:])
    for name, record in whole.manifest.stages.items():
        assert parts.manifest.stages[name].sha256 == record.sha256


class Interrupter(Watcher):
    """Sends this process SIGINT in the second step of each stage that it was not sent in before."""

    def __init__(self, sent: set[str]) -> None:
        super().__init__()
        self.sent = sent

    def step(self, images: int) -> None:
        super().step(images)
        if self.trained.count(self.current) == 2 and self.current not in self.sent:
            self.sent.add(self.current)
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.slow
def test_ctrl_c_in_every_stage_leaves_a_run_that_goes_on_to_the_bit(
    tmp_path: Path, tiny_recipe: Path, loose: Path
) -> None:
    recipe = phased(tiny_recipe, loose, "teacher.epochs=1", "distill.epochs=2", "meta.batches_per_epoch=3")
    whole, sent = run_distillation(recipe, tmp_path / "whole", session()), set[str]()
    for _ in STAGE_NAMES:
        with pytest.raises(Stopped, match="stopped by SIGINT") as stopped:
            run_distillation(recipe, tmp_path / "parts", session(Interrupter(sent)))
        assert stopped.value.by_signal
    assert sent == set(STAGE_NAMES)
    parts = run_distillation(recipe, tmp_path / "parts", session(Interrupter(sent)))
    for name, record in whole.manifest.stages.items():
        assert parts.manifest.stages[name].sha256 == record.sha256, name


def test_distilling_after_teaching_in_one_folder_ends_as_one_command_does(tmp_path: Path, tiny_recipe: Path) -> None:
    recipe = load_recipe(tiny_recipe, [*SHORT, "teacher.epochs=1", "distill.method=ce + kd", "meta.enabled=false"])
    whole = run_distillation(recipe, tmp_path / "whole", session())
    taught = run_teaching(recipe, tmp_path / "parts", session())
    assert list(taught.manifest.stages) == ["teach"]
    watcher = Watcher()
    parts = run_distillation(recipe, tmp_path / "parts", session(watcher))
    assert "teach" not in watcher.trained
    assert parts.manifest.complete
    for name, record in whole.manifest.stages.items():
        assert parts.manifest.stages[name].sha256 == record.sha256, name


def test_the_whole_chain_runs_and_refuses_other_images(tmp_path: Path, tiny_recipe: Path, loose: Path) -> None:
    recipe = phased(tiny_recipe, loose, "meta.batches_per_epoch=1")
    run = run_distillation(recipe, tmp_path / "run", session())
    assert list(run.manifest.stages) == STAGE_NAMES
    assert run.manifest.complete
    shutil.rmtree(loose)
    write_loose(loose, 41)
    with pytest.raises(RunError, match=r"other images of folder:.*loose \(distill.images\)"):
        run_distillation(recipe, tmp_path / "run", session())


def test_a_head_no_loss_reaches_is_left_as_it_was(tmp_path: Path, tiny_recipe: Path) -> None:
    """Neither a gradient nor weight decay touches it, nor the layers above a hint."""
    hint = ["distill.weight_decay=0.9", "distill.options.fitnet.layers=[2]", "distill.method=fitnet"]
    found = []
    for epochs in (0, 1):
        recipe = load_recipe(tiny_recipe, [*SHORT, *hint, f"distill.epochs={epochs}"])
        found.append(network(carried_out(recipe, tmp_path / f"{epochs}", ("teach", "distill")), "distill"))
    before, after = found
    for name in ("head.weight", "backbone.body.conv3.weight", "backbone.body.conv4.weight"):
        assert torch.equal(before[name], after[name])
    assert not torch.equal(before["backbone.body.conv2.weight"], after["backbone.body.conv2.weight"])


@pytest.mark.parametrize(
    ("assignments", "names"),
    [
        ([], ["teach", "distill", "meta", "quantize"]),
        (["distill.method=feature_mse"], ["teach", "distill", "head", "meta", "quantize"]),
        (["distill.method=ce + feature_bce"], ["teach", "connect", "distill", "meta", "quantize"]),
        (["distill.method=feature_bce"], STAGE_NAMES),
        (["distill.method=feature_bce", "head.enabled=false"], ["teach", "connect", "distill", "meta", "quantize"]),
    ],
)
def test_stages_follow_the_method(assignments: list[str], names: list[str]) -> None:
    recipe = load_recipe(None, ["baseline.enabled=false", *assignments])
    assert stage_names(recipe) == names
    assert has_head(recipe) == ("head" in names)
    assert distilled_stage(recipe) == ("head" if "head" in names else "distill")


@pytest.mark.parametrize(
    ("assignments", "error", "message"),
    [
        (
            ["distill.method=ce + feature_mse"],
            RecipeError,
            "no labels for ce; leave ce out of 'ce [+] feature_mse'",
        ),
        (["distill.images=folder:/no/such/place"], DataError, "/no/such/place"),
        (["distill.images=nothing"], DataError, "unknown dataset 'nothing'"),
        (["distill.batch_size=41"], DataError, "40 training images are fewer than one batch of 41"),
        (["connect.batch_size=129"], DataError, "try --set connect.batch_size=32"),
        (["head.batch_size=129"], DataError, "try --set head.batch_size=32"),
        (
            ["distill.method=fitnet", "distill.options.fitnet.layers=[5]"],
            RecipeError,
            "fitnet: the student conv4-8 has no layer 5: its layers are 1 to 4",
        ),
        (
            ["distill.method=feature_mse", "distill.options.feature_mse={layers=[1], teacher_layers=[0]}"],
            RecipeError,
            "feature_mse: the teacher resnet12:4 has no layer 0: its layers are 1 to 4",
        ),
        (
            ["distill.method=at", "distill.options.at.layers=[7]"],
            RecipeError,
            r'at: the student conv4-8 has no layer 7: its layers are 1 to 4; .*"distill\.options\.at\.layers=\[4\]"',
        ),
        (
            ["distill.method=feature_mse", "distill.options.feature_mse.projector=liner"],
            RecipeError,
            "unknown projector 'liner'. Did you mean 'linear'",
        ),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else None,
)
def test_bad_requests_are_refused_before_training(
    tmp_path: Path, tiny_recipe: Path, loose: Path, *, assignments: list[str], error: type[Exception], message: str
) -> None:
    watcher = Watcher()
    with pytest.raises(error, match=message):
        run_distillation(phased(tiny_recipe, loose, *assignments), tmp_path / "run", session(watcher))
    assert not watcher.trained
    assert not (tmp_path / "run").exists()


def test_terms_count_the_images_they_are_trained_on() -> None:
    def images(count: int, classes: int) -> ImageSet:
        names = tuple(str(label) for label in range(classes))
        return ImageSet("x", np.zeros((count, 16, 16, 3), np.uint8), np.arange(count) % classes, names)

    backbone = build_backbone("conv4-4", 3)
    assert dims_of(backbone, backbone, images(6, 3)).images == 6
    dims = dims_of(backbone, backbone, images(6, 3), images(9, 1))
    assert (dims.images, dims.classes) == (9, 3)
