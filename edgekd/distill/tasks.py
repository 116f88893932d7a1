"""What a stage minimizes: modules whose forward returns (loss, its terms). Nothing here knows how it is trained."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekd.distill.backbones import Backbone
from edgekd.distill.class_heads import HEADS
from edgekd.distill.methods import Outputs, Samples, WeightedMethods
from edgekd.distill.taps import recording
from edgekd.recipe import HeadKind

Loss = tuple[Tensor, dict[str, Tensor]]


class Classifier(nn.Module):
    """A backbone with a head over the training classes, of a kind that `HEADS` names."""

    def __init__(self, backbone: Backbone, n_classes: int, head: HeadKind = "linear") -> None:
        super().__init__()
        self.backbone = backbone
        self.head = HEADS[head](backbone.embedding_dim, n_classes)

    def forward(self, images: Tensor, layers: Sequence[int] = ()) -> Outputs:
        """Map images (b, c, h, w) to embeddings (b, d), logits (b, n_classes) and the maps of `layers`, all fp32."""
        with recording(self.backbone, layers) as maps:
            embedding = self.backbone(images)
        logits = self.head(embedding).float()
        return Outputs(embedding.float(), logits, {layer: value.float() for layer, value in maps.items()})


class LabelTask(nn.Module):
    """Cross-entropy with the labels: Classifier-Baseline.

    Y. Chen et al., Meta-Baseline: Exploring Simple Meta-Learning for Few-Shot Learning, ICCV 2021, arXiv 2003.04390.
    """

    def __init__(self, classifier: Classifier, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.classifier = classifier
        self.label_smoothing = label_smoothing

    def forward(self, images: Tensor, labels: Tensor) -> Loss:
        """Return the loss of one batch."""
        loss = functional.cross_entropy(self.classifier(images).logits, labels, label_smoothing=self.label_smoothing)
        return loss, {"ce": loss}


class DistillTask(nn.Module):
    """A weighted sum of distillation terms between the student's outputs and the teacher's.

    `peer` is a teacher that learns at the same time; without it, each batch brings a trained teacher's outputs.
    """

    def __init__(self, classifier: Classifier, methods: WeightedMethods, peer: Classifier | None = None) -> None:
        super().__init__()
        self.classifier = classifier
        self.methods = methods
        self.peer = peer

    def forward(self, images: Tensor, samples: Samples, teacher: Outputs | None = None) -> Loss:
        """Return the loss of one batch; `teacher` holds the trained teacher's outputs on the same images."""
        student = self.classifier(images, self.methods.student_layers)
        if self.peer is not None:
            teacher = self.peer(images, self.methods.teacher_layers)
        loss: Loss = self.methods(student, student if teacher is None else teacher, samples)
        return loss


class PrepareTask(nn.Module):
    """What terms train on a still teacher's outputs before distilling, each part by a loss of its own."""

    def __init__(self, parts: nn.ModuleDict) -> None:
        super().__init__()
        self.parts = parts

    def forward(self, teacher: Outputs, samples: Samples) -> Loss:
        """Return the sum of the losses of one batch; no two share a parameter."""
        losses: dict[str, Tensor] = {name: part(teacher, samples) for name, part in self.parts.items()}
        return torch.stack(list(losses.values())).sum(), losses


class HeadTask(nn.Module):
    """Cross-entropy of a linear head on the embeddings of a backbone that is held still."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, embedding: Tensor, labels: Tensor) -> Loss:
        """Return the loss of embeddings (b, d)."""
        loss = functional.cross_entropy(self.head(embedding).float(), labels)
        return loss, {"ce": loss}


class QuantizeTask(nn.Module):
    """Quantization-aware training guided by the float student: keep the direction of each embedding.

    The loss is 1 - cos(quantized, float), since nearest-class-mean by cosine sees only directions. Always fp32:
    quantization grids are finer than bf16.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor, target: Tensor) -> Loss:
        """Return the loss of one batch; `target` is the float student's embedding (b, d) of the same images."""
        with torch.autocast(images.device.type, enabled=False):
            embedding = self.backbone(images.float())
        loss = (1 - functional.cosine_similarity(embedding, target.float())).mean()
        return loss, {"cosine_distance": loss}
