"""The same images through several engines: what each puts out, and how far its integers are from the others'."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgekd.errors import ModelError
from edgekd.onnx_session import Optimization
from edgekd.runtime import Embedder, Pixels
from edgekd.verify.integer.simulator import Simulator
from edgekd.verify.integer.steps import Program, Result
from edgekd.verify.results import EngineRow

_IMAGES_AT_ONCE = 64  # pixels that are prepared together


@dataclass(frozen=True, eq=False)
class Embedded:
    """What an engine makes of the images: embeddings (n, d), and the integers behind them where the file has such.

    `overflows` counts, for each node, the sums beyond the accumulator's width; None where that was not simulated.
    """

    engine: str
    embeddings: NDArray[np.float32]
    integers: NDArray[np.int64] | None
    overflows: Mapping[str, int] | None = field(default=None)


def integer_engine(arithmetic: str) -> str:
    """Return the name of the engine that simulates an arithmetic."""
    return f"integer:{arithmetic}"


def run_onnxruntime(embedder: Embedder, engine: str, images: Pixels, program: Program | None) -> Embedded:
    """Embed images with onnxruntime.

    Raises:
        DataError, ModelError: as `Embedder.embed`.
    """
    outputs = embedder.outputs(images)
    embeddings = embedder.reals(outputs)
    if np.issubdtype(outputs.dtype, np.integer):
        return Embedded(engine, embeddings, outputs.astype(np.int64))
    result = _sole_result(program)
    return Embedded(engine, embeddings, None if result is None else _steps_of(outputs, result))


def run_simulator(simulator: Simulator, embedder: Embedder, images: Pixels) -> Embedded:
    """Embed images with the integer simulator.

    Raises:
        DataError, ModelError: as `Embedder.embed`; the program cannot run on these images.
    """
    parts, overflows = [], dict.fromkeys((step.node for step in simulator.program.steps), 0)
    result = _sole_result(simulator.program)
    if result is None:
        raise ModelError(f"an embedding network has one output, this file has {len(simulator.program.results)}")
    for start in range(0, len(images), _IMAGES_AT_ONCE):
        done = simulator.run(embedder.pixels(images[start : start + _IMAGES_AT_ONCE]))
        values = done.tensors[result.tensor]
        parts.append(values.reshape(len(values), -1))
        for node, count in done.overflows.items():
            overflows[node] += count
    integers = np.concatenate(parts)
    embeddings = _reals(integers, result) if result.dequantized else embedder.reals(integers)
    return Embedded(integer_engine(simulator.arithmetic.name), embeddings, integers.astype(np.int64), overflows)


def open_embedder(embedder: Embedder, optimization: Optimization) -> Embedder:
    """Return the same file at another level of graph optimization."""
    return embedder.reopened(optimization)


def compare(reference: Embedded, other: Embedded) -> EngineRow | None:
    """Return how the integers of two engines differ; None where one has none."""
    if reference.integers is None or other.integers is None or reference.integers.shape != other.integers.shape:
        return None
    difference = np.abs(reference.integers - other.integers)
    return EngineRow(
        engine=other.engine,
        images=len(difference),
        elements=difference.size,
        differing=float(np.mean(difference > 0)),
        max_lsb=int(difference.max(initial=0)),
    )


def _sole_result(program: Program | None) -> Result | None:
    return program.results[0] if program and len(program.results) == 1 else None


def _steps_of(outputs: NDArray[np.floating], result: Result) -> NDArray[np.int64] | None:
    """The integers behind dequantized outputs."""
    if result.format is None:
        return None
    scale, zero = np.float64(result.format.scale.item()), int(result.format.zero_point.item())
    return np.asarray(np.rint(outputs.astype(np.float64) / scale).astype(np.int64) + zero)


def _reals(integers: NDArray[np.integer], result: Result) -> NDArray[np.float32]:
    assert result.format is not None  # what is dequantized has a scale
    centred = integers.astype(np.int64) - int(result.format.zero_point.item())
    return (centred * np.float32(result.format.scale.item())).astype(np.float32)
