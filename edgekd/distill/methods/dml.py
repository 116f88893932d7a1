"""Two networks that learn from each other."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.nn import functional

from edgekd.distill.methods.base import Method, Outputs, Samples, register
from edgekd.distill.methods.divergence import kl_divergence
from edgekd.errors import RecipeError
from edgekd.recipe import Recipe


@register
class MutualLearning(Method):
    """KL(p_t || p_s) for the student and KL(p_s || p_t) + CE(y, u_t) for its peer, each with the other's p held still.

    The peer has the teacher's backbone and starts anew; it is measured beside the student. The student's own cross-
    entropy is the term `ce`: "ce + dml" is the source's loss. Both networks step at once, where the source takes turns.
    """

    name = "dml"
    source = "Y. Zhang et al., Deep Mutual Learning, CVPR 2018, https://arxiv.org/abs/1706.00384"
    uses_labels = True
    online = True

    def forward(self, student: Outputs, teacher: Outputs, samples: Samples) -> Tensor:
        """Return the sum of the student's and the peer's losses, each a mean over the batch, in nats."""
        of_student = kl_divergence(teacher.logits.detach(), student.logits)
        of_peer = kl_divergence(student.logits.detach(), teacher.logits)
        return of_student + of_peer + functional.cross_entropy(teacher.logits, samples.labels)

    @classmethod
    def adapt(cls, recipe: Recipe, options: Mapping[str, object]) -> Recipe:  # noqa: ARG003 - the hook's signature
        """Refuse a trained teacher, which would go unused."""
        if recipe.teacher.weights:
            raise RecipeError("dml trains the student's peer from its start; leave out --teacher-weights")
        return recipe
