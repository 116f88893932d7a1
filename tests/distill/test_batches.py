from __future__ import annotations

import numpy as np
import pytest
import torch

from edgekd.distill.batches import episode_rows, shuffled_rows
from edgekd.errors import DataError
from edgekd.recipe import Meta


def test_an_epoch_sees_each_image_at_most_once_and_the_next_another_order() -> None:
    rows = shuffled_rows(10, 3, seed=0, stage="teach")
    first = torch.cat([rows(step) for step in range(3)])
    second = torch.cat([rows(step) for step in range(3, 6)])
    assert len(set(first.tolist())) == 9
    assert first.tolist() != second.tolist()
    assert rows(1).tolist() == first[3:6].tolist()  # a step is the same whenever it is asked for


def test_episodes_hold_whole_classes_without_repetition() -> None:
    labels = torch.arange(6).repeat_interleave(8)
    meta = Meta(way=3, shot=2, query=4, batch_size=2)
    rows = episode_rows(labels, meta, seed=0, stage="meta")(5).reshape(2, 3, 6)
    for episode in rows:
        classes = labels[episode]
        assert (classes == classes[:, :1]).all()
        assert len(set(classes[:, 0].tolist())) == 3
        assert len(np.unique(episode)) == 18


def test_too_few_images_for_training_episodes() -> None:
    labels = torch.arange(6).repeat_interleave(4)
    with pytest.raises(DataError, match=r"need 5 classes of 16 images; 0 of 6 have them"):
        episode_rows(labels, Meta(way=5), seed=0, stage="meta")
