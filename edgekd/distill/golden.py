"""What the float student computes on the way, to compare a quantized file with, layer by layer."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgekd.distill.augment import normalize
from edgekd.distill.quantize import ROUNDED


@torch.no_grad()
def float_activations(folded: nn.Module, images: NDArray[np.uint8]) -> list[NDArray[np.float16]]:
    """Return the output (n, c, h, w) of each module that quantizing rounds, in the order of execution.

    `folded` is the float student with its BatchNorm folded, images are uint8 (n, height, width, channels).
    """
    found: list[NDArray[np.float16]] = []

    def keep(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        found.append(output.numpy().astype(np.float16))

    handles = [module.register_forward_hook(keep) for module in folded.modules() if isinstance(module, ROUNDED)]
    try:
        folded.eval()(normalize(torch.tensor(images)))
    finally:
        for handle in handles:
            handle.remove()
    return found
