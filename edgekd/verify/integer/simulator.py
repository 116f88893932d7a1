"""Runs an integer program on batches, exactly: BLAS in float32 or float64, where the bound of the sums proves it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np

from edgekd.errors import ModelError
from edgekd.verify.integer.bounds import FLOAT32_EXACT, FLOAT64_EXACT, Reach, reach_of, signed_bits
from edgekd.verify.integer.kernels import ADDING, MOVING, Array
from edgekd.verify.integer.requant import Accumulator, Arithmetic, Sums, Term, UnfitError, finish
from edgekd.verify.integer.steps import Accumulate, AddTerms, Move, Program, Step, target
from edgekd.verify.integer.values import Integers, Operand, RefusedError

AVERAGES = frozenset({"ReduceSum", "SumPool"})  # kernels whose sums are divided by a count
_CHUNK = 1  # images at a time on each core: their activations stay in the cache


@dataclass(frozen=True, eq=False)
class Simulated:
    """Integer tensors by name, and for each node the number of sums beyond the accumulator's width."""

    tensors: Mapping[str, Integers]
    overflows: Mapping[str, int]


class Simulator:
    """A program under one arithmetic.

    `threads` batches are computed at a time, 0 means all cores. Images do not influence each other.

    Raises:
        RefusedError: the arithmetic has no answer for a step's scales, or a sum is beyond what float64 adds exactly.
    """

    def __init__(
        self,
        program: Program,
        arithmetic: Arithmetic,
        accumulator: Accumulator | None = None,
        *,
        saturate: bool = True,
        threads: int = 0,
    ) -> None:
        self.program = program
        self.arithmetic = arithmetic
        self.accumulator = accumulator or Accumulator()
        self.saturate = saturate
        self.threads = threads or os.cpu_count() or 1
        self._kinds: dict[str, type[np.floating]] = {}
        self._overflowing: set[str] = set()
        self._constants: dict[tuple[str, int], Array] = {}
        for step in program.steps:
            self._prepare(step)

    def run(self, feeds: Mapping[str, Array], keep: Iterable[str] | None = None) -> Simulated:
        """Return the tensors `keep` (the program's results by default) for inputs (n, ...), as their integers.

        Raises:
            ModelError: an input that the program does not take.
        """
        names = tuple(keep) if keep is not None else tuple(result.tensor for result in self.program.results)
        chunks = list(_chunks(feeds))
        with _one_blas_thread(), ThreadPoolExecutor(self.threads) as pool:
            try:
                parts = list(pool.map(lambda chunk: self._run_chunk(chunk, names), chunks))
            except (UnfitError, ValueError, IndexError, MemoryError) as error:
                raise ModelError(f"the integer simulator cannot run this file: {error}") from error
        tensors = {name: np.concatenate([part.tensors[name] for part in parts]) for name in names}
        nodes = parts[0].overflows
        return Simulated(tensors, {node: sum(part.overflows[node] for part in parts) for node in nodes})

    def _prepare(self, step: Step) -> None:
        """Choose the exact float type, centre constants, and try the arithmetic on a sum of 0."""
        if isinstance(step, Move):
            return
        if isinstance(step, Accumulate):
            self._choose_kind(step, reach_of(step))
        for at, operand in enumerate(step.inputs):
            if operand.values is not None:
                kind = self._kinds.get(target(step), np.float64)
                self._constants[target(step), at] = (operand.values - operand.zero_point).astype(kind)
        try:
            self._steps(step, [np.zeros(1) for _ in step.inputs], _zeros(step))
        except UnfitError as error:
            raise RefusedError(step.node, str(error)) from error

    def _choose_kind(self, step: Accumulate, reach: Reach) -> None:
        if reach.magnitude >= FLOAT64_EXACT:
            raise RefusedError(step.node, f"its sums reach {reach.magnitude}, beyond what adds exactly in float64")
        bounded = self.saturate and not self._overflowing  # else what comes before may leave its proven range
        self._kinds[target(step)] = np.float32 if bounded and reach.magnitude < FLOAT32_EXACT else np.float64
        bits = self.accumulator.bits
        if bits is not None and signed_bits(reach.low, reach.high) > bits:
            self._overflowing.add(target(step))

    def _run_chunk(self, feeds: Mapping[str, Array], keep: tuple[str, ...]) -> Simulated:
        tensors: dict[str, Array] = dict(feeds)
        overflows: dict[str, int] = {}
        for step in self.program.steps:
            if isinstance(step, Move):
                inputs = [tensors[item.tensor] if item.values is None else item.values for item in step.inputs]
                tensors[step.output] = MOVING[step.kernel](inputs, step.settings)
                continue
            inputs = [self._centred(step, at, item, tensors) for at, item in enumerate(step.inputs)]
            sums: Sums = np.zeros(0)
            if isinstance(step, Accumulate):
                sums, overflows[step.node] = self._sums(step, inputs)
            steps = self._steps(step, inputs, sums)
            tensors[step.output.tensor] = finish(steps, step.output, saturate=self.saturate)
        return Simulated({name: tensors[name] for name in keep}, overflows)

    def _centred(self, step: Accumulate | AddTerms, at: int, operand: Operand, tensors: Mapping[str, Array]) -> Array:
        """An input without its zero point, as floats that hold it exactly."""
        constant = self._constants.get((target(step), at))
        if constant is not None:
            return constant
        values = tensors[operand.tensor].astype(self._kinds.get(target(step), np.float64))
        zero = int(operand.zero_point.item())
        if zero:
            values -= zero
        return values

    def _sums(self, step: Accumulate, inputs: list[Array]) -> tuple[Sums, int]:
        sums = ADDING[step.kernel](inputs, step.settings)
        if step.bias is not None:
            sums = np.add(sums, step.bias.astype(sums.dtype), out=sums)
        if target(step) not in self._overflowing or self.accumulator.bits is None:
            return sums, 0
        return _confined(sums, self.accumulator)

    def _steps(self, step: Accumulate | AddTerms, inputs: list[Array], sums: Sums) -> Sums:
        if isinstance(step, AddTerms):
            scales = [item.format.scale for item in step.inputs if item.format]
            return self.arithmetic.add([Term(v, s) for v, s in zip(inputs, scales, strict=True)], step.scale)
        if step.kernel in AVERAGES:
            return self.arithmetic.average(sums, step.multiplier, step.output.zero_point)
        return self.arithmetic.requantize(sums, step.multiplier)


def _confined(sums: Sums, accumulator: Accumulator) -> tuple[Sums, int]:
    """Bring sums into the accumulator's width, and count those that were beyond it."""
    assert accumulator.bits is not None
    half = 1 << (accumulator.bits - 1)
    beyond = int(np.count_nonzero((sums < -half) | (sums >= half)))
    if accumulator.overflow == "saturate":
        return np.clip(sums, -half, half - 1), beyond
    return (((sums.astype(np.int64) + half) & (2 * half - 1)) - half).astype(sums.dtype), beyond


def _zeros(step: Step) -> Sums:
    """A sum of 0 for each multiplier."""
    if not isinstance(step, Accumulate):
        return np.zeros(1)
    return np.zeros(np.broadcast_shapes(step.multiplier.as_float64().shape, step.multiplier.count.shape, (1,)))


def _chunks(feeds: Mapping[str, Array]) -> Iterable[dict[str, Array]]:
    batch = min(len(array) for array in feeds.values())
    if any(len(array) != batch for array in feeds.values()):
        yield dict(feeds)
        return
    for start in range(0, batch, _CHUNK):
        yield {name: array[start : start + _CHUNK] for name, array in feeds.items()}


def _one_blas_thread() -> AbstractContextManager[object]:
    """Keep BLAS to one core: the cores work on different images."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped] # comes with scikit-learn

    limits: AbstractContextManager[object] = threadpool_limits(1)
    return limits
