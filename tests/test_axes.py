"""Which axis of an image input holds the channels."""

from __future__ import annotations

import numpy as np
import pytest

from edgekd.axes import CHANNELS, CHANNELS_FIRST, CHANNELS_LAST, arranged, axes_of
from edgekd.data.preprocess import MODES


def test_the_channels_are_those_that_pixels_are_made_of() -> None:
    assert tuple(MODES) == CHANNELS


@pytest.mark.parametrize("shape", [(1, 84, 84, 3), ("n", 32, 24, 1), (8, "height", "width", 3), (1, None, None, 1)])
def test_channels_last(shape: tuple[object, ...]) -> None:
    assert axes_of(shape) == CHANNELS_LAST


@pytest.mark.parametrize(
    "shape",
    [
        (1, 3, 84, 84),
        (1, 1, 28, 28),
        (1, 3, 3, 3),
        (1, 3, "height", "width"),
        (1, 64, 8, 3),
        (1, 84, 84, 4),
        (1, 192),
        (),
    ],
    ids=str,
)
def test_channels_first_where_in_doubt(shape: tuple[object, ...]) -> None:
    assert axes_of(shape) == CHANNELS_FIRST


def test_images_are_arranged_as_the_axes_say() -> None:
    images = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    last = arranged(images, CHANNELS_LAST)
    assert last.shape == (2, 4, 5, 3)
    assert last[1, 2, 3, 0] == images[1, 0, 2, 3]
    np.testing.assert_array_equal(arranged(images, CHANNELS_FIRST), images)
