"""Weights that a network starts with or consists of, and what is refused before any training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from edgekd.data import ImageSet
from edgekd.distill.backbones import Backbone, build_backbone
from edgekd.distill.backbones.imagenet import ImageNetInput
from edgekd.distill.checkpoint import PRETRAINED, Snapshot, backbone_in, load_network, load_snapshot, load_weights
from edgekd.distill.class_heads import head_in
from edgekd.distill.tasks import Classifier
from edgekd.errors import DataError, RecipeError, RunError
from edgekd.recipe import Start, Teacher

PICKLES = {".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin"}
ROTATION = "rotation"  # the mark in the file of a teacher that learned rotations: their weight

CONVERSION = """\
  import torch; from safetensors.torch import save_file; state = torch.load({before!r}, "cpu", weights_only=True)
  save_file({{key: value.clone().contiguous() for key, value in state.items()}}, {after!r})"""

Role = Literal["teacher", "student"]

_S = TypeVar("_S", bound=Start)


def settle_pixels(role: Role, settings: _S, channels: int) -> _S:
    """Return the settings with `pretrained` decided: false where it is left out.

    Raises:
        RecipeError: it is left out, and nothing tells which pixels a plain state dict was trained on.
    """
    if settings.pretrained is not None:
        return settings
    path = settings.weights
    if path and path.is_file() and settings.new_head and is_plain(path) and _has_published(settings, channels):
        raise RecipeError(
            f"{path} is a plain state dict, which does not tell what pixels it was trained on: --set "
            f"{role}.pretrained=true where they had ImageNet's mean and standard deviation, as in torchvision and "
            f"timm, or --set {role}.pretrained=false where they were (pixel - 128) / 128"
        )
    return settings.model_copy(update={"pretrained": False})


def is_plain(path: Path) -> bool:
    """Return whether a file that can be loaded holds tensors without the marks of a run."""
    return path.suffix not in PICKLES and not load_snapshot(path).part("network")


def pixels_of_plain(role: Role, settings: Start) -> Iterator[str]:
    """Say which pixels a plain state dict is given."""
    if settings.weights and is_plain(settings.weights):
        pixels = "ImageNet's mean and standard deviation" if settings.pretrained else "(pixel - 128) / 128"
        yield f"{settings.weights} is a plain state dict; the {role} sees pixels scaled by {pixels}"


def require_start(role: Role, settings: Start, channels: int) -> None:
    """Refuse settings of a start that contradict each other.

    Raises:
        RecipeError: the contradiction, or no published weights for this backbone.
    """
    if settings.new_head and settings.weights is None:
        raise RecipeError(f"{role}.new_head takes the backbone of a file; name it with --{role}-weights")
    whole = role == "student" and settings.weights  # a student goes on from a file of both, a teacher is it
    if settings.freeze_epochs and not (settings.new_head or settings.pretrained or whole):
        raise RecipeError(
            f"{role}.freeze_epochs is {settings.freeze_epochs:g}, but the backbone starts with random weights: set "
            f"{role}.pretrained=true, or {role}.new_head=true with --{role}-weights"
        )
    if settings.pretrained:
        backbone = _structure(settings, channels)
        if settings.weights is None and backbone.unpublished:
            raise RecipeError(
                f"backbone '{backbone.spec}': {backbone.unpublished}; name a file of your own with --{role}-weights"
            )


def require_teacher(settings: Teacher, images: ImageSet) -> None:
    """Refuse a teacher whose settings contradict each other or the images.

    Raises:
        RecipeError: as `require_start`, or a learner that does not go with the rest.
        DataError: rotations of images that are not square.
    """
    require_start("teacher", settings, images.channels)
    if settings.rotation and images.height != images.width:
        raise DataError(
            f"teacher.rotation turns images by quarters, and these are {images.height}x{images.width}: make them "
            f"square with --size {min(images.height, images.width)}"
        )
    _require_labels_learner(settings)


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


def require_weights(role: Role, settings: Start, images: ImageSet) -> None:
    """Refuse weights that cannot be loaded, where the recipe names some; published ones are fetched now.

    Raises:
        RunError: the file is missing, is not one that can be read here, or holds another architecture.
        DataError: the network was trained on another number of classes.
        ModelError: published weights cannot be had.
    """
    path = settings.weights
    if path is None:
        if settings.pretrained:
            _structure(settings, images.channels, fetch=True)
        return
    if path.suffix in PICKLES:
        raise RunError(
            f"{path} may be a pickle, which is never loaded; give a {role}.safetensors of another run, or with "
            f"{role}.new_head=true a backbone's state as safetensors. Where you trust the file, Python converts it:\n"
            f"{CONVERSION.format(before=str(path), after=str(path.with_suffix('.safetensors')))}"
        )
    snapshot = load_snapshot(path)
    _require_marks(role, settings, snapshot, path)
    backbone = _structure(settings, images.channels)
    if settings.new_head:
        load_backbone(path, backbone)
    else:
        _require_classes(role, snapshot, images, path)
        _require_head(role, settings, snapshot, path)
        load_network(path, Classifier(backbone, images.n_classes, settings.classifier))


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
    load_weights(backbone, tensors, path, backbone_in(snapshot))


def _of_published(snapshot: Snapshot, backbone: Backbone) -> dict[str, Tensor]:
    """Return the tensors of a plain state dict under the names they have in the backbone."""
    body = backbone.body
    within = isinstance(body, nn.Sequential) and len(body) > 0 and isinstance(body[0], ImageNetInput)
    prefix = "body.1." if within else "body."
    expected = {name.removeprefix(prefix) for name in backbone.state_dict()}
    parts = {name.partition(".")[0] for name in expected}
    return {prefix + name: value for name, value in snapshot.tensors.items() if name.partition(".")[0] in parts}


def _structure(settings: Start, channels: int, *, fetch: bool = False) -> Backbone:
    with torch.random.fork_rng():
        return build_backbone(settings.backbone, channels, pretrained=bool(settings.pretrained), fetch=fetch)


def _has_published(settings: Start, channels: int) -> bool:
    """Return whether the backbone can be built for published weights; a file of others mostly saw our pixels."""
    try:
        return not _structure(settings.model_copy(update={"pretrained": True}), channels).unpublished
    except RecipeError:
        return False


def _require_marks(role: Role, settings: Start, snapshot: Snapshot, path: Path) -> None:
    if "scheme" in snapshot.values:
        raise RunError(f"{path} holds a quantized student; give the float one beside it, student.safetensors")
    ours = bool(snapshot.part("network"))
    if not ours and not settings.new_head:
        raise RunError(
            f"{path} holds no network weights that `edgekd distill` wrote; with --set {role}.new_head=true the plain "
            "state of a backbone is taken, under a new head"
        )
    marked = bool(snapshot.values.get(PRETRAINED))
    if ours and marked != bool(settings.pretrained):
        wanted = str(marked).lower()
        raise RunError(f"the network in {path} was trained with pretrained={wanted}: --set {role}.pretrained={wanted}")


def _require_head(role: Role, settings: Start, snapshot: Snapshot, path: Path) -> None:
    kind = head_in(snapshot.part("network"))
    if kind != settings.classifier:
        raise RunError(f"the {role} in {path} has a {kind} head: --set {role}.classifier={kind}")


def _require_classes(role: Role, snapshot: Snapshot, images: ImageSet, path: Path) -> None:
    head = snapshot.tensors.get("network/head.weight")
    if head is not None and len(head) != images.n_classes:
        instead = "train one on this set" if role == "teacher" else "start anew"
        raise DataError(
            f"the {role} in {path} knows {len(head)} classes, {images.name} has {images.n_classes}: "
            f"{instead} by leaving out --{role}-weights, or train a new head on its backbone with "
            f"--set {role}.new_head=true"
        )
