"""All of `edgekd distill` and `edgekd teach`: resolve the recipe, open the run folder, run what is not done."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from edgekd.data import ImageSet, Splits, load_splits, load_unlabelled, with_turned_classes
from edgekd.distill.backbones import outline
from edgekd.distill.checkpoint import load_snapshot
from edgekd.distill.context import Context
from edgekd.distill.embed import mean_embedding
from edgekd.distill.methods import METHODS, adapt_recipe, needs_of, parse_expression
from edgekd.distill.phases import has_head
from edgekd.distill.quantizing import load_quantized
from edgekd.distill.resolve import require_trainable, resolve
from edgekd.distill.reuse import begun, reusable, reuse_stages
from edgekd.distill.scheme import resolve_scheme
from edgekd.distill.session import Session
from edgekd.distill.stages import MADE_WITH, STAGES, fed_by
from edgekd.distill.start_weights import pixels_of_plain, require_weights
from edgekd.distill.starting import has_start
from edgekd.errors import DataError, RecipeError
from edgekd.manifest import DataRef
from edgekd.profile import load_profile
from edgekd.recipe import WAY, Recipe
from edgekd.run import RUNS_FOLDER, Run
from edgekd.versions import library_versions

LIBRARIES = ("torch", "torchvision", "brevitas", "accelerate", "numpy", "onnx", "onnxruntime")


def run_distillation(
    recipe: Recipe,
    folder: Path | None,
    session: Session,
    *,
    skip_bad: bool = False,
    chosen: Collection[str] = (),
    reuse: Path | None = None,
) -> Run:
    """Run every stage of `recipe` that is not done yet, in `folder` or one named after data, student and recipe.

    `chosen` are the dotted keys that no method may change, as in `resolve`. A new run takes over from the run folder
    `reuse` the stages that `recipe` would make in the same way.

    Raises:
        EdgekdError: the profile, data, recipe or run folder is wrong; the message says what to change.
        Stopped: the time budget is used up or a signal came; the same call goes on.
    """
    with _opened(recipe, folder, session, skip_bad=skip_bad, chosen=chosen, reuse=reuse) as context:
        _train(context, stage_names(context.run.recipe))
        _finish(context)
    return context.run


def run_teaching(
    recipe: Recipe,
    folder: Path | None,
    session: Session,
    *,
    skip_bad: bool = False,
    chosen: Collection[str] = (),
    reuse: Path | None = None,
) -> Run:
    """Train the teacher of `recipe` alone; the run is left unfinished, and `run_distillation` goes on with it.

    Raises:
        EdgekdError, Stopped: as `run_distillation`.
    """
    stages = ("teach",)
    with _opened(recipe, folder, session, skip_bad=skip_bad, stages=stages, chosen=chosen, reuse=reuse) as context:
        _train(context, ["teach"])
    return context.run


@contextmanager
def _opened(
    recipe: Recipe,
    folder: Path | None,
    session: Session,
    *,
    skip_bad: bool,
    stages: Collection[str] = (),
    chosen: Collection[str] = (),
    reuse: Path | None = None,
) -> Iterator[Context]:
    """Resolve `recipe`, refuse what `stages` (all of the recipe's, where none is named) could not do, open the run."""
    profile = load_profile(recipe.profile)
    splits = load_data(recipe, session, skip_bad=skip_bad)
    unlabelled = load_images(recipe, splits.train, session, skip_bad=skip_bad)
    asked, recipe = recipe, resolve(recipe, profile, splits, chosen)
    stages = stages or stage_names(recipe)
    require_trainable(recipe, splits, stages, unlabelled)
    folder = folder or RUNS_FOLDER / default_name(recipe)
    fingerprints = splits.test.fingerprint, unlabelled.fingerprint if unlabelled else ""
    taken = reusable(Run.open(reuse), recipe, stages, fingerprints) if reuse and not begun(folder) else []
    own = [name for name in stages if name not in taken]
    run = open_run(recipe, folder, splits, session, unlabelled, stages=own)
    session.reporter.note(f"run folder {run.folder}")
    for text in (*_lowered(asked, recipe, splits), *_replaced(asked, recipe)):
        session.reporter.note(text)
    with run.locked() if session.is_main else nullcontext(), session.deadline.catching_signals():
        signed = outline(recipe.student.backbone, splits.train.channels).signed
        if reuse:
            reuse_stages(run, Run.open(reuse), taken, session)
        yield Context(run, session, splits, resolve_scheme(profile, recipe.quantize, signed=signed), unlabelled)


def _lowered(asked: Recipe, recipe: Recipe, splits: Splits) -> Iterator[str]:
    """Say where episodes have fewer classes than they have by default, because the images have no more."""
    way = recipe.test.way
    if recipe.test.enabled and asked.test.way is None and way != WAY:
        yield f"{splits.test.name} has {way} test classes: episodes are {way}-way instead of {WAY}-way"
    if recipe.meta.enabled and not asked.meta.way and recipe.meta.way != WAY:
        yield f"{splits.train.name} has {recipe.meta.way} classes: meta trains on {recipe.meta.way}-way episodes"


def _replaced(asked: Recipe, recipe: Recipe) -> Iterator[str]:
    """Say which keys of the teacher that a recipe file sets were changed by the method."""
    before, after = asked.teacher, adapt_recipe(asked.model_copy(update={"student": recipe.student})).teacher
    for key in sorted(before.model_fields_set):
        if getattr(before, key) != getattr(after, key):
            yield (
                f"method '{recipe.distill.method}' takes teacher.{key}={getattr(after, key)} in the place of "
                f"{getattr(before, key)}"
            )


def _train(context: Context, stages: Sequence[str]) -> None:
    """Run each of `stages` that is not done, or whose file is lost; what rests on a changed file is made anew."""
    run, session = context.run, context.session
    lost = {MADE_WITH.get(name, name): run.manifest.stages[name].file for name in run.lost_stages()}
    session.accelerator.wait_for_everyone()  # every process has looked before one writes
    for name in stages:
        before = run.manifest.stages.get(name)
        if before and name not in lost:
            continue
        if before:
            session.reporter.note(f"{run.folder / lost[name]} is missing or damaged: stage '{name}' runs again")
        STAGES[name](context)
        if before and run.manifest.stages[name].sha256 != before.sha256:
            run.forget_stages(fed_by(name))


def load_data(recipe: Recipe, session: Session, *, skip_bad: bool) -> Splits:
    """Load the recipe's image sets; the main process first, so that the others find its cache."""
    data = recipe.data
    with _main_first(session):
        splits = load_splits(
            data.spec,
            size=data.size,
            channels=data.channels,
            skip_bad=skip_bad,
            seed=data.seed,
            notify=session.reporter.note,
        )
    return with_turned_classes(splits) if data.turned_classes else splits


def load_images(recipe: Recipe, like: ImageSet, session: Session, *, skip_bad: bool) -> ImageSet | None:
    """Load the images to distill on, in the shape of those `like` which the run trains; None where it names none.

    Raises:
        RecipeError: a term of the method needs labels.
        DataError: the images cannot be loaded, or not in that shape.
    """
    spec = recipe.distill.images
    if spec is None:
        return None
    _require_no_labels(recipe)
    with _main_first(session):
        found = load_unlabelled(
            spec,
            size=like.height if like.height == like.width else None,
            channels=like.channels,
            skip_bad=skip_bad,
            seed=recipe.data.seed,
            notify=session.reporter.note,
        )
    if found.images.shape[1:] != like.images.shape[1:]:
        raise DataError(
            f"the images of distill.images are {found.height}x{found.width}, those of {like.name} {like.height}x"
            f"{like.width}; set data.size"
        )
    return found


def _require_no_labels(recipe: Recipe) -> None:
    method, images, options = recipe.distill.method, recipe.distill.images, recipe.distill.options
    names = [term.name for term in parse_expression(method)]
    labelled = [name for name in names if METHODS[name].needs_labels(options.get(name, {}))]
    if labelled:
        raise RecipeError(
            f"distill.images: {images} has no labels for {labelled[0]}; leave {labelled[0]} out of '{method}', or "
            "leave distill.images out, to distill on the training images"
        )


def stage_names(recipe: Recipe) -> list[str]:
    """Return the stages that `recipe` asks for, in order."""
    needs = needs_of(recipe.distill.method, recipe.distill.options)
    left_out = {"student" if recipe.meta.enabled else "meta"}
    left_out |= set() if recipe.baseline.enabled else {"scratch"}
    left_out |= set() if recipe.quantize.enabled else {"student", "quantize"}  # the distilled file is all there is
    left_out |= set() if has_start(recipe) else {"start"}
    left_out |= set() if recipe.assistant.backbone else {"assist"}
    left_out |= set() if needs.teacher and not needs.online else {"teach"}
    left_out |= set() if needs.prepared else {"connect"}
    left_out |= set() if has_head(recipe) else {"head"}
    return [name for name in STAGES if name not in left_out]


def open_run(
    recipe: Recipe,
    folder: Path,
    splits: Splits,
    session: Session,
    unlabelled: ImageSet | None = None,
    *,
    stages: Collection[str] | None = None,
) -> Run:
    """Open the run folder of this recipe, or start it once the weights that `stages` begin with are at hand.

    Without `stages` those of the recipe are meant.

    Raises:
        RunError: the folder belongs to another recipe or other images; the recipe's weights cannot be used.
        DataError: they are of a network of other classes.
        ModelError: published weights cannot be had.
    """
    fingerprint = unlabelled.fingerprint if unlabelled else ""
    with _main_first(session):
        if not (folder / "manifest.json").exists():
            _require_weights(recipe, splits.train, session, stage_names(recipe) if stages is None else stages)
            return Run.create(folder, recipe, data_ref(recipe, splits), library_versions(*LIBRARIES), fingerprint)
        run = Run.open(folder)
        run.require_recipe(recipe)
        run.require_data(splits.test.fingerprint)
        run.require_unlabelled(fingerprint)
        return run


def _require_weights(recipe: Recipe, images: ImageSet, session: Session, stages: Collection[str]) -> None:
    """Refuse weights that cannot be used; say what is worth knowing of those that can."""
    notes: list[str] = []
    if "teach" in stages:
        require_weights("teacher", recipe.teacher, images)
        notes += pixels_of_plain("teacher", recipe.teacher)
    if "start" in stages:
        require_weights("student", recipe.student, images)
        notes += pixels_of_plain("student", recipe.student)
    if "distill" in stages and recipe.teacher.weights and not recipe.teacher.new_head:
        marks = load_snapshot(recipe.teacher.weights).values
        notes += [METHODS[term.name].remark(marks) for term in parse_expression(recipe.distill.method)]
    for text in filter(None, notes):
        session.reporter.note(text)


def data_ref(recipe: Recipe, splits: Splits) -> DataRef:
    """Return which images a run of `recipe` is measured on."""
    test = splits.test
    return DataRef(
        spec=recipe.data.spec,
        split="test",
        fingerprint=test.fingerprint,
        n_classes=test.n_classes,
        novel=splits.novel,
        seed=recipe.data.seed,
    )


def default_name(recipe: Recipe) -> str:
    """Return `data-student-hash`: the same recipe finds its run again."""
    data = recipe.data.spec.partition(":")[0]
    student = recipe.student.backbone.replace(":", "-").replace("/", "-")
    return f"{data}-{student}-{recipe.sha256[:8]}"


def _finish(context: Context) -> None:
    run, session = context.run, context.session
    if not run.manifest.complete and session.is_main:
        run.finish(_base_mean(context))
    session.accelerator.wait_for_everyone()


def _base_mean(context: Context) -> tuple[float, ...]:
    """Return the deployed student's mean embedding of the training classes; nothing where none is deployed."""
    if not context.run.recipe.quantize.enabled:
        return ()
    quantized, _ = load_quantized(context.run, context.splits.train.channels)
    return tuple(float(value) for value in mean_embedding(quantized, context.splits.train))


@contextmanager
def _main_first(session: Session) -> Iterator[None]:
    with session.accelerator.main_process_first():
        yield
