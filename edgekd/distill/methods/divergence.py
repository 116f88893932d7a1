"""Kullback-Leibler divergence between what two networks predict."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def kl_divergence(teacher_logits: Tensor, student_logits: Tensor) -> Tensor:
    """Return KL(softmax(teacher) || softmax(student)) of logits (b, classes), averaged over the batch, in nats."""
    log_p = functional.log_softmax(teacher_logits, dim=1)
    log_q = functional.log_softmax(student_logits, dim=1)
    return functional.kl_div(log_q, log_p, reduction="batchmean", log_target=True)
