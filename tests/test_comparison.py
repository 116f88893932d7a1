"""What is said of runs side by side, on run folders that were never trained."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from scipy import stats

from edgekd.comparison import Comparison, compare_runs
from edgekd.errors import UsageError
from edgekd.manifest import AccuracyRow, Classification, DataRef, OwnMeasure, StageResult
from edgekd.recipe import load_recipe
from edgekd.report.wording import difference_cells
from edgekd.run import Run

DATA = DataRef(spec="mnist:/d", split="test", fingerprint="f" * 64, n_classes=10, novel=False, seed=0)


def row(mean: float, ci95: float = 0.002, shot: int = 1, **changes: object) -> AccuracyRow:
    first = AccuracyRow(
        dataset="mnist", split="test", way=5, shot=shot, query=15, episodes=100, head="cosine", engine="torch",
        mean=mean, ci95=ci95,
    )  # fmt: skip
    return first.model_copy(update=changes)


def by_head(accuracy: float, ci95: float = 0.004) -> Classification:
    shares = dict.fromkeys(
        ("macro_f1", "macro_precision", "macro_recall", "micro_f1", "micro_precision", "micro_recall"), accuracy
    )
    return Classification(
        dataset="mnist", split="test", images=1000, classes=10, accuracy=accuracy, ci95=ci95, **shares
    )


def make(
    folder: Path,
    scores: Mapping[str, Sequence[AccuracyRow | Classification | OwnMeasure]],
    *assignments: str,
    data: DataRef = DATA,
    complete: bool = True,
) -> Run:
    run = Run.create(folder, load_recipe(None, assignments), data, {"torch": "2"})
    for stage, found in scores.items():
        (folder / f"{stage}.safetensors").write_text(f"{stage} {found if stage != 'distill' else folder}")
        heads = [item for item in found if isinstance(item, Classification)]
        result = StageResult(
            stage=stage,
            backbone="conv4-8",
            parameters=1000,
            weight_bytes=4000,
            accuracy=tuple(item for item in found if isinstance(item, AccuracyRow)),
            classification=heads[0] if heads else None,
            measures=tuple(item for item in found if isinstance(item, OwnMeasure)),
        )
        run.finish_stage(stage, f"{stage}.safetensors", 1.0, result)
    if complete:
        run.finish(())
    return run


def seeds(root: Path, name: str, values: Sequence[float], *assignments: str) -> list[Run]:
    return [
        make(root / f"{name}-{seed}", {"distill": [row(value)]}, f"seed={seed}", *assignments)
        for seed, value in enumerate(values)
    ]


def test_one_run_a_setting_is_compared_by_its_intervals(tmp_path: Path) -> None:
    a = make(tmp_path / "a", {"distill": [row(0.50, 0.004), row(0.70, 0.003, shot=5)]}, "distill.method=ce")
    b = make(tmp_path / "b", {"distill": [row(0.51, 0.004), row(0.71, 0.003, shot=5)]}, "distill.method=ce + kd")
    found = compare_runs([a, b])
    assert [setting.name for setting in found.settings] == ["ce", "ce + kd"]
    assert found.settings[1].choices == {"distill.method": "ce + kd"}
    assert found.measures == ["5-way 1-shot", "5-way 5-shot"]
    one, five = found.differences
    assert (one.first, one.second, one.test) == ("ce + kd", "ce", "z")
    assert one.difference == pytest.approx(0.01)
    p = [2 * stats.norm.sf(0.01 / math.hypot(ci95, ci95) * 1.96) for ci95 in (0.004, 0.003)]
    assert [one.p, five.p] == pytest.approx(p)
    assert five.p_holm == pytest.approx(2 * p[1])
    assert one.p_holm == pytest.approx(max(2 * p[1], p[0]))
    assert one.beyond_noise
    assert found.data == "mnist (test, 10 classes)"


def test_a_learners_own_measure_is_compared_beside_the_others(tmp_path: Path) -> None:
    own = OwnMeasure(name="triplet_accuracy", dataset="d", split="test", trials=10_000, mean=0.9, ci95=0.006)
    a = make(tmp_path / "a", {"teach": [row(0.5), own]}, "teacher.lr=1")
    b = make(tmp_path / "b", {"teach": [row(0.5), own.model_copy(update={"mean": 0.95})]}, "teacher.lr=2")
    (tmp_path / "b" / "teach.safetensors").write_text("others")
    b.finish_stage("teach", "teach.safetensors", 1.0, b.manifest.stages["teach"].result)
    found = compare_runs([a, b])
    assert found.measures == ["triplet accuracy", "5-way 1-shot"]
    (difference,) = [row for row in found.differences if row.measure == "triplet accuracy"]
    assert difference.difference == pytest.approx(0.05)
    p = 2 * stats.norm.sf(0.05 / math.hypot(0.006, 0.006) * 1.96)
    assert difference.p == pytest.approx(p)


def test_seeds_are_repetitions_of_one_setting(tmp_path: Path) -> None:
    plain, taught = [0.50, 0.52, 0.51], [0.56, 0.55, 0.58]
    runs = seeds(tmp_path, "ce", plain, "distill.method=ce") + seeds(tmp_path, "kd", taught, "distill.method=kd")
    found = compare_runs(runs)
    assert [(setting.name, setting.seeds) for setting in found.settings] == [("ce", (0, 1, 2)), ("kd", (0, 1, 2))]
    score = found.scores[0]
    assert score.mean == pytest.approx(0.51)
    assert score.std == pytest.approx(0.01)
    assert score.values == tuple(plain)
    assert score.error == pytest.approx(0.002 / 1.96 / math.sqrt(3))
    (difference,) = found.differences
    assert difference.test == "welch"
    assert difference.p == pytest.approx(stats.ttest_ind(plain, taught, equal_var=False).pvalue)
    assert difference.p_holm == difference.p


def test_a_single_run_beside_seeds_is_compared_by_intervals(tmp_path: Path) -> None:
    runs = [*seeds(tmp_path, "ce", [0.50, 0.52], "distill.method=ce"), *seeds(tmp_path, "kd", [0.6], "distill.lr=1")]
    (difference,) = compare_runs(runs).differences
    assert difference.test == "z"
    z = (0.6 - 0.51) / math.hypot(0.002 / 1.96, 0.002 / 1.96 / math.sqrt(2))
    assert difference.p == pytest.approx(2 * stats.norm.sf(z))


def test_a_teacher_for_each_seed_does_not_part_them(tmp_path: Path) -> None:
    runs = [
        make(tmp_path / str(seed), {"distill": [row(0.5)]}, f"seed={seed}", f"teacher.weights=/teachers/{seed}.safe")
        for seed in (0, 1)
    ]
    found = compare_runs(runs)
    assert found.settings[0].name == "0 and 1 more"
    assert found.differences == ()
    assert "a teacher file of its own" in found.notes[0]
    other = make(tmp_path / "x", {"distill": [row(0.6)]}, "seed=1", "teacher.weights=/teachers/x.safe")
    found = compare_runs([runs[1], other])  # one seed, two teachers: two settings
    assert [setting.choices for setting in found.settings] == [
        {"teacher.weights": "/teachers/1.safe"},
        {"teacher.weights": "/teachers/x.safe"},
    ]


def test_distilled_is_compared_with_scratch_of_the_same_setting(tmp_path: Path) -> None:
    scores = {"teach": [row(0.9)], "scratch": [row(0.50)], "distill": [row(0.55)]}
    a = make(tmp_path / "a", scores, "distill.lr=0.1")
    b = make(tmp_path / "b", scores, "distill.lr=0.2", "meta.enabled=false")
    found = compare_runs([a, b])
    within = [d for d in found.differences if d.first == d.second]
    assert [(d.first, d.first_stage, d.second_stage) for d in within] == [
        ("a", "distill", "scratch"),
        ("b", "distill", "scratch"),
    ]
    assert all(d.difference == pytest.approx(0.05) and d.beyond_noise for d in within)
    (across,) = [d for d in found.differences if d.first != d.second]  # the same teacher and student from scratch
    assert (across.first_stage, across.p, across.beyond_noise) == ("distill", 1.0, False)
    assert found.settings[0].choices == {"distill.lr": "0.1", "meta.enabled": "True"}
    assert {score.stage for score in compare_runs([a, b], stages=["distill"]).scores} == {"distill"}


def test_against_one_setting(tmp_path: Path) -> None:
    runs = [
        make(tmp_path / name, {"distill": [row(0.5)]}, f"distill.lr={lr}")
        for name, lr in zip("abc", (1, 2, 3), strict=True)
    ]
    assert len(compare_runs(runs).differences) == 3
    found = compare_runs(runs, against=runs[1])
    assert [(d.first, d.second) for d in found.differences] == [("1.0", "2.0"), ("3.0", "2.0")]


def test_the_head_of_a_closed_set_is_a_measure(tmp_path: Path) -> None:
    a = make(tmp_path / "a", {"distill": [row(0.9), by_head(0.95)]}, "distill.lr=1")
    b = make(tmp_path / "b", {"distill": [row(0.9), by_head(0.97)]}, "distill.lr=2")
    found = compare_runs([a, b])
    assert set(found.measures) == {"accuracy", "5-way 1-shot"}
    difference = next(d for d in found.differences if d.measure == "accuracy")
    assert difference.difference == pytest.approx(0.02)
    assert difference.p == pytest.approx(2 * stats.norm.sf(0.02 / math.hypot(0.004, 0.004) * 1.96))


def test_other_protocols_are_told_apart_and_flagged(tmp_path: Path) -> None:
    a = make(tmp_path / "a", {"distill": [row(0.9)]}, "distill.lr=1")
    b = make(tmp_path / "b", {"distill": [row(0.9, query=5, head="euclid")]}, "distill.lr=2")
    found = compare_runs([a, b])
    assert set(found.measures) == {"5-way 1-shot, head cosine, 15 queries", "5-way 1-shot, head euclid, 5 queries"}
    assert found.differences == ()
    assert any("was not measured by" in note and "another test protocol" in note for note in found.notes)


def test_what_is_not_finished_is_said(tmp_path: Path) -> None:
    a = make(tmp_path / "a", {"teach": [row(0.9)], "distill": [row(0.5)]})
    b = make(tmp_path / "b", {"teach": [row(0.9)]}, "seed=1", "distill.lr=1", complete=False)
    c = make(tmp_path / "c", {}, "distill.lr=2", complete=False)
    found = compare_runs([a, b, c])
    assert [
        note for note in found.notes if note.startswith("b is not finished: it has teach; to go on: edgekd distill")
    ]
    assert [note for note in found.notes if note.startswith("c is not finished: it has no stage")]
    with pytest.raises(UsageError, match="nothing was measured yet: no finished stage in c"):
        compare_runs([c])


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    a = make(tmp_path / "a", {"distill": [row(0.9)]})
    again = make(tmp_path / "again", {"distill": [row(0.9)]})
    foreign = make(
        tmp_path / "other", {"distill": [row(0.9)]}, "seed=1",
        data=DATA.model_copy(update={"spec": "glyphs", "fingerprint": "0" * 64}),
    )  # fmt: skip
    with pytest.raises(UsageError, match="a is named twice"):
        compare_runs([a, Run.open(tmp_path / "again" / ".." / "a")])
    with pytest.raises(UsageError, match="one recipe and one seed, 0: a run repeated"):
        compare_runs([a, again])
    with pytest.raises(UsageError, match=r"mnist:/d \(test images ffffffffffff\) and .* on glyphs \(000000000000\)"):
        compare_runs([a, foreign])
    with pytest.raises(UsageError, match=r"unknown stage 'distil'\. Did you mean 'distill'"):
        compare_runs([a], stages=["distil"])


def test_folders_of_one_name_are_told_apart(tmp_path: Path) -> None:
    runs = [
        make(tmp_path / place / "run", {"distill": [row(0.9)]}, f"distill.lr={lr}", f"distill.epochs={lr}")
        for place, lr in (("x", 1), ("y", 2))
    ]
    assert [setting.name for setting in compare_runs(runs).settings] == [str(run.folder) for run in runs]


def test_it_is_whole_as_json(tmp_path: Path) -> None:
    found = compare_runs(seeds(tmp_path, "a", [0.5, 0.6]) + seeds(tmp_path, "b", [0.7], "distill.lr=1"))
    assert Comparison.model_validate_json(found.model_dump_json()) == found


def test_a_student_with_its_head_trained_later_is_compared_with_one_taught_at_once(tmp_path: Path) -> None:
    kd = make(tmp_path / "kd", {"distill": [by_head(0.90), row(0.5)]}, "distill.method=kd")
    two: Mapping[str, Sequence[AccuracyRow | Classification | OwnMeasure]] = {
        "scratch": [by_head(0.8), row(0.3)],
        "distill": [row(0.6)],
        "head": [by_head(0.70), row(0.6)],
    }
    mse = make(tmp_path / "mse", two, "distill.method=feature_mse")
    found = compare_runs([kd, mse])
    across = {d.measure: d for d in found.differences if d.first != d.second}
    assert {measure: (d.first_stage, d.second_stage) for measure, d in across.items()} == {
        "accuracy": ("head", "distill"),
        "5-way 1-shot": ("head", "distill"),
    }
    assert across["accuracy"].difference == pytest.approx(-0.2)
    assert across["accuracy"].beyond_noise
    within = [d for d in found.differences if d.first == d.second]
    assert {d.measure: (d.first_stage, d.second_stage) for d in within} == {
        "accuracy": ("head", "scratch"),
        "5-way 1-shot": ("head", "scratch"),
    }
    assert found.notes == ()
    assert "head and distill, accuracy" in difference_cells(across["accuracy"])


def test_two_methods_without_labels_are_compared_at_both_phases(tmp_path: Path) -> None:
    runs = [
        make(tmp_path / name, {"distill": [row(0.6)], "head": [by_head(0.7, name_ci), row(0.6)]}, f"distill.lr={name}")
        for name, name_ci in (("1", 0.004), ("2", 0.005))
    ]
    stages = [(d.first_stage, d.second_stage, d.measure) for d in compare_runs(runs).differences]
    assert ("distill", "distill", "5-way 1-shot") in stages
    assert ("head", "head", "accuracy") in stages
    assert all(first == second for first, second, _ in stages)


def test_a_student_without_any_head_is_said_to_have_none(tmp_path: Path) -> None:
    kd = make(tmp_path / "kd", {"distill": [by_head(0.9), row(0.5)]}, "distill.method=kd")
    bare = make(tmp_path / "bare", {"distill": [row(0.6)]}, "distill.method=feature_mse")
    assert compare_runs([kd, bare]).notes == (
        "feature_mse: distill was not measured by accuracy: no head was trained there",
    )
