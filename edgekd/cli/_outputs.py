"""The files that `edgekd verify` writes: one row a format, each target tried before anything is computed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgekd.errors import StorageError, UsageError

if TYPE_CHECKING:
    from edgekd.verify import Report, Unverified

    Entries = Sequence[Report | Unverified]

STDOUT = Path("-")
Targets = Mapping[str, Path]  # format -> file


def _json(entries: Entries, *, many: bool, strict: bool) -> str:  # noqa: ARG001 - one signature for all formats
    from edgekd.verify import Report, collect

    first = entries[0]
    return first.to_json() if not many and isinstance(first, Report) else collect(entries).to_json()


def _html(entries: Entries, *, many: bool, strict: bool) -> str:  # noqa: ARG001
    from edgekd.report.verification import verification_page

    return verification_page(entries)


def _sarif(entries: Entries, *, many: bool, strict: bool) -> str:  # noqa: ARG001
    from edgekd.report.sarif import sarif_log

    return sarif_log(entries)


def _junit(entries: Entries, *, many: bool, strict: bool) -> str:  # noqa: ARG001
    from edgekd.report.junit import junit_xml

    return junit_xml(entries, strict=strict)


FORMATS: Mapping[str, Callable[..., str]] = {"json": _json, "html": _html, "sarif": _sarif, "junit": _junit}


def targets_of(options: dict[str, Path | None]) -> Targets:
    """Take the options named after formats out of `options`, those that were given."""
    chosen = {name: options.pop(name) for name in FORMATS}
    return {name: path for name, path in chosen.items() if path is not None}


def require_writable(targets: Targets, models: Iterable[Path]) -> None:
    """Refuse, before any work is done, what could not be written in the end.

    Raises:
        UsageError: two outputs into one place, or an output over a model.
        StorageError: a target is a folder or a device, or its folder is missing or cannot be written to.
    """
    inputs = {Path(os.path.realpath(path)) for path in models}  # resolve() refuses a circle of links
    seen: dict[Path, str] = {}
    for name, path in targets.items():
        place = path if path == STDOUT else Path(os.path.realpath(path))
        if place in seen:
            where = "stdout" if path == STDOUT else str(path)
            raise UsageError(f"--{seen[place]} and --{name} would both write to {where}")
        if place in inputs:
            raise UsageError(f"--{name} {path} would overwrite the model")
        seen[place] = name
        if path != STDOUT:
            _try_target(path)


def _try_target(path: Path) -> None:
    from edgekd.files import require_folder

    try:
        if path.is_dir():
            raise StorageError(f"cannot write {path}: it is a folder")
        if path.exists() and not path.is_file():
            raise StorageError(f"cannot write {path}: it is not a regular file; - is stdout")
        require_folder(path)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}."):
            pass
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error


def write_outputs(entries: Entries, targets: Targets, *, many: bool, strict: bool) -> None:
    """Write every format that was asked for, atomically; what is there already stays whole until then.

    Raises:
        StorageError: the disk filled up meanwhile.
    """
    from edgekd.files import write_text

    for name, path in targets.items():
        text = FORMATS[name](entries, many=many, strict=strict)
        if path == STDOUT:
            click.echo(text, nl=False)
        else:
            write_text(path, text)
