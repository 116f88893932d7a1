"""The pages of the profiles that are checked in are what the profiles and rules say."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekd.profile import HardwareProfile, load_profile, profile_names
from edgekd.verify.profile_page import profile_page
from edgekd.verify.rules import RULES, sentence

FOLDER = Path(__file__).parent.parent / "hw_profiles"


@pytest.mark.parametrize("name", profile_names())
def test_the_page_checked_in_is_the_one_that_is_generated(name: str) -> None:
    page = (FOLDER / f"{name}.md").read_text()
    assert page == profile_page(load_profile(name)), "run tools/profile_pages.py"


def test_no_page_is_left_of_a_profile_that_is_gone() -> None:
    assert {path.stem for path in FOLDER.glob("*.md")} == set(profile_names())


def test_a_page_tells_every_rule_in_its_own_words_and_whether_it_can_decide() -> None:
    page = profile_page(HardwareProfile.model_validate({"name": "toy", "params": {"max": 9}}))
    for name in RULES:
        assert f"| `{name}` | {sentence(name)} |" in page
    assert f"`parameters` | {sentence('parameters')} | decides |" in page
    assert f"`weight-bits` | {sentence('weight-bits')} | unknown |" in page
    assert "`weights.bits`" in page.partition("## Not known")[2]


def test_a_page_gives_units_ranges_and_sources() -> None:
    tree = {
        "name": "toy",
        "memory": {"regions": [{"name": "sram", "bytes": 2048, "role": "shared"}]},
        "compute": {"clock_hz": [1_000_000, 2_000_000]},
        "ops": [{"op": "Conv", "unlisted": "any", "kernels_px": [[1, 1], [3, 3]]}, {"op": "Relu"}],
        "sources": [{"keys": ["memory"], "text": "page 3"}, {"keys": ["compute", "ops"], "text": "page 4"}],
    }
    page = profile_page(HardwareProfile.model_validate(tree))
    assert "| `compute.clock_hz` | 1,000,000 to 2,000,000 Hz | [2] |" in page
    assert "| sram | 2,048 B | shared |" in page
    assert "| Conv | kernels 1x1 or 3x3 px; no other limit | [2] |" in page
    assert "1. page 3" in page
