"""Print images/s of training a teacher in edgekd's own loop, and on a GPU its share of the card's bf16 matrix rate.

Images of noise, resident on the device and changed there, four rotations of each, as the recipe of a strong teacher
has it. Usage: python tools/bench_teacher.py [--teacher resnet12] [--batch 64] [--seconds 60] [--compile] [--cpu]
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from edgekd.data import ImageSet
from edgekd.distill.backbones import build_backbone
from edgekd.distill.batches import TrainingImages, shuffled_rows
from edgekd.distill.engine import Batch, Stage, fit
from edgekd.distill.session import Session, Silent, Stopped, open_session
from edgekd.distill.tasks import Classifier
from edgekd.distill.teacher_tasks import StrongLabelTask
from edgekd.manifest import DataRef
from edgekd.recipe import Augment, Recipe, Schedule
from edgekd.run import Run

CLASSES = 64
STEPS = 20  # between two lines
AUGMENT = Augment(pad_fraction=0.1, flip=True, brightness=0.4, contrast=0.4, saturation=0.4)
DATA = DataRef(spec="noise", split="test", fingerprint="", n_classes=CLASSES, novel=True, seed=0)


class Printer(Silent):
    """Prints what the loop measures."""

    def metrics(self, line: dict[str, Any]) -> None:
        """Print one reading."""
        share = ""
        if "tflops" in line:
            share = f", {line['tflops']:.1f} TFLOP/s, {line['matrix_share']:.1%} of the bf16 matrix rate"
        print(f"step {line['step']}: {line['images_per_s']:.1f} images/s before rotating them{share}", flush=True)

    def note(self, text: str) -> None:
        """Print what the loop has to say."""
        print(text, flush=True)


def stage_of(session: Session, teacher: str, batch_size: int, size: int, rotation: float) -> Stage:
    """Return a schedule without an end over random images (n, size, size, 3)."""
    n = max(CLASSES, STEPS * batch_size)
    pixels = np.random.default_rng(0).integers(0, 256, (n, size, size, 3), dtype=np.uint8)
    names = tuple(str(number) for number in range(CLASSES))
    source = TrainingImages.load(ImageSet("noise", pixels, np.arange(n) % CLASSES, names), AUGMENT, session)
    torch.manual_seed(0)
    task = StrongLabelTask(Classifier(build_backbone(teacher, 3), CLASSES), rotation=rotation)
    rows = shuffled_rows(n, batch_size, 0, "bench")

    def batch(step: int) -> Batch:
        images, labels = source.take(rows(step), "bench", step)
        return {"images": images, "labels": labels}

    schedule = Schedule(epochs=100_000, lr=0.05, optimizer="sgd", weight_decay=5e-4, batch_size=batch_size)
    return Stage("teach", task, batch, schedule, n // batch_size, batch_size)


@click.command()
@click.option("--teacher", default="resnet12", show_default=True)
@click.option("--batch", default=64, show_default=True, help="Images a step, before rotating them.")
@click.option("--size", default=84, show_default=True, help="Height and width in pixels.")
@click.option("--rotation", default=1.0, show_default=True, help="Weight of the rotations; 0 leaves them out.")
@click.option("--seconds", default=60.0, show_default=True)
@click.option("--compile", "compiled", is_flag=True, help="Through torch.compile.")
@click.option("--cpu", is_flag=True, help="Do not use a GPU.")
def main(*, teacher: str, batch: int, size: int, rotation: float, seconds: float, compiled: bool, cpu: bool) -> None:
    """Train until the time is over."""
    session = open_session("auto", 0, seconds, Printer(), cpu=cpu, compile_networks=compiled)
    name = torch.cuda.get_device_name() if session.device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    print(f"{teacher} at {size}x{size}, batch {batch}, {session.accelerator.mixed_precision} mixed precision, {name}")
    with tempfile.TemporaryDirectory() as folder:
        run = Run.create(Path(folder) / "run", Recipe(), DATA, {})
        try:
            fit(stage_of(session, teacher, batch, size, rotation), run, session)
        except Stopped:
            return


if __name__ == "__main__":
    main()
