"""Backbones: names, shapes, sizes by arithmetic, and what a profile's cap allows."""

from __future__ import annotations

from http.client import IncompleteRead
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from torch import fx, nn
from torch.fx.experimental.optimization import fuse

from edgekd.distill.backbones import (
    BACKBONES,
    build_backbone,
    deployed_bytes,
    deployed_parameters,
    require_fit,
    require_input,
    trained_parameters,
    widest_student,
)
from edgekd.distill.backbones.imagenet import MEAN, STD, ImageNetInput
from edgekd.distill.taps import map_shapes
from edgekd.errors import DataError, ModelError, RecipeError


def _on_meta(spec: str, channels: int = 3) -> nn.Module:
    with torch.device("meta"):
        return build_backbone(spec, channels)


@pytest.mark.parametrize(
    ("spec", "channels", "size", "embedding_dim"),
    [
        ("conv4", 3, 32, 64),
        ("conv4-72", 1, 28, 72),
        ("conv4:8-8-16-24", 3, 16, 24),
        ("conv4-8-8-16-24", 3, 16, 24),
        ("convnet:8-16", 3, 4, 16),
        ("convnet-8-8-8-8-24/3", 1, 9, 24),
        ("convnet:8/0", 3, 1, 8),
        ("convnet:8-16-12/signed", 3, 8, 12),
        ("convnet:8-16/1/signed", 1, 9, 16),
        ("resnet12:4", 3, 17, 32),
        ("resnet12:4-5-6-7", 1, 28, 7),
        ("resnet18", 1, 64, 512),
        ("resnet18:small", 3, 16, 512),
        ("timm:mobilenetv3_small_050", 1, 32, 1024),
        ("mobilenetv2", 3, 32, 1280),
        ("mobilenetv2:small-0.35", 1, 16, 1280),
        ("inceptionv3", 1, 75, 2048),
        ("convnet9:8", 3, 8, 32),
        ("convnet9:4-5-6", 1, 17, 6),
        ("cnn5", 3, 32, 128),
        ("cnn5:28", 1, 28, 128),
        ("cnn3:16", 3, 16, 128),
        ("mlp:784-1200-1200", 1, 28, 1200),
        ("mlp:768-30", 3, 16, 30),
    ],
)
def test_embeddings_have_the_stated_width(spec: str, channels: int, size: int, embedding_dim: int) -> None:
    backbone = build_backbone(spec, channels).eval()
    assert (backbone.spec, backbone.in_channels, backbone.embedding_dim) == (spec, channels, embedding_dim)
    with torch.no_grad():
        assert backbone(torch.zeros(2, channels, size, size)).shape == (2, embedding_dim)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("conv5-64", "Did you mean 'conv4'"),
        ("", "unknown backbone ''"),
        ("conv4:", "nothing follows ':'; for example conv4"),
        ("conv4-wide", "'wide' is not one width, nor 4"),
        ("conv4-0", "a width is 1 to"),
        ("conv4-9999999999", "a width is 1 to"),
        ("conv4:64-64", "nor 4 joined"),
        ("convnet", "'' is not 1 to 16 widths joined by '-', for example convnet:48-64-64-96/3"),
        ("convnet:8-0", "a width is 1 to"),
        ("convnet:" + "-".join(["8"] * 17), "is not 1 to 16 widths"),
        ("convnet:8-8/3", "'3' is not how many of its 2 blocks pool; write 0 to 2"),
        ("convnet:8-8/", "'' is not how many"),
        ("convnet:8-8/-1", "'-1' is not how many"),
        ("convnet:8-8/signed/1", "is not convnet:A-B-..., with /POOLINGS or /signed or both in this order"),
        ("convnet:8-8/sined", "'sined' is not how many"),
        ("resnet12:-3", "nor 4 joined"),
        ("resnet12-wide:2", "no argument '2'"),
        ("resnet18:tiny", "'resnet18:small' for small images"),
        ("timm:mobilenetv3_smal_050", "Did you mean 'mobilenetv3_small_050'"),
        ("timm:nonsense", r"'nonsense'\. Did you mean '\w+'\? Near it: \w+, .*; timm\.list_models"),
        ("timm:0", "unknown timm model '0'; timm.list_models"),
        ("timm", "is not of the form timm:NAME"),
        ("inceptionv3:2", "no argument '2'"),
        ("mobilenetv2:wide", "is not a width multiplier such as 0.5"),
        ("mobilenetv2:0", "is not a width multiplier"),
        ("convnet9:8-8", "nor 3 joined"),
        ("cnn5:7", "not the height of its images, 8 to 256 pixels; for example cnn5:32"),
        ("cnn3:big", "for example cnn3:32"),
        ("timm:", "nothing follows ':'; for example timm:resnetv2_50"),
        ("conv4-", "nothing follows '-'; for example conv4"),
        ("mlp", "write its inputs.*for example mlp:784-400"),
        ("mlp:784", "write its inputs"),
        ("mlp:784-0", "write its inputs"),
    ],
)
def test_a_wrong_name_is_refused_with_a_hint(spec: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build_backbone(spec, 3)


def test_what_a_backbone_lacks_is_refused() -> None:
    for spec in ("conv4", "convnet:8", "resnet12", "resnet12-wide", "convnet9:4", "cnn5", "cnn3", "mlp:768-4"):
        with pytest.raises(RecipeError, match="no pretrained weights"):
            build_backbone(spec, 3, pretrained=True)
    with pytest.raises(RecipeError, match="no dropout"):
        build_backbone("resnet18", 3, drop=0.1)
    with pytest.raises(RecipeError, match="drop is 1"):
        build_backbone("conv4", 3, drop=1.0)
    with pytest.raises(RecipeError, match="at least one channel"):
        build_backbone("conv4", 0)
    with pytest.raises(RecipeError, match="1 or 3 channels, not 4"):
        build_backbone("timm:mobilenetv3_small_050", 4, pretrained=True)


def test_every_backbone_file_is_registered() -> None:
    assert set(BACKBONES) == {
        "cnn3", "cnn5", "conv4", "convnet", "convnet9", "inceptionv3", "mlp", "mobilenetv2", "projected", "resnet12",
        "resnet12-wide", "resnet18", "resnet50", "timm"
    }  # fmt: skip


def test_conv4_is_layers_a_quantizer_can_replace() -> None:
    backbone = build_backbone("conv4-8", 3)
    graph = fx.Tracer().trace(backbone)
    modules = dict(backbone.named_modules())
    called = [type(modules[str(node.target)]) for node in graph.nodes if node.op == "call_module"]
    block = [nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d]
    assert called == [*block * 4, nn.AdaptiveAvgPool2d, nn.Flatten]
    assert {node.op for node in graph.nodes} == {"placeholder", "call_module", "output"}
    assert all(module.bias is not None for module in modules.values() if isinstance(module, nn.Conv2d))


@pytest.mark.parametrize("spec", ["conv4-8", "resnet12:4"])
def test_dropout_acts_in_training_only(spec: str) -> None:
    backbone = build_backbone(spec, 3, drop=0.5)
    images = torch.randn(4, 3, 16, 16)
    assert not torch.equal(backbone(images), backbone(images))
    backbone.eval()
    assert torch.equal(backbone(images), backbone(images))


def test_the_same_seed_builds_the_same_weights() -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return nn.utils.parameters_to_vector(build_backbone("resnet12:4", 3).parameters())

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


def test_a_convnet_of_four_pooled_blocks_is_conv4() -> None:
    torch.manual_seed(0)
    conv4 = build_backbone("conv4:4-6-6-8", 3).eval()
    convnet = build_backbone("convnet:4-6-6-8", 3).eval()
    convnet.load_state_dict(conv4.state_dict())
    images = torch.randn(2, 3, 21, 18)
    assert torch.equal(convnet(images), conv4(images))
    assert convnet.layers == conv4.layers
    assert convnet.min_size == conv4.min_size == 16


def test_without_its_last_pooling_a_convnet_averages_a_larger_map() -> None:
    backbone = build_backbone("convnet:4-6-8/2", 3).eval()
    assert backbone.layers == ("maxpool1", "maxpool2", "relu3")
    assert dict(map_shapes(backbone, 16, 20)) == {1: (4, 8, 10), 2: (6, 4, 5), 3: (8, 4, 5)}
    with pytest.raises(DataError, match="3x8 are too small for convnet:4-6-8/2, which needs 4 pixels"):
        require_input(backbone, 3, 8, 3)


def test_conv4_sizes() -> None:
    backbone = build_backbone("conv4-64", 3)
    weights = 3 * 64 * 9 + 3 * (64 * 64 * 9)
    assert trained_parameters(backbone) == weights + 4 * 64 + 4 * 2 * 64 == 113_088
    assert deployed_parameters(backbone) == weights + 4 * 64 == 112_576
    assert deployed_bytes(backbone) == weights + 4 * 4 * 64
    assert deployed_bytes(backbone, weight_bits=4) == weights // 2 + 4 * 4 * 64


def _resnet12_parameters(widths: list[int]) -> int:
    total = 0
    for before, width in zip([3, *widths], widths, strict=False):
        convolutions = 9 * before * width + 2 * 9 * width * width + before * width
        total += convolutions + 4 * 2 * width  # a scale and a shift after each of the four
    return total


@pytest.mark.parametrize(
    ("spec", "widths"),
    [
        ("resnet12", [64, 128, 256, 512]),
        ("resnet12:24", [24, 48, 96, 192]),
        ("resnet12-wide", [64, 160, 320, 640]),
    ],
)
def test_resnet12_sizes(spec: str, widths: list[int]) -> None:
    assert trained_parameters(_on_meta(spec)) == _resnet12_parameters(widths)


def test_resnet12_is_the_eight_million_parameters_of_the_paper() -> None:
    assert trained_parameters(_on_meta("resnet12")) == 7_996_800


def test_torchvision_sizes_are_the_published_ones_without_classifier() -> None:
    assert trained_parameters(_on_meta("resnet18")) == 11_689_512 - 513 * 1000
    assert trained_parameters(_on_meta("resnet50")) == 25_557_032 - 2049 * 1000
    assert trained_parameters(_on_meta("mobilenetv2")) == 3_504_872 - 1281 * 1000
    auxiliary = (768 * 128 + 2 * 128) + (128 * 768 * 25 + 2 * 768) + 769 * 1000
    assert trained_parameters(_on_meta("inceptionv3")) == 27_161_264 - 2049 * 1000 - auxiliary


def test_sizes_of_the_printed_networks() -> None:
    """Each layer as printed, less the classifier (128 x 10 and 1200 x 10 and 400 x 10 with biases)."""
    convolutions = 9 * (3 * 32 + 32 * 32 + 32 * 64 + 64 * 64 + 64 * 128) + 32 + 32 + 64 + 64 + 128
    norms = 2 * (32 + 32 + 64 + 64 + 128)
    assert trained_parameters(_on_meta("cnn5")) == convolutions + norms + 2049 * 512 + 513 * 128
    student = 9 * (3 * 32 + 32 * 32 + 32 * 64) + 32 + 32 + 64
    assert trained_parameters(_on_meta("cnn3")) == student + 1025 * 128
    assert trained_parameters(_on_meta("mlp:784-1200-1200", 1)) == 785 * 1200 + 1201 * 1200
    assert trained_parameters(_on_meta("mlp:784-400", 1)) == 785 * 400


def test_convnet9_has_the_printed_outline() -> None:
    network = _on_meta("convnet9")
    kinds = [type(module) for module in network.modules()]
    assert (kinds.count(nn.Conv2d), kinds.count(nn.MaxPool2d)) == (9, 3)
    assert round(trained_parameters(network) / 1e6) == 18


@pytest.mark.parametrize(
    ("spec", "channels", "size", "shapes"),
    [
        ("mobilenetv2", 3, 64, [(16, 32), (24, 16), (32, 8), (96, 4), (1280, 2)]),
        ("mobilenetv2:small", 3, 32, [(16, 32), (24, 32), (32, 16), (96, 8), (1280, 4)]),
        ("inceptionv3", 3, 75, [(64, 17), (192, 7), (288, 7), (768, 3), (2048, 1)]),
        ("convnet9:4", 1, 16, [(4, 8), (8, 4), (16, 2)]),
        ("cnn5", 3, 32, [(32, 16), (64, 8), (128, 4)]),
        ("cnn3", 3, 32, [(32, 16), (32, 8), (64, 4)]),
        ("timm:resnetv2_50", 3, 64, [(64, 32), (256, 16), (512, 8), (1024, 4), (2048, 2)]),
        ("mlp:784-20", 1, 28, []),
    ],
)
def test_layers_are_maps_from_the_first_to_the_last(
    spec: str, channels: int, size: int, shapes: list[tuple[int, int]]
) -> None:
    found = map_shapes(build_backbone(spec, channels), size, size)
    assert found == {layer: (c, side, side) for layer, (c, side) in enumerate(shapes, start=1)}


def test_a_network_for_one_image_size_names_it() -> None:
    with pytest.raises(
        DataError, match=r"takes 784 numbers, images of 32x32x1 have 1024; write mlp:1024-20, or try --size 28$"
    ):
        require_input(build_backbone("mlp:784-20", 1), 32, 32, 1)
    with pytest.raises(DataError, match=r"images of 32x32x3 have 3072; write mlp:3072-20$"):
        require_input(build_backbone("mlp:784-20", 3), 32, 32, 3)
    require_input(build_backbone("mlp:768-20", 3), 8, 32, 3)
    with pytest.raises(DataError, match="cnn3 takes images of 32x32, not of 28x32"):
        require_input(build_backbone("cnn3", 3), 28, 32, 3)
    require_input(build_backbone("cnn3:28", 3), 28, 28, 3)
    with pytest.raises(DataError, match="74x80 are too small for inceptionv3, which needs 75"):
        require_input(build_backbone("inceptionv3", 3), 74, 80, 3)


def test_dropout_of_the_printed_networks_is_one_half() -> None:
    drops = [layer.p for layer in build_backbone("cnn5", 3).modules() if isinstance(layer, nn.Dropout)]
    assert drops == [0.5, 0.5]


def test_small_stem_keeps_the_resolution() -> None:
    network = build_backbone("resnet18:small", 1).body
    stem = network.get_submodule("conv1")
    assert isinstance(stem, nn.Conv2d)
    assert (stem.kernel_size, stem.stride, stem.in_channels) == ((3, 3), (1, 1), 1)
    assert isinstance(network.get_submodule("maxpool"), nn.Identity)


@pytest.mark.parametrize("spec", ["conv4-8", "conv4:8-12-4-6"])
def test_deployed_parameters_are_what_folding_leaves(spec: str) -> None:
    backbone = build_backbone(spec, 3).eval()
    images = torch.randn(2, 3, 16, 16)
    folded = fuse(backbone)
    torch.testing.assert_close(folded(images), backbone(images))
    assert deployed_parameters(backbone) == trained_parameters(folded)


def test_layers_that_cannot_be_folded_count_all_they_have() -> None:
    network = nn.Sequential(nn.Linear(5, 3, bias=False), nn.LayerNorm(3), nn.BatchNorm1d(3))
    assert deployed_parameters(network) == (15 + 3) + 6
    assert deployed_bytes(network, weight_bits=2) == 4 + 3 * 4 + 6 * 4  # 30 bits are 4 bytes


@pytest.mark.parametrize(("cap", "spec"), [(150_000, "conv4-72"), (142_200, "conv4-72"), (142_199, "conv4-64")])
def test_widest_student_touches_the_cap(cap: int, spec: str) -> None:
    assert widest_student("conv4", cap, 3) == spec


def test_widest_student_draws_no_random_numbers() -> None:
    before = torch.get_rng_state()
    widest_student("conv4", 150_000, 3)
    assert torch.equal(before, torch.get_rng_state())


def test_widest_student_of_another_family() -> None:
    spec = widest_student("resnet12", 150_000, 1)
    assert spec == "resnet12-8"
    assert (
        deployed_parameters(build_backbone(spec, 1)) <= 150_000 < deployed_parameters(build_backbone("resnet12-16", 1))
    )


def test_a_cap_below_the_narrowest_is_refused() -> None:
    with pytest.raises(ModelError, match="no conv4 fits in 1,000 parameters; conv4-8 has 1,976"):
        widest_student("conv4", 1000, 3)


def test_a_student_over_the_cap_is_refused_with_the_numbers() -> None:
    message = (
        r"conv4-96 has 251,808 parameters; tu holds 149,999: 101,809 too many; conv4-72 \(142,200\) fits; "
        r"to train it .* --profile without the cap of tu, as \w+ is"
    )
    with pytest.raises(ModelError, match=message):
        require_fit(build_backbone("conv4-96", 3), 149_999, "tu")


def test_a_student_at_the_cap_fits() -> None:
    backbone = build_backbone("conv4-8", 3)
    require_fit(backbone, deployed_parameters(backbone), "exact")
    require_fit(backbone, None, "unknown")


def test_images_that_cannot_enter_are_refused() -> None:
    backbone = build_backbone("conv4-8", 3)
    require_input(backbone, 16, 16, 3)
    with pytest.raises(DataError, match="15x32 are too small for conv4-8, which needs 16"):
        require_input(backbone, 15, 32, 3)
    with pytest.raises(DataError, match="1 channels; conv4-8 was built for 3"):
        require_input(backbone, 16, 16, 1)


@pytest.mark.parametrize("channels", [1, 3])
def test_imagenet_input_is_the_published_normalization(channels: int) -> None:
    pixels = torch.randint(0, 256, (2, channels, 4, 4))
    mean, std = torch.tensor(MEAN).view(1, 3, 1, 1), torch.tensor(STD).view(1, 3, 1, 1)
    expected = (pixels / 255 - mean) / std
    torch.testing.assert_close(ImageNetInput()((pixels - 128) / 128), expected, atol=1e-5, rtol=1e-5)


def test_pretrained_weights_are_loaded_and_see_imagenet_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision

    published = torchvision.models.resnet18().eval()
    monkeypatch.setattr(torchvision.models.ResNet18_Weights, "get_state_dict", lambda *_, **__: published.state_dict())
    backbone = build_backbone("resnet18", 1, pretrained=True).eval()
    published.fc = nn.Identity()
    images = torch.rand(2, 1, 32, 32) * 2 - 1
    torch.testing.assert_close(backbone(images), published(ImageNetInput()(images)))


@pytest.mark.parametrize("spec", ["resnet18", "mobilenetv2", "mobilenetv2:small", "inceptionv3", "timm:resnet10t"])
def test_a_pretrained_network_is_built_without_its_weights(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision

    def fetched(*_: Any, **__: Any) -> None:
        raise AssertionError("nothing is fetched")

    monkeypatch.setattr(torchvision.models.WeightsEnum, "get_state_dict", fetched, raising=False)
    backbone = build_backbone(spec, 1, pretrained=True, fetch=False)
    assert isinstance(backbone.body.get_submodule("0"), ImageNetInput)
    assert len(map_shapes(backbone, 75, 75)) == 5 if spec != "resnet18" else 4


@pytest.mark.parametrize(
    ("spec", "name"), [("mobilenetv2:small", "MobileNet_V2_Weights"), ("inceptionv3", "Inception_V3_Weights")]
)
def test_published_weights_of_torchvision_fit(spec: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision

    published = (
        torchvision.models.mobilenet_v2()
        if spec.startswith("mobile")
        else torchvision.models.inception_v3(init_weights=False)
    )
    state = published.state_dict()
    monkeypatch.setattr(getattr(torchvision.models, name), "get_state_dict", lambda *_, **__: state)
    if spec == "inceptionv3":
        assert any(key.startswith("AuxLogits.") for key in state)
    backbone = build_backbone(spec, 3, pretrained=True)
    own = {key.removeprefix("body.1."): value for key, value in backbone.state_dict().items()}
    assert all(torch.equal(value, state[key]) for key, value in own.items())


def test_pretrained_weights_are_of_one_width() -> None:
    with pytest.raises(RecipeError, match="pretrained weights for width 1 only"):
        build_backbone("mobilenetv2:0.5", 3, pretrained=True)


@pytest.mark.parametrize(
    "spec", ["mobilenetv2:0.35", "conv4-8", "convnet:8-8/1", "resnet12:2", "convnet9:4", "cnn5", "mlp:3072-8"]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_network_of_unpublished_weights_sees_imagenet_pixels_with_those_of_a_file(spec: str, channels: int) -> None:
    backbone = build_backbone(spec, channels, pretrained=True, fetch=False).eval()
    plain = build_backbone(spec, 3).eval()
    assert backbone.unpublished == plain.unpublished != ""
    backbone.body.get_submodule("1").load_state_dict(plain.body.state_dict())
    images = torch.rand(2, channels, 32, 32) * 2 - 1
    torch.testing.assert_close(backbone(images), plain(ImageNetInput()(images)))
    shapes = map_shapes(plain, 32, 32)
    assert map_shapes(backbone, 32, 32) == shapes


def test_weights_that_cannot_be_fetched_are_an_error_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    import timm
    import torchvision

    def offline(*_: Any, **__: Any) -> None:
        raise URLError("no network")

    monkeypatch.setattr(torchvision.models.ResNet18_Weights, "get_state_dict", offline)
    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(ModelError, match=r"ImageNet weights of resnet18 could not be fetched.*no network"):
        build_backbone("resnet18", 3, pretrained=True)
    for spec in ("timm:resnet10t", "timm:resnetv2_50"):
        with pytest.raises(ModelError, match=rf"'{spec}' cannot be built.*no network"):
            build_backbone(spec, 3, pretrained=True)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError('invalid hash value (expected "f37072fd", got "00112233")'),
        IncompleteRead(b"abc", 100),
        ConnectionResetError(104, "Connection reset by peer"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_download_of_weights_that_was_broken_off_is_named(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    import torchvision

    def broken_off(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(torchvision.models.ResNet18_Weights, "get_state_dict", broken_off)
    with pytest.raises(ModelError, match=r"resnet18 could not be fetched from https://.*resnet18.*\.pth: "):
        build_backbone("resnet18", 3, pretrained=True)


def test_weights_cut_off_in_the_cache_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import torchvision

    cached = tmp_path / "checkpoints" / torchvision.models.ResNet18_Weights.DEFAULT.url.rpartition("/")[2]
    cached.parent.mkdir()
    cached.write_bytes(b"PK half of a file")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(ModelError, match=r"checkpoints/resnet18.*\.pth is damaged.*: delete it and try again"):
        build_backbone("resnet18", 3, pretrained=True)
    assert cached.exists(), "what a user has is not deleted"
