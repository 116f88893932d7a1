"""Cross-entropy with the labels."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from edgekd.distill.methods.base import Dims, Method, Outputs, Samples, register
from edgekd.errors import RecipeError


@register
class CrossEntropy(Method):
    """-log softmax(u_s)[y], the target smoothed to (1 - s) onehot(y) + s / classes.

    Smoothing: C. Szegedy et al., Rethinking the Inception Architecture, CVPR 2016, https://arxiv.org/abs/1512.00567.
    """

    name = "ce"
    source = "Y. Chen et al., Meta-Baseline, ICCV 2021, https://arxiv.org/abs/2003.04390"
    uses_teacher = False
    uses_labels = True
    holds_ce = True

    def __init__(self, dims: Dims, *, label_smoothing: float = 0.0) -> None:
        super().__init__(dims)
        if not 0 <= label_smoothing < 1:
            raise RecipeError(f"ce: label_smoothing is {label_smoothing}; it lies in 0 <= label_smoothing < 1")
        self.label_smoothing = label_smoothing

    def forward(self, student: Outputs, _teacher: Outputs, samples: Samples) -> Tensor:
        """Return the mean over the batch, in nats."""
        return functional.cross_entropy(student.logits, samples.labels, label_smoothing=self.label_smoothing)
