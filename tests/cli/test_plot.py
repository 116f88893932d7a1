"""`edgekd plot` on a closed set and on novel classes."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from edgekd.cli import main

SHORT = ("--cpu", "--no-meta", "--set", "teacher.epochs=1", "--set", "distill.epochs=1", "--set", "test.episodes=20")


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["edgekd", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


def test_a_closed_set_from_training_to_the_page(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    tiny_recipe: Path,
    closed_folder: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)
    train = ("distill", "--recipe", str(tiny_recipe), "--data", f"folder:{closed_folder}", *SHORT, "--no-quantize")
    assert run(monkeypatch, *train, "--run", "one") == 0
    output = capsys.readouterr().out
    assert "by its head" in output
    assert re.search(r"1-shot %\s+5-shot %\s+accuracy %\s+macro F1 %", output)
    assert "Next: edgekd compare one ANOTHER_RUN" in output
    assert "By its own head" in Path("one/report.html").read_text()

    assert run(monkeypatch, "plot", "one") == 0
    html = Path("one/plots.html").read_text()
    assert html.count("<svg") == 2
    assert html.count("by its own head, on 50 test images") == 3
    assert "The NLL is least at T = " in html or "No temperature is best: the NLL still falls" in html

    assert run(monkeypatch, "compare", "one") == 0
    assert "one, distill  one, scratch  accuracy" in capsys.readouterr().out
    assert run(monkeypatch, "export", "--run", "one") == 2
    assert "--set quantize.enabled=true --run ANOTHER --teacher-weights one/teacher" in capsys.readouterr().err


def test_novel_classes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, tiny_recipe: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "distill", "--recipe", str(tiny_recipe), *SHORT, "--ptq", "--run", "one") == 0
    assert "by its head" not in capsys.readouterr().out
    assert run(monkeypatch, "plot", "one", "--stage", "teach", "--stage", "student", "--stage", "quantize") == 0
    html = Path("one/plots.html").read_text()
    assert html.count("6-way 5-shot by “cosine”, one draw of enrolled images, 42 others asked about") == 3
    assert "Their classes are novel" in html
    for arguments, complaint in (
        (("one", "--stage", "connect"), "unknown stage with a network 'connect'"),
        (("one", "--stage", "meta"), "no finished stage 'meta'"),
        (("absent",), "absent is not a run folder"),
        (("one", "--output", "one"), "cannot write one: it is a folder"),
        (("one", "--seed", "-1"), "-1 is not in the range"),
    ):
        assert run(monkeypatch, "plot", *arguments) == 2
        assert complaint in " ".join(capsys.readouterr().err.split())
    Path("one/teacher.safetensors").write_bytes(b"damaged")
    assert run(monkeypatch, "plot", "one") == 2
    assert "not the file that stage 'teach' wrote" in capsys.readouterr().err


def test_an_assistant_and_a_head_are_drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_recipe: Path) -> None:
    monkeypatch.chdir(tmp_path)
    method = ("--method", "feature_mse", "--assistant", "conv4-10", "--no-quantize", "--no-baseline")
    epochs = ("--set", "assistant.epochs=1", "--set", "head.epochs=1")
    assert run(monkeypatch, "distill", "--recipe", str(tiny_recipe), *SHORT, *method, *epochs, "--run", "one") == 0
    assert run(monkeypatch, "plot", "one", "--stage", "assist", "--stage", "head") == 0
    html = Path("one/plots.html").read_text()
    assert all(f"{stage}: 6-way 5-shot by" in html for stage in ("assist", "head"))
