"""Signal to quantization noise of each quantized tensor, against the float student's activations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgekd.verify.graph import Graph
from edgekd.verify.integer.golden import Golden
from edgekd.verify.integer.simulator import Simulator
from edgekd.verify.integer.values import Operand
from edgekd.verify.results import SqnrRow

EXACT_DB = 200.0  # what no noise at all is called: a JSON number is finite


@dataclass(frozen=True)
class Noise:
    """Rows in the order of the graph, and a sentence for what could not be compared."""

    rows: tuple[SqnrRow, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def worst(self) -> SqnrRow | None:
        """The tensor with the most noise."""
        return min(self.rows, key=lambda row: row.sqnr_db, default=None)


def noise_of(graph: Graph, simulator: Simulator, golden: Golden) -> Noise:
    """Run the golden inputs and compare every tensor that the golden vectors hold in float.

    Raises:
        ModelError: the program cannot run on them.
    """
    if not golden.floats:
        return Noise(warnings=("no SQNR: the golden vectors hold no float activations",))
    operands = {name: item for name, item in simulator.program.operands.items() if name in golden.floats}
    comparable = {name: item for name, item in operands.items() if item.values is None and item.format is not None}
    keep = [operand.tensor for operand in comparable.values()]
    tensors = simulator.run({graph.inputs[0]: golden.pixels}, keep).tensors
    rows, skipped = [], sorted(golden.floats.keys() - comparable.keys())
    for name, operand in comparable.items():
        signal = golden.floats[name]  # maybe of the first images only
        real = dequantized(tensors[operand.tensor], operand)[: len(signal)]
        if signal.shape != real.shape or not signal.size or not np.all(np.isfinite(signal)) or not signal.any():
            skipped.append(name)
            continue
        rows.append(SqnrRow(node=_node(graph, name), tensor=name, sqnr_db=round(sqnr_db(signal, real), 3)))
    note = f"no SQNR for {', '.join(skipped)}: not tensors of the integer program in the same shape" if skipped else ""
    return Noise(tuple(rows), (note,) if note else ())


def sqnr_db(signal: NDArray[np.floating], found: NDArray[np.floating]) -> float:
    """Return 10 log10(sum signal^2 / sum (signal - found)^2), in dB; at most `EXACT_DB`."""
    noise = float(np.sum((signal - found) ** 2))
    power = float(np.sum(signal**2))
    return EXACT_DB if noise == 0 else min(EXACT_DB, 10 * float(np.log10(power / noise)))


def dequantized(integers: NDArray[np.integer], operand: Operand) -> NDArray[np.float64]:
    """Return scale * (integer - zero point)."""
    assert operand.format is not None
    centred = integers.astype(np.int64) - operand.zero_point
    return np.asarray(centred * operand.format.scale.astype(np.float64))


def _node(graph: Graph, tensor: str) -> str:
    """The layer whose result is quantized to `tensor`: the operator before quantizer and activations."""
    node = graph.producers.get(tensor)
    while node is not None and node.op in {"QuantizeLinear", "Relu", "Clip", "Flatten", "MaxPool"}:
        before = graph.producers.get(node.input(0))
        if before is None or before.op == "DequantizeLinear":
            break
        node = before
    return node.name if node else tensor
