"""How far a student's features (b, c, ...) are from a teacher's of the same shape, by name; each a mean, a scalar."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional

from edgekd.errors import RecipeError, unknown

Discrepancy = Callable[[Tensor, Tensor], Tensor]


def _cosine(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - cos over the channels."""
    return (1 - functional.cosine_similarity(student, teacher, dim=1)).mean()


def _cross_entropy(student: Tensor, teacher: Tensor) -> Tensor:
    """-softmax(teacher) log softmax(student), summed over the channels; in nats."""
    return -(teacher.softmax(1) * student.log_softmax(1)).sum(1).mean()


DISCREPANCIES: dict[str, Discrepancy] = {
    "mse": functional.mse_loss,
    "l1": functional.l1_loss,
    "cosine": _cosine,
    "ce": _cross_entropy,
}


def find_discrepancy(name: str) -> Discrepancy:
    """Return the function of this name.

    Raises:
        RecipeError: there is none.
    """
    if name not in DISCREPANCIES:
        raise RecipeError(unknown("loss between features", name, DISCREPANCIES))
    return DISCREPANCIES[name]
