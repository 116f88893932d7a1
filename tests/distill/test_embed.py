from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import nn

from edgekd.data import ImageSet
from edgekd.distill import embed
from edgekd.distill.embed import mean_embedding


@pytest.mark.parametrize(("most", "seen"), [(100, [*range(10)]), (10, [*range(10)]), (4, [0, 2, 4, 6, 8])])
def test_the_mean_of_a_large_set_is_that_of_images_spread_over_it(
    monkeypatch: pytest.MonkeyPatch, most: int, seen: list[int]
) -> None:
    def pixel(_backbone: nn.Module, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return images[:, 0, 0, :1].astype(np.float32)

    monkeypatch.setattr(embed, "MEAN_IMAGES", most)
    monkeypatch.setattr(embed, "embed", pixel)
    pixels = np.arange(10, dtype=np.uint8)[:, None, None, None]
    sets = [ImageSet(str(len(part)), part, np.zeros(len(part), np.int64), ("a",)) for part in (pixels[:6], pixels[6:])]
    assert mean_embedding(nn.Identity(), sets).tolist() == [np.mean(seen)]
