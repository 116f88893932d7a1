"""Terms with state or draws of their own: a run stopped among their steps ends as one that was not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from edgekd.distill.checkpoint import load_snapshot
from edgekd.distill.pipeline import run_distillation
from edgekd.distill.session import Session, Stopped, open_session
from edgekd.recipe import load_recipe
from tests.distill.stopping import StopAt

SHORT = ("baseline.enabled=false", "meta.enabled=false", "quantize.method=ptq", "teacher.epochs=1")
FEW = ("validation.episodes=10", "test.episodes=10")
METHOD = "simkd + 0.8 crd + 2 triplet + adversarial + 0.1 rkd + at + mmd"


def _session(reporter: StopAt | None = None) -> Session:
    opened = open_session("fp32", 0, None, reporter, cpu=True)
    if reporter:
        reporter.session = opened
    return opened


@pytest.mark.slow
def test_it_ends_bit_identical(tmp_path: Path, tiny_recipe: Path) -> None:
    recipe = load_recipe(tiny_recipe, [*SHORT, *FEW, f"distill.method={METHOD}"])
    whole = run_distillation(recipe, tmp_path / "whole", _session())
    with pytest.raises(Stopped, match="in stage 'distill' at step 5 of 8"):
        run_distillation(recipe, tmp_path / "parts", _session(StopAt(4 + 5)))
    parts = run_distillation(recipe, tmp_path / "parts", _session())
    a, b = (load_snapshot(run.stage_file("distill")).tensors for run in (whole, parts))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert [line["loss"] for line in whole.metrics()] == [line["loss"] for line in parts.metrics()]
