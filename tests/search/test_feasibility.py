from __future__ import annotations

import numpy as np
import pytest
import torch

from edgekd.data import ImageSet, Splits
from edgekd.distill.backbones import build_backbone, deployed_parameters
from edgekd.errors import ModelError
from edgekd.profile import HardwareProfile
from edgekd.recipe import Recipe, load_recipe
from edgekd.search.feasibility import examine_untrained, listed, refusals


def splits(size: int = 16) -> Splits:
    random = np.random.default_rng(0)

    def images(split: str) -> ImageSet:
        pixels = random.integers(0, 256, (8, size, size, 3), dtype=np.uint8)
        return ImageSet(split, pixels, np.arange(8) % 2, (f"{split}0", f"{split}1"))

    return Splits("noise", images("train"), images("val"), images("test"), novel=True)


def student(spec: str, *assignments: str) -> Recipe:
    return load_recipe(None, [f"student.backbone={spec}", *assignments])


def profile(text: str) -> HardwareProfile:
    return HardwareProfile.from_text(f'name = "board"\n{text}')


@pytest.mark.parametrize("spec", ["convnet:8-8-8/2", "convnet:8-16/0", "conv4-8"])
def test_every_parameter_counts_before_training(spec: str) -> None:
    report = examine_untrained(student(spec), profile("[params]\nmax = 100_000\n"), splits())
    with torch.device("meta"):
        assert report.params.total == deployed_parameters(build_backbone(spec, 3))
    assert not refusals(report)


def test_macs_by_hand() -> None:
    report = examine_untrained(student("convnet:8-4/1"), profile("[params]\nmax = 100_000\n"), splits())
    assert report.macs == 16 * 16 * 8 * 3 * 9 + 8 * 8 * 4 * 8 * 9


def test_narrow_weights_take_fewer_bytes() -> None:
    board = profile("[params]\nmax = 100_000\n")
    wide, narrow = (
        examine_untrained(student("convnet:8-8/2", f"quantize.weight_bits={bits}"), board, splits()).memory.weight_bytes
        for bits in (8, 4)
    )
    weights, biases = 8 * 3 * 9 + 8 * 8 * 9, 16
    assert (wide, narrow) == (weights + 4 * biases, weights // 2 + 4 * biases)


@pytest.mark.parametrize(
    ("limits", "rule"),
    [
        ("[params]\nmax = 500\n", "parameters"),
        ("[layers]\nmax = 1\n", "layers"),
        ('[[memory.regions]]\nname = "ram"\nbytes = 64\nrole = "activations"\n', "activation-memory"),
        ('[[memory.regions]]\nname = "flash"\nbytes = 64\nrole = "weights"\n', "weight-memory"),
        ('[[ops]]\nop = "Conv"\n[[ops]]\nop = "Relu"\n', "operators"),
    ],
)
def test_it_is_refused_by_the_rule_that_it_breaks(limits: str, rule: str) -> None:
    found = refusals(examine_untrained(student("convnet:8-8/2"), profile(limits), splits()))
    assert rule in {refusal.rule for refusal in found}
    assert f"{rule}: " in listed(found)


def test_looking_at_a_candidate_leaves_the_random_numbers_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    examine_untrained(student("convnet:8-8/2"), profile("[params]\nmax = 500\n"), splits())
    assert torch.equal(torch.rand(3), expected)


def test_a_mistyped_width_takes_no_memory() -> None:
    with pytest.raises(ModelError, match=r"convnet:60000-60000/1 has 32,40.* are not built"):
        examine_untrained(student("convnet:60000-60000/1"), profile("[params]\nmax = 100_000\n"), splits())
