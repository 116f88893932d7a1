from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgekd.data import ImageSet, Splits, load_splits
from edgekd.distill import finishing
from edgekd.distill.checkpoint import Snapshot, load_snapshot, save_snapshot
from edgekd.distill.pipeline import run_distillation, stage_names
from edgekd.distill.resolve import resolve
from edgekd.distill.scheme import resolve_scheme
from edgekd.distill.session import Session, Silent, Stopped, open_session
from edgekd.distill.stages import FEEDS, STAGES, fed_by
from edgekd.errors import DataError, ModelError, ProfileError, RecipeError, RunError, UsageError
from edgekd.profile import HardwareProfile, load_profile
from edgekd.recipe import Quantize, Recipe, load_recipe
from edgekd.run import Run
from tests.conftest import write_images


class Watcher(Silent):
    """Counts steps and stops the session at one of them."""

    def __init__(self, stop_at: int = -1) -> None:
        self.steps, self.stop_at = 0, stop_at
        self.session: Session | None = None
        self.notes: list[str] = []
        self.lines: list[dict[str, Any]] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def metrics(self, line: dict[str, Any]) -> None:
        self.lines.append(line)

    def step(self, images: int) -> None:
        self.steps += 1
        if self.steps == self.stop_at and self.session:
            self.session.deadline.signalled = "enough"


def session(watcher: Watcher | None = None) -> Session:
    opened = open_session("fp32", 0, None, watcher, cpu=True)
    if watcher:
        watcher.session = opened
    return opened


def blank(size: int, channels: int = 3) -> Splits:
    def images(split: str) -> ImageSet:
        return ImageSet(
            split, np.zeros((4, size, size, channels), np.uint8), np.arange(4), tuple(f"{split}{i}" for i in range(4))
        )

    return Splits("blank", images("train"), images("val"), images("test"), novel=True)


class StopWhileMeasuring(Watcher):
    """Stops the session when a stage says that it is measured."""

    def note(self, text: str) -> None:
        super().note(text)
        if "measuring on" in text and self.session:
            self.session.deadline.signalled = "enough"


def test_a_signal_ends_measuring_and_the_next_command_measures(
    tmp_path: Path, tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe(tiny_recipe, ["baseline.enabled=false"])
    monkeypatch.setattr(finishing, "MANY_IMAGES", 1)
    with pytest.raises(Stopped, match="enough while stage 'teach' was measured"):
        run_distillation(recipe, tmp_path / "run", session(StopWhileMeasuring()))
    again, whole = Watcher(), Watcher()
    stopped = run_distillation(recipe, tmp_path / "run", session(again))
    assert again.notes[0].startswith("run folder")
    assert "teach: measuring on 72 images" in again.notes
    assert not any(line["stage"] == "teach" for line in again.lines)
    run = run_distillation(recipe, tmp_path / "whole", session(whole))
    assert stopped.manifest.stages["teach"].sha256 == run.manifest.stages["teach"].sha256


def test_the_chain_makes_every_file_and_measures_every_stage(tmp_path: Path, tiny_recipe: Path) -> None:
    run = run_distillation(load_recipe(tiny_recipe), tmp_path / "run", session())
    assert run.manifest.complete
    for stage in ("teach", "scratch", "distill", "meta", "quantize"):
        record = run.manifest.stages[stage]
        assert run.stage_file(stage).exists()
        assert [row.shot for row in record.result.accuracy] == [1, 5]
        assert all(0.2 < row.mean <= 1 for row in record.result.accuracy)
    assert {line["stage"] for line in run.metrics()} == {"teach", "scratch", "distill", "meta", "quantize"}
    assert len(run.manifest.base_mean) == 8
    assert not list(run.folder.glob("checkpoint-*"))
    assert Run.open(run.folder).manifest == run.manifest


def test_episodes_follow_the_few_classes_of_a_test_set_unless_their_number_is_asked_for(
    tmp_path: Path, tiny_recipe: Path
) -> None:
    for seed, split in enumerate(("train", "val", "test")):
        write_images(tmp_path / "two" / split, 2, 12, seed)
    few = ["distill.method=ce", "meta.enabled=false", "quantize.enabled=false", "baseline.enabled=false"]
    few += [f"data.spec=folder:{tmp_path / 'two'}", "distill.batch_size=8", "distill.epochs=1"]
    watcher = Watcher()
    run = run_distillation(load_recipe(tiny_recipe, few), tmp_path / "run", session(watcher))
    assert {row.way for row in run.manifest.stages["distill"].result.accuracy} == {2}
    assert run.recipe.test.way == 2
    assert any("test has 2 test classes: episodes are 2-way instead of 5-way" in note for note in watcher.notes)
    again = run_distillation(load_recipe(tiny_recipe, few), tmp_path / "run", session())
    assert again.recipe == run.recipe
    with pytest.raises(DataError, match=r"needs 5 test classes.*--set test\.way=2"):
        run_distillation(load_recipe(tiny_recipe, [*few, "test.way=5"]), tmp_path / "explicit", session())


def test_training_episodes_follow_the_few_classes_there_are(tmp_path: Path, tiny_recipe: Path) -> None:
    for seed, split in enumerate(("train", "val", "test")):
        write_images(tmp_path / "two" / split, 2, 12, seed)
    few = ["distill.method=ce", "quantize.enabled=false", "baseline.enabled=false", "distill.batch_size=8"]
    few += [f"data.spec=folder:{tmp_path / 'two'}", "distill.epochs=1"]
    watcher = Watcher()
    run = run_distillation(load_recipe(tiny_recipe, few), tmp_path / "run", session(watcher))
    assert run.recipe.meta.way == 2
    assert "meta" in run.manifest.stages
    assert any("train has 2 classes: meta trains on 2-way episodes" in note for note in watcher.notes)
    with pytest.raises(DataError, match=r"5-way .* need 5 classes .*; 2 of 2 have them; lower meta\.way"):
        run_distillation(load_recipe(tiny_recipe, [*few, "meta.way=5"]), tmp_path / "explicit", session())
    with pytest.raises(RecipeError, match=r"meta\.way.*two classes at least"):
        load_recipe(tiny_recipe, [*few, "meta.way=1"])


def test_images_of_one_class_are_refused(tmp_path: Path, tiny_recipe: Path, image_folder: Path) -> None:
    shutil.copytree(image_folder, tmp_path / "one")
    for folder in (tmp_path / "one" / "train").iterdir():
        if folder.name != "train_3":
            shutil.rmtree(folder)
    data = [f"data.spec=folder:{tmp_path / 'one'}", "distill.batch_size=8", "teacher.batch_size=8"]
    for method in ("ce", "ce + kd"):
        with pytest.raises(DataError, match="one training class, train_3: there is nothing to tell it apart from"):
            run_distillation(load_recipe(tiny_recipe, [*data, f"distill.method={method}"]), tmp_path / "run", session())
    assert not (tmp_path / "run").exists()


def test_a_teacher_that_a_recipe_file_names_is_not_replaced_in_silence(tmp_path: Path, tiny_recipe: Path) -> None:
    short = ["distill.epochs=0", "teacher.epochs=0", "baseline.enabled=false", "meta.enabled=false"]
    recipe = load_recipe(tiny_recipe, [*short, "distill.method=ce + self", "quantize.enabled=false"])
    watcher = Watcher()
    run_distillation(recipe, tmp_path / "run", session(watcher))
    expected = "method 'ce + self' takes teacher.backbone=conv4-8 in the place of resnet12:4"
    assert [note for note in watcher.notes if "in the place of" in note] == [expected]
    again = Watcher()
    run_distillation(load_recipe(tmp_path / "run" / "recipe.toml"), tmp_path / "run", session(again))
    assert not [note for note in again.notes if "in the place of" in note]


def test_a_finished_run_is_not_trained_again(tmp_path: Path, tiny_recipe: Path) -> None:
    run_distillation(load_recipe(tiny_recipe), tmp_path / "run", session())
    watcher = Watcher()
    run_distillation(load_recipe(tiny_recipe), tmp_path / "run", session(watcher))
    assert watcher.steps == 0


def test_a_chain_stopped_in_the_quantizer_ends_bit_identical(tmp_path: Path, tiny_recipe: Path) -> None:
    recipe = load_recipe(tiny_recipe)
    whole_watcher = Watcher()
    whole = run_distillation(recipe, tmp_path / "whole", session(whole_watcher))
    for stop_at in (3, whole_watcher.steps - 1):  # in the teacher, in the quantizer
        with pytest.raises(Stopped):
            run_distillation(recipe, tmp_path / "parts", session(Watcher(stop_at if stop_at == 3 else stop_at - 3)))
    parts = run_distillation(recipe, tmp_path / "parts", session())
    for stage in whole.manifest.stages:
        a, b = load_snapshot(whole.stage_file(stage)).tensors, load_snapshot(parts.stage_file(stage)).tensors
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a), stage
    assert whole.manifest.base_mean == parts.manifest.base_mean


def test_calibration_only_has_no_training(tmp_path: Path, tiny_recipe: Path) -> None:
    recipe = load_recipe(tiny_recipe, ["quantize.method=ptq", "meta.enabled=false", "baseline.enabled=false"])
    run = run_distillation(recipe, tmp_path / "run", session())
    assert list(run.manifest.stages) == ["teach", "distill", "student", "quantize"]
    assert "quantize" not in {line["stage"] for line in run.metrics()}


def test_a_teacher_from_disk_is_not_trained(tmp_path: Path, tiny_recipe: Path) -> None:
    first = run_distillation(load_recipe(tiny_recipe), tmp_path / "first", session())
    weights = first.stage_file("teach")
    recipe = load_recipe(tiny_recipe, [f"teacher.weights={weights}", "baseline.enabled=false", "meta.enabled=false"])
    second = run_distillation(recipe, tmp_path / "second", session())
    assert "teach" not in {line["stage"] for line in second.metrics()}
    assert second.manifest.stages["teach"].result.accuracy == first.manifest.stages["teach"].result.accuracy


def stop_at(recipe: Recipe, folder: Path, *steps: int) -> None:
    """Train until a step, once for each of `steps`, counted from where the last one stopped."""
    for step in steps:
        with pytest.raises(Stopped):
            run_distillation(recipe, folder, session(Watcher(step)))


def same_tensors(a: Path, b: Path) -> bool:
    one, two = load_snapshot(a).tensors, load_snapshot(b).tensors
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.fixture
def mutual(tiny_recipe: Path) -> Recipe:
    return load_recipe(tiny_recipe, ["distill.method=ce + dml", "baseline.enabled=false", "meta.enabled=false"])


def test_a_stopped_pair_goes_on_bit_identical_with_the_peer(tmp_path: Path, mutual: Recipe) -> None:
    stop_at(mutual, tmp_path / "whole", 7)
    stop_at(mutual, tmp_path / "parts", 3, 4)
    one, two = (tmp_path / name / "checkpoint-distill" / "state.safetensors" for name in ("whole", "parts"))
    assert load_snapshot(one).values["step"] == 7
    assert any(name.startswith("task/peer.") for name in load_snapshot(one).tensors)
    assert same_tensors(one, two)
    whole, parts = (run_distillation(mutual, tmp_path / name, session()) for name in ("whole", "parts"))
    assert same_tensors(whole.stage_file("quantize"), parts.stage_file("quantize"))


def test_mutual_learning_trains_both_and_keeps_the_student(tmp_path: Path, mutual: Recipe) -> None:
    stop_at(mutual, tmp_path / "run", 1)
    checkpoint = tmp_path / "run" / "checkpoint-distill" / "state.safetensors"
    early = load_snapshot(checkpoint).part("task")
    stop_at(mutual, tmp_path / "run", 3)
    late = load_snapshot(checkpoint).part("task")
    for network in ("classifier", "peer"):
        assert not torch.equal(early[f"{network}.head.weight"], late[f"{network}.head.weight"])
    run = run_distillation(mutual, tmp_path / "run", session())
    assert list(run.manifest.stages) == ["peer", "distill", "student", "quantize"]
    assert not [name for name in load_snapshot(run.stage_file("distill")).tensors if "peer" in name]


def test_a_teacher_on_a_compressed_schedule_takes_half_the_steps_and_resumes(tmp_path: Path, tiny_recipe: Path) -> None:
    half = load_recipe(tiny_recipe, ["teacher.compressed=0.5", "baseline.enabled=false", "meta.enabled=false"])
    whole = run_distillation(half, tmp_path / "whole", session())
    rates = [(line["epoch"], line["lr"]) for line in whole.metrics() if line["stage"] == "teach"]
    assert [epoch for epoch, _ in rates] == [1.0]  # of two
    stop_at(half, tmp_path / "parts", 2)
    parts = run_distillation(half, tmp_path / "parts", session())
    assert same_tensors(whole.stage_file("teach"), parts.stage_file("teach"))


def test_an_assistant_stands_between_teacher_and_student(tmp_path: Path, tiny_recipe: Path) -> None:
    assignments = ["distill.method=ce + takd", "assistant.epochs=1", "assistant.batch_size=32", "meta.enabled=false"]
    recipe = load_recipe(tiny_recipe, assignments)
    stop_at(recipe, tmp_path / "run", 9)  # in the assistant
    run = run_distillation(recipe, tmp_path / "run", session())
    assert list(run.manifest.stages) == ["teach", "assist", "scratch", "distill", "student", "quantize"]
    teacher, assistant, student = (run.manifest.stages[stage].result for stage in ("teach", "assist", "distill"))
    assert teacher.parameters > assistant.parameters > student.parameters
    assert assistant.backbone == run.recipe.assistant.backbone != "auto"
    assert {line["stage"] for line in run.metrics()} >= {"teach", "assist", "distill"}
    whole = run_distillation(recipe, tmp_path / "whole", session())
    assert all(same_tensors(whole.stage_file(name), run.stage_file(name)) for name in ("assist", "distill"))


def test_the_student_follows_the_assistant(tmp_path: Path, tiny_recipe: Path) -> None:
    assignments = ["distill.method=kd", "assistant.backbone=conv4-12", "assistant.batch_size=32", "meta.enabled=false"]
    assignments += ["teacher.epochs=0", "distill.epochs=1", "quantize.method=ptq", "test.episodes=10"]
    students = [
        run_distillation(
            load_recipe(tiny_recipe, [*assignments, "baseline.enabled=false", f"assistant.epochs={epochs}"]),
            tmp_path / str(epochs),
            session(),
        ).stage_file("distill")
        for epochs in (0, 1)
    ]
    assert not same_tensors(*students)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_toml: str) -> Run:
    folder = tmp_path_factory.mktemp("finished")
    (folder / "tiny.toml").write_text(tiny_toml)
    return run_distillation(load_recipe(folder / "tiny.toml"), folder / "run", session())


@pytest.mark.parametrize(
    ("weights", "backbone", "error", "message"),
    [
        ("absent.safetensors", "resnet12:4", RunError, "no weights at .*absent"),
        ("cut.safetensors", "resnet12:4", RunError, r"truncated or not a safetensors file \("),
        ("teacher.pt", "resnet12:4", RunError, "may be a pickle, which is never loaded"),
        ("other.safetensors", "resnet12:4", DataError, "knows 5 classes, .*train has 8: train one on this set"),
        ("good.safetensors", "resnet12:5", RunError, "another architecture"),
        ("foreign.safetensors", "resnet12:4", RunError, "holds no network weights"),
    ],
)
def test_teacher_weights_are_refused_before_the_run_begins(
    tmp_path: Path, finished: Run, *, weights: str, backbone: str, error: type[Exception], message: str
) -> None:
    good = finished.stage_file("teach")
    snapshot = load_snapshot(good)
    (tmp_path / "good.safetensors").write_bytes(good.read_bytes())
    (tmp_path / "cut.safetensors").write_bytes(good.read_bytes()[:1000])
    (tmp_path / "teacher.pt").write_bytes(b"\x80\x02}q\x00.")
    heads = {name: value[:5] if "/head." in name else value for name, value in snapshot.tensors.items()}
    save_snapshot(tmp_path / "other.safetensors", Snapshot(heads, {}))
    save_snapshot(tmp_path / "foreign.safetensors", Snapshot({"layer1.weight": torch.ones(2)}, {}))
    teacher = finished.recipe.teacher.model_copy(update={"weights": tmp_path / weights, "backbone": backbone})
    recipe = finished.recipe.model_copy(update={"teacher": teacher})
    with pytest.raises(error, match=message) as caught:
        run_distillation(recipe, tmp_path / "run", session())
    assert "delete" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_lost_file_is_made_again_to_the_bit(tmp_path: Path, finished: Run) -> None:
    shutil.copytree(finished.folder, tmp_path / "run")
    run = Run.open(tmp_path / "run")
    run.stage_file("distill").unlink()
    int8 = run.stage_file("quantize")
    int8.write_bytes(int8.read_bytes()[:500])
    with pytest.raises(RunError, match=r"to make it again: edgekd distill --recipe .*run/recipe.toml"):
        run.stage_file("quantize")
    watcher = Watcher()
    again = run_distillation(run.recipe, tmp_path / "run", session(watcher))
    assert [note for note in watcher.notes if "missing or damaged" in note] == [
        f"{tmp_path / 'run' / file} is missing or damaged: stage '{stage}' runs again"
        for stage, file in (("distill", "distilled.safetensors"), ("quantize", "student-int8.safetensors"))
    ]
    assert again.manifest.complete
    for stage, record in finished.manifest.stages.items():
        assert again.manifest.stages[stage].sha256 == record.sha256
    assert len(again.metrics()) == len(finished.metrics())


def test_what_rests_on_a_changed_file_is_made_again(tmp_path: Path, finished: Run) -> None:
    shutil.copytree(finished.folder, tmp_path / "run")
    run = Run.open(tmp_path / "run")
    manifest = tmp_path / "run" / "manifest.json"
    manifest.write_text(manifest.read_text().replace(run.manifest.stages["distill"].sha256, "0" * 64))
    watcher = Watcher()
    run_distillation(run.recipe, tmp_path / "run", session(watcher))
    retrained = [line["stage"] for line in watcher.lines]
    assert set(retrained) == {"distill", "meta", "quantize"}
    assert Run.open(tmp_path / "run").manifest.complete


def test_stages_feed_later_ones() -> None:
    assert fed_by("teach") == {"assist", "connect", "distill", "head", "meta", "student", "quantize"}
    assert fed_by("assist") == {"connect", "distill", "head", "meta", "student", "quantize"}
    assert fed_by("head") == {"meta", "student", "quantize"}
    assert fed_by("scratch") == fed_by("quantize") == set()
    assert set(FEEDS) <= set(STAGES)


def test_another_recipe_in_the_same_folder_is_refused(tmp_path: Path, tiny_recipe: Path) -> None:
    run_distillation(load_recipe(tiny_recipe), tmp_path / "run", session())
    with pytest.raises(RunError, match=r"another recipe: distill\.lr, seed differ"):
        run_distillation(load_recipe(tiny_recipe, ["seed=1", "distill.lr=0.1"]), tmp_path / "run", session())


def test_auto_takes_the_widest_that_fits() -> None:
    profile = load_profile("tu_accel_150k")
    assert resolve(Recipe(), profile, blank(32)).student.backbone == "conv4-72"
    assert resolve(Recipe(), profile, blank(28, 1)).student.backbone == "conv4-72"


def test_what_a_sum_pooling_adds_counts_against_the_cap() -> None:
    tight = HardwareProfile.model_validate({"name": "tight", "params": {"max": 142_200}})
    power_of_two = load_recipe(None, ["quantize.scale=power_of_two"])
    assert resolve(Recipe(), tight, blank(84)).student.backbone == "conv4-72"
    assert resolve(power_of_two, tight, blank(32)).student.backbone == "conv4-72"  # 2x2 maps: a mean is exact
    assert resolve(power_of_two, tight, blank(84)).student.backbone == "conv4-64"  # 72 * 25 more parameters


@pytest.mark.parametrize(
    ("assignments", "error", "message"),
    [
        (
            ["student.backbone=conv4-96"],
            ModelError,
            r"conv4-96 has 251,\d+ parameters; tu_accel_150k holds 149,999.*conv4-72",
        ),
        (
            ["student.backbone=conv4-60000"],
            ModelError,
            r"97,20\d,\d+,\d+ parameters; tu_accel_150k holds 149,999.*conv4-72",
        ),
        (
            ["student.backbone=conv4-60000", "profile=gap8"],
            ModelError,
            "parameters; networks of more than 1,000,000,000 are not built",
        ),
        (["teacher.backbone=conv4-60000"], ModelError, "more than 1,000,000,000 are not built"),
        (["assistant.backbone=conv4-60000"], ModelError, "more than 1,000,000,000 are not built"),
        (["student.backbone=conv5-64"], RecipeError, "unknown backbone 'conv5-64'. Did you mean 'conv4'"),
        (["student.backbone=resnet12:4"], ModelError, "cannot be quantized"),
        (["profile=tu_accel_150"], ProfileError, "Did you mean 'tu_accel_150k'"),
        (["distill.method=ce + kdd"], RecipeError, "unknown method 'kdd'. Did you mean 'kd'"),
        (
            ["test.query=15"],
            DataError,
            r"5-way 5-shot with 15 queries needs 5 test classes of 20 images.*--set test.query=7",
        ),
        (["test.head=foo"], UsageError, "unknown head 'foo'"),
        (["test.way=7"], DataError, r"7 test classes.*--set test\.way=6"),
        (["test.shots=[1, 20]"], DataError, r"--set test\.shots=\[1\]$"),
        (["test.shots=[12, 20]", "test.query=9"], DataError, r"--set test\.shots=\[1\]"),
        (
            ["assistant.backbone=resnet12"],
            ModelError,
            "the teacher resnet12:4 31,800: an assistant must be smaller",
        ),
        (
            ["assistant.backbone=conv4-4"],
            ModelError,
            "the student conv4-8 2,040: .* must not be smaller",
        ),
        (["assistant.backbone=conv5"], RecipeError, "unknown backbone 'conv5'"),
        (["assistant.backbone=conv4-9", "assistant.batch_size=500"], DataError, "--set assistant.batch_size=32"),
        (["distill.method=eskd"], RecipeError, "ends part-way and would leave no loss"),
        (["augment.scale_range=[1.2, 0.8]"], RecipeError, r"the smallest comes first: \[0.8, 1.2\]"),
        (
            ["meta.query=16"],
            DataError,
            "need 5 classes of 17 images; 0 of 8 have them; try --set meta.query=15, or --no-meta",
        ),
        (["teacher.batch_size=1000"], DataError, "128 training images are fewer than one batch of 1000"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_bad_requests_are_refused_before_training(
    tmp_path: Path, tiny_recipe: Path, assignments: list[str], error: type[Exception], message: str
) -> None:
    watcher = Watcher()
    with pytest.raises(error, match=message):
        run_distillation(load_recipe(tiny_recipe, assignments), tmp_path / "run", session(watcher))
    assert watcher.steps == 0


def test_who_has_few_images_is_told_all_at_once(tmp_path: Path, tiny_recipe: Path) -> None:
    wanted = ["distill.batch_size=1000", "meta.query=16", "validation.query=500", "test.query=500"]
    with pytest.raises(DataError) as refused:
        run_distillation(load_recipe(tiny_recipe, wanted), tmp_path / "run", session(Watcher()))
    told = str(refused.value).splitlines()
    assert [line.rpartition("--set ")[2].partition("=")[0] for line in told] == [
        "meta.query",
        "distill.batch_size",
        "validation.query",
        "test.query",
    ]


def test_images_too_small_for_four_poolings() -> None:
    with pytest.raises(DataError, match="8x8 are too small"):
        resolve(Recipe(), load_profile("tu_accel_150k"), blank(8))


def test_auto_needs_a_cap() -> None:
    with pytest.raises(ProfileError, match="name one with --student"):
        resolve(Recipe(), HardwareProfile.model_validate({"name": "open"}), blank(32))


def test_the_scheme_follows_the_profile() -> None:
    signed = HardwareProfile.model_validate(
        {
            "name": "x",
            "weights": {"bits": [2, 4], "granularity": "per_tensor", "scale": "power_of_two"},
            "activations": {"relu_unsigned": False},
        }
    )
    scheme = resolve_scheme(signed, Quantize())
    assert (scheme.weight_bits, scheme.granularity, scheme.scale, scheme.relu_unsigned) == (
        4,
        "per_tensor",
        "power_of_two",
        False,
    )
    assert resolve_scheme(signed, Quantize(scale="float")).scale == "float"
    only_wide = HardwareProfile.model_validate({"name": "x", "activations": {"bits": [16]}})
    with pytest.raises(ProfileError, match=r"activations\.bits"):
        resolve_scheme(only_wide, Quantize())


def test_the_width_of_weights_is_one_that_the_profile_has() -> None:
    narrow = HardwareProfile.model_validate({"name": "x", "weights": {"bits": [2, 4]}})
    assert resolve_scheme(narrow, Quantize(weight_bits=2)).weight_bits == 2
    assert resolve_scheme(HardwareProfile(name="x"), Quantize(weight_bits=4)).weight_bits == 4
    with pytest.raises(ProfileError, match=r"quantize.weight_bits is 8, and profile x allows weights of \[2, 4\] bits"):
        resolve_scheme(narrow, Quantize(weight_bits=8))


def test_without_test_no_test_image_is_measured(tmp_path: Path, tiny_recipe: Path) -> None:
    off = ["test.enabled=false", "test.query=99", "meta.enabled=false", "baseline.enabled=false", "quantize.epochs=0"]
    run = run_distillation(load_recipe(tiny_recipe, off), tmp_path / "run", session())
    assert run.manifest.complete
    assert not any(record.result.accuracy for record in run.manifest.stages.values())


def test_stage_names_follow_the_recipe() -> None:
    assert stage_names(Recipe()) == ["teach", "scratch", "distill", "meta", "quantize"]
    assert stage_names(load_recipe(None, ["meta.enabled=false", "baseline.enabled=false"])) == [
        "teach",
        "distill",
        "student",
        "quantize",
    ]
    assert stage_names(load_recipe(None, ["distill.method=ce + dml"])) == ["scratch", "distill", "meta", "quantize"]
    assert stage_names(load_recipe(None, ["assistant.backbone=conv4-96"]))[:3] == ["teach", "assist", "scratch"]


def test_a_class_in_two_splits_is_named(tmp_path: Path, image_folder: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(image_folder, copy)
    shutil.copytree(copy / "train" / "train_0", copy / "test" / "train_0")
    with pytest.raises(DataError, match="train_0"):
        load_splits(f"folder:{copy}")
