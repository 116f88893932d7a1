from __future__ import annotations

import itertools
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from edgekd.data import SPLITS, Splits, load_split, load_splits
from edgekd.data.glyphs import draw_all
from edgekd.data.glyphs.alphabets import ALPHABETS, CLUTTER, SCRIPTS, characters
from edgekd.data.glyphs.fonts import FACES, GLYPH, masks_of
from edgekd.data.glyphs.layers import CANVAS, Pose, place
from edgekd.errors import DataError


@pytest.fixture(scope="module")
def glyphs(tmp_path_factory: pytest.TempPathFactory) -> Splits:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEKD_CACHE", str(tmp_path_factory.mktemp("glyphs")))
        return load_splits("glyphs")


def some_labels(n_classes: int, n: int = 40) -> np.ndarray:
    return np.arange(n, dtype=np.int64) % n_classes


def test_the_set_has_the_sizes_of_a_few_shot_benchmark(glyphs: Splits) -> None:
    assert glyphs.novel
    assert [glyphs[split].n_classes for split in SPLITS] == [64, 16, 20]
    assert [len(glyphs[split]) for split in SPLITS] == [6400, 960, 2400]
    assert {glyphs[split].images.shape[1:] for split in SPLITS} == {(32, 32, 3)}
    for split, each in zip(SPLITS, (100, 60, 120), strict=True):
        assert set(np.bincount(glyphs[split].labels)) == {each}


def test_no_script_is_in_two_splits() -> None:
    for first, second in itertools.combinations(SPLITS, 2):
        assert not set(ALPHABETS[first]) & set(ALPHABETS[second])
    named = {"Syllabics": "CANADIAN SYLLABICS"}
    for split in SPLITS:
        for script, letters in ALPHABETS[split].items():
            for letter in letters:
                assert unicodedata.name(letter).startswith(named.get(script, script.upper()))


def test_every_character_is_a_class_once_and_clutter_is_none() -> None:
    every = "".join(characters(split) for split in SPLITS)
    assert len(every) == len(set(every)) == 100
    assert not set(every) & set(CLUTTER)
    assert SCRIPTS["train"][0] == "Latin a"


def test_no_two_characters_look_alike() -> None:
    """Blurred masks in the plainest face are compared; letters that scripts share by descent correlate above 0.95."""
    every = "".join(characters(split) for split in SPLITS)
    correlation = likeness(every)
    np.fill_diagonal(correlation, 0)
    first, second = np.unravel_index(correlation.argmax(), correlation.shape)
    assert correlation.max() < 0.9, f"{every[first]} and {every[second]}"
    assert likeness("A\N{GREEK CAPITAL LETTER ALPHA}")[0, 1] > 0.95


def likeness(letters: str) -> np.ndarray:
    masks = masks_of(letters)
    shapes = masks.masks[masks.first].astype(np.float64)
    coarse = shapes.reshape(len(letters), 16, 4, 16, 4).mean(axis=(2, 4)).reshape(len(letters), -1)
    correlation: np.ndarray = np.corrcoef(coarse)
    return correlation


def test_one_seed_draws_one_set_and_another_seed_another() -> None:
    labels = some_labels(20)
    first = draw_all("test", labels, seed=3)
    assert np.array_equal(first, draw_all("test", labels, seed=3))
    assert not np.array_equal(first, draw_all("test", labels, seed=4))


def test_the_cache_is_used_and_a_damaged_one_drawn_again(tmp_path: Path) -> None:
    notices: list[str] = []
    first = load_split("glyphs", "val", notify=notices.append)
    assert len(notices) == 1
    assert load_split("glyphs", "val", notify=notices.append).fingerprint == first.fingerprint
    assert len(notices) == 1
    (pixels,) = tmp_path.rglob("*.npy")
    pixels.write_bytes(pixels.read_bytes()[:-1000])
    assert load_split("glyphs", "val", notify=notices.append).fingerprint == first.fingerprint
    assert len(notices) == 2


def test_size_and_channels_are_converted() -> None:
    images = load_split("glyphs", "val", size=20, channels=1)
    assert images.images.shape == (960, 20, 20, 1)


def test_characters_differ_from_their_background(glyphs: Splits) -> None:
    spread = glyphs.test.images.astype(np.float32).std(axis=(1, 2)).max(axis=1)  # (n,)
    assert spread.min() > 8
    assert 100 < glyphs.test.images.mean() < 156


def test_no_split_can_be_told_by_colour(glyphs: Splits) -> None:
    means = [glyphs[split].images.mean(axis=(0, 1, 2)) for split in SPLITS]
    assert np.ptp(means, axis=0).max() < 6


def test_masks_come_from_faces_that_have_the_character() -> None:
    masks = masks_of("aⴳ")
    assert masks.count.tolist() == [len(FACES), 2]  # Tifinagh is in DejaVu Sans and its bold only
    assert masks.first.tolist() == [0, len(FACES)]
    with pytest.raises(DataError, match=r"lack U\+4E2D"):
        masks_of("中")


def test_masks_are_filled_and_have_a_margin() -> None:
    masks = masks_of(characters("test")).masks
    sides = []
    for axis in (1, 2):
        inked = masks.max(axis=axis) > 0  # (n, MASK)
        assert not inked[:, [0, -1]].any()
        sides.append(inked.shape[1] - inked[:, ::-1].argmax(axis=1) - inked.argmax(axis=1))
    assert (np.maximum(*sides) == GLYPH).all()


def pose(**changes: float) -> Pose:
    fields = {"x": 0.0, "y": 0.0, "size": 0.5, "turn": 0.0, "shear": 0.0, "stretch": 1.0, **changes}
    return Pose(**{name: np.array([value], np.float32) for name, value in fields.items()})


def square_mask() -> np.ndarray:
    mask = np.zeros((1, 64, 64), np.uint8)
    mask[:, 4:60, 4:60] = 255  # GLYPH pixels a side
    return mask


def test_a_placed_mask_covers_its_share_of_the_canvas() -> None:
    cover = place(square_mask(), pose())[0]
    assert cover.shape == (CANVAS, CANVAS)
    assert cover.sum() == pytest.approx((0.5 * CANVAS) ** 2, rel=0.01)
    assert np.allclose(cover, cover[::-1, ::-1])


def test_a_placed_mask_lies_where_its_pose_says() -> None:
    cover = place(square_mask(), pose(x=0.5, y=-0.25))[0]
    rows, columns = np.mgrid[:CANVAS, :CANVAS]
    assert (cover * columns).sum() / cover.sum() == pytest.approx((1 + 0.5) * CANVAS / 2 - 0.5, abs=0.05)
    assert (cover * rows).sum() / cover.sum() == pytest.approx((1 - 0.25) * CANVAS / 2 - 0.5, abs=0.05)


@pytest.mark.parametrize("changes", [{"turn": 0.2}, {"shear": 0.3}, {"stretch": 1.3}])
def test_turning_shearing_and_stretching_keep_the_area(changes: dict[str, float]) -> None:
    plain, changed = place(square_mask(), pose())[0], place(square_mask(), pose(**changes))[0]
    assert changed.sum() == pytest.approx(plain.sum(), rel=0.01)
    assert np.abs(changed - plain).max() > 0.3


def test_a_quarter_turn_is_a_rotation() -> None:
    bar = np.zeros((1, 64, 64), np.uint8)
    bar[:, 28:36, 32:60] = 255  # points to the right
    turned = place(bar, pose(turn=1.0))[0]  # tan(90 degrees / 2) = 1
    straight = place(bar, pose())[0]
    assert np.allclose(turned, np.rot90(straight, -1), atol=0.02)
