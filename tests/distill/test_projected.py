"""A student with a projector that ships: its name, size, quantized form, and what a cap makes of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from edgekd.data import ImageSet, Splits
from edgekd.distill import quantize
from edgekd.distill.backbones import build_backbone, deployed_parameters
from edgekd.distill.backbones.projected import prefix_of, with_projector
from edgekd.distill.resolve import resolve
from edgekd.distill.taps import map_shapes, recording
from edgekd.errors import ModelError, RecipeError
from edgekd.manifest import QuantScheme
from edgekd.profile import HardwareProfile, load_profile
from edgekd.recipe import load_recipe

SHIPPED = ("distill.method=simkd", "distill.options.simkd.ships=true")
THIN = (*SHIPPED, "distill.options.simkd.reduction=8")


def blank(size: int) -> Splits:
    def images(split: str) -> ImageSet:
        pixels = np.zeros((4, size, size, 3), np.uint8)
        return ImageSet(split, pixels, np.arange(4), tuple(f"{split}{i}" for i in range(4)))

    return Splits("blank", images("train"), images("val"), images("test"), novel=True)


def test_the_embedding_is_the_mean_of_the_projected_map() -> None:
    backbone = build_backbone("projected:10/2:conv4:4-5-6-7", 3).eval()
    with recording(backbone, (4, 5)) as maps:
        embedding = backbone(torch.randn(2, 3, 32, 32))
    torch.testing.assert_close(maps[5].mean((2, 3)), embedding)
    projector = backbone.body.get_submodule("projector")
    torch.testing.assert_close(projector(maps[4]), maps[5])
    assert map_shapes(backbone, 32, 32) == {1: (4, 16, 16), 2: (5, 8, 8), 3: (6, 4, 4), 4: (7, 2, 2), 5: (10, 2, 2)}
    assert backbone.embedding_dim == 10


def test_the_inner_layers_are_those_of_the_inner_backbone() -> None:
    torch.manual_seed(0)
    inner = build_backbone("conv4-8", 3).state_dict()
    torch.manual_seed(0)
    outer = build_backbone("projected:16/2:conv4-8", 3)
    assert all(torch.equal(outer.state_dict()[name], value) for name, value in inner.items())
    assert outer.min_size == 16


def test_the_projector_is_counted() -> None:
    # 64 x 24 + 24 x 24 x 9 + 24 x 192 weights, 24 + 24 + 192 biases
    added = deployed_parameters(build_backbone("projected:192/8:conv4-64", 3)) - deployed_parameters(
        build_backbone("conv4-64", 3)
    )
    assert added == 1536 + 5184 + 4608 + 240


def test_it_is_quantized_like_any_student() -> None:
    torch.manual_seed(0)
    backbone = build_backbone("projected:16/2:conv4-8", 3).eval()
    quantize.require_quantizable(backbone, backbone.spec)
    images = torch.rand(16, 3, 16, 16) - 0.5
    folded = quantize.fold_batchnorm(backbone)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in folded.modules())
    scheme = QuantScheme()
    network = quantize.quantize_backbone(folded, scheme, quantize.calibrate_backbone(folded, images, scheme)).eval()
    with torch.no_grad():
        cosine = torch.cosine_similarity(network(images), backbone(images))
    assert cosine.min() > 0.98
    assert quantize.quantized_size(network, scheme)[0] == deployed_parameters(backbone)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("projected", "is not of the form projected:WIDTH/REDUCTION:BACKBONE, for example projected:192/8:conv4-64"),
        ("projected:192:conv4-64", "is not of the form"),
        ("projected:192/8", "is not of the form"),
        ("projected:0/1:conv4-64", "is not of the form"),
        ("projected:192/0:conv4-64", "a reduction of 1 to 192, not 0"),
        ("projected:192/193:conv4-64", "a reduction of 1 to 192, not 193"),
        ("projected:192/8:conv5-64", "unknown backbone 'conv5-64'. Did you mean 'conv4'"),
        ("projected:192/8:timm:test_resnet", "timm:test_resnet does not end in pooling and flattening"),
    ],
)
def test_malformed_specs_are_refused(spec: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build_backbone(spec, 3)


def test_prefixes() -> None:
    assert prefix_of("projected:192/8:conv4:8-8-8-8") == "projected:192/8:"
    assert prefix_of("conv4-64") == ""
    assert with_projector(with_projector("conv4-64", 192, 8), 192, 8) == "projected:192/8:conv4-64"


@pytest.mark.parametrize(
    ("assignments", "spec"),
    [
        (THIN, "projected:192/8:conv4-64"),
        (SHIPPED, "projected:192/2:conv4-32"),
        (("distill.method=simkd",), "conv4-72"),
    ],
)
def test_auto_takes_the_widest_that_fits_with_its_projector(assignments: tuple[str, ...], spec: str) -> None:
    profile = load_profile("tu_accel_150k")
    student = resolve(load_recipe(None, assignments), profile, blank(32)).student.backbone
    assert student == spec
    family, _, width = student.rpartition("-")
    assert profile.params.max is not None
    assert (
        deployed_parameters(build_backbone(student, 3))
        <= profile.params.max
        < deployed_parameters(build_backbone(f"{family}-{int(width) + 8}", 3))
    )


def test_a_resolved_recipe_resolves_to_itself() -> None:
    profile = load_profile("tu_accel_150k")
    recipe = resolve(load_recipe(None, THIN), profile, blank(32))
    assert resolve(recipe, profile, blank(32)) == recipe


def test_a_projector_over_the_cap_is_refused_with_numbers() -> None:
    recipe = load_recipe(None, [*SHIPPED, "student.backbone=conv4-64"])
    message = (
        r"projected:192/2:conv4-64 has 220,\d+ parameters; tu_accel_150k holds 149,999: 70,\d+ too many; "
        r"projected:192/2:conv4-32 \(133,472\) fits"
    )
    with pytest.raises(ModelError, match=message):
        resolve(recipe, load_profile("tu_accel_150k"), blank(32))


def test_no_student_fits_beside_a_wide_projector() -> None:
    profile = HardwareProfile.model_validate({"name": "tight", "params": {"max": 50_000}})
    with pytest.raises(
        ModelError, match=r"no projected:192/2:conv4 fits in 50,000 parameters; projected:192/2:conv4-8"
    ):
        resolve(load_recipe(None, SHIPPED), profile, blank(32))
