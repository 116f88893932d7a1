"""How onnxruntime is opened: the same integers on every CPU, errors that can be caught. Without torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

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
    """Return a session of one thread in which sums of u8 x s8 products do not saturate, whatever the CPU.

    CPUs without VNNI add such products in pairs, in 16 bits. `session.x64quantprecision` then makes the weights
    unsigned, which is exact; a file that onnxruntime cannot change so is run without integer kernels there.
    Source: https://github.com/microsoft/onnxruntime/issues/14642.

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
    options.add_session_config_entry("session.x64quantprecision", "1")
    return options


def onnxruntime_errors() -> tuple[type[Exception], ...]:
    """Return what onnxruntime raises: these have no common base but Exception."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return tuple(error for error in vars(state).values() if isinstance(error, type) and issubclass(error, Exception))
