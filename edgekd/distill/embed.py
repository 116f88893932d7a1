"""Embeddings of a whole image set by a torch backbone, and their few-shot accuracy by the one evaluator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edgekd import fewshot, measures
from edgekd.data import ImageSet
from edgekd.distill.augment import normalize
from edgekd.distill.tasks import Classifier
from edgekd.errors import EdgekdError
from edgekd.manifest import AccuracyRow, Classification, OwnMeasure
from edgekd.recipe import Test, Validation

if TYPE_CHECKING:
    from edgekd.distill.learners import Measure

BATCH = 128
MEAN_IMAGES = 4096  # for a mean that is off by less than 1.6 % of the deviation of one image


class DivergedError(EdgekdError):
    """A network that gives no finite embeddings."""


def _go_on() -> None:
    """Stop for nothing."""


@torch.no_grad()
def embed(
    backbone: nn.Module, images: NDArray[np.uint8], *, bf16: bool = False, before_batch: Callable[[], None] = _go_on
) -> NDArray[np.float32]:
    """Map uint8 images (n, height, width, channels) to embeddings (n, d), in evaluation mode.

    It computes in the backbone's own precision, fp32 or double, unless `bf16`. What `before_batch` raises ends it.

    Raises:
        DivergedError: an embedding is not finite.
    """
    own = next(backbone.parameters())
    device = own.device
    backbone.eval()
    parts = []
    for start in range(0, len(images), BATCH):
        before_batch()
        batch = normalize(torch.tensor(images[start : start + BATCH]).to(device)).to(own.dtype)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
            parts.append(backbone(batch).float().cpu())
    embeddings = torch.cat(parts)
    if bad := int((~embeddings.isfinite().all(dim=1)).sum()):
        raise DivergedError(f"{bad} of {len(embeddings)} embeddings are not finite numbers")
    return embeddings.numpy()


@torch.no_grad()
def head_logits(classifier: Classifier, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what the classifier's head makes of its backbone's embeddings (n, d): logits (n, classes), in fp32."""
    head = classifier.head
    logits: NDArray[np.float32] = head(torch.tensor(embeddings).to(head.weight.device)).float().cpu().numpy()
    return logits


def head_accuracy(classifier: Classifier, images: ImageSet, *, bf16: bool) -> float:
    """Return the share of images whose class the classifier's head names."""
    logits = head_logits(classifier, embed(classifier.backbone, images.images, bf16=bf16))
    return float((logits.argmax(axis=1) == images.labels).mean())


def classify(classifier: Classifier, embeddings: NDArray[np.float32], images: ImageSet, spec: str) -> Classification:
    """Measure the classifier's head on the embeddings (n, d) of test images of its classes."""
    predicted = head_logits(classifier, embeddings).argmax(axis=1)
    return measures.classification(images.labels, predicted, classes=images.n_classes, dataset=spec, split="test")


def validation_score(backbone: nn.Module, images: ImageSet, validation: Validation, *, bf16: bool) -> float:
    """Return the mean few-shot accuracy over the validation shots: what the best epoch is chosen by."""
    embeddings = embed(backbone, images.images, bf16=bf16)
    way = min(validation.way, images.n_classes)
    protocols = [fewshot.Protocol(way, shot, validation.query, validation.episodes) for shot in validation.shots]
    return float(np.mean([fewshot.evaluate(embeddings, images.labels, protocol).mean for protocol in protocols]))


def measure(
    backbone: nn.Module, images: ImageSet, test: Test, spec: str, base_mean: NDArray[np.float32] | None = None
) -> tuple[AccuracyRow, ...]:
    """Return the accuracy on `images` for each shot of `test`, in fp32, engine "torch"."""
    return measure_embeddings(embed(backbone, images.images), images, test, spec, base_mean)


def measure_embeddings(
    embeddings: NDArray[np.float32],
    images: ImageSet,
    test: Test,
    spec: str,
    base_mean: NDArray[np.float32] | None = None,
) -> tuple[AccuracyRow, ...]:
    """As `measure`, of embeddings (n, d) that are there already."""
    way = test.way_among(images.n_classes)
    protocols = [fewshot.Protocol(way, shot, test.query, test.episodes) for shot in test.shots]
    found = [fewshot.evaluate(embeddings, images.labels, protocol, test.head, base_mean) for protocol in protocols]
    return tuple(_row(accuracy, spec) for accuracy in found)


def measure_by_own(
    embeddings: NDArray[np.float32], images: ImageSet, own: Mapping[str, Measure], spec: str
) -> tuple[OwnMeasure, ...]:
    """Measure embeddings (n, d) of test images by what learners judge them by, with 95 % intervals of the draws."""
    shares = {name: measure.share(embeddings, images.labels) for name, measure in own.items()}
    return tuple(
        OwnMeasure(
            name=name,
            dataset=spec,
            split="test",
            trials=own[name].trials,
            mean=share,
            ci95=measures.share_ci95(share, own[name].trials),
        )
        for name, share in shares.items()
    )


def _row(found: fewshot.Accuracy, spec: str) -> AccuracyRow:
    return AccuracyRow(
        dataset=spec,
        split="test",
        way=found.way,
        shot=found.shot,
        query=found.query,
        episodes=found.episodes,
        head=found.head,
        engine="torch",
        mean=found.mean,
        ci95=found.ci95,
    )


def mean_embedding(backbone: nn.Module, images: Sequence[ImageSet] | ImageSet) -> NDArray[np.float32]:
    """Return the mean embedding (d,) of an image set; of a large one, of every so many, MEAN_IMAGES at least."""
    sets = [images] if isinstance(images, ImageSet) else list(images)
    step = max(1, sum(len(part.images) for part in sets) // MEAN_IMAGES)
    mean: NDArray[np.float32] = (
        np.concatenate([embed(backbone, part.images[::step]) for part in sets])
        .mean(0, dtype=np.float64)
        .astype(np.float32)
    )
    return mean
