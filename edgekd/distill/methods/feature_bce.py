"""Multi-label regression of attributes that a connector layer finds in the teacher's features."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from edgekd.distill.methods.base import Dims, Method, Outputs, Samples, register
from edgekd.distill.methods.projectors import find_projector
from edgekd.errors import RecipeError


class Connector(nn.Module):
    """sigmoid(W z_t + b), the probabilities of attributes, and a linear head on them; trained on the teacher's task."""

    def __init__(self, embedding_dim: int, attributes: int, classes: int) -> None:
        super().__init__()
        self.attributes = nn.Linear(embedding_dim, attributes)
        self.head = nn.Linear(attributes, classes)

    def probabilities(self, embedding: Tensor) -> Tensor:
        """Map embeddings (b, d) to probabilities (b, attributes)."""
        logits: Tensor = self.attributes(embedding)
        return logits.sigmoid()

    def forward(self, teacher: Outputs, samples: Samples) -> Tensor:
        """Return the cross-entropy of the new head with the labels, in nats: what trains both layers."""
        return functional.cross_entropy(self.head(self.probabilities(teacher.embedding)), samples.labels)


@register
class FeatureBCE(Method):
    """Binary cross-entropy between p_t = sigmoid(W_t z_t + b_t) and p_s = sigmoid(P z_s), over images and attributes.

    W_t is a connector layer between the teacher's embedding and a new head; both are trained on the teacher's task
    before distilling, the rest of the teacher held still. P is a trained `projector` (none, linear or mlp), dropped in
    the end. `attributes` = 0 takes as many as the teacher's embedding has dimensions. The source predicts named
    concepts from labels of them; here they are the unnamed ones that the connector finds.
    """

    name = "feature_bce"
    source = "P. W. Koh et al., Concept Bottleneck Models, ICML 2020, https://arxiv.org/abs/2007.04612"
    teaches_head = False

    def __init__(self, dims: Dims, *, attributes: int = 0, projector: str = "linear") -> None:
        super().__init__(dims)
        if attributes < 0:
            raise RecipeError(f"feature_bce: attributes is {attributes}; it is above 0, or 0 for the teacher's width")
        attributes = attributes or dims.teacher
        self.connector = Connector(dims.teacher, attributes, dims.classes)
        self.projector = find_projector(projector)(dims.student, attributes, False)

    def prepare_task(self) -> Connector:
        """Return the connector."""
        return self.connector

    def forward(self, student: Outputs, teacher: Outputs, _samples: Samples) -> Tensor:
        """Return the mean over the batch and the attributes, in nats."""
        wanted = self.connector.probabilities(teacher.embedding).detach()
        return functional.binary_cross_entropy_with_logits(self.projector(student.embedding), wanted)
