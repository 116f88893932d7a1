"""A device whose memory runs out above a size: the same batch in parts, and the same step where images stand alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgekd.distill.engine import Batch, Stage, TrainingError, fit
from edgekd.distill.memory import parts_of, ran_out, remember, rows_in
from edgekd.distill.methods import Outputs, Samples
from edgekd.distill.seeding import generator
from edgekd.distill.session import Session, Silent, Stopped, open_session
from edgekd.manifest import DataRef
from edgekd.recipe import Recipe, Schedule
from edgekd.run import Run

DATA = DataRef(spec="glyphs", split="test", fingerprint="0" * 64, n_classes=5, novel=True, seed=0)
BATCH = 16
FULL = "CUDA out of memory. Tried to allocate 20.00 GiB"


class Small(nn.Module):
    """A regression whose device holds `holds` rows at once; it fails in forward or, as most do, in backward."""

    def __init__(self, holds: int = BATCH, *, norm: bool = False, late: bool = False) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.first = nn.Linear(4, 8)
        self.norm = nn.BatchNorm1d(8) if norm else nn.Identity()
        self.last = nn.Linear(8, 1)
        self.holds, self.late, self.sizes = holds, late, list[int]()

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        self.sizes.append(len(x))
        hidden = self.norm(self.first(x))
        if len(x) > self.holds and not self.late:
            raise torch.OutOfMemoryError(FULL)
        loss = (self.last(hidden.relu()) - y).square().mean()
        if len(x) > self.holds:
            loss.register_hook(full)
        return loss, {"mse": loss}


def full(_gradient: Tensor) -> None:
    raise torch.OutOfMemoryError(FULL)


class Notes(Silent):
    def __init__(self, stop_at: int = -1) -> None:
        self.texts, self.left, self.session = list[str](), stop_at, None

    def note(self, text: str) -> None:
        self.texts.append(text)

    def step(self, images: int) -> None:
        self.left -= 1
        if self.left == 0 and self.session:
            self.session.deadline.signalled = "enough"


def batch(step: int) -> Batch:
    x = torch.randn(BATCH, 4, generator=generator(0, "batch", step))
    return {"x": x, "y": x.sum(1, keepdim=True)}


def stage(task: nn.Module, draw: Callable[[int], Batch] = batch, unit: int = 1) -> Stage:
    return Stage("teach", task, draw, Schedule(epochs=2, lr=0.01, optimizer="sgd"), 5, BATCH, unit_images=unit)


def train(folder: Path, task: nn.Module, reporter: Notes, unit: int = 1) -> Run:
    run = Run.create(folder, Recipe(), DATA, {}) if not folder.exists() else Run.open(folder)
    session = open_session("fp32", 0, None, reporter, cpu=True)
    reporter.session = session  # type: ignore[assignment]
    fit(stage(task, unit=unit), run, session)
    return run


@pytest.mark.parametrize("late", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize(("holds", "parts"), [(8, 2), (7, 4), (1, 16)])
def test_the_batch_goes_on_in_parts_with_a_notice_and_the_same_steps(
    tmp_path: Path, holds: int, parts: int, *, late: bool
) -> None:
    whole, halved, notes = Small(), Small(holds, late=late), Notes()
    lines = train(tmp_path / "whole", whole, Notes()).metrics()
    found = train(tmp_path / "halved", halved, notes).metrics()
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(halved.state_dict()[name], value, rtol=1e-5, atol=1e-6, msg=name)
    assert [line["step"] for line in found] == [line["step"] for line in lines]
    for line, other in zip(lines, found, strict=True):
        assert other["loss"] == pytest.approx(line["loss"], rel=1e-5)
        assert other["terms"]["mse"] == pytest.approx(line["terms"]["mse"], rel=1e-5)
    assert [f"in {2**n} parts of {BATCH // 2**n}" in text for n, text in enumerate(notes.texts, 1)] == [True] * len(
        notes.texts
    )
    assert 2 ** len(notes.texts) == parts
    assert "stage 'teach': the memory of cpu ran out at step 0" in notes.texts[0]
    assert "BatchNorm statistics" in notes.texts[0]
    assert set(halved.sizes[-2 * parts :]) == {BATCH // parts}, "the parts found are kept for all later steps"


def test_a_failed_step_is_not_counted_by_batchnorm(tmp_path: Path) -> None:
    task = Small(8, norm=True, late=True)
    train(tmp_path / "run", task, Notes())
    assert isinstance(task.norm, nn.BatchNorm1d)
    assert int(task.norm.num_batches_tracked) == 2 * 10  # type: ignore[arg-type]


def test_the_first_steps_statistics_are_those_of_two_halves(tmp_path: Path) -> None:
    task = Small(8, norm=True)
    whole = Stage("teach", task, batch, Schedule(epochs=0.2, lr=1e-9, optimizer="sgd", weight_decay=0), 5, BATCH)
    fit(whole, Run.create(tmp_path / "run", Recipe(), DATA, {}), open_session("fp32", 0, cpu=True))
    hidden = Small(norm=True).first(batch(0)["x"]).detach()
    mean = torch.zeros(8)
    for half in hidden.split(8):
        mean = 0.9 * mean + 0.1 * half.mean(0)
    assert isinstance(task.norm, nn.BatchNorm1d)
    torch.testing.assert_close(task.norm.running_mean, mean)


def test_a_resumed_run_begins_in_the_parts_it_ended_in(tmp_path: Path) -> None:
    whole, notes = Small(4), Notes()
    train(tmp_path / "whole", whole, notes)
    stopping = Notes(stop_at=3)
    with pytest.raises(Stopped):
        train(tmp_path / "parts", Small(4), stopping)
    resumed, later = Small(4), Notes()
    train(tmp_path / "parts", resumed, later)
    assert (len(notes.texts), len(stopping.texts), len(later.texts)) == (2, 2, 0)
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in resumed.state_dict().items())


def test_units_are_never_cut(tmp_path: Path) -> None:
    task, notes = Small(8), Notes()
    train(tmp_path / "run", task, notes, unit=4)
    assert set(task.sizes) == {16, 8}
    with pytest.raises(TrainingError, match=r"ran out at step 0; try --set teacher\.batch_size=32, or a smaller"):
        train(tmp_path / "too-small", Small(3), Notes(), unit=4)


def test_memory_that_runs_out_elsewhere_is_said_in_one_line(tmp_path: Path) -> None:
    def draw(step: int) -> Batch:
        raise torch.OutOfMemoryError(FULL)

    run, session = Run.create(tmp_path / "run", Recipe(), DATA, {}), open_session("fp32", 0, cpu=True)
    with pytest.raises(TrainingError, match=r"stage 'teach': the memory of cpu ran out at step 0; try --set teacher"):
        fit(stage(Small(), draw), run, session)


def test_of_several_processes_none_halves_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, session = Run.create(tmp_path / "run", Recipe(), DATA, {}), open_session("fp32", 0, cpu=True)
    monkeypatch.setattr(Session, "world", 2)
    monkeypatch.setattr(Session, "share", lambda _self, value: value)
    with pytest.raises(TrainingError, match="ran out at step 0"):
        fit(stage(Small(8)), run, session)


def test_other_errors_go_their_way(tmp_path: Path) -> None:
    def draw(step: int) -> Batch:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    run, session = Run.create(tmp_path / "run", Recipe(), DATA, {}), open_session("fp32", 0, cpu=True)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        fit(stage(Small(), draw), run, session)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError(FULL), True),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
    ],
)
def test_which_errors_mean_memory(error: RuntimeError, *, expected: bool) -> None:
    assert ran_out(error) == expected


def test_parts_hold_each_row_of_every_tensor_once() -> None:
    maps = {1: torch.randn(10, 2, 3, 3)}
    outputs = Outputs(torch.randn(10, 4), torch.randn(10, 5), maps)
    samples = Samples(torch.arange(10), torch.arange(10) + 100, 0.25)
    whole = {"images": torch.randn(10, 3, 8, 8), "samples": samples, "teacher": outputs}
    assert rows_in(whole) == 10
    found = list(parts_of(whole, 4, 1))
    assert [share for share, _ in found] == [0.2, 0.3, 0.2, 0.3]
    parts = [part for _, part in found]
    assert torch.equal(torch.cat([part["images"] for part in parts]), whole["images"])  # type: ignore[arg-type]
    assert torch.equal(torch.cat([part["samples"].rows for part in parts]), samples.rows)
    assert torch.equal(torch.cat([part["teacher"].maps[1] for part in parts]), maps[1])
    assert {part["samples"].progress for part in parts} == {0.25}
    ((share, same),) = parts_of(whole, 1, 1)
    assert (share, same) == (1.0, whole)


def test_parts_are_whole_units() -> None:
    found = [(share, part["x"].tolist()) for share, part in parts_of({"x": torch.arange(12)}, 2, 4)]
    assert [rows for _, rows in found] == [[0, 1, 2, 3], list(range(4, 12))]
    assert [share for share, _ in found] == pytest.approx([1 / 3, 2 / 3])


def test_buffers_are_put_back_and_weights_left() -> None:
    norm = nn.BatchNorm1d(3)
    put_back = remember(norm)
    norm(torch.randn(5, 3))
    with torch.no_grad():
        norm.weight.fill_(2)
    put_back()
    assert torch.equal(norm.running_mean, torch.zeros(3))  # type: ignore[arg-type]
    assert int(norm.num_batches_tracked) == 0  # type: ignore[arg-type]
    assert torch.equal(norm.weight, torch.full((3,), 2.0))
