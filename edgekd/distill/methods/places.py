"""Where a student's and a teacher's features are compared: at pairs of layers, or at the embeddings."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from edgekd.distill.methods.base import Dims, Outputs
from edgekd.distill.methods.layers import require_layers, require_pairs
from edgekd.distill.methods.projectors import Shape


@dataclass(frozen=True)
class Places:
    """The layers of both networks that the term `term` compares, pair by pair; none means the embeddings."""

    term: str
    student: tuple[int, ...] = ()
    teacher: tuple[int, ...] = ()

    @classmethod
    def of(cls, name: str, layers: tuple[int, ...], teacher_layers: tuple[int, ...]) -> Places:
        """Pair the layers that the term `name` is told; the teacher's have the student's numbers where none are given.

        Raises:
            RecipeError: there are more of one network than of the other.
        """
        return cls(name, layers, require_pairs(name, layers, teacher_layers))

    def shapes(self, dims: Dims) -> list[tuple[Shape, Shape]]:
        """Return the shapes of each pair.

        Raises:
            RecipeError: a network has no such layer.
        """
        if not self.student:
            return [((dims.student,), (dims.teacher,))]
        require_layers(self.term, dims, self.student, self.teacher)
        pairs = zip(self.student, self.teacher, strict=True)
        return [(dims.student_maps[mine], dims.teacher_maps[theirs]) for mine, theirs in pairs]

    def features(self, student: Outputs, teacher: Outputs) -> list[tuple[Tensor, Tensor]]:
        """Return the features of each pair: embeddings (b, d) or maps (b, c, h, w)."""
        if not self.student:
            return [(student.embedding, teacher.embedding)]
        pairs = zip(self.student, self.teacher, strict=True)
        return [(student.maps[mine], teacher.maps[theirs]) for mine, theirs in pairs]
