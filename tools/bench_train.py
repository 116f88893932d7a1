"""Print images/s of training Conv4-64 at 84x84: edgekd's loop against a plain one, in turns in one run.

The plain loop is what most few-shot code does: JPEG files, a DataLoader, PIL transforms of torchvision (crop, flip,
colour), fp32, NCHW. Usage: python tools/bench_train.py [--seconds 5] [--batch 128] [--workers 2]
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from edgekd.data import ImageSet
from edgekd.distill.backbones import build_backbone
from edgekd.distill.batches import TrainingImages, shuffled_rows
from edgekd.distill.optimizer import build_optimizer
from edgekd.distill.session import open_session
from edgekd.distill.tasks import Classifier, LabelTask
from edgekd.recipe import Augment, Schedule

SIZE, CLASSES, IMAGES = 84, 16, 2048

Step = Callable[[], int]


def smooth_images(seed: int) -> np.ndarray:
    """Return images (n, 84, 84, 3) with the smoothness of photographs, so that JPEG decoding costs what it does."""
    coarse = np.random.default_rng(seed).integers(0, 256, (IMAGES, 12, 12, 3), dtype=np.uint8)
    return np.stack(
        [np.asarray(Image.fromarray(image).resize((SIZE, SIZE), Image.Resampling.BICUBIC)) for image in coarse]
    )


def new_task() -> LabelTask:
    """Return Conv4-64 with a head."""
    torch.manual_seed(0)
    backbone = build_backbone("conv4-64", 3)
    return LabelTask(Classifier(backbone, CLASSES))


def edgekd_step(images: np.ndarray, labels: np.ndarray, batch: int) -> Step:
    """Return a function that trains one batch as the engine does, and returns how many images it saw."""
    session = open_session("auto", 0, cpu=True)
    names = tuple(str(label) for label in range(CLASSES))
    augmentation = Augment(flip=True, pad_fraction=0.1)
    source = TrainingImages.load(ImageSet("bench", images, labels, names), augmentation, session)
    task = new_task().to(memory_format=torch.channels_last)
    optimizer = build_optimizer(task, Schedule())
    model = session.accelerator.prepare_model(task)
    rows = shuffled_rows(len(images), batch, 0, "bench")
    count = iter(range(1_000_000))

    def step() -> int:
        number = next(count)
        pixels, targets = source.take(rows(number), "bench", number)
        return optimize(model, optimizer, pixels, targets)

    return step


def plain_step(folder: Path, batch: int, workers: int) -> Step:
    """Return a function that trains one batch the plain way."""
    from torchvision import datasets, transforms

    transform = transforms.Compose(
        [
            transforms.RandomCrop(SIZE, padding=8),
            transforms.RandomHorizontalFlip(),
            transforms.ColorJitter(0.2, 0.2, 0.2),
            transforms.ToTensor(),
            transforms.Normalize([0.5] * 3, [0.5] * 3),
        ]
    )
    dataset = datasets.ImageFolder(str(folder), transform)
    loader = torch.utils.data.DataLoader(
        dataset, batch, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=workers > 0
    )
    task = new_task()
    optimizer = build_optimizer(task, Schedule())
    batches = endless(loader)

    def step() -> int:
        pixels, targets = next(batches)
        return optimize(task, optimizer, pixels, targets)

    return step


def endless(loader: torch.utils.data.DataLoader[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    """Go through the loader again and again."""
    while True:
        yield from loader


def optimize(model: nn.Module, optimizer: torch.optim.Optimizer, pixels: Tensor, labels: Tensor) -> int:
    """One optimizer step; the same for both."""
    loss, _ = model(images=pixels, labels=labels)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return len(pixels)


def rate(step: Step, seconds: float) -> float:
    """Return images/s over `seconds`, after one step that is not counted."""
    step()
    began, images = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        images += step()
    return images / (time.perf_counter() - began)


def measure(loop: str, seconds: float, batch: int, workers: int) -> float:
    """Return images/s of one loop in this process."""
    images = smooth_images(0)
    labels = np.arange(IMAGES, dtype=np.int64) % CLASSES
    if loop == "edgekd":
        return rate(edgekd_step(images, labels, batch), seconds)
    with tempfile.TemporaryDirectory() as name:
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            place = Path(name) / str(label)
            place.mkdir(exist_ok=True)
            Image.fromarray(image).save(place / f"{number}.jpg", quality=90)
        return rate(plain_step(Path(name), batch, workers), seconds)


def measure_apart(loop: str, seconds: float, batch: int, workers: int) -> float:
    """Return images/s of one loop in a process of its own, so that neither inherits the other's settings."""
    options = ["--loop", loop, "--seconds", str(seconds), "--batch", str(batch), "--workers", str(workers)]
    done = subprocess.run([sys.executable, __file__, *options], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


@click.command()
@click.option("--seconds", default=5.0, show_default=True, help="Seconds of each of four turns of each loop.")
@click.option("--batch", default=128, show_default=True)
@click.option("--workers", default=2, show_default=True, help="DataLoader workers of the plain loop.")
@click.option("--loop", type=click.Choice(["both", "edgekd", "plain"]), default="both", show_default=True)
def main(seconds: float, batch: int, workers: int, loop: str) -> None:
    """Time both loops in turns, or print the images/s of one."""
    if loop != "both":
        print(measure(loop, seconds, batch, workers))
        return
    turns = [[measure_apart(name, seconds, batch, workers) for name in ("edgekd", "plain")] for _ in range(4)]
    ours, plain = (statistics.median(column) for column in zip(*turns, strict=True))
    print(
        f"Conv4-64, {SIZE}x{SIZE}, batch {batch}, {torch.get_num_threads()} threads; plain loop with {workers} workers"
    )
    print(f"edgekd {ours:.0f} images/s, plain {plain:.0f} images/s")
    ratios = [a / b for a, b in turns]
    print(f"ratio {statistics.median(ratios):.2f} (turns: {', '.join(f'{ratio:.2f}' for ratio in ratios)})")


if __name__ == "__main__":
    main()
