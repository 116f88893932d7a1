"""How a stage is judged while it trains."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from edgekd.distill.context import Context
from edgekd.distill.embed import embed, head_accuracy, validation_score
from edgekd.distill.learners import Measure
from edgekd.distill.tasks import Classifier
from edgekd.distill.training import Validation


def validation_of(
    context: Context,
    backbone: nn.Module,
    *,
    classifier: Classifier | None = None,
    bf16: bool | None = None,
    measures: Mapping[str, Measure] | None = None,
) -> Validation:
    """Score `backbone` on episodes of the validation classes; `bf16` None: as it is trained.

    Or, where the recipe asks for accuracy, the head that the stage trains: that of `classifier`. `measures` are further
    figures on the validation images, by name; they do not choose the best weights.
    """
    images, settings = context.splits.val, context.run.recipe.validation
    use_bf16 = context.bf16 if bf16 is None else bf16

    def score() -> float:
        if classifier is not None and context.by_head:
            return head_accuracy(classifier, images, bf16=use_bf16)
        return validation_score(backbone, images, settings, bf16=use_bf16)

    def figures() -> dict[str, float]:
        if not measures:
            return {}
        embeddings = embed(backbone, images.images, bf16=use_bf16)
        return {name: measure.share(embeddings, images.labels) for name, measure in measures.items()}

    return Validation(score, figures, settings.every_epochs)
