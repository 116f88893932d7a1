from __future__ import annotations

from collections.abc import Sequence

import pytest

from edgekd.distill.backbones import build_backbone
from edgekd.errors import ProfileError, RecipeError
from edgekd.profile import HardwareProfile, load_profile
from edgekd.recipe import Search
from edgekd.search.space import Candidate, Chosen, space_of

CAPPED = HardwareProfile.from_text('name = "capped"\n[params]\nmax = 1000\n')


class Highest:
    """Chooses the highest of everything, and remembers what it was offered."""

    def __init__(self) -> None:
        self.offered: dict[str, tuple[int, ...]] = {}

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1) -> int:
        self.offered[name] = (low, high, step)
        return high

    def suggest_categorical(self, name: str, choices: Sequence[int]) -> int:
        self.offered[name] = tuple(choices)
        return choices[-1]


def profile(text: str) -> HardwareProfile:
    return HardwareProfile.from_text(f'name = "board"\n{text}')


def test_a_candidate_is_made_of_what_is_suggested() -> None:
    bounds = Search(depth=(2, 3), poolings=(1, 2), width=(8, 30), embedding=(16, 33), width_step=8)
    chooser = Highest()
    candidate = space_of(bounds, CAPPED, 64, 64).suggest(chooser)
    assert candidate == Candidate(student="convnet:24-24-32/2", weight_bits=8)
    assert chooser.offered == {
        "depth": (2, 3, 1),
        "poolings": (1, 2, 1),
        "width1": (8, 24, 8),
        "width2": (8, 24, 8),
        "embedding": (16, 32, 8),
    }


def test_every_candidate_is_signed_where_it_is_asked_for() -> None:
    space = space_of(Search(depth=(2, 2), signed=True), CAPPED, 64, 64)
    for candidate in (space.smallest, space.suggest(Highest())):
        assert build_backbone(candidate.student, 3).signed


@pytest.mark.parametrize(("size", "poolings"), [(16, 4), (15, 3), (64, 5)])
def test_no_candidate_pools_away_the_image(size: int, poolings: int) -> None:
    bounds = Search(depth=(5, 5), poolings=(5, 5), width=(8, 8), embedding=(8, 8))
    candidate = space_of(bounds, CAPPED, size, 2 * size).suggest(Highest())
    assert candidate.student == f"convnet:8-8-8-8-8/{poolings}"
    assert build_backbone(candidate.student, 3).min_size <= size


def test_bit_widths_are_those_that_the_profile_pays_for() -> None:
    chooser = Highest()
    space = space_of(Search(), load_profile("max78000"), 32, 32)
    assert space.suggest(chooser).weight_bits == 8
    assert chooser.offered["weight_bits"] == (2, 4, 8)  # 1 bit is not quantized to here
    assert space.smallest.weight_bits == 2
    assert space_of(Search(weight_bits=(8, 4)), CAPPED, 32, 32).weight_bits == (4, 8)


def test_the_smallest_is_the_least_of_all() -> None:
    bounds = Search(depth=(2, 5), poolings=(1, 2), width=(16, 32), embedding=(8, 64))
    assert space_of(bounds, CAPPED, 32, 32).smallest == Candidate(student="convnet:16-8/1", weight_bits=8)


@pytest.mark.parametrize(
    ("text", "bits", "message"),
    [
        ("", (), "limits neither parameters nor layers, memory or operators"),
        ("[params]\nunlimited = true\n", (), "there is nothing to search under"),
        ("[params]\nmax = 9\n[weights]\nbits = [8]\n", (4,), r"of \[8\] bits, not \[4\]"),
        ("[params]\nmax = 9\n[weights]\nbits = [1, 16]\n", (), r"of \[1, 16\] bits; .* from 2 to 8"),
    ],
)
def test_a_profile_that_cannot_be_searched_under(text: str, bits: tuple[int, ...], message: str) -> None:
    with pytest.raises(ProfileError, match=message):
        space_of(Search(weight_bits=bits), profile(text), 32, 32)


def test_a_student_that_is_named_is_made_of_its_choices() -> None:
    bounds = Search(depth=(2, 4), poolings=(2, 4), width=(8, 30), embedding=(16, 33), signed=True)
    space = space_of(bounds, load_profile("max78000"), 64, 64)
    choices = space.choices_of("convnet:8-24-32/2/signed")
    assert choices == {"depth": 3, "poolings": 2, "width1": 8, "width2": 24, "embedding": 32, "weight_bits": 8}
    assert space.suggest(Chosen(choices)).student == "convnet:8-24-32/2/signed"
    small = space_of(Search(depth=(5, 5), poolings=(5, 5), width=(8, 8), embedding=(8, 8)), CAPPED, 16, 16)
    assert small.choices_of("convnet:8-8-8-8-8/4")["poolings"] == 5  # the fifth has nothing to halve


@pytest.mark.parametrize(
    ("student", "message"),
    [
        ("conv4-64", "'conv4-64' is not written as a result is, convnet:16-16-32/2$"),
        ("convnet:16-16-32", "is not written as"),
        ("convnet:16-20-32/3", "its width2 is 20, and those to choose from are 16 to 128 in steps of 8"),
        ("convnet:16-32/2", "its depth is 2, and those to choose from are 3 to 5"),
        ("convnet:16-16-32/0", "is not among those searched, convnet:16-16-32/2 is"),
        ("convnet:16-16-32/4", "is not among those searched, convnet:16-16-32/3 is"),
        ("convnet:16-16-32/3/signed", "convnet:16-16-32/3 is; compare search.signed"),
    ],
)
def test_a_student_that_is_none_of_the_space_is_named(student: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        space_of(Search(), CAPPED, 64, 64).choices_of(student)
