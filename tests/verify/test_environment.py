from __future__ import annotations

from edgekd.verify.environment import saturation_warning, versions


def test_the_warning_about_saturation() -> None:
    assert saturation_warning(("avx512_vnni",), "x86_64") is None
    assert saturation_warning((), "aarch64") is None
    assert "neither AVX512-VNNI nor AVX-VNNI" in (saturation_warning(("avx2",), "x86_64") or "")
    assert "does not tell" in (saturation_warning(None, "x86_64") or "")


def test_the_versions_that_a_verdict_depends_on() -> None:
    assert versions().keys() == {"onnx", "onnxruntime", "numpy", "python"}
