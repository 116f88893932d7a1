"""Placement in banks, by arithmetic: the MAX78000 has 16 banks of 32 KiB, four channels share one."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekd.profile import HardwareProfile, Region, load_profile
from edgekd.verify.facts import Facts
from edgekd.verify.placement import bank_need, deployed_plan, fullest_crowd, spread, spreads_of
from edgekd.verify.planner import Buffer, plan_arena
from edgekd.verify.rules import Finding, check_all

Analyse = Callable[[Any], Facts]
BANKS = {"name": "data", "bytes": 524_288, "role": "activations", "banks": 16, "bank_bytes": 32_768}
REGION = Region.model_validate({**BANKS, "placement": "channels", "interleaved_channels": 4, "planar_input": True})


def found(facts: Facts, profile: HardwareProfile, rule: str = "bank-placement") -> Finding:
    (finding,) = [item for item in check_all(facts, profile) if item.rule == rule]
    return finding


def image(channels: int, side: int, first: int = 0, last: int = 0) -> Buffer:
    return Buffer(f"t{channels}", (1, channels, side, side), channels * side * side, first, last)


@pytest.mark.parametrize(
    ("channels", "planar", "banks", "bank_bytes"),
    [
        (3, False, 1, 4 * 84 * 84),  # one byte of each word is unused, but the word is there
        (3, True, 3, 84 * 84),
        (64, False, 16, 4 * 84 * 84),
        (65, False, 16, 8 * 84 * 84),  # a second round through the banks
        (1, False, 1, 4 * 84 * 84),
        (128, False, 16, 8 * 84 * 84),
    ],
)
def test_how_channels_lie_in_banks(channels: int, planar: bool, banks: int, bank_bytes: int) -> None:
    lies = spread(image(channels, 84), REGION, planar=planar)
    assert (lies.banks, lies.bank_bytes) == (banks, bank_bytes)


def test_an_image_with_its_channels_last_lies_as_its_twin() -> None:
    last = Buffer("pixels", (1, 84, 84, 3), 3 * 84 * 84, 0, 1)
    first = Buffer("pixels", (1, 3, 84, 84), 3 * 84 * 84, 0, 1)
    for planar in (False, True):
        lies = [spreads_of(plan_arena((item,)), REGION, ["pixels"], planar=planar)[0] for item in (first, last)]
        assert lies[0].banks == lies[1].banks == (3 if planar else 1)
        assert lies[0].bank_bytes == lies[1].bank_bytes


def test_conv4_64_at_84_does_not_fit_the_max78000_though_its_bytes_do(
    conv4: Callable[..., Any], analyse: Analyse
) -> None:
    """Input 3 x 84 x 84 = 21,168 B and output 64 x 84 x 84 = 451,584 B: 472,752 of 524,288 B.

    The output puts 4 x 84 x 84 = 28,224 B into every bank and the input as much into one: 56,448 > 32,768 B.
    """
    failed = found(analyse(conv4(width=64, size=84)), load_profile("max78000"))
    assert (failed.status, failed.value, failed.limit) == ("fail", 56_448, 32_768)
    assert "take 472,752 of 524,288 B" in failed.message
    assert "28,224 (Conv_3_out) + 28,224 (pixels) = 56,448 B" in failed.message
    assert failed.node == "Conv_3"
    narrow = "Conv4-32 fits: 28,640 parameters"
    assert failed.hint == f"64x64 input fits; {narrow}; 80x80 input fits one channel a bank"
    assert found(analyse(conv4(width=32, size=84)), load_profile("max78000")).status == "pass"
    assert found(analyse(conv4(width=33, size=84)), load_profile("max78000")).status == "fail"
    assert "AHBAddresses.md" in (failed.source or "") or "ai8x-training" in (failed.source or "")


def test_conv4_64_at_64_fits_the_max78000_exactly(conv4: Callable[..., Any], analyse: Analyse) -> None:
    """4 x 64 x 64 = 16,384 B of the output in every bank, and of the input in one: 32,768 of 32,768 B."""
    passed = found(analyse(conv4(width=64, size=64)), load_profile("max78000"))
    assert (passed.status, passed.value, passed.limit) == ("pass", 32_768, 32_768)
    assert "one channel a bank" not in passed.message


def test_the_input_one_channel_a_bank_allows_80_pixels(conv4: Callable[..., Any], analyse: Analyse) -> None:
    """5 x 80 x 80 = 32,000 B, and 5 x 81 x 81 = 32,805 B."""
    passed = found(analyse(conv4(width=64, size=80)), load_profile("max78000"))
    assert (passed.status, passed.value) == ("pass", 32_000)
    assert "with the input one channel a bank" in passed.message
    assert found(analyse(conv4(width=64, size=81)), load_profile("max78000")).status == "fail"


def test_conv4_64_at_84_fits_the_max78002(conv4: Callable[..., Any], analyse: Analyse) -> None:
    """2 x 28,224 B in a bank of 81,920 B."""
    passed = found(analyse(conv4(width=64, size=84)), load_profile("max78002"))
    assert (passed.status, passed.value) == ("pass", 56_448)


def test_pooling_on_reading_stores_no_pooled_image(qcdq: type[Any], analyse: Analyse) -> None:
    """The 256 B of the first convolution live until the second has read them, which writes 6 x 4 x 4 = 96 B."""
    facts = analyse(qcdq().conv(4).pool().conv(6))
    target = HardwareProfile.model_validate({"name": "toy", "memory": {"pool_conv_fused": True}})
    plan = deployed_plan(facts, target)
    assert plan is not None
    assert sorted(buffer.bytes for buffer in plan.buffers) == [96, 192, 256]
    assert plan.peak_bytes == 192 + 256
    plain = deployed_plan(facts, HardwareProfile.model_validate({"name": "toy"}))
    assert plain is not None
    assert sorted(buffer.bytes for buffer in plain.buffers) == [64, 96, 192, 256]


def test_a_pool_at_the_end_is_stored(qcdq: type[Any], analyse: Analyse) -> None:
    facts = analyse(qcdq().conv(4).pool().quantize())
    target = HardwareProfile.model_validate({"name": "toy", "memory": {"pool_conv_fused": True}})
    plan = deployed_plan(facts, target)
    assert plan is not None
    assert sorted(buffer.bytes for buffer in plan.buffers) == [64, 192, 256]


def test_a_placement_that_is_neither_found_nor_ruled_out_is_unknown(qcdq: type[Any], analyse: Analyse) -> None:
    """Sizes are not known after an operator that nobody knows."""
    facts = analyse(qcdq().conv(4).op("Magic", domain="custom"))
    assert found(facts, load_profile("max78000")).status == "unknown"


buffers = st.builds(
    lambda channels, side, first, life: image(channels, side, first, first + life),
    st.integers(1, 130),
    st.integers(1, 100),
    st.integers(0, 5),
    st.integers(0, 3),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(buffers, min_size=1, max_size=8))
def test_a_crowd_is_a_lower_bound_of_every_placement(items: Sequence[Buffer]) -> None:
    spreads = [spread(item, REGION) for item in items]
    need = bank_need(spreads, REGION)
    crowd = fullest_crowd(spreads, REGION)
    everywhere = [item.bank_bytes for item in spreads if item.banks == 16]
    assert crowd.bytes >= max(everywhere, default=0)
    if need is not None:
        assert crowd.bytes <= need <= 32_768


@pytest.mark.parametrize("bank_bytes", [1400, 700])
def test_fusing_pools_leaves_room_in_the_banks(conv4: Callable[..., Any], analyse: Analyse, bank_bytes: int) -> None:
    """Alone, or with a smaller input, or with fewer channels; the input takes 1,600 B a bank of 4 channels."""

    def target(*, fused: bool) -> HardwareProfile:
        region = {**BANKS, "bytes": 16 * bank_bytes, "bank_bytes": bank_bytes, "placement": "channels"}
        region |= {"planar_input": True, "interleaved_channels": 4, "role": "activations"}
        memory = {"regions": [region], "conv_pool_fused": fused}
        return HardwareProfile.model_validate({"name": "toy", "memory": memory})

    failed = found(analyse(conv4(width=64, size=20)), target(fused=False))
    assert failed.status == "fail"
    hint = failed.hint or ""
    if bank_bytes == 1400:
        assert hint.startswith("fuse each convolution with its pool, and the input one channel a bank")
        assert found(analyse(conv4(width=64, size=20)), target(fused=True)).status == "pass"
        return
    both = "with each convolution fused with its pool, "
    side = max(int(size) for size in re.findall(both + r"(\d+)x\1 input fits", hint))
    width = max(int(size) for size in re.findall(both + r"(?:with .*?, )?Conv4-(\d+) fits", hint))
    assert found(analyse(conv4(width=64, size=side)), target(fused=True)).status == "pass"
    assert found(analyse(conv4(width=width, size=20)), target(fused=True)).status == "pass"
