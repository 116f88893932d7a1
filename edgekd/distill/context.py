"""What every stage is given, and what every stage does with it: load networks, feed images, validate, finish."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgekd.data import ImageSet, Splits
from edgekd.distill.backbones import Backbone, build_backbone
from edgekd.distill.backbones.size import deployed_bytes, deployed_parameters
from edgekd.distill.batches import TrainingImages, shuffled_rows
from edgekd.distill.checkpoint import PRETRAINED, Snapshot, load_network, save_snapshot
from edgekd.distill.embed import (
    classify,
    embed,
    head_accuracy,
    mean_embedding,
    measure_by_own,
    measure_embeddings,
    validation_score,
)
from edgekd.distill.engine import Batch, Stage, clear_checkpoint
from edgekd.distill.learners import Measure, measures_of
from edgekd.distill.methods import Outputs
from edgekd.distill.seeding import derive_seed
from edgekd.distill.session import Session
from edgekd.distill.tasks import Classifier
from edgekd.heads import find_head
from edgekd.manifest import QuantScheme, StageResult
from edgekd.recipe import Schedule, section_of
from edgekd.run import Run

STUDENT_SECTIONS = {"student", "distill", "head", "meta"}  # of the stages that end with a float student


@dataclass(frozen=True)
class Context:
    """What every stage is given; `unlabelled` are the images to distill on, None for those of the training split."""

    run: Run
    session: Session
    splits: Splits
    scheme: QuantScheme
    unlabelled: ImageSet | None = None

    @property
    def bf16(self) -> bool:
        """Whether validation may run in bf16."""
        return str(self.session.accelerator.mixed_precision) == "bf16"

    @property
    def by_head(self) -> bool:
        """Whether the best epoch of a stage that trains a head is chosen by the accuracy of that head."""
        measure = self.run.recipe.validation.measure
        return measure == "accuracy" or (measure == "auto" and not self.splits.novel)

    def backbone(self, spec: str, stage: str, *, fetch: bool = False) -> Backbone:
        """Build a backbone whose initial weights depend on the seed and the stage only.

        One that the recipe calls pretrained is built for its published weights, and gets them with `fetch`.
        """
        torch.manual_seed(derive_seed(self.run.recipe.seed, stage, "weights"))
        return build_backbone(spec, self.splits.train.channels, pretrained=self.pretrained(stage), fetch=fetch)

    def pretrained(self, stage: str) -> bool:
        """Return whether the network of a stage is built for published weights."""
        section, recipe = section_of(stage), self.run.recipe
        if section == "teacher":
            return bool(recipe.teacher.pretrained)
        return section in STUDENT_SECTIONS and bool(recipe.student.pretrained)

    def classifier(self, spec: str, stage: str, *, fetch: bool = False) -> Classifier:
        """Build a backbone with a new head over the training classes."""
        return Classifier(self.backbone(spec, stage, fetch=fetch), self.splits.train.n_classes)


def load_classifier(context: Context, stage: str, spec: str) -> Classifier:
    """Load the float network that a finished stage wrote."""
    classifier = context.classifier(spec, stage)
    load_network(context.run.stage_file(stage), classifier)
    return classifier


def still(context: Context, stage: str, spec: str) -> Classifier:
    """Load the network of a finished stage onto the device, in evaluation mode."""
    network = load_classifier(context, stage, spec).eval()
    return network.to(context.session.device).to(memory_format=torch.channels_last)


def look(context: Context, network: Classifier, pixels: Tensor, layers: Sequence[int] = ()) -> Outputs:
    """Return what a still network gives out."""
    with torch.no_grad(), context.session.accelerator.autocast():
        outputs: Outputs = network(pixels, layers)
    return outputs


def supervised(
    context: Context, stage: str, schedule: Schedule, images_of: ImageSet | None = None
) -> tuple[TrainingImages, Callable[[int], Tensor], int]:
    """Return the training images, or those of `images_of`, step -> rows, and steps per epoch."""
    chosen = images_of or context.splits.train
    n = len(chosen)
    images = TrainingImages.load(chosen, context.run.recipe.augment, context.session)
    return images, shuffled_rows(n, schedule.batch_size, context.run.recipe.seed, stage), n // schedule.batch_size


def validated_stage(
    context: Context,
    name: str,
    task: nn.Module,
    *,
    batch: Callable[[int], Batch],
    schedule: Schedule,
    steps_per_epoch: int,
    images_per_step: int,
    backbone: nn.Module,
    classifier: Classifier | None = None,
    bf16: bool | None = None,
    starts_trained: bool = False,
    measures: Mapping[str, Measure] | None = None,
    partial: bool = False,
    unit_images: int = 1,
    compiles: bool = True,
) -> Stage:
    """Return a stage that validates `backbone` on episodes of the validation classes.

    Or, where the recipe asks for accuracy, the head that the stage trains: that of `classifier`. `measures` are further
    figures on the validation images, by name; they do not choose the best weights.
    """
    validation = context.run.recipe.validation
    use_bf16 = context.bf16 if bf16 is None else bf16

    def validate() -> float:
        if classifier is not None and context.by_head:
            return head_accuracy(classifier, context.splits.val, bf16=use_bf16)
        return validation_score(backbone, context.splits.val, validation, bf16=use_bf16)

    def measured() -> dict[str, float]:
        if not measures:
            return {}
        embeddings = embed(backbone, context.splits.val.images, bf16=use_bf16)
        return {name: figure.share(embeddings, context.splits.val.labels) for name, figure in measures.items()}

    every = validation.every_epochs
    return Stage(
        name,
        task,
        batch,
        schedule,
        steps_per_epoch,
        images_per_step,
        validate,
        every,
        starts_trained,
        measured,
        partial,
        unit_images,
        compiles,
    )


def finish_stage(
    context: Context,
    stage: str,
    network: nn.Module,
    *,
    file: str,
    spec: str,
    began: float,
    values: Mapping[str, object] | None = None,
    size: tuple[int, int] | None = None,
    head: bool = True,
    embeds: bool = True,
) -> None:
    """Write the stage's file, measure it on the test images where it `embeds`, record both; others wait.

    A classifier whose `head` is trained is measured by it too, where the test images are of the training classes.
    """
    run, session = context.run, context.session
    if session.is_main:
        backbone = network.backbone if isinstance(network, Classifier) else network
        mark = {PRETRAINED: True} if context.pretrained(stage) else {}
        tensors = {f"network/{name}": value for name, value in network.state_dict().items()}
        save_snapshot(run.folder / file, Snapshot(tensors, {"backbone": spec, **mark, **(values or {})}))
        parameters, weight_bytes = size or (deployed_parameters(backbone), deployed_bytes(backbone, 32))
        result = StageResult(stage=stage, backbone=spec, parameters=parameters, weight_bytes=weight_bytes)
        if embeds and run.recipe.test.enabled:
            result = _measured(context, network, backbone, result, head=head)
        run.finish_stage(stage, file, time.monotonic() - began, result)
        clear_checkpoint(run, stage)
        session.reporter.note(_summary(result))
    session.accelerator.wait_for_everyone()
    if not session.is_main:
        run.manifest = Run.open(run.folder).manifest


def _measured(
    context: Context, network: nn.Module, backbone: nn.Module, result: StageResult, *, head: bool
) -> StageResult:
    """Return the result with its few-shot accuracy and the measures of the recipe's learners.

    And with the accuracy of a trained `head`, where the test images are of the training classes.
    """
    recipe, test = context.run.recipe, context.splits.test
    embeddings = embed(backbone, test.images)
    needs_base_mean = find_head(recipe.test.head).needs_base_mean
    base_mean = mean_embedding(backbone, context.splits.train) if needs_base_mean else None
    found: dict[str, object] = {
        "accuracy": measure_embeddings(embeddings, test, recipe.test, recipe.data.spec, base_mean),
        "measures": measure_by_own(embeddings, test, measures_of(recipe), recipe.data.spec),
    }
    if head and not context.splits.novel and isinstance(network, Classifier):
        found["classification"] = classify(network, embeddings, test, recipe.data.spec)
    return result.model_copy(update=found)


def _summary(result: StageResult) -> str:
    found = [(f"{row.shot}-shot", row.mean, row.ci95) for row in result.accuracy]
    if result.classification:
        found.append(("by its head", result.classification.accuracy, result.classification.ci95))
    found += [(row.name, row.mean, row.ci95) for row in result.measures]
    accuracy = ", ".join(f"{name} {100 * mean:.1f} +- {100 * ci95:.1f} %" for name, mean, ci95 in found)
    measured = f"; {accuracy}" if accuracy else ""
    return f"{result.stage}: {result.backbone}, {result.parameters:,} parameters{measured}"
