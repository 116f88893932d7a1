"""Augmentation against loops over single images, and its promise that an image depends on its own draw alone."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgekd.data.preprocess import to_float
from edgekd.distill.augment import apply, draw, normalize
from edgekd.errors import RecipeError
from edgekd.recipe import Augment

OFF = {"pad_fraction": 0.0, "brightness": 0.0, "contrast": 0.0, "saturation": 0.0}
CONFIGS = {
    "off": Augment.model_validate(OFF),
    "crop": Augment.model_validate({**OFF, "pad_fraction": 0.2, "flip": True}),
    "colour": Augment.model_validate({**OFF, "brightness": 0.4, "contrast": 0.4, "saturation": 0.4}),
    "warp": Augment.model_validate({**OFF, "rotation_degrees": 20.0, "scale_range": (0.8, 1.3)}),
    "all": Augment(flip=True, rotation_degrees=20.0, scale_range=(0.8, 1.3)),
    "some": Augment(flip=True, rotation_degrees=20.0, scale_range=(0.8, 1.3), warp_share=0.5),
}


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _images(n: int = 6, height: int = 13, width: int = 17, channels: int = 3) -> Tensor:
    return torch.randint(0, 256, (n, height, width, channels), dtype=torch.uint8, generator=_generator(9))


def _pixels(output: Tensor) -> NDArray[np.float32]:
    """Undo the network's input range and layout: (n, height, width, channels) in 0..255."""
    pixels: NDArray[np.float32] = output.permute(0, 2, 3, 1).numpy() * 128 + 128
    return pixels


@pytest.mark.parametrize("channels", [1, 3])
def test_normalize_is_the_preprocessing(channels: int) -> None:
    images = _images(channels=channels)
    normalized = normalize(images)
    np.testing.assert_array_equal(normalized.numpy(), to_float(images.numpy()))
    assert normalized.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("channels", [1, 3])
def test_without_changes_it_is_normalize(channels: int) -> None:
    images = _images(channels=channels)
    assert torch.equal(apply(images, draw(6, CONFIGS["off"], _generator())), normalize(images))


@pytest.mark.parametrize(("name", "channels"), list(product(CONFIGS, [1, 3])))
def test_output_is_float32_channels_last_and_in_range(name: str, channels: int) -> None:
    output = apply(_images(channels=channels), draw(6, CONFIGS[name], _generator()))
    assert output.shape == (6, channels, 13, 17)
    assert output.dtype == torch.float32
    assert output.is_contiguous(memory_format=torch.channels_last)
    assert float(output.min()) >= -1
    assert float(output.max()) <= 127 / 128


@pytest.mark.parametrize(("name", "share"), list(product(CONFIGS, [1, 5, 16])))
def test_an_image_does_not_depend_on_its_batch(name: str, share: int) -> None:
    images, draws = _images(n=32), draw(32, CONFIGS[name], _generator())
    parts = [apply(images[i : i + share], draws[i : i + share]) for i in range(0, 32, share)]
    assert torch.equal(torch.cat(parts), apply(images, draws))


def test_the_seed_decides() -> None:
    images, config = _images(), CONFIGS["all"]
    first, again, other = (apply(images, draw(6, config, _generator(seed))) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_switching_one_change_off_leaves_the_others() -> None:
    with_flip = draw(6, CONFIGS["all"], _generator())
    without = draw(6, CONFIGS["all"].model_copy(update={"flip": False}), _generator())
    assert with_flip.flip.any()
    assert not without.flip.any()
    for column in ("shift", "turn", "brightness", "contrast", "saturation"):
        assert torch.equal(getattr(with_flip, column), getattr(without, column))


def test_draws_stay_within_the_config() -> None:
    config = CONFIGS["all"]
    draws = draw(4000, config, _generator())
    zoom = 1 / draws.turn.norm(dim=1)
    degrees = torch.rad2deg(torch.atan2(draws.turn[:, 1], draws.turn[:, 0]))
    for values, low, high in (
        (zoom, 0.8, 1.3),
        (degrees, -20.0, 20.0),
        (draws.brightness, 0.8, 1.2),
        (draws.contrast, 0.8, 1.2),
        (draws.saturation, 0.8, 1.2),
    ):
        margin = 0.01 * (high - low)
        assert low - 1e-4 <= float(values.min()) <= low + margin
        assert high - margin <= float(values.max()) <= high + 1e-4
    assert float(draws.flip.float().mean()) == pytest.approx(0.5, abs=0.05)


def test_crop_and_flip_are_those_of_a_padded_image() -> None:
    images, draws = _images(), draw(6, CONFIGS["crop"], _generator())
    found = _pixels(apply(images, draws))
    for index, image in enumerate(images.numpy()):
        pads = [round(0.2 * 13), round(0.2 * 17)]
        top, left = (int(draws.shift[index, axis] * (2 * pad + 1)) for axis, pad in enumerate(pads))
        padded = np.pad(image, [(pads[0], pads[0]), (pads[1], pads[1]), (0, 0)], mode="reflect")
        cropped = padded[top : top + 13, left : left + 17]
        np.testing.assert_array_equal(found[index], cropped[:, ::-1] if draws.flip[index] else cropped)


def test_every_crop_position_occurs() -> None:
    config = Augment.model_validate({**OFF, "pad_fraction": 0.25})
    ramp = torch.arange(8, dtype=torch.uint8).repeat(500, 8, 1)[..., None]  # each pixel holds its column
    corner = _pixels(apply(ramp, draw(500, config, _generator())))[:, 0, 2, 0]
    assert set(corner.tolist()) == {0, 1, 2, 3, 4}  # column 2 moved by -2..2


def test_colour_is_brightness_then_contrast_then_saturation() -> None:
    images = torch.randint(90, 150, (6, 13, 17, 3), dtype=torch.uint8, generator=_generator(9))  # far from clamping
    draws = draw(6, CONFIGS["colour"], _generator())
    found = _pixels(apply(images, draws))
    luma = np.array([0.299, 0.587, 0.114])
    for index, image in enumerate(images.numpy().astype(np.float64)):
        bright = float(draws.brightness[index]) * image
        contrast = float(draws.contrast[index])
        contrasted = contrast * bright + (1 - contrast) * (bright @ luma).mean()
        saturation = float(draws.saturation[index])
        expected = saturation * contrasted + (1 - saturation) * (contrasted @ luma)[..., None]
        np.testing.assert_allclose(found[index], expected, atol=1e-3)


def test_grayscale_has_no_saturation() -> None:
    images, draws = _images(channels=1), draw(6, CONFIGS["colour"], _generator())
    gray = replace(draws, saturation=torch.full((6,), 0.1))
    torch.testing.assert_close(apply(images, gray), apply(images, draws), atol=1e-6, rtol=0)


def test_a_quarter_turn_is_rot90() -> None:
    images = _images(height=16, width=16)
    draws = replace(draw(6, CONFIGS["warp"], _generator()), turn=torch.tensor([[0.0, 1.0]]).repeat(6, 1))
    expected = np.rot90(images.numpy(), axes=(1, 2))
    np.testing.assert_allclose(_pixels(apply(images, draws)), expected, atol=0.01)


def test_flip_in_a_warp_mirrors_what_the_warp_without_it_shows() -> None:
    images, draws = _images(), draw(6, CONFIGS["warp"], _generator())
    plain = apply(images, draws)
    flipped = apply(images, replace(draws, flip=torch.ones(6, dtype=torch.bool)))
    torch.testing.assert_close(flipped, plain.flip(3), atol=1e-4, rtol=0)


def test_zoom_enlarges_about_the_centre() -> None:
    image = torch.zeros(1, 20, 12, 1, dtype=torch.uint8)
    image[:, 8:12, 4:8] = 200  # 4x4 in the centre
    draws = replace(draw(1, CONFIGS["warp"], _generator()), turn=torch.tensor([[0.5, 0.0]]))
    found = _pixels(apply(image, draws))[0, :, :, 0]
    expected = np.zeros((20, 12), dtype=bool)
    expected[6:14, 2:10] = True  # 8x8
    np.testing.assert_array_equal(found > 100, expected)


def test_rotation_keeps_shapes_in_oblong_images() -> None:
    image = torch.zeros(1, 11, 21, 1, dtype=torch.uint8)
    image[0, 5, 14] = 255  # four to the right of the centre (5, 10)
    draws = replace(draw(1, CONFIGS["warp"], _generator()), turn=torch.tensor([[0.0, 1.0]]))
    found = _pixels(apply(image, draws))[0, :, :, 0]
    assert divmod(int(found.argmax()), 21) == (1, 10)  # four above the centre


def test_a_share_of_the_images_is_warped_and_the_others_are_cropped() -> None:
    images = _images(n=64)
    all_warped, none_warped, some = (
        draw(64, CONFIGS["all"].model_copy(update={"warp_share": share}), _generator()) for share in (1.0, 0.0, 0.5)
    )
    assert all_warped.warped.all()
    assert not none_warped.warped.any()
    warped, cropped, mixed = (apply(images, draws) for draws in (all_warped, none_warped, some))
    assert torch.equal(mixed[some.warped], warped[some.warped])
    assert torch.equal(mixed[~some.warped], cropped[~some.warped])
    assert not torch.equal(warped, cropped)


def test_how_many_are_warped_is_the_share() -> None:
    config = CONFIGS["all"].model_copy(update={"warp_share": 0.3})
    assert float(draw(4000, config, _generator()).warped.float().mean()) == pytest.approx(0.3, abs=0.03)


def test_cropped_images_keep_their_pixels_and_warped_ones_do_not() -> None:
    """What the share is for: a checkerboard, the sharpest image there is, survives a crop alone."""
    board = (torch.arange(16)[:, None] + torch.arange(16)[None]).remainder(2).mul(255).to(torch.uint8)
    images = board.repeat(32, 1, 1)[..., None]
    config = Augment.model_validate({**OFF, "pad_fraction": 0.1, "scale_range": (1.1, 1.3), "warp_share": 0.5})
    draws = draw(32, config, _generator())
    sharp = torch.tensor(np.isin(_pixels(apply(images, draws)), (0, 255)).all((1, 2, 3)))
    assert torch.equal(sharp, ~draws.warped)


@pytest.mark.parametrize("scale_range", [(0.0, 1.0), (-1.0, 1.0), (1.2, 0.8), (float("nan"), 1.0)])
def test_an_impossible_zoom_is_refused(scale_range: tuple[float, float]) -> None:
    config = Augment.model_construct(scale_range=scale_range)
    with pytest.raises(RecipeError, match="scale_range"):
        draw(2, config, _generator())
