"""How a hostile file is judged: in the library, through the command line, and by the memory that it takes."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from edgekd.cli import main
from edgekd.errors import EdgekdError, ModelError
from edgekd.verify import Report, verify

PROFILE = "stm32h743"  # it limits nearly everything that a profile can limit
SECONDS = 20.0
MOST_MIB = 900
ROOT = Path(__file__).parents[3]
MEASURED = """
import resource, sys
from edgekd.cli import main
sys.argv = ["edgekd", "verify", sys.argv[1], "--static", "--profile", sys.argv[2]]
try:
    main()
finally:
    status = open("/proc/self/status").read()  # ru_maxrss of its own would begin with what its parent had taken
    own = int(status.partition("VmHWM:")[2].split()[0])
    print("MiB", max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) // 1024, file=sys.stderr)
"""


@pytest.fixture
def good(qcdq: type[Any]) -> onnx.ModelProto:
    """A tiny network that passes: two convolutions, a pool and a matrix product, all INT8."""
    net = qcdq(3, 8).conv(4).pool().conv(4, groups=2).global_pool().gemm(5, 4)
    model: onnx.ModelProto = net.model()
    return model


@pytest.fixture
def save(tmp_path: Path) -> Callable[[onnx.ModelProto | bytes], Path]:
    def write(model: onnx.ModelProto | bytes) -> Path:
        path = tmp_path / "model.onnx"
        path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
        return path

    return write


@pytest.fixture
def refused(command_line: Callable[[Path], tuple[int, str]]) -> Callable[[Path], str]:
    """Say why a file is refused: by the library and by the command line, soon, in words that do no harm."""

    def judge(path: Path) -> str:
        begin = time.perf_counter()
        with pytest.raises(EdgekdError) as caught:
            verify(path, PROFILE, static=True)
        assert isinstance(caught.value, ModelError)
        assert time.perf_counter() - begin < SECONDS
        code, text = command_line(path)
        assert code == 2
        assert text.startswith("Error: ")
        assert len(text) < 2000
        assert text.rstrip("\n").isprintable()
        return str(caught.value)

    return judge


@pytest.fixture
def judged(command_line: Callable[[Path], tuple[int, str]]) -> Callable[[Path], Report]:
    """Return the report of a file that is legal, after the command line has printed it too."""

    def judge(path: Path) -> Report:
        begin = time.perf_counter()
        report = verify(path, PROFILE, static=True)
        assert time.perf_counter() - begin < SECONDS
        code, _ = command_line(path)
        assert code == (2 if report.errors else {"pass": 0, "unknown": 0, "fail": 1}[report.verdict])
        return report

    return judge


@pytest.fixture
def command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[Path], tuple[int, str]]:
    """Run `edgekd verify FILE --static`; return the exit code and stderr."""

    def run(path: Path) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["edgekd", "verify", str(path), "--static", "--profile", PROFILE])
        with pytest.raises(SystemExit) as stop:
            main()
        output = capsys.readouterr()
        assert "Traceback" not in output.err
        assert "\x1b" not in output.out + output.err
        return int(stop.value.code or 0), output.err

    return run


@pytest.fixture
def measured() -> Callable[[Path], tuple[int, str]]:
    """Run the command in a process of its own; return the exit code and stderr, once its memory is found bounded."""

    def run(path: Path) -> tuple[int, str]:
        command = [sys.executable, "-c", MEASURED, str(path), PROFILE]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=4 * SECONDS, check=False)
        text, _, mib = done.stderr.rpartition("MiB ")
        assert "Traceback" not in done.stderr
        assert int(mib) < MOST_MIB
        return done.returncode, text

    return run
