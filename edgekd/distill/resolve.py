"""Everything that can be settled before training: which student, and whether each stage will have what it needs."""

from __future__ import annotations

import numpy as np
import torch

from edgekd.data import ImageSet, Splits
from edgekd.distill.backbones import Backbone, build_backbone, require_input
from edgekd.distill.backbones.size import require_fit, widest_student
from edgekd.distill.batches import episode_rows
from edgekd.distill.checkpoint import load_network, load_snapshot
from edgekd.distill.methods import Dims, adapt_recipe, build_method, needs_of
from edgekd.distill.quantize import added_parameters, require_quantizable
from edgekd.distill.scheme import resolve_scheme
from edgekd.distill.taps import map_shapes
from edgekd.distill.tasks import Classifier
from edgekd.errors import DataError, ProfileError, RunError
from edgekd.heads import find_head
from edgekd.manifest import QuantScheme
from edgekd.profile import HardwareProfile
from edgekd.recipe import Recipe

PICKLES = {".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin"}


def resolve(recipe: Recipe, profile: HardwareProfile, splits: Splits) -> Recipe:
    """Put the student's name in the place of `auto` and refuse what cannot work before any training.

    Raises:
        ModelError: the student has too many parameters, or operations that cannot be quantized.
        ProfileError: `auto` under a profile that gives no cap.
        DataError: the images are too small for the teacher or the student.
        RecipeError: the distillation method is malformed, or the recipe contradicts it.
    """
    images, spec = splits.train, recipe.student.backbone
    scheme = resolve_scheme(profile, recipe.quantize)
    with torch.random.fork_rng():
        if spec == "auto":
            spec = _widest(profile, scheme, images)
        student = build_backbone(spec, images.channels)
        for backbone in (student, build_backbone(recipe.teacher.backbone, images.channels)):
            require_input(backbone, images.height, images.width, images.channels)
        require_quantizable(student, spec)
        added = added_parameters(student, scheme, images.height, images.width)
        require_fit(student, profile.params.max, profile.name, added)
    recipe = recipe.model_copy(update={"student": recipe.student.model_copy(update={"backbone": spec})})
    return adapt_recipe(recipe)


def _widest(profile: HardwareProfile, scheme: QuantScheme, images: ImageSet) -> str:
    """Return the widest Conv4 that fits, with what pooling adds under this scheme."""
    if profile.params.max is None:
        raise ProfileError(
            f"profile {profile.name} gives no parameter cap, so the widest student is not defined; "
            "name one with --student"
        )
    spec, fits = widest_student("conv4", profile.params.max, images.channels), ""
    require_input(build_backbone(spec, images.channels), images.height, images.width, images.channels)
    while spec != fits:
        fits, cap = spec, _cap(profile, build_backbone(spec, images.channels), scheme, images)
        spec = widest_student("conv4", cap, images.channels) if cap is not None else spec
    return spec


def _cap(profile: HardwareProfile, student: Backbone, scheme: QuantScheme, images: ImageSet) -> int | None:
    """Return the profile's cap less the parameters that quantizing adds to the student."""
    if profile.params.max is None:
        return None
    return profile.params.max - added_parameters(student, scheme, images.height, images.width)


def require_trainable(recipe: Recipe, splits: Splits, unlabelled: ImageSet | None = None) -> None:
    """Refuse now what a later stage could not do; `unlabelled` are the images to distill on where they are others.

    Raises:
        RecipeError: a term of the distillation method cannot be built between these networks.
        DataError: a split has too few classes or images for a stage, its validation or the test protocol.
    """
    _require_method(recipe, splits.train, unlabelled)
    find_head(recipe.test.head)
    _require_batches(recipe, splits.train, unlabelled)
    if recipe.meta.enabled:
        episode_rows(torch.tensor(splits.train.labels), recipe.meta, recipe.seed, "meta")
    validation, test = recipe.validation, recipe.test
    _require_episodes(
        splits.val, min(validation.way, splits.val.n_classes), validation.shots, validation.query, "validation"
    )
    _require_episodes(splits.test, test.way, test.shots, test.query, "test")


def dims_of(student: Backbone, teacher: Backbone, images: ImageSet, unlabelled: ImageSet | None = None) -> Dims:
    """Return the sizes that the terms of a loss between these networks may ask for.

    `images` has the classes; `unlabelled` are the images to distill on where they are others.
    """
    return Dims(
        student.embedding_dim,
        teacher.embedding_dim,
        images.n_classes,
        len(unlabelled or images),
        map_shapes(student, images.height, images.width),
        map_shapes(teacher, images.height, images.width),
    )


def _require_method(recipe: Recipe, images: ImageSet, unlabelled: ImageSet | None) -> None:
    with torch.random.fork_rng():
        student = build_backbone(recipe.student.backbone, images.channels)
        teacher = build_backbone(recipe.teacher.backbone, images.channels)
        dims = dims_of(student, teacher, images, unlabelled)
        build_method(recipe.distill.method, dims, recipe.distill.options)
    needs_of(recipe.distill.method)


def require_teacher_weights(recipe: Recipe, splits: Splits) -> None:
    """Refuse teacher weights that cannot be loaded, where the recipe names some.

    Raises:
        RunError: the file is missing, is not one that `edgekd distill` wrote, or holds another architecture.
        DataError: the teacher was trained on another number of classes.
    """
    path, images = recipe.teacher.weights, splits.train
    if path is None:
        return
    if path.suffix in PICKLES:
        raise RunError(f"{path} may be a pickle, which is never loaded; give a teacher.safetensors of another run")
    head = load_snapshot(path).tensors.get("network/head.weight")
    if head is not None and len(head) != images.n_classes:
        raise DataError(
            f"the teacher in {path} knows {len(head)} classes, {images.name} has {images.n_classes}: "
            "train one on this set by leaving out --teacher-weights"
        )
    with torch.random.fork_rng():
        backbone = build_backbone(recipe.teacher.backbone, images.channels)
        load_network(path, Classifier(backbone, images.n_classes))


def _require_batches(recipe: Recipe, train: ImageSet, unlabelled: ImageSet | None) -> None:
    needs = needs_of(recipe.distill.method)
    extra = (("connect", needs.prepared), ("head", recipe.head.enabled and not needs.labels))
    for stage in ("teacher", "distill", "quantize", *(name for name, runs in extra if runs)):
        batch_size = getattr(recipe, stage).batch_size
        n = len(unlabelled or train) if stage == "distill" else len(train)
        if n < batch_size:
            raise DataError(
                f"{n} training images are fewer than one batch of {batch_size}; "
                f"try --set {stage}.batch_size={max(1, n // 4)}"
            )


def _require_episodes(images: ImageSet, way: int, shots: tuple[int, ...], query: int, section: str) -> None:
    shot, least = max(shots), int(np.bincount(images.labels).min())
    needed = query + shot
    if way >= 2 and images.n_classes >= way and least >= needed:
        return
    if images.n_classes < way:
        change = f"way={images.n_classes}"
    elif least > shot:
        change = f"query={least - shot}"
    else:
        change = f"shots=[{', '.join(str(k) for k in shots if k < least) or 1}]"
    raise DataError(
        f"{max(way, 2)}-way {shot}-shot with {query} queries needs {max(way, 2)} {section} classes of {needed} images; "
        f"{images.name} has {images.n_classes} classes, the smallest with {least} images; "
        f"lower {section}.way, {section}.shots or {section}.query, for example --set {section}.{change}"
    )
