from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from edgekd.data.preprocess import INPUT_SCALE, fit, to_float, to_int8
from edgekd.errors import DataError


def test_every_pixel_value_loses_128() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    assert to_int8(pixels).ravel().tolist() == list(range(-128, 128))


def test_channels_come_first_and_floats_are_the_integers_times_the_scale(noise: Callable[..., np.ndarray]) -> None:
    pixels = noise(2, 3, 5, 3)
    integers, floats = to_int8(pixels), to_float(pixels)
    assert integers.shape == (2, 3, 3, 5)
    assert integers.dtype == np.int8
    assert integers[1, 2, 0, 4] == int(pixels[1, 0, 4, 2]) - 128
    assert floats.dtype == np.float32
    assert np.array_equal(floats, integers * np.float32(INPUT_SCALE))


@pytest.mark.parametrize("pixels", [np.zeros((1, 2, 2, 1), np.float32), np.zeros((2, 2, 1), np.uint8)])
def test_other_arrays_are_refused(pixels: np.ndarray) -> None:
    with pytest.raises(DataError, match="not uint8"):
        to_int8(pixels)
    with pytest.raises(DataError, match="not uint8"):
        fit(pixels, 2, 2, 1)


def test_fit_leaves_images_of_the_right_shape_alone(noise: Callable[..., np.ndarray]) -> None:
    pixels = noise(2, 4, 6, 3)
    assert fit(pixels, 4, 6, 3) is pixels


def test_fit_is_pils_antialiased_bilinear_resize(noise: Callable[..., np.ndarray]) -> None:
    pixels = noise(2, 21, 17, 3)
    fitted = fit(pixels, 6, 8, 3)
    expected = Image.fromarray(pixels[1]).resize((8, 6), Image.Resampling.BILINEAR)
    assert fitted.shape == (2, 6, 8, 3)
    assert np.array_equal(fitted[1], np.asarray(expected))


def test_shrinking_averages_instead_of_picking() -> None:
    stripes = np.zeros((1, 64, 64, 1), np.uint8)
    stripes[:, :, ::2] = 200
    assert np.abs(fit(stripes, 8, 8, 1).astype(int) - 100).max() <= 12


def test_fit_converts_to_luma_and_back() -> None:
    red = np.zeros((1, 2, 2, 3), np.uint8)
    red[..., 0] = 255
    gray = fit(red, 2, 2, 1)
    assert gray.shape == (1, 2, 2, 1)
    assert gray[0, 0, 0, 0] == round(0.299 * 255)
    assert np.array_equal(fit(gray, 2, 2, 3), np.repeat(gray, 3, axis=3))


@pytest.mark.parametrize(("height", "width", "channels"), [(0, 4, 3), (4, -1, 3), (4, 4, 2)])
def test_impossible_shapes_are_refused(height: int, width: int, channels: int) -> None:
    with pytest.raises(DataError, match=r"at least 1|channels must be"):
        fit(np.zeros((1, 4, 4, 3), np.uint8), height, width, channels)
