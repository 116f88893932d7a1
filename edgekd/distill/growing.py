"""Images that begin small and grow as training goes on: early epochs cost less."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from edgekd.recipe import Schedule

PHASES = 4  # of equal length; in the last, images have their full size


def share_of_side(schedule: Schedule, epoch: float) -> float:
    """Return the share of their side that images have at a fractional epoch, from `start_size` up to 1.

    Source: M. Tan & Q. Le, EfficientNetV2: Smaller Models and Faster Training, ICML 2021,
    https://arxiv.org/abs/2104.00298, section 4 (image sizes alone; augmentation stays as it is).
    """
    phase = min(PHASES - 1, int(PHASES * epoch / max(schedule.epochs, 1e-9)))
    return schedule.start_size + (1 - schedule.start_size) * phase / (PHASES - 1)


def smallest(schedule: Schedule, height: int, width: int) -> tuple[int, int]:
    """Return height and width of the first images."""
    return round(schedule.start_size * height), round(schedule.start_size * width)


def sized(images: Tensor, share: float) -> Tensor:
    """Return images (b, c, h, w) with `share` of their sides, averaged over what a pixel covers, channels last."""
    if share == 1:
        return images
    size = [round(share * side) for side in images.shape[2:]]
    small = functional.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True)
    return small.contiguous(memory_format=torch.channels_last)
