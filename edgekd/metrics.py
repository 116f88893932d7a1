"""metrics.jsonl: a JSON object a line, appended to in whole lines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekd.errors import RunError, StorageError
from edgekd.files import write_text


def append_line(path: Path, line: Mapping[str, Any]) -> None:
    """Append one line.

    Raises:
        StorageError: the disk is full or the folder is not writable.
    """
    try:
        with path.open("a") as stream:
            stream.write(json.dumps(line) + "\n")
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from error


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read every line, of a file that may not be there yet; a last line cut off by a crash is left out.

    Raises:
        RunError: another line is not JSON.
    """
    if not path.exists():
        return []
    lines = path.read_text().split("\n")
    try:
        return [json.loads(line) for line in lines[:-1] if line]
    except json.JSONDecodeError as error:
        raise RunError(f"{path} is damaged ({error}); delete it: only the plots need it") from error


def drop_lines_after(path: Path, stage: str, step: int) -> None:
    """Write the file without the lines of `stage` beyond `step`."""
    kept = [line for line in read_lines(path) if line["stage"] != stage or line["step"] <= step]
    write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
