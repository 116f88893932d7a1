"""On what a verdict was reached: versions of the libraries, and whether this CPU computes int8 exactly."""

from __future__ import annotations

import platform

from edgekd.cpu import sums_int8_exactly
from edgekd.versions import library_versions

LIBRARIES = ("onnx", "onnxruntime", "numpy")


def versions() -> dict[str, str]:
    """Return the versions of the libraries that a verdict depends on."""
    return library_versions(*LIBRARIES)


def saturation_warning(flags: tuple[str, ...] | None, machine: str = platform.machine()) -> str | None:
    """Return a warning where onnxruntime's int8 kernels may saturate, so that accuracy may differ from the device's."""
    if sums_int8_exactly(flags, machine):
        return None
    known = "has neither AVX512-VNNI nor AVX-VNNI" if flags is not None else "does not tell its instructions"
    return (
        f"this CPU {known}: onnxruntime's u8 x s8 products may saturate here; edgekd sets session.x64quantprecision=1, "
        "which avoids that, and signed activations are summed in fp32; a plain session here gives other results"
    )
