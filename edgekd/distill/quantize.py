"""From a float backbone to a Brevitas one: fold BatchNorm, calibrate, replace layers by their quantized kind.

The integer network: int8 pixels at scale 1/128; each Conv2d and Linear with signed symmetric weights and an int32 bias;
each ReLU, each Identity (a map of both signs) and the global pooling requantized to `act_bits`. Pooling by maximum and
Flatten need no scale of their own.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.optimization import fuse, remove_dropout

from edgekd.distill import calibrate
from edgekd.distill.backbones import Backbone
from edgekd.distill.quantizers import act_quantizer, bias_quantizer, pixel_quantizer, sum_pool, weight_quantizer
from edgekd.errors import ModelError
from edgekd.manifest import QuantScheme

SUPPORTED = (
    nn.Conv2d,
    nn.Linear,
    nn.ReLU,
    nn.MaxPool2d,
    nn.AdaptiveAvgPool2d,
    nn.Flatten,
    nn.Identity,
    nn.BatchNorm2d,
    nn.Dropout,
)
ROUNDED = (nn.ReLU, nn.Identity, nn.AdaptiveAvgPool2d)  # the modules whose outputs become integers


@dataclass(frozen=True)
class Calibration:
    """What the float network showed: clipping thresholds by module, the shape (c, h, w) before each pooling."""

    thresholds: dict[str, float] = field(default_factory=dict)
    pool_shapes: dict[str, tuple[int, int, int]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Calibration:
        """Rebuild from `to_json`."""
        shapes = {name: (int(c), int(h), int(w)) for name, (c, h, w) in values["pool_shapes"].items()}
        return cls(dict(values["thresholds"]), shapes)


def require_quantizable(backbone: Backbone, spec: str) -> None:
    """Refuse a student with an operation that has no integer form here, before any training.

    Raises:
        ModelError: naming the operations.
    """
    graph = fx.Tracer().trace(copy.deepcopy(backbone))
    modules = dict(backbone.named_modules())
    strange = {
        type(modules[str(node.target)]).__name__
        for node in graph.nodes
        if node.op == "call_module" and not isinstance(modules[str(node.target)], SUPPORTED)
    }
    strange |= {
        getattr(node.target, "__name__", str(node.target))
        for node in graph.nodes
        if node.op in {"call_function", "call_method"}
    }
    if strange:
        legal = ", ".join(kind.__name__ for kind in SUPPORTED)
        raise ModelError(
            f"student '{spec}' cannot be quantized: {', '.join(sorted(strange))} has no integer form here; "
            f"a student is built of {legal}"
        )


def fold_batchnorm(backbone: nn.Module) -> fx.GraphModule:
    """Return a copy in evaluation mode in which each BatchNorm is folded into the convolution before it; no dropout.

    One behind the global mean of a signed map too: maxima and means are of what was scaled and shifted before them.

    B. Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference,
    CVPR 2018, arXiv 1712.05877, section 3.2.
    """
    network = copy.deepcopy(backbone).cpu().eval()
    for name, module in [*network.named_modules()]:
        if isinstance(module, nn.BatchNorm2d) and not module.affine:
            _fold_into(_last_affine_norm(network, before=name), module)
            network.set_submodule(name, nn.Dropout(0))  # goes with the dropouts
    return cast("fx.GraphModule", remove_dropout(fuse(network)))


def _last_affine_norm(network: nn.Module, before: str) -> nn.BatchNorm2d:
    """Return the BatchNorm with a scale and a shift that is the nearest to the module called `before`."""
    names = [name for name, _ in network.named_modules()]
    passed = [network.get_submodule(name) for name in names[: names.index(before)]]
    return next(module for module in reversed(passed) if isinstance(module, nn.BatchNorm2d) and module.affine)


@torch.no_grad()
def _fold_into(norm: nn.BatchNorm2d, later: nn.BatchNorm2d) -> None:
    """Let `norm` do what `later` does, with nothing but maxima and means between them."""
    assert later.running_mean is not None
    assert later.running_var is not None
    scale = (later.running_var + later.eps).rsqrt()
    norm.weight.mul_(scale)
    norm.bias.sub_(later.running_mean).mul_(scale)


def calibrate_backbone(folded: fx.GraphModule, images: Tensor, scheme: QuantScheme) -> Calibration:
    """Run normalized images (n, c, h, w) through the folded network; choose each threshold by least squared error."""
    outputs, shapes = calibrate.observe(folded, images, ROUNDED, nn.AdaptiveAvgPool2d)
    choose = calibrate.power_of_two_threshold if scheme.scale == "power_of_two" else calibrate.float_threshold
    # Steps between zero and the clipping threshold, as Brevitas counts them.
    steps = 2**scheme.act_bits - 1 if scheme.relu_unsigned else 2 ** (scheme.act_bits - 1)
    return Calibration({name: choose(values, steps) for name, values in outputs.items()}, shapes)


def quantize_backbone(folded: fx.GraphModule, scheme: QuantScheme, calibration: Calibration) -> fx.GraphModule:
    """Return a trainable Brevitas copy of a folded backbone: same module names, weights and layout."""
    with quiet_brevitas():
        quantized: fx.GraphModule = copy.deepcopy(folded)
        for name, module in list(quantized.named_modules()):
            replacement = _replacement(module, name, scheme, calibration)
            if replacement is not None:
                quantized.set_submodule(name, replacement)
        _insert_input_quantizer(quantized)
        _give_plain_output(quantized)
    return quantized


def _replacement(module: nn.Module, name: str, scheme: QuantScheme, calibration: Calibration) -> nn.Module | None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        return _quantized_layer(module, scheme)
    if isinstance(module, nn.ReLU):
        from brevitas.nn import QuantReLU

        quantizer = act_quantizer(scheme, calibration.thresholds[name])
        rectifier: nn.Module = QuantReLU(act_quant=quantizer, return_quant_tensor=True)
        return rectifier
    if isinstance(module, nn.Identity):
        from brevitas.nn import QuantIdentity

        quantizer = act_quantizer(scheme, calibration.thresholds[name])
        rounding: nn.Module = QuantIdentity(act_quant=quantizer, return_quant_tensor=True)
        return rounding
    if isinstance(module, nn.AdaptiveAvgPool2d):
        return _quantized_pool(scheme, calibration.thresholds[name], calibration.pool_shapes[name])
    return None


def _quantized_layer(layer: nn.Conv2d | nn.Linear, scheme: QuantScheme) -> nn.Module:
    from brevitas.nn import QuantConv2d, QuantLinear

    shared = {
        "bias": True,
        "weight_quant": weight_quantizer(scheme),
        "weight_bit_width": scheme.weight_bits,
        "bias_quant": bias_quantizer(scheme),
    }
    quantized: nn.Conv2d | nn.Linear
    if isinstance(layer, nn.Conv2d):
        geometry = {key: getattr(layer, key) for key in ("stride", "padding", "dilation", "groups")}
        quantized = QuantConv2d(layer.in_channels, layer.out_channels, layer.kernel_size, **geometry, **shared)
    else:
        quantized = QuantLinear(layer.in_features, layer.out_features, **shared)
    with torch.no_grad():
        quantized.weight.copy_(layer.weight)
        if quantized.bias is not None:
            quantized.bias.copy_(torch.zeros(len(layer.weight)) if layer.bias is None else layer.bias)
    return quantized


def _quantized_pool(scheme: QuantScheme, threshold: float, shape: tuple[int, int, int]) -> nn.Module:
    """Global pooling and its requantization.

    With power-of-two scales every step must be exact in binary: a mean over 2^k values is, over 5x5 it is not. There
    the pooling is a sum (a depthwise convolution with ones) worth mean * area / 2^k: the embedding's scale changes.
    """
    from brevitas.nn import QuantIdentity

    channels, height, width = shape
    area = height * width
    if not _must_sum(scheme, area):
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), QuantIdentity(act_quant=act_quantizer(scheme, threshold)))
    power = 1 << (area - 1).bit_length()  # the next power of two above the area
    grown = calibrate.next_power_of_two(threshold * area / power)
    return nn.Sequential(
        sum_pool(channels, (height, width), power), QuantIdentity(act_quant=act_quantizer(scheme, grown))
    )


def _must_sum(scheme: QuantScheme, area: int) -> bool:
    return scheme.scale == "power_of_two" and area & (area - 1) != 0


@torch.no_grad()
def added_parameters(backbone: Backbone, scheme: QuantScheme, height: int, width: int) -> int:
    """Return how many parameters quantizing adds for images of this size: the ones of a pooling that must be a sum."""
    network = copy.deepcopy(backbone).eval()
    example = torch.zeros(1, network.in_channels, height, width)
    _, shapes = calibrate.observe(network, example, (nn.AdaptiveAvgPool2d,), nn.AdaptiveAvgPool2d)
    return sum(c * h * w for c, h, w in shapes.values() if _must_sum(scheme, h * w))


def _insert_input_quantizer(quantized: fx.GraphModule) -> None:
    """Put int8 at scale 1/128 in front of the first layer; it is never learned."""
    from brevitas.nn import QuantIdentity

    quantized.add_submodule("pixels", QuantIdentity(act_quant=pixel_quantizer(), return_quant_tensor=True))
    placeholder = next(node for node in quantized.graph.nodes if node.op == "placeholder")
    with quantized.graph.inserting_after(placeholder):
        entry = quantized.graph.call_module("pixels", (placeholder,))
    placeholder.replace_all_uses_with(entry, delete_user_cb=lambda user: user is not entry)
    quantized.recompile()


def _give_plain_output(quantized: fx.GraphModule) -> None:
    """Let a network that ends with a rectifier give out a tensor, as one that ends with a pooling does."""
    from brevitas.nn import QuantReLU

    output = next(node for node in quantized.graph.nodes if node.op == "output")
    last = quantized.get_submodule(str(output.args[0].target))
    if isinstance(last, QuantReLU):
        last.return_quant_tensor = False


def quantized_size(network: nn.Module, scheme: QuantScheme) -> tuple[int, int]:
    """Return parameters and bytes of a quantized network: weights at `weight_bits`, biases int32; scales left out."""
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    weights = sum(layer.weight.numel() for layer in layers)
    biases = sum(layer.bias.numel() for layer in layers if layer.bias is not None)
    return weights + biases, -(-weights * scheme.weight_bits // 8) + 4 * biases


@contextmanager
def quiet_brevitas() -> Iterator[None]:
    """Keep Brevitas' and named tensors' warnings, which no user can act on, from the screen."""
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning)
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        yield
