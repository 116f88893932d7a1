"""What would keep a node within a limit of its operator: a row for each limit where that can be computed."""

from __future__ import annotations

from collections.abc import Callable

from edgekd.verify.rules import channel_hints, pool_hints, size_hints, window_hints
from edgekd.verify.rules.misses import Miss
from edgekd.verify.rules.sums import abs_sum_hint
from edgekd.verify.uses import GLOBAL_POOLS, POOLS

Hint = Callable[[Miss], str | None]


def limit_hint(key: str, miss: Miss) -> str | None:
    """Return what to change in a node whose value for `key` is not allowed; None where nothing was found."""
    found = _HINTS.get(key)
    return found(miss) if found else None


def _window(miss: Miss) -> str | None:
    if miss.use.op in GLOBAL_POOLS:
        return pool_hints.global_pool_window(miss)
    return pool_hints.pool_window(miss) if miss.use.op in POOLS else window_hints.conv_window(miss)


def _stride(miss: Miss) -> str | None:
    return pool_hints.pools_in_turn(miss) if miss.use.op in POOLS else window_hints.conv_stride(miss)


def _weight_abs_sum(miss: Miss) -> str | None:
    return abs_sum_hint(miss.facts, miss.allowed) if isinstance(miss.allowed, int) else None


_HINTS: dict[str, Hint] = {
    "dims": size_hints.dims,
    "kernels_px": _window,
    "kernel_max_px": _window,
    "kernel_area_max_px": _window,
    "dilated_kernel_max_px": _window,
    "dilated_kernel_area_max_px": _window,
    "strides_px": _stride,
    "stride_max_px": _stride,
    "equal_strides": _stride,
    "padding_max_px": window_hints.conv_padding,
    "dilation_max_px": window_hints.conv_dilation,
    "groups": channel_hints.one_group,
    "input_channels_max": channel_hints.narrower_chain,
    "output_channels_max": channel_hints.output_channels,
    "bias_channels_max": channel_hints.bias_channels,
    "lone_channels_max": channel_hints.lone_channels,
    "weight_abs_sum_max": _weight_abs_sum,
    "side_max_px": size_hints.side,
    "flat_elements_max": size_hints.flat_elements,
    "flat_area_max_px": size_hints.flat_area,
    "batch_max": size_hints.batch,
}
