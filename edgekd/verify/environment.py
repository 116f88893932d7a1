"""On what a verdict was reached: versions of the libraries, and whether this CPU computes int8 exactly."""

from __future__ import annotations

import platform
from pathlib import Path

from edgekd.versions import library_versions

CPU_INFO = Path("/proc/cpuinfo")
LIBRARIES = ("onnx", "onnxruntime", "numpy")
EXACT_INT8 = frozenset({"avx512_vnni", "avx_vnni"})


def versions() -> dict[str, str]:
    """Return the versions of the libraries that a verdict depends on."""
    return library_versions(*LIBRARIES)


def cpu_flags(cpu_info: Path = CPU_INFO) -> tuple[str, ...] | None:
    """Return the vector and dot-product instructions of an x86 CPU, sorted; None where they cannot be read."""
    try:
        lines = cpu_info.read_text().splitlines()
    except OSError:
        return None
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), None)
    return None if flags is None else tuple(sorted(flag for flag in flags if flag.startswith(("sse4", "avx", "amx"))))


def saturation_warning(flags: tuple[str, ...] | None, machine: str = platform.machine()) -> str | None:
    """Return a warning where onnxruntime's int8 kernels may saturate, so that accuracy may differ from the device's.

    Source: onnxruntime issues 6004 and 14642, https://github.com/microsoft/onnxruntime/issues/6004.
    """
    if machine not in {"x86_64", "AMD64"} or EXACT_INT8 & set(flags or ()):
        return None
    known = "has neither AVX512-VNNI nor AVX-VNNI" if flags is not None else "does not tell its instructions"
    return (
        f"this CPU {known}: onnxruntime's u8 x s8 products may saturate here; edgekd sets session.x64quantprecision=1, "
        "which avoids that, but a plain session on such a CPU gives other results"
    )
