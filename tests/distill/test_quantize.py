from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from edgekd.distill import calibrate, quantize
from edgekd.distill.backbones import build_backbone
from edgekd.errors import ModelError
from edgekd.manifest import QuantScheme


def trained_conv4(size: int = 32, spec: str = "conv4-8") -> tuple[nn.Module, Tensor]:
    """A Conv4 whose BatchNorm statistics are those of the images, and the images, of contrast from low to high."""
    torch.manual_seed(0)
    backbone = build_backbone(spec, 3)
    images = torch.randint(0, 256, (16, 3, size, size)).float().sub(128).div(128)
    images *= torch.linspace(0.1, 1, 16)[:, None, None, None]
    settle_statistics(backbone, images)
    return backbone, images


def settle_statistics(backbone: nn.Module, images: Tensor) -> None:
    backbone.train()
    for _ in range(60):  # 0.9^60 of the start is left
        backbone(images)
    backbone.eval()


def quantized(scheme: QuantScheme, size: int = 32) -> tuple[nn.Module, nn.Module, Tensor]:
    backbone, images = trained_conv4(size)
    folded = quantize.fold_batchnorm(backbone)
    return (
        backbone,
        quantize.quantize_backbone(folded, scheme, quantize.calibrate_backbone(folded, images, scheme)).eval(),
        images,
    )


@pytest.mark.parametrize("spec", ["conv4-8", "convnet:8-8-8/signed", "convnet:4-8-6/1/signed"])
def test_folding_batchnorm_changes_nothing_but_rounding(spec: str) -> None:
    backbone, images = trained_conv4(spec=spec)
    for module in backbone.modules():  # scales of both signs, and shifts
        if isinstance(module, nn.BatchNorm2d) and module.affine:
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    settle_statistics(backbone, images)
    folded = quantize.fold_batchnorm(backbone)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert torch.allclose(folded(images), backbone(images), atol=1e-5)


@pytest.mark.parametrize("scale", ["float", "power_of_two"])
@pytest.mark.parametrize("granularity", ["per_tensor", "per_channel"])
@pytest.mark.parametrize("relu_unsigned", [True, False], ids=["unsigned", "signed"])
def test_a_quantized_network_stays_close_to_the_float_one(scale: str, granularity: str, relu_unsigned: bool) -> None:
    scheme = QuantScheme.model_validate({"scale": scale, "granularity": granularity, "relu_unsigned": relu_unsigned})
    backbone, network, images = quantized(scheme)
    cosine = nn.functional.cosine_similarity(network(images), backbone(images))
    assert float(cosine.detach().min()) > 0.99


@pytest.mark.parametrize("scale", ["float", "power_of_two"])
@pytest.mark.parametrize("spec", ["convnet:8-8-8/signed", "convnet:8-8-8/2/signed"], ids=["pooled", "unpooled"])
def test_a_signed_network_keeps_its_mean_and_variance(spec: str, scale: str) -> None:
    backbone, images = trained_conv4(spec=spec)
    scheme = QuantScheme.model_validate({"scale": scale, "relu_unsigned": False})
    folded = quantize.fold_batchnorm(backbone)
    network = quantize.quantize_backbone(folded, scheme, quantize.calibrate_backbone(folded, images, scheme)).eval()
    found, expected = network(images).detach(), backbone(images).detach()
    assert torch.allclose(expected.mean(0), torch.zeros(8), atol=0.1)
    assert torch.allclose(expected.var(0), torch.ones(8), atol=0.2)  # less what BatchNorm adds to a variance
    assert float(nn.functional.cosine_similarity(found, expected).min()) > 0.95


def test_embeddings_lie_on_a_power_of_two_grid() -> None:
    _, network, images = quantized(QuantScheme(scale="power_of_two"))
    embedding = network(images).detach()
    step = embedding[embedding > 0].min()
    exponent = torch.log2(step)
    assert exponent == exponent.round() or bool(((embedding / 2.0**-10) % 1 == 0).all())


@pytest.mark.parametrize(("size", "sums"), [(32, False), (80, True)], ids=["2x2-map", "5x5-map"])
def test_pooling_is_a_sum_only_where_a_mean_is_not_exact(size: int, sums: bool) -> None:
    _, network, _ = quantized(QuantScheme(scale="power_of_two"), size)
    depthwise = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d) and layer.groups > 1]
    assert bool(depthwise) == sums
    if sums:
        integers = depthwise[0].quant_weight().int()  # type: ignore[operator]
        assert integers.unique().tolist() == [1]


def test_a_sum_gives_the_direction_of_the_mean() -> None:
    backbone, network, images = quantized(QuantScheme(scale="power_of_two"), 80)
    assert float(nn.functional.cosine_similarity(network(images), backbone(images)).detach().min()) > 0.99


def test_it_can_be_rebuilt_from_its_state_and_calibration() -> None:
    backbone, images = trained_conv4()
    scheme = QuantScheme()
    folded = quantize.fold_batchnorm(backbone)
    calibration = quantize.calibrate_backbone(folded, images, scheme)
    network = quantize.quantize_backbone(folded, scheme, calibration)
    other = quantize.fold_batchnorm(build_backbone("conv4-8", 3))
    again = quantize.quantize_backbone(other, scheme, quantize.Calibration.from_json(calibration.to_json()))
    again.load_state_dict(network.state_dict())
    assert torch.equal(network.eval()(images), again.eval()(images))


def test_size_counts_weights_and_biases_only() -> None:
    _, network, _ = quantized(QuantScheme())
    weights = 3 * 8 * 9 + 3 * 8 * 8 * 9
    assert quantize.quantized_size(network, QuantScheme()) == (weights + 32, weights + 4 * 32)
    assert quantize.quantized_size(network, QuantScheme(weight_bits=4)) == (weights + 32, weights // 2 + 4 * 32)


@pytest.mark.parametrize(("spec", "channels", "size"), [("cnn5:16", 3, 16), ("cnn3:8", 1, 8), ("mlp:64-20-10", 1, 8)])
@pytest.mark.parametrize("scale", ["float", "power_of_two"])
def test_students_with_linear_layers_quantize(spec: str, channels: int, size: int, scale: str) -> None:
    torch.manual_seed(0)
    backbone = build_backbone(spec, channels)
    quantize.require_quantizable(backbone, spec)
    images = torch.randint(0, 256, (16, channels, size, size)).float().sub(128).div(128)
    for _ in range(10):
        backbone(images)
    folded = quantize.fold_batchnorm(backbone.eval())
    assert not any(isinstance(module, nn.Dropout | nn.BatchNorm2d) for module in folded.modules())
    scheme = QuantScheme.model_validate({"scale": scale})
    network = quantize.quantize_backbone(folded, scheme, quantize.calibrate_backbone(folded, images, scheme))
    for quantized_student in (network.train(), network.eval()):
        embedding = quantized_student(images)
        assert type(embedding) is Tensor
        assert float(nn.functional.cosine_similarity(embedding, backbone(images)).detach().min()) > 0.99
    weights = sum(layer.weight.numel() for layer in folded.modules() if isinstance(layer, nn.Conv2d | nn.Linear))
    assert quantize.quantized_size(network, scheme)[1] == weights + 4 * (
        quantize.quantized_size(network, scheme)[0] - weights
    )


@pytest.mark.parametrize(
    ("spec", "named"), [("mobilenetv2", "ReLU6.*add"), ("resnet18", "add"), ("timm:resnetv2_50", "no integer form")]
)
def test_other_students_are_refused_by_what_they_hold(spec: str, named: str) -> None:
    with pytest.raises(ModelError, match=rf"'{spec}' cannot be quantized: .*{named}.*a student is built of Conv2d"):
        quantize.require_quantizable(build_backbone(spec, 3), spec)


def test_a_student_without_an_integer_form_is_refused() -> None:
    with pytest.raises(ModelError, match=r"'resnet12:4' cannot be quantized: .*LeakyReLU.*add"):
        quantize.require_quantizable(build_backbone("resnet12:4", 3), "resnet12:4")


def test_thresholds_minimize_the_squared_error() -> None:
    values = torch.randn(20_000, generator=torch.Generator().manual_seed(0)).relu()
    chosen = calibrate.float_threshold(values, 15)
    errors = {t: calibrate.squared_error(values, t, 15) for t in (0.5 * chosen, chosen, 2 * chosen)}
    assert min(errors, key=errors.__getitem__) == chosen
    power = calibrate.power_of_two_threshold(values, 15)
    assert power in {1.0, 2.0, 4.0}
    assert calibrate.float_threshold(torch.zeros(10), 15) == 1.0
