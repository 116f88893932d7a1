"""Let weights trained on ImageNet see the pixels they were trained on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edgekd.data.preprocess import INPUT_OFFSET, INPUT_SCALE

MEAN = (0.485, 0.456, 0.406)  # of ImageNet in RGB, pixels in 0..1
STD = (0.229, 0.224, 0.225)


class ImageNetInput(nn.Module):
    """Turn (pixel - 128) / 128 into (pixel / 255 - mean) / std, and grayscale into three equal channels."""

    scale: Tensor
    shift: Tensor

    def __init__(self, mean: Sequence[float] = MEAN, std: Sequence[float] = STD) -> None:
        super().__init__()
        means, stds = torch.tensor(mean).view(1, 3, 1, 1), torch.tensor(std).view(1, 3, 1, 1)
        self.register_buffer("scale", 1 / (255 * INPUT_SCALE * stds), persistent=False)
        self.register_buffer("shift", (INPUT_OFFSET / 255 - means) / stds, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Map (b, 1 or 3, h, w) to (b, 3, h, w)."""
        return images * self.scale + self.shift
