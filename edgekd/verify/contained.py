"""Run a piece of work in a process of its own, so that neither a crash nor a hunger for memory or time is ours.

Files that are checked here are read by libraries in C++, which a crafted file may bring to abort, to loop or to ask for
terabytes. A forked copy of this process bears that. Where the system cannot fork (Windows) the work is done in place.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import select
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from edgekd.errors import EdgekdError, ModelError

MEMORY_BYTES = 2**29  # beyond what this process has already
SECONDS = 60.0

_DONE, _REFUSED = b"+", b"-"
_CHUNK_BYTES = 2**20


def contained(
    work: Callable[[], bytes], *, memory_bytes: int = MEMORY_BYTES, seconds: float = SECONDS, verb: str = "read"
) -> bytes:
    """Return what `work` returns, computed in a copy of this process within the limits; `verb` says what it does.

    Raises:
        ModelError: `work` raised one, crashed, or went beyond a limit.
    """
    if not hasattr(os, "fork"):
        return work()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _bear(work, writer, memory_bytes, seconds)
    os.close(writer)
    try:
        answer = _read_all(reader, time.monotonic() + seconds)
    finally:
        os.close(reader)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)  # it has answered, or never will
        _, status = os.waitpid(child, 0)
    if answer is None or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU):
        raise ModelError(f"it takes more than {seconds:g} s to {verb}")
    if answer[:1] == _DONE:
        return answer[1:]
    raise ModelError(answer[1:].decode() or _end(status, memory_bytes, verb))


def _bear(work: Callable[[], bytes], writer: int, memory_bytes: int, seconds: float) -> NoReturn:
    """Do the work in the child, send the answer and end without any clean-up that belongs to the parent."""
    try:
        _silence()
        _limit(memory_bytes, seconds)
        _write_all(writer, _answer(work))
    finally:
        os._exit(0)


def _answer(work: Callable[[], bytes]) -> bytes:
    try:
        return _DONE + work()
    except EdgekdError as error:
        return _REFUSED + str(error).encode()
    except MemoryError:
        return b""
    except Exception as error:  # noqa: BLE001 - whatever a library raises, the file brought it to that
        return _REFUSED + f"{type(error).__name__}: {error}".encode(errors="replace")


def _silence() -> None:
    """Nothing that a dying library writes is meant for the user."""
    faulthandler.disable()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)


def _limit(memory_bytes: int, seconds: float) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    cpu_s = int(seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))  # first SIGXCPU, then SIGKILL
    with contextlib.suppress(OSError, ValueError):  # no /proc, or a limit already lower
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        total = pages * resource.getpagesize() + memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (total, total))


def _write_all(writer: int, answer: bytes) -> None:
    rest = memoryview(answer)
    while rest:
        rest = rest[os.write(writer, rest) :]


def _read_all(reader: int, deadline: float) -> bytes | None:
    """Return what the child writes until it closes the pipe; None where the deadline passes."""
    parts: list[bytes] = []
    while True:
        ready, _, _ = select.select([reader], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return None
        part = os.read(reader, _CHUNK_BYTES)
        if not part:
            return b"".join(parts)
        parts.append(part)


def _end(status: int, memory_bytes: int, verb: str) -> str:
    """Say what a child died of that left no answer."""
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) != signal.SIGKILL:
        return f"it crashes the library that should {verb} ({signal.Signals(os.WTERMSIG(status)).name})"
    return f"it takes more than {memory_bytes / 2**20:,.0f} MiB of memory to {verb}"
