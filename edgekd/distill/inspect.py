"""What the networks of a run make of its images: embeddings and logits, for plots and measures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgekd.data import ImageSet, Splits
from edgekd.distill.backbones import build_backbone
from edgekd.distill.checkpoint import PRETRAINED, load_network, load_snapshot
from edgekd.distill.embed import embed, head_logits
from edgekd.distill.quantize import quiet_brevitas
from edgekd.distill.quantizing import load_quantized
from edgekd.distill.tasks import Classifier
from edgekd.errors import RunError, UsageError, unknown
from edgekd.inspection import TEACHER, Activations, Inspection
from edgekd.run import Run

COPY = "student"  # of the distilled student: drawn where it is named
NETWORKS = (TEACHER, "start", "assist", "peer", "scratch", "distill", "head", "meta", COPY, "quantize")
MOST_IMAGES = 2_000


def inspect_run(run: Run, splits: Splits, stages: Sequence[str] = ()) -> Inspection:
    """Run the networks of `stages` (all that are finished, where empty) on at most 2,000 test images.

    Raises:
        UsageError: a stage that ends with no network of its own.
        RunError: a stage is not finished, or its file is damaged.
    """
    for stage in stages:
        if stage not in NETWORKS:
            raise UsageError(unknown("stage with a network", stage, NETWORKS))
    finished = [stage for stage in run.manifest.stages if stage != COPY]
    chosen = [stage for stage in NETWORKS if stage in (stages or finished)]
    if not chosen:
        raise RunError(f"{run.folder} has no finished stage; to go on: {run.resume_command}")
    test, val = spread_rows(splits.test, run.recipe.seed), spread_rows(splits.val, run.recipe.seed)
    return Inspection(
        labels=splits.test.labels[test],
        class_names=splits.test.class_names,
        stages=tuple(_activations(run, stage, splits, splits.test.images[test]) for stage in chosen),
        teacher_logits=_teacher_logits(run, splits, splits.val.images[val]),
        teacher_labels=None if splits.novel else splits.val.labels[val],
    )


def spread_rows(images: ImageSet, seed: int) -> NDArray[np.int64]:
    """Return at most 2,000 rows, drawn at random, ascending."""
    order = np.random.default_rng(seed).permutation(len(images))
    return np.sort(order[:MOST_IMAGES]).astype(np.int64)


def load_stage(run: Run, stage: str, splits: Splits) -> Classifier:
    """Load the float network of a finished stage, with its head, in evaluation mode on the CPU.

    Raises:
        RunError: the stage is not finished, or its file is damaged.
    """
    path = run.stage_file(stage)
    spec = run.manifest.stages[stage].result.backbone
    pretrained = bool(load_snapshot(path).values.get(PRETRAINED))
    backbone = build_backbone(spec, splits.train.channels, pretrained=pretrained, fetch=False)
    network = Classifier(backbone, splits.train.n_classes)
    load_network(path, network)
    return network.eval()


def _activations(run: Run, stage: str, splits: Splits, images: NDArray[np.uint8]) -> Activations:
    if stage == "quantize":
        quantized, _ = load_quantized(run, splits.train.channels)
        with quiet_brevitas():
            return Activations(stage, embed(quantized, images), None)
    network = load_stage(run, stage, splits)
    embeddings = embed(network.backbone, images)
    knows = run.manifest.stages[stage].result.classification is not None
    return Activations(stage, embeddings, head_logits(network, embeddings) if knows else None)


def _teacher_logits(run: Run, splits: Splits, images: NDArray[np.uint8]) -> NDArray[np.float32] | None:
    if TEACHER not in run.manifest.stages:
        return None
    teacher = load_stage(run, TEACHER, splits)
    return head_logits(teacher, embed(teacher.backbone, images))
