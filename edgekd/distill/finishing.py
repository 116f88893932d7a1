"""The end of a stage: its file, its results on the test images, its line in the manifest."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial

from torch import nn

from edgekd.distill.backbones.size import deployed_bytes, deployed_parameters
from edgekd.distill.checkpoint import PRETRAINED, Snapshot, save_snapshot
from edgekd.distill.context import Context
from edgekd.distill.embed import classify, embed, mean_embedding, measure_by_own, measure_embeddings
from edgekd.distill.engine import clear_checkpoint
from edgekd.distill.learners import measures_of
from edgekd.distill.session import Session, Stopped
from edgekd.distill.tasks import Classifier
from edgekd.heads import find_head
from edgekd.manifest import StageResult
from edgekd.run import Run

MANY_IMAGES = 5_000  # that take a while


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

    Raises:
        Stopped: a signal came while it was measured.
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
    if len(test) >= MANY_IMAGES:
        context.session.reporter.note(f"{result.stage}: measuring on {len(test):,} images")
    embeddings = embed(backbone, test.images, before_batch=partial(_stop_at_signal, context.session, result.stage))
    needs_base_mean = find_head(recipe.test.head).needs_base_mean
    base_mean = mean_embedding(backbone, context.splits.train) if needs_base_mean else None
    found: dict[str, object] = {
        "accuracy": measure_embeddings(embeddings, test, recipe.test, recipe.data.spec, base_mean),
        "measures": measure_by_own(embeddings, test, measures_of(recipe), recipe.data.spec),
    }
    if head and not context.splits.novel and isinstance(network, Classifier):
        found["classification"] = classify(network, embeddings, test, recipe.data.spec)
    return result.model_copy(update=found)


def _stop_at_signal(session: Session, stage: str) -> None:
    """Leave the stage to be measured by the next command; several processes, which wait for one another, finish it.

    Raises:
        Stopped: a signal came.
    """
    if session.deadline.signalled and session.world == 1:
        raise Stopped(f"{session.deadline.signalled} while stage '{stage}' was measured", by_signal=True)


def _summary(result: StageResult) -> str:
    found = [(f"{row.shot}-shot", row.mean, row.ci95) for row in result.accuracy]
    if result.classification:
        found.append(("by its head", result.classification.accuracy, result.classification.ci95))
    found += [(row.name, row.mean, row.ci95) for row in result.measures]
    accuracy = ", ".join(f"{name} {100 * mean:.1f} +- {100 * ci95:.1f} %" for name, mean, ci95 in found)
    measured = f"; {accuracy}" if accuracy else ""
    return f"{result.stage}: {result.backbone}, {result.parameters:,} parameters{measured}"
