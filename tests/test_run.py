from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgekd.errors import RunError, StorageError
from edgekd.manifest import DataRef, StageResult
from edgekd.recipe import Recipe, load_recipe
from edgekd.run import Run, latest_run
from edgekd.versions import library_versions

DATA = DataRef(spec="glyphs", split="test", fingerprint="f" * 64, n_classes=5, novel=True, seed=0)
RESULT = StageResult(stage="teach", backbone="resnet12:4", parameters=1, weight_bytes=4)

HOLD_LOCK = """
import sys
from pathlib import Path
from edgekd.run import Run
with Run.open(Path(sys.argv[1])).locked():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "runs" / "one", load_recipe(None, ["seed=3"]), DATA, {"numpy": "2"})


def finish(run: Run, stage: str = "teach") -> Path:
    file = run.folder / f"{stage}.safetensors"
    file.write_bytes(b"weights")
    run.finish_stage(stage, file.name, 1.5, RESULT)
    return file


def test_what_is_created_can_be_opened(run: Run) -> None:
    finish(run)
    run.finish((0.25, -1.0))
    again = Run.open(run.folder)
    assert again.recipe == run.recipe
    assert again.manifest == run.manifest
    assert (again.manifest.seed, again.manifest.versions, again.manifest.data) == (3, {"numpy": "2"}, DATA)
    assert again.manifest.complete
    assert again.manifest.base_mean == (0.25, -1.0)
    assert again.stage_file("teach").read_bytes() == b"weights"


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a run folder"):
        Run.open(tmp_path)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("manifest.json", b""),
        ("manifest.json", b'{"format": 1, "recipe'),
        ("manifest.json", b'{"format": 2}'),
        ("manifest.json", b"\xff\xfe"),
        ("recipe.toml", b"[distill\n"),
        ("recipe.toml", b"[distil]\nepochs = 1\n"),
        ("recipe.toml", None),
    ],
)
def test_damage_is_named(run: Run, file: str, content: bytes | None) -> None:
    path = run.folder / file
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(RunError, match=rf"is damaged[:( ].*{'recipe' if file == 'recipe.toml' else ''}.*restore it"):
        Run.open(run.folder)


def test_a_folder_is_made_where_none_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        Run.create(tmp_path / "file" / "run", Recipe(), DATA, {})


def test_other_recipes_and_images_are_refused(run: Run) -> None:
    run.require_recipe(load_recipe(None, ["seed=3"]))
    run.require_data("f" * 64)
    with pytest.raises(RunError, match=r"another recipe: meta\.way, seed differ"):
        run.require_recipe(load_recipe(None, ["meta.way=3"]))
    with pytest.raises(RunError, match="other images of glyphs"):
        run.require_data("0" * 64)


def test_other_images_to_distill_on_are_refused(tmp_path: Path) -> None:
    recipe = load_recipe(None, ["distill.images=folder:/faces"])
    run = Run.create(tmp_path / "run", recipe, DATA, {}, "a" * 64)
    Run.open(run.folder).require_unlabelled("a" * 64)
    with pytest.raises(RunError, match=r"other images of folder:/faces \(distill.images\)"):
        run.require_unlabelled("b" * 64)


def test_one_process_at_a_time(run: Run) -> None:
    command = [sys.executable, "-c", HOLD_LOCK, str(run.folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunError, match="another process is training"), run.locked():
            pass
        holder.kill()  # a killed process holds no lock
        holder.wait()
    with run.locked(), pytest.raises(RunError, match="another process"), Run.open(run.folder).locked():
        pass


def test_a_lock_that_cannot_be_made(run: Run) -> None:
    (run.folder / "lock").mkdir()
    with pytest.raises(StorageError, match=r"cannot write .*lock"), run.locked():
        pass


def test_a_stage_that_is_not_finished(run: Run) -> None:
    with pytest.raises(RunError, match="no finished stage 'teach'"):
        run.stage_file("teach")


@pytest.mark.parametrize("content", [b"weightz", b"", None], ids=["altered", "emptied", "deleted"])
def test_a_finished_file_that_changed(run: Run, content: bytes | None) -> None:
    path = finish(run)
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(RunError, match=r"teach\.safetensors is missing or not the file that stage 'teach' wrote"):
        Run.open(run.folder).stage_file("teach")


def test_the_latest_run_is_the_one_written_last(run: Run) -> None:
    root = run.folder.parent
    other = Run.create(root / "another", Recipe(), DATA, {})
    os.utime(run.folder / "manifest.json", (1, 1))
    assert latest_run(root).folder == other.folder
    os.utime(other.folder / "manifest.json", (0, 0))
    assert latest_run(root).folder == run.folder


def test_no_run_at_all(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run under"):
        latest_run(tmp_path / "runs")


def test_metrics_survive_a_line_cut_off(run: Run) -> None:
    assert run.metrics() == []
    lines = [{"stage": "teach", "step": step, "loss": 0.5} for step in (5, 10)]
    for line in lines:
        run.append_metrics(line)
    with run.metrics_path.open("a") as stream:
        stream.write('{"stage": "teach", "st')
    assert run.metrics() == lines
    run.drop_metrics_after("teach", 5)
    assert run.metrics() == lines[:1]
    run.append_metrics(lines[1])
    assert run.metrics() == lines


def test_dropping_lines_leaves_other_stages(run: Run) -> None:
    for stage in ("teach", "distill"):
        run.append_metrics({"stage": stage, "step": 8})
    run.drop_metrics_after("distill", 7)
    assert [line["stage"] for line in run.metrics()] == ["teach"]


def test_damaged_metrics_are_named(run: Run) -> None:
    run.metrics_path.write_text("{\nnot json\n")
    with pytest.raises(RunError, match=r"metrics\.jsonl is damaged"):
        run.metrics()


def test_metrics_that_cannot_be_written(run: Run) -> None:
    run.metrics_path.mkdir()
    with pytest.raises(StorageError, match=r"cannot write .*metrics\.jsonl"):
        run.append_metrics({"stage": "teach", "step": 1})


def test_versions_of_what_is_installed() -> None:
    versions = library_versions("numpy", "no-such-distribution")
    assert versions.keys() == {"numpy", "python"}
    assert versions["python"].startswith("3.")
