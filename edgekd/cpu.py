"""Which instructions this CPU has, and whether onnxruntime's int8 kernels compute exactly on it."""

from __future__ import annotations

import platform
from pathlib import Path

CPU_INFO = Path("/proc/cpuinfo")
EXACT_INT8 = frozenset({"avx512_vnni", "avx_vnni"})
X86 = frozenset({"x86_64", "AMD64"})


def cpu_flags(cpu_info: Path = CPU_INFO) -> tuple[str, ...] | None:
    """Return the vector and dot-product instructions of an x86 CPU, sorted; None where they cannot be read."""
    try:
        lines = cpu_info.read_text().splitlines()
    except OSError:
        return None
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), None)
    return None if flags is None else tuple(sorted(flag for flag in flags if flag.startswith(("sse4", "avx", "amx"))))


def sums_int8_exactly(flags: tuple[str, ...] | None, machine: str = platform.machine()) -> bool:
    """Say whether onnxruntime's sums of int8 products never saturate: on an x86 CPU without VNNI they may.

    Source: onnxruntime issues 6004 and 14642, https://github.com/microsoft/onnxruntime/issues/6004.
    """
    return machine not in X86 or not EXACT_INT8.isdisjoint(flags or ())
