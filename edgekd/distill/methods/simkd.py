"""The teacher's classifier reused: the student learns the maps that it reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional

from edgekd.distill.backbones import build_backbone
from edgekd.distill.backbones.projected import projector, with_projector
from edgekd.distill.methods.base import Dims, Method, Outputs, Samples, register
from edgekd.distill.methods.layers import common_size, network_name
from edgekd.errors import RecipeError

if TYPE_CHECKING:
    from edgekd.distill.tasks import Classifier
    from edgekd.recipe import Recipe

FULL = 2  # the paper's reduction


@register
class SimKD(Method):
    """mean((P(F_s) - F_t)^2) over every element, F being the last maps before pooling; no labels, no logits.

    P is convolution, BatchNorm, ReLU three times, 1x1, 3x3 and 1x1, inside at 1/`reduction` of the teacher's width:
    2 is the paper's, 8 a thin one. Maps of different height or width are averaged to the smaller one first, and P reads
    the student's averaged ones, as in the authors' code, https://github.com/DefangChen/SimKD.

    By default P is dropped after distilling and the embedding before it ships. With `ships`, P is part of the student's
    backbone (`projected:WIDTH/REDUCTION:...`) and counts against the cap; the student's classifier is then the
    teacher's over GAP(P(F_s)), copied before the first step and trained no more, as the method reuses it. There,
    nothing is averaged before P: where the student's maps are larger than the teacher's, those of P are averaged.
    """

    name = "simkd"
    source = (
        "D. Chen et al., Knowledge Distillation with the Reused Teacher Classifier, CVPR 2022, "
        "https://arxiv.org/abs/2203.14001"
    )
    teaches_head = False

    def __init__(self, dims: Dims, *, reduction: int = FULL, ships: bool = False) -> None:
        super().__init__(dims)
        ours, theirs = _last("student", dims.student_maps), _last("teacher", dims.teacher_maps)
        self.student_layers, self.teacher_layers = (ours,), (theirs,)
        width, wanted = dims.student_maps[ours][0], dims.teacher_maps[theirs][0]
        if ships and width != wanted:
            raise RecipeError(
                f"simkd: with ships, the student's maps have the teacher's {wanted} channels, not {width}"
            )
        self.ships = ships
        self.projector: nn.Module = nn.Identity() if ships else projector(width, wanted, reduction)

    @classmethod
    def teaches(cls, options: Mapping[str, object]) -> bool:
        """Return whether the teacher's head ships with the student."""
        return bool(options.get("ships", False))

    def forward(self, student: Outputs, teacher: Outputs, _samples: Samples) -> Tensor:
        """Return the mean over the batch, channels and positions."""
        ours, theirs = common_size(student.maps[self.student_layers[0]], teacher.maps[self.teacher_layers[0]])
        return functional.mse_loss(self.projector(ours), theirs)

    @classmethod
    def adapt(cls, recipe: Recipe, options: Mapping[str, object]) -> Recipe:
        """Put P into the student's backbone where it ships.

        Raises:
            RecipeError: the student has another P already, or is to learn a head of its own.
        """
        if not options.get("ships"):
            return recipe
        if recipe.student.freeze_epochs:
            raise RecipeError("simkd: with ships the student's head is the teacher's; leave out student.freeze_epochs")
        width = build_backbone(recipe.teacher.backbone, recipe.data.channels or 3).embedding_dim
        spec = with_projector(recipe.student.backbone, width, int(str(options.get("reduction", FULL))))
        shipped = {"backbone": spec, "classifier": recipe.teacher.classifier}
        return recipe.model_copy(update={"student": recipe.student.model_copy(update=shipped)})

    def begin(self, student: Classifier, teacher: Classifier) -> None:
        """Give the student the teacher's classifier, for good, where P ships."""
        if self.ships:
            student.head.load_state_dict(teacher.head.state_dict())
            student.head.requires_grad_(requires_grad=False)


def _last(network: str, maps: Mapping[int, tuple[int, int, int]]) -> int:
    if not maps:
        name = network_name("simkd", network, maps)
        raise RecipeError(f"{name} has no layers that can be looked at; the method needs the map before pooling")
    return max(maps)
