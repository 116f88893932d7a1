from __future__ import annotations

from pathlib import Path

import pytest

from edgekd.cpu import cpu_flags, sums_int8_exactly


def test_flags_are_read_and_may_be_unknown(tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text("processor : 0\nflags : fpu avx2 sse4_2 avx512_vnni\n")
    assert cpu_flags(info) == ("avx2", "avx512_vnni", "sse4_2")
    assert cpu_flags(tmp_path / "absent") is None


@pytest.mark.parametrize(
    ("flags", "machine", "exact"),
    [
        (("avx2", "avx512_vnni"), "x86_64", True),
        (("avx_vnni",), "AMD64", True),
        (("avx2", "avx512f"), "x86_64", False),
        (None, "x86_64", False),
        (None, "aarch64", True),
    ],
)
def test_x86_needs_vnni(flags: tuple[str, ...] | None, machine: str, exact: bool) -> None:
    assert sums_int8_exactly(flags, machine) is exact
