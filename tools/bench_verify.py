"""Time and memory of `edgekd verify MODEL --static`: `bench_verify.py [MODEL [PROFILE]]`, else a random Conv4-64."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

RUNS = 5
BUDGET_S = 1.0
WIDTH, SIZE = 64, 84


def main() -> None:
    """Run the command `RUNS` times, each in a process of its own, and print the median."""
    with tempfile.TemporaryDirectory() as folder:
        model = Path(sys.argv[1]) if len(sys.argv) > 1 else random_conv4(Path(folder) / "conv4-64.onnx")
        profile = sys.argv[2] if len(sys.argv) > 2 else "tu_accel_150k"
        seconds = [run_once(model, profile) for _ in range(RUNS)]
    peak_mib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024  # of the largest child, Linux counts KiB
    print(f"edgekd verify {model.name} --static: median {statistics.median(seconds):.2f} s, worst {max(seconds):.2f} s")
    print(f"  of {RUNS} runs, peak {peak_mib:.0f} MiB; promised: under {BUDGET_S:g} s")


def run_once(model: Path, profile: str) -> float:
    """Return the seconds of one run, from starting Python to its exit."""
    code = "from edgekd.cli import main; main()"
    command = [sys.executable, "-c", code, "verify", str(model), "--profile", profile, "--static"]
    start = time.perf_counter()
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode not in {0, 1}:
        raise SystemExit(result.stderr)
    return time.perf_counter() - start


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
    path.write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10).SerializeToString()
    )
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
