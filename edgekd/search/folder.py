"""The folder of a search: where each file lies, who works in it, and that it belongs to one recipe."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgekd.errors import RunError, StorageError
from edgekd.files import write_text
from edgekd.recipe import Recipe, differing_keys, load_recipe, to_toml
from edgekd.search.locks import exclusive, held, is_held


@dataclass(frozen=True)
class Folder:
    """One search folder; `identity` tells it from a folder of another host that shares the storage."""

    path: Path
    identity: str

    @property
    def journal(self) -> Path:
        """The storage, where no other is named."""
        return self.path / "study.journal"

    @property
    def teacher(self) -> Path:
        """The run folder of the shared teacher."""
        return self.path / "teacher"

    @property
    def best(self) -> Path:
        """The recipe that trains the best student in full."""
        return self.path / "best.toml"

    @property
    def results(self) -> Path:
        """All results, as JSON."""
        return self.path / "results.json"

    @property
    def page(self) -> Path:
        """The best of the results, to read."""
        return self.path / "results.md"

    def trial(self, number: int) -> Path:
        """Return the run folder of a trial."""
        return self.path / "trials" / f"{number:04d}"

    @contextmanager
    def deciding(self, while_waiting: Callable[[], None]) -> Iterator[None]:
        """Let one worker at a time decide what to do next."""
        with exclusive(self.path / "locks" / "decide", while_waiting):
            yield

    @contextmanager
    def teaching(self, while_waiting: Callable[[], None]) -> Iterator[None]:
        """Let one worker at a time see to the teacher; the others wait and find it there."""
        with exclusive(self.path / "locks" / "teach", while_waiting):
            yield

    @contextmanager
    def working(self) -> Iterator[str]:
        """Be a worker of this folder, under the name that is yielded, until the block or the process ends."""
        name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        with held(self._worker(name)):
            yield name

    def works(self, worker: str) -> bool:
        """Say whether a worker is still there."""
        return is_held(self._worker(worker))

    def forget(self, worker: str) -> None:
        """Delete what a worker that died left of itself."""
        self._worker(worker).unlink(missing_ok=True)

    def _worker(self, name: str) -> Path:
        return self.path / "locks" / f"worker-{name}"


def open_folder(path: Path, recipe: Recipe, while_waiting: Callable[[], None]) -> Folder:
    """Open the search folder of `recipe`, or start it.

    Raises:
        RunError: it is the folder of another search, or of a run.
        StorageError: it cannot be written.
    """
    if (path / "manifest.json").exists():
        raise RunError(f"{path} is the folder of a run; choose another one with --run")
    made = path / "search.toml"
    with exclusive(path / "locks" / "decide", while_waiting):
        if not made.exists():
            write_text(path / "locks" / "identity", secrets.token_hex(8))
            write_text(made, to_toml(recipe))
    require_same(load_recipe(made), recipe, str(path))
    return Folder(path, _identity(path))


def require_journal(folder: Folder) -> None:
    """Refuse to begin a study anew over the results of one whose journal is gone.

    Raises:
        RunError: there are results, and no journal or an empty one.
    """
    journal = folder.journal
    if folder.results.exists() and (not journal.exists() or not journal.stat().st_size):
        raise RunError(
            f"{folder.path} has results of a search, and {journal.name} is empty or gone: put it back, or begin anew "
            "with another --run"
        )


def require_same(before: Recipe, now: Recipe, where: str) -> None:
    """Refuse to go on with another search; how many trials it has may change, and where the teacher lies.

    Raises:
        RunError: naming the keys that differ.
    """
    keys = differing_keys(comparable(before), comparable(now))
    if keys:
        raise RunError(f"{where} holds a search of another recipe: {', '.join(keys)} differ; choose another with --run")


def comparable(recipe: Recipe) -> Recipe:
    """Return the recipe without what may change between two workers, or when a search goes on."""
    bounds = type(recipe.search)()
    search = recipe.search.model_copy(update={"trials": bounds.trials, "refused": bounds.refused})
    teacher = recipe.teacher.model_copy(update={"weights": None})
    return recipe.model_copy(update={"search": search, "teacher": teacher})


def _identity(path: Path) -> str:
    file = path / "locks" / "identity"
    try:
        return file.read_text()
    except OSError as error:
        raise StorageError(f"cannot read {file}: {error.strerror}; restore it, or choose another --run") from error
