"""A classifier of all training classes, whose last layer is dropped afterwards."""

from __future__ import annotations

from torch import Tensor

from edgekd.distill.learners.base import IMAGES, Learner, register
from edgekd.distill.tasks import Classifier, LabelTask, Loss
from edgekd.recipe import Learning


@register
class ClassifierBaseline(Learner):
    """Cross-entropy with the labels, smoothed by `label_smoothing`."""

    name = "classifier"
    source = "Y. Chen et al., Meta-Baseline, ICCV 2021, https://arxiv.org/abs/2003.04390"
    unit = IMAGES
    trains_head = True

    def __init__(self, classifier: Classifier, settings: Learning) -> None:
        super().__init__(classifier, settings)
        self.task = LabelTask(classifier, settings.label_smoothing)

    def forward(self, images: Tensor, labels: Tensor) -> Loss:
        """Return the mean over the batch, in nats."""
        loss: Loss = self.task(images, labels)
        return loss
