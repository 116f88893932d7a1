from __future__ import annotations

from pathlib import Path

from edgekd.verify.environment import cpu_flags, saturation_warning, versions


def test_cpu_flags_and_the_warning_about_saturation(tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text("processor : 0\nflags : fpu avx2 sse4_2 avx512_vnni\n")
    assert cpu_flags(info) == ("avx2", "avx512_vnni", "sse4_2")
    assert cpu_flags(tmp_path / "absent") is None
    assert saturation_warning(("avx512_vnni",), "x86_64") is None
    assert saturation_warning((), "aarch64") is None
    assert "neither AVX512-VNNI nor AVX-VNNI" in (saturation_warning(("avx2",), "x86_64") or "")
    assert "does not tell" in (saturation_warning(None, "x86_64") or "")


def test_the_versions_that_a_verdict_depends_on() -> None:
    assert versions().keys() == {"onnx", "onnxruntime", "numpy", "python"}
