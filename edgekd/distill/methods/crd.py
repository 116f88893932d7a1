"""Contrast: the two networks' embeddings of one image belong together, those of other images do not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final, Literal

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional

from edgekd.distill.methods.base import Dims, Method, Outputs, Samples, register
from edgekd.errors import RecipeError

NO_LABEL = -1
OTHER_CLASSES: Final = "other_classes"
ANY: Final = "any"


def contrast(scores: Tensor, others: Tensor, counts: Tensor, log_noise: Tensor) -> Tensor:
    """Return -(log h(g_i) + sum over k of counts_ik log(1 - h(g_ik))), averaged over i.

    h(g) = e^g / (e^g + noise); scores (b,) are g_i, others and counts (b, k): g_ik and how often each counts.
    """
    # -log h = softplus(log noise - g), -log(1 - h) = softplus(g - log noise)
    pulled = functional.softplus(log_noise - scores)
    pushed = (functional.softplus(others - log_noise) * counts).sum(1)
    return (pulled + pushed).mean()


def log_mean_exp(scores: Tensor) -> Tensor:
    """Return log mean(e^g) over all processes."""
    everyones = _of_all_processes(scores.flatten())
    return everyones.logsumexp(0) - math.log(len(everyones))


def _of_all_processes(values: Tensor) -> Tensor:
    """Return `values` (n, ...) of every process, in their order, one after another."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return values
    parts = [torch.empty_like(values) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, values.contiguous())
    return torch.cat(parts)


@register
class Contrastive(Method):
    """Noise-contrastive estimation between v_s = norm(W_s z_s + b_s) and v_t = norm(W_t z_t + b_t), both ways.

    With g = v . v' / temperature and h(g) = e^g / (e^g + K c), the loss is -log h(v_s . v_t) less the sum over k of
    log(1 - h(v_s . m_k)), where m_k are K negatives out of a memory of the teacher's embeddings, plus the same with the
    roles changed. c = mean(e^g) over the first batch, as Z of the authors' code makes it; with the paper's N / M in the
    place of K c the loss would begin in the thousands. A memory holds `size` numbers for each training image and
    network, 39 MB for both at 38,400 images: m <- norm(momentum m + (1 - momentum) v).

    `negatives`: images of other classes, as the authors' code draws them, or with "any" all other images, where there
    are no labels. With few classes the second pushes the images of a class apart: of ten, one negative in ten.

    Two choices of ours: the positive is the embedding of this step, where the code takes the memory's, which is noise
    for a whole epoch; the negatives are `nce_k` rows drawn once a step for the whole batch, so that a step costs b K
    scores and K * size numbers. Those of an image's own class are left out, and the others count for them.

    Processes exchange rows and embeddings and draw the same negatives: their memories and mean gradient are those of
    one process, from the same outputs. All state is in buffers; draws follow from the seed of the step.
    """

    name = "crd"
    source = "Y. Tian et al., Contrastive Representation Distillation, ICLR 2020, https://arxiv.org/abs/1910.10699"
    uses_labels = True
    memory_student: Tensor
    memory_teacher: Tensor
    labels: Tensor
    noise_student: Tensor
    noise_teacher: Tensor
    teaches_head = False

    def __init__(
        self,
        dims: Dims,
        *,
        size: int = 128,
        nce_k: int = 16384,
        temperature: float = 0.07,
        momentum: float = 0.5,
        negatives: Literal["other_classes", "any"] = OTHER_CLASSES,
    ) -> None:
        super().__init__(dims)
        _require(size, nce_k, temperature, momentum, dims.images)
        if negatives not in {OTHER_CLASSES, ANY}:
            raise RecipeError(f"crd: negatives is '{negatives}'; it is {OTHER_CLASSES} or {ANY}")
        self.by_class = negatives == OTHER_CLASSES
        self.negatives = min(nce_k, dims.images - 1)
        self.temperature, self.momentum = temperature, momentum
        self.embed_student, self.embed_teacher = nn.Linear(dims.student, size), nn.Linear(dims.teacher, size)
        for network in ("student", "teacher"):
            self.register_buffer(f"memory_{network}", functional.normalize(torch.randn(dims.images, size)))
            self.register_buffer(f"noise_{network}", torch.tensor(math.nan))  # log K c, not known before a first batch
        self.register_buffer("labels", torch.full((dims.images,), NO_LABEL))  # a row not yet seen is of no class

    @classmethod
    def needs_labels(cls, options: Mapping[str, object]) -> bool:
        """Return whether negatives are told by their class."""
        return options.get("negatives", OTHER_CLASSES) == OTHER_CLASSES

    def forward(self, student: Outputs, teacher: Outputs, samples: Samples) -> Tensor:
        """Return the sum of both directions' means over the batch, in nats; in training, the memories move on."""
        with torch.autocast(student.embedding.device.type, enabled=False):  # exp(g) needs the digits
            ours = functional.normalize(self.embed_student(student.embedding))  # (b, size)
            theirs = functional.normalize(self.embed_teacher(teacher.embedding))
            chosen = self._draw().to(ours.device)
            counts = self._counts(samples, chosen)
            loss = self._direction(ours, theirs, chosen, counts, "teacher")
            loss = loss + self._direction(theirs, ours, chosen, counts, "student")
            if self.training:
                self._remember(samples, ours, theirs)
        return loss

    def _draw(self) -> Tensor:
        """Return the rows of the negatives, one more than asked for, as an image's own is left out.

        From a generator of its own: neither the batch's size nor what other terms draw changes it.
        """
        random = torch.Generator().manual_seed(torch.initial_seed())
        return torch.randperm(self.dims.images, generator=random)[: self.negatives + 1]

    def _counts(self, samples: Samples, chosen: Tensor) -> Tensor:
        """Return how often each negative counts for each image, (b, k + 1): K in all, none of its own class."""
        is_other = _without_own(samples.rows, chosen)
        if self.by_class:
            of_class = samples.labels[:, None] == self.labels[chosen][None, :]
            is_other &= ~of_class | (samples.labels[:, None] == NO_LABEL)
        return is_other * (self.negatives / is_other.sum(1, keepdim=True).clamp(min=1))

    def _direction(self, anchors: Tensor, positives: Tensor, chosen: Tensor, counts: Tensor, other: str) -> Tensor:
        """Contrast anchors (b, size) of one network with positives and the memory of the `other` network."""
        scores = (anchors * positives).sum(1) / self.temperature
        others = anchors @ getattr(self, f"memory_{other}")[chosen].T / self.temperature  # (b, k + 1)
        noise: Tensor = getattr(self, f"noise_{other}")
        if torch.isnan(noise):
            every = torch.cat([scores[:, None], others], 1).detach()
            noise = log_mean_exp(every) + math.log(self.negatives)
            if self.training:
                getattr(self, f"noise_{other}").copy_(noise)
        return contrast(scores, others, counts, noise)

    @torch.no_grad()
    def _remember(self, samples: Samples, ours: Tensor, theirs: Tensor) -> None:
        rows = _of_all_processes(samples.rows)
        self.labels[rows] = _of_all_processes(samples.labels)
        for memory, new in ((self.memory_student, ours), (self.memory_teacher, theirs)):
            mixed = self.momentum * memory[rows] + (1 - self.momentum) * _of_all_processes(new.detach())
            memory[rows] = functional.normalize(mixed)


def _without_own(rows: Tensor, chosen: Tensor) -> Tensor:
    """Return which negatives count for each image, (b, k + 1): not itself, and as many for each."""
    is_other = rows[:, None] != chosen[None, :]
    is_other[is_other.all(1), -1] = False
    return is_other


def _require(size: int, nce_k: int, temperature: float, momentum: float, images: int) -> None:
    if size < 1 or nce_k < 1:
        raise RecipeError(f"crd: size is {size} and nce_k is {nce_k}; both are at least 1")
    if not temperature > 0:
        raise RecipeError(f"crd: temperature is {temperature}; it must be above 0")
    if not 0 <= momentum < 1:
        raise RecipeError(f"crd: momentum is {momentum}; it lies in 0 <= momentum < 1")
    if images < 2:
        raise RecipeError("crd: one training image has no other to be told from; leave crd out")
