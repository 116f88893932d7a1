"""Weights that a teacher starts with or consists of, and what is refused before any training."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from edgekd.data import ImageSet
from edgekd.distill.backbones import Backbone, build_backbone
from edgekd.distill.backbones.imagenet import ImageNetInput
from edgekd.distill.checkpoint import Snapshot, load_network, load_snapshot, load_weights
from edgekd.distill.tasks import Classifier
from edgekd.errors import DataError, RecipeError, RunError
from edgekd.recipe import Teacher

PICKLES = {".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin"}
PRETRAINED = "pretrained"  # the mark in the file of a teacher that was built for published weights


def require_teacher(settings: Teacher, images: ImageSet) -> None:
    """Refuse a teacher whose settings contradict each other or the images.

    Raises:
        RecipeError: the contradiction, or no published weights for this backbone.
        DataError: rotations of images that are not square.
    """
    if settings.new_head and settings.weights is None:
        raise RecipeError("teacher.new_head takes the backbone of a file; name it with --teacher-weights")
    if settings.freeze_epochs and not (settings.new_head or settings.pretrained):
        raise RecipeError(
            f"teacher.freeze_epochs is {settings.freeze_epochs:g}, but the backbone starts with random weights: set "
            "teacher.pretrained=true, or teacher.new_head=true with --teacher-weights"
        )
    if settings.rotation and images.height != images.width:
        raise DataError(
            f"teacher.rotation turns images by quarters, and these are {images.height}x{images.width}: make them "
            f"square with --size {min(images.height, images.width)}"
        )
    _require_labels_learner(settings)
    if settings.pretrained:
        _structure(settings, images)


def _require_labels_learner(settings: Teacher) -> None:
    """What is built on cross-entropy with labels goes with the learner that has it."""
    asked = {
        "rotation": settings.rotation > 0,
        "mixup": settings.mixup > 0,
        "freeze_epochs": settings.freeze_epochs > 0,
        "generations": settings.generations > 1,
    }
    wanted = [name for name, on in asked.items() if on]
    if wanted and settings.learner != "classifier":
        raise RecipeError(
            f"teacher.{wanted[0]} goes with the learner classifier, not with {settings.learner}: leave one of them out"
        )


def require_teacher_weights(settings: Teacher, images: ImageSet) -> None:
    """Refuse teacher weights that cannot be loaded, where the recipe names some.

    Raises:
        RunError: the file is missing, is not one that can be read here, or holds another architecture.
        DataError: the teacher was trained on another number of classes.
    """
    path = settings.weights
    if path is None:
        return
    if path.suffix in PICKLES:
        raise RunError(
            f"{path} may be a pickle, which is never loaded; give a teacher.safetensors of another run, or with "
            "teacher.new_head=true a backbone's state as safetensors"
        )
    snapshot = load_snapshot(path)
    _require_marks(settings, snapshot, path)
    backbone = _structure(settings, images)
    try:
        if settings.new_head:
            load_backbone(path, backbone)
        else:
            _require_classes(snapshot, images, path)
            load_network(path, Classifier(backbone, images.n_classes))
    except RunError as error:
        made_of = snapshot.values.get("backbone")
        hint = f"; it was written for --teacher {made_of}" if made_of and made_of != settings.backbone else ""
        raise RunError(f"{error}{hint}") from error


def load_backbone(path: Path, backbone: Backbone) -> None:
    """Load a backbone's weights: from the file of a float stage of any run, or from a plain state dict.

    A classifier in the file is left out; of a plain state dict, as torchvision's, all parts that the backbone lacks.

    Raises:
        RunError: the file is damaged or holds another architecture.
    """
    snapshot = load_snapshot(path)
    network = snapshot.part("network")
    prefix = "backbone."
    tensors = (
        {name.removeprefix(prefix): value for name, value in network.items() if name.startswith(prefix)}
        if network
        else _of_published(snapshot, backbone)
    )
    load_weights(backbone, tensors, path)


def _of_published(snapshot: Snapshot, backbone: Backbone) -> dict[str, Tensor]:
    """Return the tensors of a plain state dict under the names they have in the backbone."""
    body = backbone.body
    within = isinstance(body, nn.Sequential) and len(body) > 0 and isinstance(body[0], ImageNetInput)
    prefix = "body.1." if within else "body."
    expected = {name.removeprefix(prefix) for name in backbone.state_dict()}
    parts = {name.partition(".")[0] for name in expected}
    return {prefix + name: value for name, value in snapshot.tensors.items() if name.partition(".")[0] in parts}


def _structure(settings: Teacher, images: ImageSet) -> Backbone:
    with torch.random.fork_rng():
        return build_backbone(settings.backbone, images.channels, pretrained=settings.pretrained, fetch=False)


def _require_marks(settings: Teacher, snapshot: Snapshot, path: Path) -> None:
    ours = bool(snapshot.part("network"))
    if not ours and not settings.new_head:
        raise RunError(
            f"{path} holds no network weights that `edgekd distill` wrote; with --set teacher.new_head=true the plain "
            "state of a backbone is taken, under a new head"
        )
    marked = bool(snapshot.values.get(PRETRAINED))
    if ours and marked != settings.pretrained:
        wanted = str(marked).lower()
        raise RunError(f"the teacher in {path} was trained with pretrained={wanted}: --set teacher.pretrained={wanted}")


def _require_classes(snapshot: Snapshot, images: ImageSet, path: Path) -> None:
    head = snapshot.tensors.get("network/head.weight")
    if head is not None and len(head) != images.n_classes:
        raise DataError(
            f"the teacher in {path} knows {len(head)} classes, {images.name} has {images.n_classes}: "
            "train one on this set by leaving out --teacher-weights, or train a new head on its backbone with "
            "--set teacher.new_head=true"
        )
