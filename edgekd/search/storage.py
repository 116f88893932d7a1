"""Where the study is kept: a journal file, or a database that several hosts reach."""

from __future__ import annotations

import json
import time
from pathlib import Path
from shlex import quote

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.exc import SQLAlchemyError

from edgekd.errors import RunError, UsageError
from edgekd.files import require_folder
from edgekd.recipe import Recipe
from edgekd.search.folder import comparable, require_same

RECIPE, FINGERPRINTS = "recipe", "fingerprints"
WRITING_S = 0.5  # another worker may be writing the last line of a journal
SQLITE_TIMEOUT_S = 60  # several workers of one host write in turns


def open_storage(where: str | Path) -> BaseStorage:
    """Open a journal file, or the database of a URL (anything with "://").

    Raises:
        UsageError: no such kind of database, no driver for it, or it does not answer.
        StorageError: the journal's folder is not there.
        RunError: the journal is damaged.
    """
    if isinstance(where, str) and "://" in where:
        return _open_database(where)
    path = Path(where)
    require_folder(path)
    if path.is_dir():
        raise UsageError(f"--storage {path} is a folder; name a file in it, or a URL such as sqlite:///search.db")
    try:
        storage = JournalStorage(JournalFileBackend(str(path)))
    except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:
        raise RunError(
            f"{path} cannot be read as a journal of a search: {error}; put back a copy of it, or begin anew with "
            "another file or --run"
        ) from error
    _require_whole(path)
    return storage


def _require_whole(path: Path) -> None:
    """Refuse a journal whose last line broke off: Optuna takes it for one still being written, and goes on behind it.

    Raises:
        RunError: saying how to cut it off.
    """
    if not _ends_whole(path):
        time.sleep(WRITING_S)
        if not _ends_whole(path):
            raise RunError(
                f"{path} cannot be read as a journal of a search: its last line broke off; "
                f"when no worker is left, cut it off: sed -i '$d' {quote(str(path))}"
            )


def _ends_whole(path: Path) -> bool:
    lines = path.read_bytes().splitlines(keepends=True)
    if not lines:
        return True
    try:
        return lines[-1].endswith(b"\n") and isinstance(json.loads(lines[-1]), dict)
    except ValueError:
        return False


def _open_database(url: str) -> BaseStorage:
    options = {"connect_args": {"timeout": SQLITE_TIMEOUT_S}} if url.startswith("sqlite") else {}
    try:
        return RDBStorage(url, engine_kwargs=options)
    except (SQLAlchemyError, ImportError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"--storage {url} cannot be opened: {reason}; give a file, or a URL such as sqlite:///search.db or "
            "postgresql://HOST/NAME whose driver is installed"
        ) from error


def open_study(storage: BaseStorage, name: str, recipe: Recipe, fingerprints: dict[str, str]) -> optuna.Study:
    """Return the study `name`, made where it is not there; `fingerprints` are those of images and profile.

    Raises:
        RunError: the storage has a study of that name with another recipe, other images or another profile.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # the search says itself what goes on
    independent = optuna.samplers.RandomSampler()  # until each trial brings its own
    study = optuna.create_study(
        storage=storage, study_name=name, direction="maximize", load_if_exists=True, sampler=independent
    )
    if RECIPE not in study.user_attrs:
        study.set_user_attr(FINGERPRINTS, fingerprints)
        study.set_user_attr(RECIPE, comparable(recipe).model_dump_json())
    before = Recipe.model_validate_json(study.user_attrs[RECIPE])
    require_same(before, recipe, f"the study '{name}'")
    require_fingerprints(study, fingerprints)
    return study


def require_fingerprints(study: optuna.Study, fingerprints: dict[str, str]) -> None:
    """Refuse to compare candidates that are not of the same images, profile or teacher.

    Raises:
        RunError: naming what is another one.
    """
    before: dict[str, str] = dict(study.user_attrs[FINGERPRINTS])
    strange = sorted(key for key, value in fingerprints.items() if before.get(key, value) != value)
    if strange:
        raise RunError(
            f"the study '{study.study_name}' began with another {' and '.join(strange)}; choose another --run, or "
            "another --name in this storage" + ("; or give its --teacher-weights" if "teacher" in strange else "")
        )
    if fingerprints.keys() - before.keys():
        study.set_user_attr(FINGERPRINTS, json.loads(json.dumps({**before, **fingerprints})))
