"""Images that grow: their sizes over the epochs, their pixels, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from edgekd.distill.growing import share_of_side, sized, smallest
from edgekd.distill.pipeline import run_distillation
from edgekd.distill.session import open_session
from edgekd.errors import RecipeError
from edgekd.recipe import Schedule, load_recipe

BATCHES = ["teacher.epochs=1", "teacher.batch_size=16", "distill.batch_size=16"]
FAST = [*BATCHES, "validation.episodes=10", "test.episodes=10", "quantize.enabled=false"]


def test_sides_grow_in_four_equal_phases_and_end_whole() -> None:
    schedule = Schedule(epochs=8, start_size=0.4)
    shares = [share_of_side(schedule, epoch) for epoch in (0, 1.99, 2, 3.99, 4, 6, 7.99, 8)]
    assert shares == pytest.approx([0.4, 0.4, 0.6, 0.6, 0.8, 1, 1, 1])
    assert smallest(schedule, 84, 28) == (34, 11)


def test_without_a_start_size_images_stay_as_they_are() -> None:
    images = torch.randn(2, 3, 10, 12)
    assert share_of_side(Schedule(epochs=3), 0) == 1
    assert share_of_side(Schedule(epochs=0), 0) == 1
    assert sized(images, 1) is images


def test_a_small_pixel_is_the_mean_of_what_it_covers() -> None:
    """At half the side, triangles of two pixels' reach: weights 1, 3, 3, 1 in each direction, cut at the border."""
    images = torch.randn(2, 3, 12, 12, dtype=torch.float64)
    small = sized(images, 0.5)
    assert small.shape == (2, 3, 6, 6)
    assert small.is_contiguous(memory_format=torch.channels_last)
    weights = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64) / 8
    inner = torch.einsum("bchw,h,w->bc", images[:, :, 3:7, 5:9], weights, weights)  # pixels 3..6 and 5..8
    assert torch.allclose(small[:, :, 2, 3], inner)
    constant = sized(torch.full((1, 1, 12, 12), 0.25), 0.4)
    assert torch.allclose(constant, torch.full((1, 1, 5, 5), 0.25))


SMALL = ["teacher.backbone=convnet:4-4", "student.backbone=convnet:5-4", "meta.enabled=false", "baseline.enabled=false"]


def test_stages_see_images_of_their_own_size_and_a_still_teacher_whole_ones(tmp_path: Path, tiny_recipe: Path) -> None:
    sizes = ["teacher.start_size=0.75", "distill.start_size=0.5"]
    recipe = load_recipe(tiny_recipe, [*FAST, *SMALL, *sizes, "distill.epochs=1"])
    seen: set[tuple[int, bool, tuple[int, ...]]] = set()

    def note(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if isinstance(module, torch.nn.Conv2d) and module.in_channels == 3:
            seen.add((module.out_channels, torch.is_grad_enabled(), tuple(inputs[0].shape[2:])))

    hook = torch.nn.modules.module.register_module_forward_pre_hook(note)
    try:
        run_distillation(recipe, tmp_path / "run", open_session("fp32", 0, cpu=True))
    finally:
        hook.remove()
    taught = {(4, True, (side, side)) for side in (12, 13, 15, 16)}
    distilled = {(5, True, (side, side)) for side in (8, 11, 13, 16)}
    assert seen == taught | distilled | {(4, False, (16, 16)), (5, False, (16, 16))}


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("teacher.start_size=0.5", "teacher.start_size is 0.5: images of 8x8 are too small for resnet12:4"),
        ("distill.start_size=0.5", "distill.start_size is 0.5: images of 8x8 are too small for conv4-8"),
        ("meta.start_size=0.4", "meta.start_size is 0.4: images of 6x6 are too small for conv4-8"),
    ],
)
def test_images_that_begin_too_small_are_refused(
    tmp_path: Path, tiny_recipe: Path, assignment: str, message: str
) -> None:
    recipe = load_recipe(tiny_recipe, ["teacher.backbone=resnet12:4", assignment])
    with pytest.raises(RecipeError, match=message):
        run_distillation(recipe, tmp_path / "run", open_session("fp32", 0, cpu=True))


@pytest.mark.parametrize("share", ["0", "1.5", "-0.5"])
def test_a_share_lies_between_nothing_and_all(tiny_recipe: Path, share: str) -> None:
    with pytest.raises(RecipeError, match=r"distill\.start_size"):
        load_recipe(tiny_recipe, [f"distill.start_size={share}"])


def test_maps_of_two_sizes_are_not_compared(tmp_path: Path, tiny_recipe: Path) -> None:
    sizes = ["distill.method=ce + at", "distill.options.at.layers=[1]", "distill.start_size=0.5"]
    recipe = load_recipe(tiny_recipe, [*SMALL, *sizes])
    with pytest.raises(RecipeError, match=r"compares maps of layers, and distill\.start_size makes"):
        run_distillation(recipe, tmp_path / "run", open_session("fp32", 0, cpu=True))
