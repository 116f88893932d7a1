"""What a classifier that is to teach minimizes, beyond cross-entropy: rotations, mixed images, a head alone."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekd.distill.mixing import Mix, draw_mix, mixing
from edgekd.distill.tasks import Classifier, Loss

TURNS = 4  # of 90 degrees

_Criterion = Callable[[Tensor, Tensor], Tensor]


class StrongLabelTask(nn.Module):
    """Cross-entropy with the labels, on images in four rotations (`rotation` > 0), mixed in pairs (`mixup` > 0).

    `rotation` weighs the error of a head that tells the rotation from the class logits, CE + rotation * BCE over the
    four outputs; a batch becomes four times as large, and the head is no part of the classifier.
    J. Rajasegaran et al., Self-supervised Knowledge Distillation for Few-shot Learning, 2020,
    https://arxiv.org/abs/2006.09785.

    `mixup` is the parameter of the Beta distribution, as in `edgekd.distill.mixing`; both at once as in P. Mangla
    et al., Charting the Right Manifold: Manifold Mixup for Few-shot Learning, WACV 2020,
    https://arxiv.org/abs/1907.12087, but in one pass: rotated images are mixed, and so are their rotations.
    """

    def __init__(
        self, classifier: Classifier, *, label_smoothing: float = 0.0, rotation: float = 0.0, mixup: float = 0.0
    ) -> None:
        super().__init__()
        self.classifier = classifier
        self.rotation_head = nn.Linear(classifier.head.out_features, TURNS) if rotation else None
        self.label_smoothing, self.rotation, self.mixup = label_smoothing, rotation, mixup

    def forward(self, images: Tensor, labels: Tensor) -> Loss:
        """Return the loss of images (b, c, h, w); with rotations h = w."""
        turns = torch.zeros_like(labels)
        if self.rotation:
            images, labels, turns = in_all_rotations(images, labels)
        mix = draw_mix(self.mixup, len(self.classifier.backbone.layers), len(images)) if self.mixup else None
        with mixing(self.classifier.backbone, mix) if mix else nullcontext():
            logits = self.classifier(images).logits
        terms = {"ce": _mixed(self._cross_entropy, logits, labels, mix)}
        if self.rotation_head is not None:
            terms["rotation"] = _mixed(_one_of_four, self.rotation_head(logits).float(), turns, mix)
        loss = terms["ce"] + self.rotation * terms["rotation"] if self.rotation else terms["ce"]
        return loss, terms

    def _cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)


class HeadTask(nn.Module):
    """Cross-entropy of the head alone, on embeddings of a frozen backbone in evaluation mode: feature extraction.

    J. Yosinski et al., How transferable are features in deep neural networks?, NeurIPS 2014,
    https://arxiv.org/abs/1411.1792.
    """

    def __init__(self, classifier: Classifier, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.classifier = classifier
        self.label_smoothing = label_smoothing

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all but the backbone."""
        super().train(mode)
        self.classifier.backbone.eval()
        return self

    def forward(self, images: Tensor, labels: Tensor) -> Loss:
        """Return the loss of one batch."""
        with torch.no_grad():
            embedding = self.classifier.backbone(images)
        logits = self.classifier.head(embedding).float()
        loss = functional.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        return loss, {"ce": loss}


def in_all_rotations(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Turn square images (b, c, s, s) by 0 to 3 quarters; return (4b, c, s, s), labels (4b,) and quarters (4b,)."""
    turned = torch.cat([torch.rot90(images, quarter, (2, 3)) for quarter in range(TURNS)])
    quarters = torch.arange(TURNS, device=labels.device).repeat_interleave(len(labels))
    return turned, labels.repeat(TURNS), quarters


def _one_of_four(logits: Tensor, quarters: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits, functional.one_hot(quarters, TURNS).to(logits.dtype))


def _mixed(loss: _Criterion, logits: Tensor, targets: Tensor, mix: Mix | None) -> Tensor:
    """Both losses are linear in their one-hot targets, so mixing targets is mixing losses."""
    if mix is None:
        return loss(logits, targets)
    return mix.share * loss(logits, targets) + (1 - mix.share) * loss(logits, targets[mix.order.to(targets.device)])
