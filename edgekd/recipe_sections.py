"""The sections of a recipe: frozen values with their defaults and bounds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

# CE + a1 KL + a2 MSE with error calibration: a1 0.3, a2 0.5, beta 0.8 (B. Zhou et al., Sensors 24(6), 2024).
DEFAULT_METHOD = "ce + 0.3 kd + 0.5 calibrated_mse"

AUTO = "auto"  # a backbone of a size that follows from others
NONE = "none"  # no backbone
WAY = 5  # classes of an episode where a recipe says nothing

HeadKind = Literal["linear", "cosine"]  # what turns embeddings into logits while a network learns


class Section(BaseModel):
    """Values that cannot change; an unknown key is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Data(Section):
    """Which images: `NAME`, `NAME:PATH` or `folder:PATH`; `size` and `channels` convert them where they are given.

    `turned_classes`: a training class turned by 90, 180 or 270 degrees is a class of its own, as is usual for Omniglot.
    """

    spec: str = "glyphs"
    size: int | None = Field(default=None, ge=8, le=1024)
    channels: Literal[1, 3] | None = None
    seed: int = Field(default=0, ge=0)
    turned_classes: bool = False


def rising(bounds: tuple[float, float]) -> tuple[float, float]:
    """Return `bounds` as they are; refuse those whose larger one comes first."""
    if bounds[0] > bounds[1]:
        raise ValueError(f"the smallest comes first: [{bounds[1]:g}, {bounds[0]:g}]")
    return bounds


def several(way: int) -> int:
    """Return `way` as it is; refuse episodes of one class."""
    if way < 0 or way == 1:
        raise ValueError("an episode has two classes at least; 0 takes 5, or as many as there are")
    return way


# What a term of the distillation loss may be told: by the name of the option.
Options = dict[str, bool | int | float | str | tuple[int, ...]]
_Scale = Annotated[float, Field(gt=0)]


class Augment(Section):
    """Random changes of training images, drawn anew for each image; 0 or 1 switches one off.

    Zoom and rotation read between pixels, which blurs: a network that saw nothing else is worse at the sharp images
    that it is measured on. `warp_share` is the share of images that they change; the others are moved by whole pixels.
    """

    pad_fraction: float = Field(default=0.1, ge=0, le=0.5)
    scale_range: Annotated[tuple[_Scale, _Scale], AfterValidator(rising)] = (1.0, 1.0)
    flip: bool = False
    rotation_degrees: float = Field(default=0.0, ge=0, le=180)
    warp_share: float = Field(default=1.0, ge=0, le=1)
    brightness: float = Field(default=0.2, ge=0, le=1)
    contrast: float = Field(default=0.2, ge=0, le=1)
    saturation: float = Field(default=0.2, ge=0, le=1)


class Schedule(Section):
    """Optimizer and learning rate, by `schedule` after a linear warm-up. One epoch sees each training image once.

    `cosine` falls to 0 at the last epoch, `step` multiplies by `gamma` at each of `milestones` (epochs), `inverse_sqrt`
    divides by sqrt(1 + epoch).
    `start_size`: images begin with that share of their sides and grow to all of it in four equal phases.
    `adamw` ignores `momentum` and `nesterov`; `clip_norm` bounds the gradient's norm, 0 leaves it. `patience`: stop
    after so many epochs without a better validation score; 0 never stops early.
    """

    epochs: float = Field(default=10, ge=0, le=100_000)
    batch_size: int = Field(default=64, ge=1)
    optimizer: Literal["sgd", "adamw"] = "adamw"
    lr: float = Field(default=3e-3, gt=0)
    clip_norm: float = Field(default=5.0, ge=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = True
    weight_decay: float = Field(default=0.05, ge=0)
    schedule: Literal["cosine", "step", "inverse_sqrt"] = "cosine"
    milestones: tuple[float, ...] = ()
    gamma: float = Field(default=0.1, gt=0, le=1)
    warmup_epochs: float = Field(default=0.5, ge=0)
    freeze_batchnorm: bool = False
    patience: float = Field(default=0.0, ge=0)
    start_size: float = Field(default=1.0, gt=0, le=1)

    @model_validator(mode="after")
    def _require_milestones(self) -> Self:
        if self.schedule == "step" and not self.milestones:
            raise ValueError(
                "schedule is step, but milestones names no epoch at which the learning rate falls; for example "
                f"milestones=[{0.6 * self.epochs:g}, {0.8 * self.epochs:g}], or schedule=cosine"
            )
        return self


class Learning(Schedule):
    """How a network learns; `learner` is one of `edgekd.distill.learners`, which looks only at the keys it needs.

    `batch_size` counts what the learner trains on, images, episodes or triplets; 0 leaves it to the learner. Where that
    is not images, an epoch is `batches_per_epoch` batches. `way`, `shot` and `query` make an episode, of 5 classes or
    as many as there are where `way` is 0; `temperature` is that of cosine logits; `inner_lr` and `inner_steps` are
    gradient steps on a support set; `margin` is that of triplets, between squared distances.
    """

    learner: str = "classifier"
    batch_size: int = Field(default=0, ge=0)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    batches_per_epoch: int = Field(default=25, ge=1)
    way: Annotated[int, AfterValidator(several)] = 0
    shot: int = Field(default=1, ge=1)
    query: int = Field(default=15, ge=1)
    temperature: float = Field(default=10.0, gt=0)
    inner_lr: float = Field(default=0.01, gt=0)
    inner_steps: int = Field(default=5, ge=1)
    margin: float = Field(default=0.2, gt=0)


class Start(Section):
    """What a network is and what it starts with: random weights, those of a file, or published ones.

    `weights` is a safetensors file, of another run or a plain state dict; of the latter, and with `new_head`, only the
    backbone is taken, under a new head. `pretrained` builds the backbone for ImageNet weights, with their scaling of
    pixels, and fetches these where no `weights` are named; left out, it is false, but a plain state of a backbone with
    published weights wants it said. For `freeze_epochs` the head learns alone from the labels, then all layers do at
    lr * `finetune_factor`.
    `classifier` is the kind of head: `cosine` trains on what a nearest class mean by cosine looks at.
    """

    backbone: str = AUTO
    classifier: HeadKind = "linear"
    weights: Path | None = None
    new_head: bool = False
    pretrained: bool | None = None
    freeze_epochs: float = Field(default=0.0, ge=0, le=100_000)
    finetune_factor: float = Field(default=0.1, gt=0)


class Teacher(Learning, Start):
    """The network that teaches; with `weights` and without `new_head` it is loaded instead of trained.

    The long warm-up leads a residual network sooner off the plateau that it begins on. `compressed` squeezes the whole
    schedule, warm-up and milestones included, into that share of its epochs.

    A stronger teacher: `rotation` and `mixup` as in `edgekd.distill.teacher_tasks`, rotations make batches four times
    as large; `generations` beyond the first are distilled from the one before with ce + kd.
    """

    epochs: float = Field(default=7, ge=0, le=100_000)
    lr: float = Field(default=4e-3, gt=0)
    warmup_epochs: float = Field(default=3.0, ge=0)
    backbone: str = "resnet12:24"
    compressed: float = Field(default=1.0, gt=0, le=1)
    rotation: float = Field(default=0.0, ge=0)
    mixup: float = Field(default=0.0, ge=0)
    generations: int = Field(default=1, ge=1, le=100)


class Student(Start):
    """`auto` takes the widest Conv4 that the profile's parameter cap allows.

    Its start is that of the student from scratch too. The head learns alone by the schedule of the section `head`.
    """


class Baseline(Section):
    """Train the same student on labels alone, at the same schedule, so that the gain of distilling is seen."""

    enabled: bool = True


class Connect(Schedule):
    """What a term of the method trains on the teacher's outputs before distilling; only where one does."""

    epochs: float = Field(default=3, ge=0, le=100_000)


class Distill(Schedule):
    """`method` is a weighted sum of terms (`edgekd.distill.methods`); `options` are theirs, by name.

    `images` names other images to distill on (`folder:PATH` of any images, or a set as in `data.spec`, of which the
    training images are taken); their labels are not looked at, so no term may need labels. None: the training images.

    `views`: after so many epochs their augmented images come again, in the same batches, and a trained teacher is not
    asked about them again; 0 changes them anew in every epoch. The teacher sees images of full size in any case.
    """

    epochs: float = Field(default=6, ge=0, le=100_000)
    lr: float = Field(default=0.02, gt=0)
    warmup_epochs: float = Field(default=2.5, ge=0)
    method: str = DEFAULT_METHOD
    options: dict[str, Options] = Field(default_factory=dict)
    images: str | None = None
    views: int = Field(default=0, ge=0)


class Head(Schedule):
    """A new linear head on the distilled student, the rest of it held still: after a method without labels."""

    enabled: bool = True
    epochs: float = Field(default=3, ge=0, le=100_000)
    lr: float = Field(default=0.01, gt=0)


class Assistant(Schedule):
    """A network of middle size that is distilled from the teacher and then teaches the student; "" or `none` has none.

    `auto` takes one whose size lies between them. `method` and `options` are those of its own distillation. What its
    schedule leaves out is as in `distill`.
    """

    epochs: float = Field(default=6, ge=0, le=100_000)
    lr: float = Field(default=0.02, gt=0)
    warmup_epochs: float = Field(default=2.5, ge=0)
    backbone: str = ""
    method: str = "ce + kd"
    options: dict[str, Options] = Field(default_factory=dict)


class Meta(Learning):
    """Fine-tuning of the distilled student by a few-shot learner, by default Meta-Baseline."""

    enabled: bool = True
    learner: str = "meta_baseline"
    epochs: float = Field(default=1, ge=0)
    lr: float = Field(default=1e-4, gt=0)
    warmup_epochs: float = Field(default=0.0, ge=0)


class Quantize(Schedule):
    """Quantization-aware training guided by the float student, or calibration alone (`ptq`).

    `scale` = "profile" follows the hardware profile; "power_of_two" and "float" override it. `weight_bits` left
    out is the widest that the profile allows, 8 where it does not say. Without `enabled` the run ends with the float
    student: enough to compare methods, nothing to export.
    """

    method: Literal["qat", "ptq"] = "qat"
    epochs: float = Field(default=0.5, ge=0)
    lr: float = Field(default=3e-4, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    warmup_epochs: float = Field(default=0.0, ge=0)
    calibration_images: int = Field(default=512, ge=1)
    enabled: bool = True
    scale: Literal["profile", "float", "power_of_two"] = "profile"
    weight_bits: int | None = Field(default=None, ge=2, le=8)


class Validation(Section):
    """The best epoch is the one with the highest mean of 1- and 5-shot accuracy on validation episodes.

    Or, with `measure` = "accuracy", for a stage that trains a head: with the highest accuracy of that head on
    validation images. "auto" takes it where the validation classes are those of training.
    """

    measure: Literal["auto", "few_shot", "accuracy"] = "auto"
    way: int = Field(default=WAY, ge=2)
    shots: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (1, 5)
    query: int = Field(default=15, ge=1)
    episodes: int = Field(default=500, ge=2)
    every_epochs: float = Field(default=1.0, gt=0)


class Test(Section):
    """How each stage is measured at the end: on episodes of the test classes, novel ones where the set has them.

    Without `enabled` the test images are not looked at. `way` left out is 5, or as many classes as there are.
    """

    enabled: bool = True
    way: int | None = Field(default=None, ge=2)
    shots: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (1, 5)
    query: int = Field(default=15, ge=1)
    episodes: int = Field(default=10_000, ge=2)
    head: str = "cosine"

    def way_among(self, classes: int) -> int:
        """Return the classes of an episode where there are `classes` to draw from."""
        return max(2, min(WAY, classes)) if self.way is None else self.way
