"""The stage that quantizes the float student, and how its result is loaded again."""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import Tensor, nn

from edgekd.data import Splits
from edgekd.distill import quantize
from edgekd.distill.augment import normalize
from edgekd.distill.backbones import Backbone, build_backbone
from edgekd.distill.checkpoint import load_snapshot, load_weights
from edgekd.distill.context import Context
from edgekd.distill.engine import Batch, Stage, fit
from edgekd.distill.feed import feed_of
from edgekd.distill.finishing import finish_stage
from edgekd.distill.tasks import QuantizeTask
from edgekd.distill.validating import validation_of
from edgekd.manifest import QuantScheme
from edgekd.run import Run

INT8_FILE = "student-int8.safetensors"


def quantize_student(context: Context) -> None:
    """Fold BatchNorm, calibrate, and train the quantized student towards the float one's embeddings."""
    recipe = context.run.recipe
    folded = quantize.fold_batchnorm(float_student_of(context.run, context.splits.train.channels))
    images = calibration_images(context.splits, recipe.quantize.calibration_images, recipe.seed)
    calibration = quantize.calibrate_backbone(folded, images, context.scheme)
    quantized = quantize.quantize_backbone(folded, context.scheme, calibration)
    began = time.monotonic()
    with quantize.quiet_brevitas():
        fit(_guided_stage(context, quantized, folded.to(context.session.device)), context.run, context.session)
        finish_stage(
            context,
            "quantize",
            quantized,
            file=INT8_FILE,
            spec=recipe.student.backbone,
            began=began,
            values={"scheme": context.scheme.model_dump(), "calibration": calibration.to_json()},
            size=quantize.quantized_size(quantized, context.scheme),
        )


def load_quantized(run: Run, in_channels: int) -> tuple[nn.Module, QuantScheme]:
    """Rebuild the quantized student of a finished run, in evaluation mode on the CPU.

    Raises:
        RunError: the stage is not finished or its file is damaged.
    """
    path = run.stage_file("quantize")
    snapshot = load_snapshot(path)
    scheme = QuantScheme.model_validate(snapshot.values["scheme"])
    folded = quantize.fold_batchnorm(build_backbone(run.recipe.student.backbone, in_channels))
    quantized = quantize.quantize_backbone(
        folded, scheme, quantize.Calibration.from_json(snapshot.values["calibration"])
    )
    load_weights(quantized, snapshot.part("network"), path)
    return quantized.eval(), scheme


def float_student_of(run: Run, in_channels: int) -> Backbone:
    """Load the float student's backbone: fine-tuned on episodes where the recipe asks for it, else as distilled.

    Raises:
        RunError: the stage is not finished or its file is damaged.
    """
    backbone = build_backbone(run.recipe.student.backbone, in_channels)
    path = run.stage_file("meta" if run.recipe.meta.enabled else "student")
    network = load_snapshot(path).part("network")
    prefix = "backbone."
    load_weights(
        backbone, {name[len(prefix) :]: value for name, value in network.items() if name.startswith(prefix)}, path
    )
    return backbone


def calibration_images(splits: Splits, count: int, seed: int) -> Tensor:
    """Return `count` normalized training images (n, c, h, w), without augmentation, spread over the classes."""
    rows = np.random.default_rng(seed).permutation(len(splits.train.images))[:count]
    return normalize(torch.tensor(splits.train.images[np.sort(rows)]))


def _guided_stage(context: Context, quantized: nn.Module, guide: nn.Module) -> Stage:
    """Quantization-aware training towards the embeddings of `guide`; calibration alone is a schedule of no epochs."""
    settings = context.run.recipe.quantize
    feed = feed_of(context, "quantize", settings)

    def batch(step: int) -> Batch:
        pixels, _ = feed.take(step)
        with torch.no_grad():
            return {"images": pixels, "target": guide(pixels)}

    return Stage(
        "quantize",
        QuantizeTask(quantized),
        batch,
        settings if settings.method == "qat" else settings.model_copy(update={"epochs": 0}),
        feed.steps_per_epoch,
        settings.batch_size,
        validation_of(context, quantized, bf16=False),
        starts_trained=True,
        compiles=False,
    )
