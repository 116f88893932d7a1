"""What a user can get wrong in `distill`, `teach`, `export` and `verify`: exit code 2 and what to change."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

from edgekd.cli import main
from edgekd.heads import HEADS
from edgekd.recipe import Schedule
from edgekd.run import Run


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the command line in this process and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["edgekd", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")


@pytest.fixture
def damaged(tmp_path: Path, image_folder: Path) -> Path:
    """The images, one of them cut off half-way."""
    folder = tmp_path / "damaged"
    shutil.copytree(image_folder, folder)
    image = folder / "test" / "test_1" / "003.png"
    image.write_bytes(image.read_bytes()[: image.stat().st_size // 2])
    return folder


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["distil"], "Did you mean 'distill'"),
        (["distill", "--epochs", "3"], "--epochs"),
        (["distill", "--precision", "fp16"], "'fp16' is not one of"),
        (["distill", "--channels", "2"], "'2' is not one of"),
        (["distill", "--size", "big"], "'big' is not a valid integer"),
        (["distill", "--size", "4"], "data.size"),
        (["distill", "--seed", "x"], "'x' is not a valid integer"),
        (["distill", "--time-budget", "5x"], "'5x' is not a duration such as 90s, 20m or 1.5h"),
        (["distill", "--time-budget", "0s"], "'0s' is not a duration"),
        (["distill", "--time-budget", ""], "is not a duration"),
        (["distill", "--recipe", "TINY", "--reuse", "absent"], "absent is not a run folder (no manifest.json)"),
        (["distill", "--recipe", "absent.toml"], "no recipe at absent.toml"),
        (["distill", "--set", "distil.epochs=3"], "unknown key 'distil'. Did you mean 'distill'"),
        (["distill", "--set", "distill.epochs"], "is not key=value"),
        (["distill", "--set", "distill.lr=-1"], "distill.lr"),
        (["distill", "--profile", "tu_accel_150"], "Did you mean 'tu_accel_150k'"),
        (["distill", "--data", "glyph"], "Did you mean 'glyphs'"),
        (["distill", "--data", "folder:/no/such/place"], "/no/such/place"),
        (["distill", "--recipe", "TINY", "--student", "conv5-64"], "unknown backbone 'conv5-64'. Did you mean 'conv4'"),
        (["distill", "--recipe", "TINY", "--teacher", "resnet21"], "unknown backbone 'resnet21'"),
        (["distill", "--recipe", "TINY", "--method", "ce + kdd"], "unknown method 'kdd'. Did you mean 'kd'"),
        (["distill", "--recipe", "TINY", "--method", "ce +"], "method 'ce +': '' is not a term"),
        (["distill", "--recipe", "TINY", "--assistant", "resnet12"], "must be smaller than its teacher"),
        (["distill", "--recipe", "TINY", "--assistant", "conv4-8", "--method", "ce"], "looks at no teacher"),
        (["distill", "--recipe", "TINY", "--method", "ce + kd + dml"], "choose one of them"),
        (["distill", "--recipe", "TINY", "--set", "teacher.compressed=0"], "teacher.compressed"),
        (["distill", "--recipe", "TINY", "--student", "conv4-96"], "holds 149,999: 101,"),
        (
            ["distill", "--recipe", "TINY", "--method", "ce + self", "--teacher", "resnet12:8"],
            "method 'ce + self' wants teacher.backbone=conv4-8, and resnet12:8 was asked for; leave one of them out",
        ),
        (
            ["distill", "--recipe", "TINY", "--method", "dfkd", "--set", "teacher.rotation=0"],
            "wants teacher.rotation=1.0, and 0.0 was asked for",
        ),
        (
            ["distill", "--recipe", "TINY", "--student-weights", "absent.safetensors"],
            "no weights at absent.safetensors",
        ),
        (
            ["distill", "--recipe", "TINY", "--teacher-weights", "absent.safetensors"],
            "no weights at absent.safetensors",
        ),
        (
            ["distill", "--learner", "protonets", "--recipe", "TINY"],
            "unknown learner 'protonets'. Did you mean 'protonet'",
        ),
        (["distill", "--meta", "anill", "--recipe", "TINY"], "unknown learner 'anill'. Did you mean 'anil'"),
        (["distill", "--meta", "anil", "--no-meta"], "--meta says how to fine-tune, --no-meta not to"),
        (["teach", "--learner", "sianese", "--recipe", "TINY"], "Did you mean 'siamese'"),
        (["teach", "--learner", "maml", "--recipe", "TINY", "--set", "teacher.query=16"], "try --set teacher.query=15"),
        (["teach", "--meta", "anil", "--no-meta"], "--meta says how to fine-tune, --no-meta not to"),
        (["teach", "--student", "conv5-8", "--recipe", "TINY"], "unknown backbone 'conv5-8'. Did you mean 'conv4'"),
        (["distill", "--recipe", "TINY", "--set", "distill.schedule=step"], "milestones names no epoch"),
        (["distill", "--recipe", "TINY", "--method", "ce + dfkd"], "leave ce out"),
        (["distill", "--recipe", "TINY", "--assistant", "none", "--method", "ce + takd"], "the assistant is none"),
        (["export", "--int8"], "no run under"),
        (["export", "--run", "."], "is not a run folder"),
        (["export", "--output", "model.tflite"], "--output model.tflite does not end in .onnx"),
        (["export", "--int4"], "--int4"),
        (["verify"], "MODEL"),
        (["verify", "absent.onnx"], "no file at absent.onnx"),
        (["verify", "TINY"], "is not an ONNX file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_can_be_fixed_exits_2_and_says_how(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tiny_recipe: Path,
    arguments: list[str],
    complaint: str,
) -> None:
    code = run(monkeypatch, *(str(tiny_recipe) if word == "TINY" else word for word in arguments))
    error = capsys.readouterr().err
    assert code == 2
    assert complaint in " ".join(error.split())
    assert "Traceback" not in error


def overlapping(folder: Path) -> str:
    shutil.copytree(folder / "train" / "train_0", folder / "test" / "train_0")
    return "1 classes are in both train and test (train_0)"


def emptied(folder: Path) -> str:
    for image in (folder / "val" / "val_2").iterdir():
        image.unlink()
    return "1 empty class folder in"


def linked_to_nothing(folder: Path) -> str:
    image = folder / "val" / "val_2" / "001.png"
    image.unlink()
    image.symlink_to("gone.png")
    return "val/val_2/001.png"


@pytest.mark.parametrize("spoil", [overlapping, emptied, linked_to_nothing], ids=lambda spoil: spoil.__name__)
def test_images_that_cannot_be_trained_on_are_named(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tiny_recipe: Path,
    image_folder: Path,
    spoil: Callable[[Path], str],
) -> None:
    folder = tiny_recipe.parent / "spoilt"
    shutil.copytree(image_folder, folder)
    complaint = spoil(folder)
    assert run(monkeypatch, "distill", "--recipe", str(tiny_recipe), "--data", f"folder:{folder}") == 2
    error = capsys.readouterr().err
    assert complaint in " ".join(error.split())
    assert "Traceback" not in error
    assert not list(Path.cwd().iterdir())


def test_a_loss_that_is_no_number_exits_2_and_says_after_which_step(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiny_recipe: Path
) -> None:
    options = ["--set", "teacher.lr=1e30", "--set", "teacher.clip_norm=0", "--set", "teacher.warmup_epochs=0", "--cpu"]
    assert run(monkeypatch, "teach", "--recipe", str(tiny_recipe), *options) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert re.search(r"stage 'teach' diverged after step \d+: .*; try a lower learning rate than 1e\+30", error)
    assert "Traceback" not in error


def test_nothing_is_left_behind_by_a_refusal(monkeypatch: pytest.MonkeyPatch, tiny_recipe: Path) -> None:
    assert run(monkeypatch, "distill", "--recipe", str(tiny_recipe), "--student", "conv4-96") == 2
    assert not list(Path.cwd().iterdir())


def test_an_unfinished_run_is_not_exported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiny_recipe: Path
) -> None:
    assert run(monkeypatch, "distill", "--recipe", str(tiny_recipe), "--cpu", "--time-budget", "1s") == 75
    assert "Stopped: " in capsys.readouterr().out
    assert run(monkeypatch, "export", "--int8") == 2
    assert "is not finished; to go on: edgekd distill --recipe " in capsys.readouterr().err
    assert not Path("model.onnx").exists()


def test_a_teacher_alone_is_what_distill_goes_on_from(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiny_recipe: Path
) -> None:
    quick = ("--recipe", str(tiny_recipe), "--cpu", "--no-baseline", "--set", "teacher.batches_per_epoch=2")
    learn = ("--learner", "siamese", "--set", "teacher.batch_size=4")
    assert run(monkeypatch, "teach", *quick, *learn, "--run", "taught") == 0
    output = capsys.readouterr().out
    assert "triplet_accuracy" in output
    assert run(monkeypatch, "export", "--run", "taught") == 2
    assert "has a teacher alone; to go on: edgekd distill --recipe " in capsys.readouterr().err
    (following,) = [line.removeprefix("Next: ") for line in output.splitlines() if line.startswith("Next: ")]
    program, *arguments = shlex.split(following)
    before = Run.open(Path("taught")).manifest.stages["teach"]
    assert program == "edgekd"
    assert run(monkeypatch, *arguments) == 0
    assert "Next: edgekd export --int8 --run taught\n" in capsys.readouterr().out
    after = Run.open(Path("taught")).manifest
    assert after.complete
    assert after.stages["teach"] == before


def test_distill_with_the_options_of_teach_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiny_recipe: Path
) -> None:
    options = ("--recipe", str(tiny_recipe), "--cpu", "--no-meta", "--no-baseline", "--no-quantize", "--method", "kd")
    later = ("--student", "conv4-10", "--assistant", "none", "--set", "teacher.epochs=1", "--set", "distill.epochs=1")
    assert run(monkeypatch, "teach", *options, *later) == 0
    (folder,) = Path("runs").iterdir()
    taught = Run.open(folder).manifest.stages["teach"]
    assert run(monkeypatch, "distill", *options, *later) == 0
    stages = Run.open(folder).manifest.stages
    assert (list(stages), stages["teach"]) == (["teach", "distill"], taught)
    assert "conv4-10" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["distill", "teach"])
def test_the_help_names_what_can_be_chosen(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert run(monkeypatch, command, "--help") == 0
    text = " ".join(capsys.readouterr().out.split())
    schedules = get_args(Schedule.model_fields["schedule"].annotation)
    assert f"teacher.schedule=step ({', '.join(schedules)})" in text
    assert f"test.head=euclid ({', '.join(sorted(HEADS))})" in text
    assert "`edgekd backbones`" in text
    assert "`edgekd methods`" in text


def test_a_damaged_image_is_named_and_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiny_recipe: Path, damaged: Path
) -> None:
    arguments = ("distill", "--recipe", str(tiny_recipe), "--data", f"folder:{damaged}", "--cpu")
    assert run(monkeypatch, *arguments) == 2
    error = capsys.readouterr().err
    assert "test_1/003.png" in error
    assert "--skip-bad" in error
    assert not Path("runs").exists()


def test_with_skip_bad_the_whole_chain_works(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiny_recipe: Path, damaged: Path
) -> None:
    data = ("--data", f"folder:{damaged}", "--skip-bad")
    assert run(monkeypatch, "distill", "--recipe", str(tiny_recipe), "--cpu", "--no-baseline", *data) == 0
    output = " ".join(capsys.readouterr().out.split())
    assert "skipped 1 " in output
    assert "test_1/003.png" in output
    assert run(monkeypatch, "export", "--int8") == 0
    protocol = ("--query", "5", "--episodes", "50")
    assert run(monkeypatch, "verify", "model.onnx", *data, *protocol) == 0
    assert "data-fingerprint" in capsys.readouterr().out
    assert run(monkeypatch, "verify", "model.onnx", *data[:2], *protocol) == 2
    assert "test_1/003.png" in capsys.readouterr().err


def test_a_process_of_its_own_prints_no_traceback() -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "edgekd", "distill", "--profile", "nothing"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("Error: unknown profile 'nothing'")
    assert len(done.stderr.splitlines()) == 1
