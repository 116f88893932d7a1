"""A student as it would be quantized, before any training: its graph and sizes are final, its weights are random."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from edgekd.data import Splits
from edgekd.distill import quantize
from edgekd.distill.backbones import build_backbone, require_buildable, require_input
from edgekd.distill.quantizing import calibration_images
from edgekd.distill.scheme import resolve_scheme
from edgekd.distill.seeding import derive_seed
from edgekd.manifest import QuantScheme
from edgekd.profile import HardwareProfile
from edgekd.recipe import Recipe

IMAGES = 16  # what random weights are calibrated on
BIAS_STD = 0.01


@dataclass(frozen=True)
class Untrained:
    """A quantized network, its float original with folded BatchNorm, and its scheme."""

    network: nn.Module
    reference: nn.Module
    scheme: QuantScheme


def untrained_student(recipe: Recipe, profile: HardwareProfile, splits: Splits) -> Untrained:
    """Return the recipe's student with random weights, quantized as `profile` and the recipe ask.

    Raises:
        RecipeError: there is no such backbone.
        ModelError: it has operations without an integer form, or is too large to build.
        DataError: the images are too small for it.
        ProfileError: the profile allows no such bit-width.
    """
    images, spec = splits.train, recipe.student.backbone
    require_buildable(spec, images.channels)
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(recipe.seed, "untrained"))
        backbone = build_backbone(spec, images.channels)
        require_input(backbone, images.height, images.width, images.channels)
        quantize.require_quantizable(backbone, spec)
        scheme = resolve_scheme(profile, recipe.quantize, signed=backbone.signed)
        _bias(backbone)
        folded = quantize.fold_batchnorm(backbone)
        calibration = quantize.calibrate_backbone(folded, calibration_images(splits, IMAGES, recipe.seed), scheme)
        return Untrained(quantize.quantize_backbone(folded, scheme, calibration).eval(), folded, scheme)


@torch.no_grad()
def _bias(backbone: nn.Module) -> None:
    """Draw every bias: zeros of one length would be exported as one constant, and counted once."""
    for layer in backbone.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
            layer.bias.normal_(std=BIAS_STD)
