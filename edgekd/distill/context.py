"""What every stage is given, and the networks of earlier stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from edgekd.data import ImageSet, Splits
from edgekd.distill.backbones import Backbone, build_backbone
from edgekd.distill.checkpoint import load_network
from edgekd.distill.methods import Outputs
from edgekd.distill.seeding import derive_seed
from edgekd.distill.session import Session
from edgekd.distill.tasks import Classifier
from edgekd.manifest import QuantScheme
from edgekd.recipe import HeadKind, section_of
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
        """Build a backbone with a new head over the training classes, of the kind that the recipe names for it."""
        return Classifier(self.backbone(spec, stage, fetch=fetch), self.splits.train.n_classes, self._head_kind(stage))

    def _head_kind(self, stage: str) -> HeadKind:
        section, recipe = section_of(stage), self.run.recipe
        if section == "assistant":
            return "linear"
        return recipe.student.classifier if section in STUDENT_SECTIONS else recipe.teacher.classifier


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
