"""A run folder: the resolved recipe, what each stage made, and every number on the way.

    runs/<name>/  recipe.toml  manifest.json  metrics.jsonl  *.safetensors  checkpoint-<stage>/  report.html

Each file is written atomically or appended to in whole lines, so that a run killed at any instant can go on.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import Any, TextIO

from pydantic import ValidationError

from edgekd.data import Splits, load_splits, with_turned_classes
from edgekd.errors import RecipeError, RunError, StorageError
from edgekd.files import sha256_file, write_text
from edgekd.manifest import DataRef, StageResult
from edgekd.metrics import append_line, drop_lines_after, read_lines
from edgekd.recipe import Recipe, differing_keys, load_recipe, to_toml
from edgekd.run_manifest import RunManifest, StageRecord
from edgekd.schema import explain

RUNS_FOLDER = Path("runs")


class Run:
    """One run folder, open for reading; `create` starts one, `locked` holds it for training."""

    def __init__(self, folder: Path, recipe: Recipe, manifest: RunManifest) -> None:
        self.folder = folder
        self.recipe = recipe
        self.manifest = manifest

    @property
    def resume_command(self) -> str:
        """The command that goes on with this run."""
        recipe, folder = (quote(str(path)) for path in (self.folder / "recipe.toml", self.folder))
        return f"edgekd distill --recipe {recipe} --run {folder}"

    @property
    def metrics_path(self) -> Path:
        """The file of one JSON object a line."""
        return self.folder / "metrics.jsonl"

    @classmethod
    def create(
        cls, folder: Path, recipe: Recipe, data: DataRef, versions: Mapping[str, str], unlabelled: str = ""
    ) -> Run:
        """Start a run in a new folder.

        Raises:
            StorageError: the folder cannot be written.
        """
        manifest = RunManifest(
            recipe_sha256=recipe.sha256,
            seed=recipe.seed,
            versions=dict(versions),
            data=data,
            unlabelled=unlabelled,
        )
        run = cls(folder, recipe, manifest)
        write_text(folder / "recipe.toml", to_toml(recipe))
        run._save()
        return run

    @classmethod
    def open(cls, folder: Path) -> Run:
        """Open an existing run folder.

        Raises:
            RunError: not a run folder, or its manifest or recipe is damaged.
        """
        path = folder / "manifest.json"
        try:
            manifest = RunManifest.model_validate_json(path.read_text())
            recipe = load_recipe(folder / "recipe.toml")
        except FileNotFoundError:
            raise RunError(f"{folder} is not a run folder (no manifest.json); `edgekd distill` makes one") from None
        except (OSError, UnicodeDecodeError, ValidationError) as error:
            what = f"{path} is damaged"
            reason = explain(RunManifest, error, what) if isinstance(error, ValidationError) else f"{what}: {error}"
            raise RunError(f"{reason}; restore it, or move {folder} away and train anew") from error
        except RecipeError as error:
            raise RunError(f"{folder} is damaged ({error}); restore it, or move it away and train anew") from error
        return cls(folder, recipe, manifest)

    def require_recipe(self, recipe: Recipe) -> None:
        """Refuse to go on with another recipe.

        Raises:
            RunError: naming the keys that differ.
        """
        keys = differing_keys(self.recipe, recipe)
        if keys:
            raise RunError(
                f"{self.folder} was made with another recipe: {', '.join(keys)} differ; choose another --run folder"
            )

    def require_data(self, fingerprint: str) -> None:
        """Refuse to go on with other images.

        Raises:
            RunError: the test split is not the one that the run began with.
        """
        if fingerprint != self.manifest.data.fingerprint:
            raise RunError(
                f"{self.folder} was made with other images of {self.manifest.data.spec}; choose another --run folder"
            )

    def require_unlabelled(self, fingerprint: str) -> None:
        """Refuse to go on distilling on other images.

        Raises:
            RunError: those of `distill.images` are not the ones that the run began with.
        """
        if fingerprint != self.manifest.unlabelled:
            raise RunError(
                f"{self.folder} was made with other images of {self.recipe.distill.images} (distill.images); "
                "choose another --run folder"
            )

    def finish_stage(self, stage: str, file: str, seconds: float, result: StageResult) -> None:
        """Record that `stage` is done and which file holds its weights."""
        record = StageRecord(file=file, sha256=sha256_file(self.folder / file), seconds=seconds, result=result)
        self._update(stages={**self.manifest.stages, stage: record})

    def adopt(self, stages: Mapping[str, StageRecord]) -> None:
        """Record stages that were made in another run; their files are here already."""
        self._update(stages={**self.manifest.stages, **stages})

    def finish(self, base_mean: tuple[float, ...]) -> None:
        """Mark the run complete; `base_mean` is the deployed student's mean embedding of the training classes."""
        self._update(base_mean=base_mean, complete=True)

    def lost_stages(self) -> list[str]:
        """Return the finished stages whose file is missing or is not the one recorded."""
        return [stage for stage, record in self.manifest.stages.items() if not self._holds(record)]

    def forget_stages(self, stages: Iterable[str]) -> None:
        """Take stages for unfinished again: what they were made from has changed."""
        gone = set(stages)
        kept = {stage: record for stage, record in self.manifest.stages.items() if stage not in gone}
        self.manifest = self.manifest.model_copy(update={"stages": kept, "complete": False})

    def stage_file(self, stage: str) -> Path:
        """Return the weights of a finished stage.

        Raises:
            RunError: the stage is not finished, or its file is missing or not the one recorded.
        """
        record = self.manifest.stages.get(stage)
        if record is None:
            raise RunError(f"{self.folder} has no finished stage '{stage}'; to go on: {self.resume_command}")
        path = self.folder / record.file
        if not self._holds(record):
            raise RunError(
                f"{path} is missing or not the file that stage '{stage}' wrote; to make it again: {self.resume_command}"
            )
        return path

    def _holds(self, record: StageRecord) -> bool:
        path = self.folder / record.file
        return path.is_file() and sha256_file(path) == record.sha256

    def append_metrics(self, line: Mapping[str, Any]) -> None:
        """Append one line to metrics.jsonl.

        Raises:
            StorageError: the disk is full or the folder is not writable.
        """
        append_line(self.metrics_path, line)

    def metrics(self) -> list[dict[str, Any]]:
        """Read every metrics line; a last line cut off by a crash is left out.

        Raises:
            RunError: another line is not JSON.
        """
        return read_lines(self.metrics_path)

    def drop_metrics_after(self, stage: str, step: int) -> None:
        """Forget the lines of `stage` beyond `step`: they are about to be made again."""
        drop_lines_after(self.metrics_path, stage, step)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for one process.

        Raises:
            RunError: another process is training in it.
            StorageError: the folder cannot be written.
        """
        with self._open_lock() as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunError(f"another process is training in {self.folder}") from None
            yield

    def _open_lock(self) -> TextIO:
        path = self.folder / "lock"
        try:
            return path.open("w")
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror}") from error

    def _update(self, **changes: Any) -> None:  # noqa: ANN401 - fields of RunManifest
        self.manifest = self.manifest.model_copy(update=changes)
        self._save()

    def _save(self) -> None:
        write_text(self.folder / "manifest.json", self.manifest.model_dump_json(indent=1) + "\n")


def latest_run(root: Path = RUNS_FOLDER) -> Run:
    """Return the finished run under `root` whose manifest changed last, or the last one if none is finished.

    Raises:
        RunError: there is none.
    """
    manifests = sorted(root.glob("*/manifest.json"), key=lambda path: path.stat().st_mtime)
    if not manifests:
        raise RunError(f"no run under {root.absolute()}; run `edgekd distill` first, or name one with --run")
    runs = [Run.open(path.parent) for path in manifests]
    return next((run for run in reversed(runs) if run.manifest.complete), runs[-1])


def load_images(run: Run) -> Splits:
    """Load the images that the run was trained and measured on.

    Raises:
        DataError: they cannot be loaded.
        RunError: they are other images by now.
    """
    data = run.recipe.data
    # Bad images are left out as they were in training, or the fingerprint differs.
    splits = load_splits(data.spec, size=data.size, channels=data.channels, seed=data.seed, skip_bad=True)
    run.require_data(splits.test.fingerprint)
    return with_turned_classes(splits) if data.turned_classes else splits
