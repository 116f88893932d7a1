"""What a teacher that is still says of training images, kept on disk: each is asked about once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from edgekd.distill.context import Context, look
from edgekd.distill.methods import Outputs
from edgekd.distill.tasks import Classifier
from edgekd.errors import StorageError
from edgekd.files import sha256_bytes
from edgekd.recipe import followed

BLOCK = 1 << 24  # bytes written at once


class Answers:
    """A table of embeddings (d numbers) and logits (c numbers) for a fixed number of images, float32, in one file.

    Every row begins with 1 once it is filled, so that a table whose writer was killed goes on where it was.

    Source: Z. Shen & E. Xing, A Fast Knowledge Distillation Framework for Visual Recognition, ECCV 2022,
    https://arxiv.org/abs/2112.01528, which keeps the largest logits; here all are kept, with the embedding.

    Raises:
        StorageError: the disk has no room for it.
    """

    def __init__(self, path: Path, rows: int, dim: int, classes: int) -> None:
        self.dim = dim
        shape = rows, 1 + dim + classes
        _reserve(path, 4 * shape[0] * shape[1])
        self._table = np.memmap(path, dtype=np.float32, mode="r+", shape=shape)

    def of(self, rows: slice, ask: Callable[[], Outputs]) -> Outputs:
        """Return the answers in `rows`, on the CPU where they are there; else what `ask` says, which is kept."""
        found = self._table[rows]
        if found[:, 0].all():
            known = torch.from_numpy(found[:, 1:].copy())
            return Outputs(known[:, : self.dim], known[:, self.dim :])
        outputs = ask()
        found[:, 1:] = torch.cat([outputs.embedding, outputs.logits], dim=1).cpu().numpy()
        found[:, 0] = 1
        return outputs


def kept_answers(context: Context, stage: str, teacher: Classifier, steps: int) -> Callable[[int, Tensor], Outputs]:
    """Return what answers for a still `teacher` about the pixels of each of so many steps, those of this process alone.

    The table lies beside the checkpoint of `stage` and goes with it, or stays in the session's own folder for other
    students. It is one of this teacher, and of this process of so many: with another teacher, or another number of
    processes, a new one begins; in a folder of several runs also with other images, changed otherwise, or in another
    order.

    Raises:
        StorageError: the disk has no room for the table.
    """
    session, run = context.session, context.run
    batch_size = run.recipe.distill.batch_size // session.world
    teacher_file = run.manifest.stages[followed(run.recipe)[0]].sha256
    folder, asked = run.folder / f"checkpoint-{stage}", teacher_file[:12]
    if session.answers:
        folder, asked = session.answers, _digest(context, stage, teacher_file, steps)
    path = folder / f"answers-{asked}-{session.rank}of{session.world}.f32"
    answers = Answers(path, steps * batch_size, teacher.backbone.embedding_dim, teacher.head.out_features)

    def ask(step: int, pixels: Tensor) -> Outputs:
        rows = slice(step * batch_size, (step + 1) * batch_size)
        found = answers.of(rows, lambda: look(context, teacher, pixels))
        return Outputs(found.embedding.to(pixels.device), found.logits.to(pixels.device))

    return ask


def _digest(context: Context, stage: str, teacher: str, steps: int) -> str:
    """Return what tells apart the tables of several runs: all that decides about images, their order and answers."""
    recipe, images = context.run.recipe, context.unlabelled or context.splits.train
    asked = {
        "teacher": teacher,
        "images": images.fingerprint,
        "augment": recipe.augment.model_dump(mode="json"),
        "seed": recipe.seed,
        "stage": stage,
        "batch_size": recipe.distill.batch_size,
        "steps": steps,
        "precision": str(context.session.accelerator.mixed_precision),
    }
    return sha256_bytes(json.dumps(asked, sort_keys=True).encode())[:16]


def _reserve(path: Path, size: int) -> None:
    """Write zeros up to `size` bytes: a table with holes that outgrew the disk later would kill the process."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            while (missing := size - file.tell()) > 0:
                file.write(bytes(min(missing, BLOCK)))
    except OSError as error:
        raise StorageError(
            f"the teacher's answers take {size / 1e6:,.0f} MB in {path}: {error.strerror}; lower distill.views"
        ) from error
