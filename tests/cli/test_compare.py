"""`edgekd compare` as a user runs it: tables that are whole off a terminal, JSON, one page, and what it refuses."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from edgekd.cli import main
from edgekd.manifest import AccuracyRow, DataRef, StageResult
from edgekd.recipe import load_recipe
from edgekd.run import Run

SUMS = {"ce": [0.50, 0.51, 0.52], "ce + 0.3 kd + 0.5 calibrated_mse": [0.60, 0.62, 0.61]}


def accuracy(mean: float, shot: int) -> AccuracyRow:
    return AccuracyRow(
        dataset="glyphs", split="test", way=5, shot=shot, query=15, episodes=100, head="cosine", engine="torch",
        mean=mean, ci95=0.01,
    )  # fmt: skip


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Three seeds of two methods, each with a teacher's and a student's stage and a learning curve."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)
    data = DataRef(spec="glyphs", split="test", fingerprint="f" * 64, n_classes=20, novel=True, seed=0)
    for number, (method, means) in enumerate(SUMS.items()):
        for seed, mean in enumerate(means):
            recipe = load_recipe(None, [f"seed={seed}", f'distill.method="{method}"'])
            run = Run.create(tmp_path / f"m{number}s{seed}", recipe, data, {})
            for stage, value in (("teach", 0.8), ("distill", mean)):
                (run.folder / stage).write_text(f"{stage} {value}")
                rows = (accuracy(value, 1), accuracy(value + 0.1, 5))
                result = StageResult(
                    stage=stage, backbone="conv4-64", parameters=121_152, weight_bytes=4, accuracy=rows
                )
                run.finish_stage(stage, stage, 1.0, result)
                line = {"stage": stage, "loss": 1.0, "terms": {}, "lr": 0.1, "images_per_s": 9.0}
                for epoch in (1, 2):
                    run.append_metrics(line | {"step": epoch, "epoch": epoch, "val_accuracy": value * epoch / 2})
            run.finish(())
    return [f"m{number}s{seed}" for number in range(2) for seed in range(3)]


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["edgekd", "compare", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


def test_tables_are_whole_off_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folders: list[str]
) -> None:
    assert run(monkeypatch, *folders) == 0
    output = capsys.readouterr().out
    assert "…" not in output
    lines = [" ".join(line.split()) for line in output.splitlines()]
    assert "ce distill conv4-64 121,152 51.00 ± 1.00 (n = 3) 61.00 ± 1.00 (n = 3)" in lines
    method = "ce + 0.3 kd + 0.5 calibrated_mse"
    assert f"{method} distill conv4-64 121,152 61.00 ± 1.00 (n = 3) 71.00 ± 1.00 (n = 3)" in lines
    assert "The recipes differ in distill.method alone." in lines
    assert "Beyond noise (Holm-corrected p < 0.05): 2 of 2 differences" in lines
    assert f"{method} ce distill, 5-way 1-shot +10.00 welch < 0.001 < 0.001 yes" in lines
    assert not [line for line in lines if " teach, " in line]  # one teacher for both
    assert "welch: Welch's t over the seeds" in lines


def test_a_narrow_console_is_obeyed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folders: list[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert run(monkeypatch, *folders, "--stage", "distill") == 0
    table = capsys.readouterr().out.partition("One run: ")[0]
    assert max(map(len, table.splitlines())) <= 100


def test_json_and_a_page(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folders: list[str], tmp_path: Path
) -> None:
    assert run(monkeypatch, *folders, "--json", "-", "--html", "page.html", "--against", "m0s1") == 0
    tree = json.loads(capsys.readouterr().out)
    assert [setting["seeds"] for setting in tree["settings"]] == [[0, 1, 2], [0, 1, 2]]
    assert {difference["second"] for difference in tree["differences"]} == {"ce"}
    html = Path("page.html").read_text()
    assert html.count("<svg") == 2
    assert "61.00 ± 1.00 (n = 3)" in html
    assert "<script" not in html
    assert re.findall(r"url\((?!#)", html) == []
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids)) > 20
    assert run(monkeypatch, *folders, "--html", "again.html", "--against", "m0s1") == 0
    assert Path("again.html").read_text() == html


def test_recipes_that_differ_in_several_keys_are_set_side_by_side(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folders: list[str]
) -> None:
    path = Path("m1s0/recipe.toml")
    path.write_text(path.read_text().replace("[distill]\nepochs = 6.0", "[distill]\nepochs = 9.0"))
    assert run(monkeypatch, "m0s0", "m1s0", "--stage", "distill") == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "distill.epochs 6 9" in lines or "distill.epochs 6.0 9.0" in lines
    assert "z: z on the two intervals; the spread of seeds is not in it" in lines


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "Missing argument 'RUN...'"),
        (["."], ". is not a run folder (no manifest.json)"),
        (["m0s0", "absent"], "absent is not a run folder"),
        (["m0s0", "m0s0"], "m0s0 is named twice"),
        (["m0s0", "copy"], "m0s0 and copy have one recipe and one seed, 0"),
        (["m0s0", "--stage", "distil"], "unknown stage 'distil'. Did you mean 'distill'"),
        (["m0s0", "m1s0", "--against", "m0s1"], "--against m0s1 is none of the runs"),
        (["m0s0", "--json", "m0s0/manifest.json"], "m0s0/manifest.json belongs to a run"),
        (["m0s0", "--json", "x", "--html", "x"], "--json and --html would both write to x"),
        (["m0s0", "--html", "m0s0"], "cannot write m0s0: it is a folder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_exits_2(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    folders: list[str],
    arguments: list[str],
    complaint: str,
) -> None:
    Run.create(Path("copy"), Run.open(Path("m0s0")).recipe, Run.open(Path("m0s0")).manifest.data, {})
    before = Path("m0s0/manifest.json").read_bytes()
    assert run(monkeypatch, *arguments) == 2
    assert complaint in " ".join(capsys.readouterr().err.split())
    assert Path("m0s0/manifest.json").read_bytes() == before
