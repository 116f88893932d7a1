"""Everything that can be settled before training: which student, and whether each stage will have what it needs."""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeVar

import torch

from edgekd.data import ImageSet, Splits
from edgekd.distill.assistant import as_student, resolve_assistant
from edgekd.distill.backbones import Backbone, build_backbone, require_input
from edgekd.distill.backbones.projected import prefix_of
from edgekd.distill.backbones.size import outline, require_buildable, require_fit, widest_student
from edgekd.distill.enough import require_enough
from edgekd.distill.growing import smallest
from edgekd.distill.learners import find_learner
from edgekd.distill.methods import Dims, adapt_recipe, build_method, needs_of
from edgekd.distill.quantize import added_parameters, require_quantizable
from edgekd.distill.scheme import resolve_scheme
from edgekd.distill.start_weights import require_start, require_teacher, settle_pixels
from edgekd.distill.taps import map_shapes
from edgekd.errors import DataError, ProfileError, RecipeError
from edgekd.heads import find_head
from edgekd.manifest import QuantScheme
from edgekd.profile import HardwareProfile
from edgekd.recipe import AUTO, NONE, WAY, Learning, Recipe, Schedule, differing_keys, flatten, followed, section_of

_L = TypeVar("_L", bound=Learning)


def resolve(recipe: Recipe, profile: HardwareProfile, splits: Splits, chosen: Collection[str] = ()) -> Recipe:
    """Put the student's name in the place of `auto` and refuse what cannot work before any training.

    `chosen` are the dotted keys that were asked for by themselves, not as part of a file: no method changes them.

    Raises:
        ModelError: the student has too many parameters, or operations that cannot be quantized; the assistant's size
            does not lie between.
        ProfileError: `auto` under a profile that gives no cap.
        DataError: the images are too small for the teacher or the student.
        RecipeError: the distillation method is malformed, or the recipe contradicts it; there is no such learner.
    """
    images, scheme = splits.train, resolve_scheme(profile, recipe.quantize)
    _require_sizes(recipe, profile, images.channels)
    with torch.random.fork_rng():
        recipe = _as_chosen(recipe, _adapted(recipe, profile, scheme, images), chosen)
        recipe = _with_pixels(recipe, images.channels)
        spec, pretrained = recipe.student.backbone, bool(recipe.student.pretrained)
        student = build_backbone(spec, images.channels, pretrained=pretrained, fetch=False)
        for backbone in (student, build_backbone(recipe.teacher.backbone, images.channels)):
            require_input(backbone, images.height, images.width, images.channels)
        added = 0
        if recipe.quantize.enabled:
            require_quantizable(student, spec)
            scheme = resolve_scheme(profile, recipe.quantize, signed=student.signed)
            added = added_parameters(student, scheme, images.height, images.width)
        require_fit(student, profile.params.max, profile.name, added)
    recipe = resolve_assistant(recipe, images)
    test = recipe.test.model_copy(update={"way": recipe.test.way_among(splits.test.n_classes)})
    teacher, meta = (_sized(settings, images.n_classes) for settings in (recipe.teacher, recipe.meta))
    return recipe.model_copy(update={"teacher": teacher, "meta": meta, "test": test})


def _require_sizes(recipe: Recipe, profile: HardwareProfile, channels: int) -> None:
    """Refuse networks that are too large before memory is taken for their weights."""
    assistant = recipe.assistant.backbone
    for spec in (recipe.teacher.backbone, *([] if assistant in {"", AUTO, NONE} else [assistant])):
        require_buildable(spec, channels)
    if recipe.student.backbone != AUTO:
        require_fit(outline(recipe.student.backbone, channels), profile.params.max, profile.name)
        require_buildable(recipe.student.backbone, channels)


def _as_chosen(before: Recipe, after: Recipe, chosen: Collection[str]) -> Recipe:
    """Return the recipe `after` its method changed it.

    Raises:
        RecipeError: it changed a key of the teacher that was chosen.
    """
    for key in differing_keys(before, after):
        if key in chosen and key.partition(".")[0] == "teacher":
            wanted, asked = (flatten(recipe.model_dump(mode="json"))[key] for recipe in (after, before))
            raise RecipeError(
                f"method '{before.distill.method}' wants {key}={wanted}, and {asked} was asked for; "
                "leave one of them out"
            )
    return after


def _with_pixels(recipe: Recipe, channels: int) -> Recipe:
    """Decide which pixels teacher and student see."""
    teacher = settle_pixels("teacher", recipe.teacher, channels)
    student = settle_pixels("student", recipe.student, channels)
    return recipe.model_copy(update={"teacher": teacher, "student": student})


def _sized(settings: _L, classes: int) -> _L:
    """Put the learner's own batch size and the classes of an episode where the recipe leaves them open."""
    default = find_learner(settings.learner).unit.batch_size
    way = settings.way or max(2, min(WAY, classes))
    return settings.model_copy(update={"batch_size": settings.batch_size or default, "way": way})


def _adapted(recipe: Recipe, profile: HardwareProfile, scheme: QuantScheme, images: ImageSet) -> Recipe:
    """Name the student and let the terms change the recipe; `auto` fits together with what they put onto it."""
    if recipe.student.backbone != AUTO:
        return adapt_recipe(recipe)
    named = _with_student(recipe, _widest("conv4", profile, scheme, images))
    adapted = adapt_recipe(named)
    prefix = prefix_of(adapted.student.backbone)
    return _with_student(adapted, _widest(f"{prefix}conv4", profile, scheme, images)) if prefix else adapted


def _with_student(recipe: Recipe, spec: str) -> Recipe:
    return recipe.model_copy(update={"student": recipe.student.model_copy(update={"backbone": spec})})


def _widest(family: str, profile: HardwareProfile, scheme: QuantScheme, images: ImageSet) -> str:
    """Return the widest of a family that fits, with what pooling adds under this scheme."""
    if profile.params.max is None:
        raise ProfileError(
            f"profile {profile.name} gives no parameter cap, so the widest student is not defined; "
            "name one with --student"
        )
    spec, fits = widest_student(family, profile.params.max, images.channels), ""
    require_input(build_backbone(spec, images.channels), images.height, images.width, images.channels)
    while spec != fits:
        fits, cap = spec, _cap(profile, build_backbone(spec, images.channels), scheme, images)
        spec = widest_student(family, cap, images.channels) if cap is not None else spec
    return spec


def _cap(profile: HardwareProfile, student: Backbone, scheme: QuantScheme, images: ImageSet) -> int | None:
    """Return the profile's cap less the parameters that quantizing adds to the student."""
    if profile.params.max is None:
        return None
    return profile.params.max - added_parameters(student, scheme, images.height, images.width)


def require_trainable(
    recipe: Recipe, splits: Splits, stages: Collection[str], unlabelled: ImageSet | None = None
) -> None:
    """Refuse now what one of `stages` could not do; `unlabelled` are the images to distill on where they are others.

    Raises:
        RecipeError: a term of the distillation method cannot be built between these networks.
        RecipeError: the best epoch is to be chosen by the accuracy on classes that no head knows; or as
            `require_teacher`.
        DataError: there is one training class alone; or a split has too few classes or images for a stage, its
            validation or the test protocol.
    """
    _require_classes(recipe, splits.train, stages)
    require_teacher(recipe.teacher, splits.train)
    _require_student(recipe, splits.train.channels)
    if "distill" in stages:
        _require_method(recipe, splits.train, unlabelled)
    if recipe.validation.measure == "accuracy" and splits.novel:
        raise RecipeError(
            f"validation.measure is accuracy, but no head knows the validation classes of {splits.name}: "
            "they are novel; set it to few_shot, or leave it out"
        )
    if "assist" in stages:
        _require_method(as_student(recipe), splits.train, None)
    find_head(recipe.test.head)
    require_enough(recipe, splits, stages, len(unlabelled or splits.train))
    for stage in stages:
        _require_start_size(recipe, splits.train, stage)


def _require_start_size(recipe: Recipe, images: ImageSet, stage: str) -> None:
    """Refuse images that begin too small for the network that a stage trains."""
    section = section_of(stage)
    schedule = getattr(recipe, section, None)
    if not isinstance(schedule, Schedule) or schedule.start_size == 1:
        return
    others = {
        "teacher": recipe.teacher.backbone,
        "assistant": recipe.assistant.backbone,
        "connect": followed(recipe)[1],
    }
    spec = others.get(section, recipe.student.backbone)
    with torch.random.fork_rng():
        backbone = build_backbone(spec, images.channels)
    try:
        require_input(backbone, *smallest(schedule, images.height, images.width), images.channels)
    except DataError as error:
        raise RecipeError(f"{section}.start_size is {schedule.start_size:g}: {error}") from error


def _require_classes(recipe: Recipe, images: ImageSet, stages: Collection[str]) -> None:
    """Refuse images of one class where a stage learns to tell classes apart."""
    labelled = {"scratch", "head", "assist"} | (set() if recipe.teacher.weights else {"teach"})
    if needs_of(recipe.distill.method, recipe.distill.options).head:
        labelled.add("distill")
    if images.n_classes < 2 and labelled & set(stages):
        raise DataError(
            f"{images.name} has one training class, {images.class_names[0]}: there is nothing to tell it apart from; "
            "images need two classes at least, in a folder each. Images without labels go into distill.images"
        )


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
        teacher = build_backbone(followed(recipe)[1], images.channels)
        dims = dims_of(student, teacher, images, unlabelled)
        methods = build_method(recipe.distill.method, dims, recipe.distill.options)
    needs = needs_of(recipe.distill.method, recipe.distill.options)
    still = needs.teacher and not needs.online
    if recipe.distill.views and not still:
        raise RecipeError(
            f"distill.views saves asking a trained teacher, and method '{recipe.distill.method}' has none; leave it out"
        )
    if still and methods.teacher_layers and (recipe.distill.views or recipe.distill.start_size < 1):
        key = "views keeps embeddings and logits" if recipe.distill.views else "start_size makes the student's smaller"
        raise RecipeError(
            f"method '{recipe.distill.method}' compares maps of layers, and distill.{key}; leave one of them out"
        )


def _require_student(recipe: Recipe, channels: int) -> None:
    require_start("student", recipe.student, channels)
    method = recipe.distill.method
    if recipe.student.freeze_epochs and not needs_of(method, recipe.distill.options).head:
        raise RecipeError(
            f"student.freeze_epochs trains a head that no term of method '{method}' goes on with; leave it out"
        )
