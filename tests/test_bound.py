from __future__ import annotations

from typing import Any

import pytest

from edgekd import bound
from edgekd.bound import Bound
from edgekd.manifest import QuantScheme


@pytest.mark.parametrize(
    ("scheme", "integers", "expected", "words"),
    [
        ({"scale": "power_of_two"}, True, (0, 0.0), "every golden integer comes out, bit for bit"),
        ({"scale": "power_of_two"}, False, (0, 0.0), "every golden integer comes out, bit for bit"),
        ({}, True, (2, 0.01), "golden integers come out within 2 LSB, at least 99% of them exactly"),
        ({}, False, (2, 0.02), "golden integers come out within 2 LSB, at least 98% of them exactly"),
    ],
)
def test_scales_and_kernels_decide(
    scheme: dict[str, Any], integers: bool, expected: tuple[int, float], words: str
) -> None:
    found = Bound.of(QuantScheme.model_validate(scheme), integers=integers)
    assert (found.max_lsb, found.max_share) == expected
    assert str(found) == words


@pytest.mark.parametrize(
    ("relu_unsigned", "flags", "share"),
    [
        (True, ("avx2",), 0.01),
        (False, ("avx2",), 0.02),
        (True, ("avx512_vnni",), 0.01),
        (False, ("avx512_vnni",), 0.01),
    ],
)
def test_signed_activations_are_summed_in_floats_where_integers_would_saturate(
    monkeypatch: pytest.MonkeyPatch, relu_unsigned: bool, flags: tuple[str, ...], share: float
) -> None:
    monkeypatch.setattr(bound, "cpu_flags", lambda: flags)
    monkeypatch.setattr(bound, "sums_int8_exactly", lambda flags: "avx512_vnni" in flags)
    assert Bound.of_onnxruntime(QuantScheme(relu_unsigned=relu_unsigned)).max_share == share


@pytest.mark.parametrize(
    ("lsb", "share", "allowed"), [(1, 0.01, True), (2, 0.001, False), (1, 0.011, False), (0, 0, True)]
)
def test_both_limits_hold(lsb: int, share: float, allowed: bool) -> None:
    assert Bound(1, 0.01).allows(lsb, share) is allowed
