from __future__ import annotations

import pytest
import torch

from edgekd.distill.methods import METHODS, Dims
from edgekd.distill.methods.layers import common_size, paired_layers
from edgekd.errors import RecipeError


def test_the_teachers_layers_are_the_students_unless_named(dims: Dims) -> None:
    assert paired_layers("at", dims, (2, 4), ()) == ((2, 4), (2, 4))
    assert paired_layers("at", dims, (2, 4), (1, 3)) == ((2, 4), (1, 3))


@pytest.mark.parametrize("term", ["at", "mmd"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": (2, 5)}, "the student has no layer 5: its layers are 1 to 4"),
        ({"layers": (1,), "teacher_layers": (0,)}, "the teacher has no layer 0: its layers are 1 to 4"),
        (
            {"layers": (1, 2), "teacher_layers": (4,)},
            r"layers \[1, 2\] and teacher_layers \[4\] are compared one by one",
        ),
        ({"layers": ()}, "layers is empty"),
    ],
)
def test_layers_that_cannot_be_compared(
    dims: Dims, term: str, options: dict[str, tuple[int, ...]], message: str
) -> None:
    with pytest.raises(RecipeError, match=rf"{term}: {message}"):
        METHODS[term](dims, **options)


def test_a_network_without_layers() -> None:
    with pytest.raises(RecipeError, match="the student has no layer 2: it has no layers that can be looked at"):
        paired_layers("at", Dims(3, 4, 5), (2,), ())


def test_the_smaller_of_both_heights_and_widths_is_common() -> None:
    wide, tall = torch.arange(8.0).reshape(1, 1, 2, 4), torch.arange(8.0).reshape(1, 1, 4, 2)
    a, b = common_size(wide, tall)
    torch.testing.assert_close(a, torch.tensor([[[[0.5, 2.5], [4.5, 6.5]]]]))
    torch.testing.assert_close(b, torch.tensor([[[[1.0, 2.0], [5.0, 6.0]]]]))


def test_maps_of_one_size_stay() -> None:
    maps = torch.randn(2, 3, 4, 5)
    assert common_size(maps, maps)[0] is maps
