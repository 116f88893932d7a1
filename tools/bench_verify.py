"""What `edgekd verify` costs, each figure beside what is promised: `bench_verify.py [MODEL [PROFILE]] [--quick]`.

- the static check of a Conv4-64 (or of MODEL), from starting Python to its exit: time and peak memory;
- the full check of that Conv4-64 on 2,400 random images of 84x84 with every engine, 10,000 episodes for each protocol;
- the integer simulator, each arithmetic on 512 images of 84x84;
- the planner on 100 tensors with random lifetimes.

The network's weights are random: time does not depend on them. `--quick` leaves the full check out. Exits 1 where a
figure is beyond its promise.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from edgekd.manifest import DataRef, Manifest, Preprocessing, QuantScheme, TensorRef
from edgekd.profile import load_profile
from edgekd.verify.facts import facts_of
from edgekd.verify.integer.requant import ARITHMETICS
from edgekd.verify.integer.static import simulator_of
from edgekd.verify.integer.values import RefusedError
from edgekd.verify.planner import Buffer, plan_arena
from edgekd.verify.reading import read_graph

RUNS = 5
STATIC_S, STATIC_MIB = 1.0, 200 * 10**6 / 2**20
FULL_S, PLANNER_S = 60.0, 1.0
SIMULATED_MS = 1000 / 150  # 150 images a second
SIMULATED_IMAGES = 512
CLASSES, IMAGES_A_CLASS = 20, 120
TENSORS = 100
WIDTH, SIZE = 64, 84
PROFILE = "stm32h743"


@dataclass(frozen=True)
class Figure:
    """Something measured and the most that is promised, in the same unit."""

    what: str
    measured: float
    promised: float
    unit: str

    def line(self) -> str:
        """Return both with their ratio: below 1 the promise is kept."""
        share = self.measured / self.promised
        return f"{self.measured:8.2f} {self.unit:3}  {share:5.2f} of the promised {self.promised:.3g}  {self.what}"


def main() -> None:
    """Measure everything and print one line a figure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("profile", nargs="?", default=PROFILE)
    parser.add_argument("--quick", action="store_true", help="leave the full check out")
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder:
        conv4 = random_conv4(Path(folder) / "conv4-64.onnx")
        figures = [*static_figures(options.model or conv4, options.profile), planner_figure()]
        if not options.quick:
            figures += [*simulator_figures(conv4), full_figure(conv4, options.profile, Path(folder))]
    for figure in figures:
        print(figure.line())
    sys.exit(any(figure.measured > figure.promised for figure in figures))


def static_figures(model: Path, profile: str) -> list[Figure]:
    """Run the static check `RUNS` times, each in a process of its own."""
    seconds = [run_once(model, profile, "--static") for _ in range(RUNS)]
    peak_mib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024  # of the largest child, Linux counts KiB
    what = f"verify --static {model.name}"
    return [
        Figure(f"{what}: median of {RUNS} runs, worst {max(seconds):.2f} s", statistics.median(seconds), STATIC_S, "s"),
        Figure(f"{what}: peak memory of the largest process", peak_mib, STATIC_MIB, "MiB"),
    ]


def simulator_figures(model: Path) -> list[Figure]:
    """Simulate the same images in every arithmetic; the scales of the model are powers of two, so that all can."""
    program = facts_of(read_graph(model)).lowered.program
    assert program is not None
    pixels = np.random.default_rng(0).integers(-128, 128, (SIMULATED_IMAGES, 3, SIZE, SIZE), dtype=np.int8)
    figures = []
    for name, arithmetic in ARITHMETICS.items():
        try:
            simulator = simulator_of(program, load_profile(PROFILE), arithmetic)
        except RefusedError as refusal:
            print(f"not simulated as {name}: {refusal}")
            continue
        simulator.run({"pixels": pixels[:64]})
        begin = time.perf_counter()
        for start in range(0, SIMULATED_IMAGES, 64):
            simulator.run({"pixels": pixels[start : start + 64]})
        seconds = time.perf_counter() - begin
        what = f"integer:{name}: an image of {SIZE}x{SIZE}, {SIMULATED_IMAGES / seconds:.0f} images/s"
        figures.append(Figure(what, 1000 * seconds / SIMULATED_IMAGES, SIMULATED_MS, "ms"))
    return figures


def full_figure(model: Path, profile: str, folder: Path) -> Figure:
    """Run the full check once on images of noise."""
    write_images(folder / "images" / "test", CLASSES, IMAGES_A_CLASS)
    for split in ("train", "val"):  # a data set has all three, the check reads one
        write_images(folder / "images" / split, 1, 1)
    report = folder / "report.json"
    data = ["--data", f"folder:{folder / 'images'}", "--json", str(report)]
    seconds = run_once(model, profile, *data)
    engines = sorted(engines_of(report))
    images = CLASSES * IMAGES_A_CLASS
    what = f"verify {model.name}: {images:,} images, 10,000 episodes, {len(engines)} engines ({', '.join(engines)})"
    return Figure(what, seconds, FULL_S, "s")


def engines_of(report: Path) -> set[str]:
    """Return the engines that accuracy was measured with."""
    return {row["engine"] for row in json.loads(report.read_text())["accuracy"]}


def planner_figure() -> Figure:
    """Plan buffers of random sizes and lifetimes; the slowest of a few draws counts."""
    seconds = []
    for seed in range(RUNS):
        rng = random.Random(seed)  # noqa: S311 - a benchmark
        births = sorted(rng.randrange(TENSORS) for _ in range(TENSORS))
        spans = [(birth, rng.randrange(1, 20), rng.randrange(1, 100_000)) for birth in births]
        buffers = [Buffer(f"t{at}", (size,), size, first, first + more) for at, (first, more, size) in enumerate(spans)]
        begin = time.perf_counter()
        plan_arena(buffers)
        seconds.append(time.perf_counter() - begin)
    return Figure(f"planner, {TENSORS} tensors: worst of {RUNS}", max(seconds), PLANNER_S, "s")


def run_once(model: Path, profile: str, *options: str) -> float:
    """Return the seconds of one run of the command, from starting Python to its exit."""
    command = [sys.executable, "-m", "edgekd", "verify", str(model), "--profile", profile, *options]
    begin = time.perf_counter()
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode not in {0, 1}:
        raise SystemExit(result.stderr)
    return time.perf_counter() - begin


def write_images(folder: Path, classes: int, images_a_class: int) -> None:
    """Write class folders of noise, uncompressed: reading them should cost little beside the network."""
    rng = np.random.default_rng(len(folder.name) + images_a_class)
    for label in range(classes):
        place = folder / f"{folder.name}_{label:02d}"
        place.mkdir(parents=True)
        for number in range(images_a_class):
            pixels = rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(place / f"{number:03d}.png", compress_level=0)


def manifest() -> Manifest:
    """Return what export would have written, so that the integers of the output have a scale."""
    return Manifest(
        edgekd="0",
        versions={},
        profile=PROFILE,
        profile_sha256=load_profile(PROFILE).sha256,
        data=DataRef(spec="none", split="test", fingerprint="", n_classes=CLASSES, novel=True, seed=0),
        preprocessing=Preprocessing(height=SIZE, width=SIZE, channels=3),
        quantization=QuantScheme(),
        input=TensorRef(name="pixels", dtype="int8", scale=2.0**-7),
        output=TensorRef(name="embedding", dtype="int8", scale=2.0**-7),
        base_mean=(),
        weights_sha256="",
        golden_sha256="",
    )


def random_conv4(path: Path) -> Path:
    """Write an INT8 QCDQ Conv4-64 for 84x84 RGB images with random weights."""
    rng = np.random.default_rng(0)
    constants: dict[str, NDArray[Any]] = {
        "scale": np.array(2.0**-7, np.float32),
        "bias_scale": np.array(2.0**-14, np.float32),
        "zero": np.array(0, np.int8),
        "bias_zero": np.array(0, np.int32),
    }
    nodes, current = [helper.make_node("DequantizeLinear", ["pixels", "scale", "zero"], ["x"])], "x"
    for block in range(4):
        channels = 3 if block == 0 else WIDTH
        constants[f"w{block}"] = rng.integers(-127, 128, (WIDTH, channels, 3, 3), dtype=np.int8)
        constants[f"b{block}"] = rng.integers(-999, 999, WIDTH, dtype=np.int32)
        nodes += conv_block(current, block)
        current = f"pool{block}"
    nodes += [
        helper.make_node("GlobalAveragePool", [current], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("QuantizeLinear", ["flat", "scale", "zero"], ["embedding"]),
    ]
    graph = helper.make_graph(
        nodes,
        "conv4",
        [helper.make_tensor_value_info("pixels", TensorProto.INT8, [1, 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("embedding", TensorProto.INT8, [1, WIDTH])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    helper.set_model_props(model, manifest().to_metadata())
    path.write_bytes(model.SerializeToString())
    return path


def conv_block(source: str, block: int) -> list[onnx.NodeProto]:
    """Return the nodes of Conv, Relu, quantize, MaxPool on the float tensor `source`."""
    steps: list[tuple[str, list[str], str, dict[str, Any]]] = [
        ("DequantizeLinear", [f"w{block}", "scale", "zero"], f"wf{block}", {}),
        ("DequantizeLinear", [f"b{block}", "bias_scale", "bias_zero"], f"bf{block}", {}),
        ("Conv", [source, f"wf{block}", f"bf{block}"], f"conv{block}", {"pads": [1, 1, 1, 1]}),
        ("Relu", [f"conv{block}"], f"relu{block}", {}),
        ("QuantizeLinear", [f"relu{block}", "scale", "zero"], f"q{block}", {}),
        ("DequantizeLinear", [f"q{block}", "scale", "zero"], f"dq{block}", {}),
        ("MaxPool", [f"dq{block}"], f"pool{block}", {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ]
    return [helper.make_node(op, inputs, [output], **attributes) for op, inputs, output, attributes in steps]


if __name__ == "__main__":
    main()
