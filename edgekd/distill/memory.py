"""Where a GPU's memory runs out: the same batch in smaller parts, whose gradients are summed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

Batch = Mapping[str, Any]

_WORDS = ("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")  # of libraries with allocators of their own


def ran_out(error: BaseException) -> bool:
    """Whether an error says that a device's memory is used up."""
    return isinstance(error, torch.OutOfMemoryError) or any(word in str(error) for word in _WORDS)


def parts_of(batch: Batch, parts: int, unit: int) -> Iterator[tuple[float, Batch]]:
    """Yield the share and the rows of each part of a batch, cut between units of so many images (episodes, triplets).

    A weighted sum of the parts' mean losses is the mean loss of the batch where each image, or each unit, has its own
    loss. What sets images in relation to each other sees those of its part: such terms, and BatchNorm statistics.
    """
    if parts == 1:
        yield 1.0, batch
        return
    n = rows_in(batch)
    units = n // unit
    ends = [unit * (units * number // parts) for number in range(parts)] + [n]
    for start, stop in pairwise(ends):
        if stop > start:
            yield (stop - start) / n, {name: _rows(value, slice(start, stop)) for name, value in batch.items()}


def rows_in(batch: Batch) -> int:
    """Return how many images a batch holds: every tensor in it has a row for each."""
    return len(next(_tensors(batch)))


def remember(task: nn.Module) -> Callable[[], None]:
    """Return a function that puts back the buffers of `task` as they are now: a step that failed has changed some."""
    groups: dict[torch.dtype, list[Tensor]] = {}
    for buffer in task.buffers():
        groups.setdefault(buffer.dtype, []).append(buffer.detach())
    pairs = [(buffers, [torch.empty_like(buffer) for buffer in buffers]) for buffers in groups.values()]
    for buffers, copies in pairs:
        torch._foreach_copy_(copies, buffers)  # one launch for all, as this is done in each step

    def put_back() -> None:
        for buffers, copies in pairs:
            torch._foreach_copy_(buffers, copies)

    return put_back


def release(task: nn.Module) -> None:
    """Give up gradients and what the allocator keeps of them."""
    task.zero_grad(set_to_none=True)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _rows(value: Any, rows: slice) -> Any:  # noqa: ANN401 - a batch holds tensors, records of tensors, and figures
    if isinstance(value, Tensor):
        return value[rows]
    if isinstance(value, Mapping):
        return {name: _rows(item, rows) for name, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return type(value)(**{field.name: _rows(getattr(value, field.name), rows) for field in fields(value)})
    return value


def _tensors(value: Any) -> Iterator[Tensor]:  # noqa: ANN401 - as `_rows`
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif is_dataclass(value):
        for field in fields(value):
            yield from _tensors(getattr(value, field.name))
