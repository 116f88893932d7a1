from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgekd.distill.checkpoint import load_snapshot
from edgekd.distill.class_heads import HEADS, START_SCALE, CosineHead, LinearHead, head_in
from edgekd.distill.methods import adapt_recipe
from edgekd.distill.pipeline import run_distillation, run_teaching
from edgekd.distill.session import Session, open_session
from edgekd.errors import RunError
from edgekd.recipe import HeadKind, load_recipe


def test_cosine_logits_are_scaled_cosines() -> None:
    torch.manual_seed(0)
    head, z = CosineHead(6, 4), torch.randn(5, 6)
    weight, embedding = head.weight.detach().double().numpy(), z.double().numpy()
    norms = np.linalg.norm(embedding, axis=1)[:, None] * np.linalg.norm(weight, axis=1)[None]
    expected = START_SCALE * (embedding @ weight.T) / norms
    np.testing.assert_allclose(head(z).detach().numpy(), expected, rtol=1e-5)


def test_cosine_logits_do_not_depend_on_lengths() -> None:
    torch.manual_seed(0)
    head, z = CosineHead(6, 4), torch.randn(5, 6)
    torch.testing.assert_close(head(7 * z), head(z))


def test_the_scale_learns() -> None:
    torch.manual_seed(0)
    head = CosineHead(6, 4)
    loss = torch.nn.functional.cross_entropy(head(torch.randn(5, 6)), torch.tensor([0, 1, 2, 3, 0]))
    torch.autograd.backward(loss)
    assert head.scale.grad is not None
    assert head.scale.grad != 0


def test_bf16_leaves_cosines_in_fp32() -> None:
    head, z = CosineHead(6, 4), torch.randn(5, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(head(z), head(z.float()))
        assert head(z).dtype == torch.float32


@pytest.mark.parametrize(("kind", "metric"), [("linear", "euclid"), ("cosine", "cosine")])
def test_class_means_make_a_nearest_class_mean(kind: HeadKind, metric: str) -> None:
    generator = np.random.default_rng(0)
    means, z = generator.normal(size=(4, 6)).astype(np.float32), generator.normal(size=(50, 6)).astype(np.float32)
    head = HEADS[kind](6, 4)
    with torch.no_grad():
        head.take_means(torch.tensor(means))
        found = head(torch.tensor(z)).argmax(1).numpy()
    if metric == "cosine":
        expected = (z @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T).argmax(1)
    else:
        expected = ((z[:, None] - means) ** 2).sum(2).argmin(1)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_tensors_tell_the_kind_of_their_head(kind: HeadKind) -> None:
    head = HEADS[kind](6, 4)
    assert head_in({f"head.{name}": value for name, value in head.state_dict().items()}) == kind


def test_a_linear_head_is_torch_s_own() -> None:
    torch.manual_seed(0)
    ours = LinearHead(6, 4)
    torch.manual_seed(0)
    theirs = torch.nn.Linear(6, 4)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    assert torch.equal(ours.weight, theirs.weight)


def test_a_run_trains_the_heads_that_its_recipe_names(tmp_path: Path, tiny_recipe: Path) -> None:
    kinds = ["teacher.classifier=cosine", "student.classifier=cosine", "teacher.epochs=1", "distill.epochs=1"]
    recipe = load_recipe(tiny_recipe, [*kinds, "meta.enabled=false", "quantize.method=ptq"])
    run = run_distillation(recipe, tmp_path / "run", session())
    assert run.manifest.complete
    for stage in ("teach", "scratch", "distill"):
        assert head_in(load_snapshot(run.stage_file(stage)).part("network")) == "cosine", stage
    other = load_recipe(tiny_recipe, [f"teacher.weights={run.stage_file('teach')}"])
    with pytest.raises(RunError, match=r"has a cosine head: --set teacher\.classifier=cosine"):
        run_distillation(other, tmp_path / "other", session())
    assert not (tmp_path / "other").exists()


def test_a_learner_without_a_head_leaves_means_under_a_cosine_head(tmp_path: Path, tiny_recipe: Path) -> None:
    protonet = ["teacher.learner=protonet", "teacher.batches_per_epoch=2", "teacher.query=3", "teacher.batch_size=2"]
    recipe = load_recipe(tiny_recipe, [*protonet, "teacher.epochs=1", "teacher.classifier=cosine"])
    run = run_teaching(recipe, tmp_path / "run", session())
    assert head_in(load_snapshot(run.stage_file("teach")).part("network")) == "cosine"


def test_a_shipped_head_is_of_the_teacher_s_kind() -> None:
    recipe = load_recipe(
        None, ["distill.method=simkd", "distill.options.simkd.ships=true", "teacher.classifier=cosine"]
    )
    assert adapt_recipe(recipe).student.classifier == "cosine"


def session() -> Session:
    return open_session("fp32", 0, cpu=True)
