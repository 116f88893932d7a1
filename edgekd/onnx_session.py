"""How onnxruntime is opened: the same integers on every CPU, errors that can be caught. Without torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edgekd.cpu import cpu_flags, sums_int8_exactly
from edgekd.errors import ModelError, UsageError, unknown

if TYPE_CHECKING:
    import onnxruntime

Optimization = Literal["none", "basic", "extended", "all"]

_LEVELS: dict[str, str] = {
    "none": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}
_WITHOUT_INTEGER_KERNELS: dict[Optimization, Optimization] = {"extended": "basic", "all": "basic"}


def open_session(model: Path | bytes, optimization: Optimization = "all") -> onnxruntime.InferenceSession:
    """Return a session of one thread in which sums of int8 products do not saturate, whatever the CPU.

    Signed activations get integer kernels by `session.qdqisint8allowed` alone, on x86. CPUs without VNNI add products
    of bytes in pairs, in 16 bits: there `session.x64quantprecision` makes the weights of unsigned activations unsigned,
    which is exact, and onnxruntime has no such kernels for signed ones. What it has none for is run in fp32.
    Source: https://github.com/microsoft/onnxruntime/issues/14642; both options at once are refused by 1.31.

    Raises:
        ModelError: onnxruntime cannot read the model.
        UsageError: an unknown optimization level.
    """
    import onnxruntime

    if optimization not in _LEVELS:
        raise UsageError(unknown("optimization level", optimization, _LEVELS))
    if isinstance(model, Path) and not model.is_file():
        raise ModelError(f"there is no model file {model}")
    source = str(model) if isinstance(model, Path) else model
    for level in dict.fromkeys((optimization, _WITHOUT_INTEGER_KERNELS.get(optimization, optimization))):
        try:
            return onnxruntime.InferenceSession(source, _session_options(level), providers=["CPUExecutionProvider"])
        except onnxruntime_errors() as error:
            failure = error
    raise ModelError(f"onnxruntime cannot read {model if isinstance(model, Path) else 'the model'}: {failure}")


def _session_options(optimization: Optimization) -> onnxruntime.SessionOptions:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, _LEVELS[optimization])
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # the cores work on different images
    options.log_severity_level = 4  # errors reach the user as ModelError
    exact = sums_int8_exactly(cpu_flags())
    options.add_session_config_entry("session.qdqisint8allowed" if exact else "session.x64quantprecision", "1")
    return options


def onnxruntime_errors() -> tuple[type[Exception], ...]:
    """Return what onnxruntime raises: these have no common base but Exception."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return tuple(error for error in vars(state).values() if isinstance(error, type) and issubclass(error, Exception))
