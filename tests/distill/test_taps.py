from __future__ import annotations

import pytest
import torch

from edgekd.distill.backbones import build_backbone
from edgekd.distill.taps import map_shapes, recording
from edgekd.distill.tasks import Classifier
from edgekd.errors import RecipeError


def test_maps_are_what_the_layers_give_out() -> None:
    backbone = build_backbone("conv4:4-5-6-7", 3).eval()
    images = torch.randn(2, 3, 16, 16)
    outputs = Classifier(backbone, 3).eval()(images, layers=(2, 4))
    assert list(outputs.maps) == [2, 4]
    assert outputs.maps[2].shape == (2, 5, 4, 4)
    torch.testing.assert_close(outputs.maps[4].mean((2, 3)), outputs.embedding)


def test_nothing_is_recorded_outside() -> None:
    backbone = build_backbone("conv4-4", 1)
    with recording(backbone, [1]) as maps:
        backbone(torch.randn(1, 1, 16, 16))
    maps.clear()
    backbone(torch.randn(1, 1, 16, 16))
    assert not maps


def test_gradients_pass_through_maps() -> None:
    classifier = Classifier(build_backbone("conv4-4", 1), 2)
    classifier(torch.randn(2, 1, 16, 16), layers=(1,)).maps[1].sum().backward()
    reached = {name for name, parameter in classifier.named_parameters() if parameter.grad is not None}
    assert reached == {f"backbone.body.{layer}.{kind}" for layer in ("conv1", "norm1") for kind in ("weight", "bias")}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("conv4-8", [(8, 16, 16), (8, 8, 8), (8, 4, 4), (8, 2, 2)]),
        ("resnet12:4", [(4, 16, 16), (8, 8, 8), (16, 4, 4), (32, 2, 2)]),
        ("resnet18", [(64, 8, 8), (128, 4, 4), (256, 2, 2), (512, 1, 1)]),
        ("timm:test_resnet", [(32, 8, 8), (48, 4, 4), (192, 2, 2), (96, 1, 1)]),
    ],
)
def test_shapes(spec: str, expected: list[tuple[int, int, int]]) -> None:
    backbone = build_backbone(spec, 3).train()
    assert list(map_shapes(backbone, 32, 32).values())[-4:] == expected
    assert backbone.training


def test_the_shape_of_a_layer_that_does_not_exist() -> None:
    with pytest.raises(RecipeError, match="backbone 'conv4-4' has no layer 5: its layers are 1 to 4"):
        map_shapes(build_backbone("conv4-4", 3), 16, 16)[5]


@pytest.mark.parametrize("layer", [0, 5, -1])
def test_a_layer_that_does_not_exist(layer: int) -> None:
    with (
        pytest.raises(RecipeError, match=rf"backbone 'conv4-4' has no layer {layer}: its layers are 1 to 4"),
        recording(build_backbone("conv4-4", 3), [layer]),
    ):
        pass
