from __future__ import annotations

import pytest
import torch
from torch import nn

from edgekd.distill.backbones import Backbone, build_backbone
from edgekd.distill.mixing import Mix, draw_mix, mixing
from edgekd.distill.taps import recording


def toy() -> Backbone:
    """Two layers that are not linear, so that it shows where the rows were mixed."""
    body = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Tanh(), nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten())
    return Backbone(body, in_channels=2, embedding_dim=16, layers=("1", "3")).double()


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_rows_are_mixed_where_the_draw_says(layer: int) -> None:
    torch.manual_seed(0)
    backbone, images = toy(), torch.randn(3, 2, 6, 6, dtype=torch.float64)
    mix = Mix(layer, 0.7, torch.tensor([2, 0, 1]))
    parts: list[nn.Module] = [nn.Identity(), backbone.body[:2], backbone.body[:4]]  # type: ignore[index]
    rest: list[nn.Module] = [backbone.body, backbone.body[2:], backbone.body[4:]]  # type: ignore[index]
    inner = parts[layer](images)
    expected = rest[layer](torch.stack([0.7 * inner[i] + 0.3 * inner[j] for i, j in ((0, 2), (1, 0), (2, 1))]))
    with mixing(backbone, mix):
        found = backbone(images)
    torch.testing.assert_close(found, expected)
    assert torch.equal(backbone(images), backbone.body(images))  # nothing stays behind


def test_maps_that_others_look_at_are_those_that_go_on() -> None:
    backbone, images = toy(), torch.randn(2, 2, 6, 6, dtype=torch.float64)
    with mixing(backbone, Mix(2, 0.5, torch.tensor([1, 0]))), recording(backbone, [1, 2]) as maps:
        embedding = backbone(images)
    torch.testing.assert_close(maps[2][0], maps[2][1])
    torch.testing.assert_close(maps[2].flatten(1), embedding)
    assert not torch.allclose(maps[1][0], maps[1][1])


def test_draws_follow_the_beta_distribution_and_visit_every_layer() -> None:
    torch.manual_seed(0)
    draws = [draw_mix(2.0, 2, 5) for _ in range(600)]
    shares = torch.tensor([draw.share for draw in draws])
    assert {draw.layer for draw in draws} == {0, 1, 2}
    assert abs(float(shares.mean()) - 0.5) < 0.03
    assert abs(float(shares.var()) - 1 / (4 * (2 * 2.0 + 1))) < 0.01  # variance of Beta(a, a)
    assert all(sorted(draw.order.tolist()) == list(range(5)) for draw in draws)


def test_a_network_without_layers_is_mixed_at_its_input() -> None:
    backbone = build_backbone("mlp:16-3", 1)
    assert {draw_mix(1.0, len(backbone.layers), 2).layer for _ in range(20)} == {0}


def test_a_batch_of_one_is_mixed_with_itself() -> None:
    images = torch.randn(1, 2, 3, 3)
    torch.testing.assert_close(draw_mix(1.0, 0, 1)(images), images)
