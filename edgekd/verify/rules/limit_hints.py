"""What would keep a node within a limit of its operator: a row for each limit where that can be computed."""

from __future__ import annotations

from collections.abc import Callable

from edgekd.verify.facts import Facts
from edgekd.verify.graph import Graph
from edgekd.verify.rules.hints import chain_of, chain_text, smaller_input
from edgekd.verify.uses import CONVS, Shape, Use

Hint = Callable[[Facts, Use, object], str | None]


def limit_hint(facts: Facts, use: Use, key: str, allowed: object) -> str | None:
    """Return what to change in a node whose value for `key` is not `allowed`; None where nothing was found."""
    found = _HINTS.get(key)
    return found(facts, use, allowed) if found else None


def _kernel_max(_facts: Facts, use: Use, allowed: object) -> str | None:
    """K x k sees as far as n windows of m x m do, where n (m - 1) >= k - 1."""
    side, most = _square(use.kernel), allowed
    if use.op not in CONVS or side is None or not isinstance(most, int) or _square(use.strides) != 1 or most < 2:
        return None
    count = -(-(side - 1) // (most - 1))
    return f"{count} convolutions of {most}x{most} see as far as one of {side}x{side}"


def _kernels(facts: Facts, use: Use, allowed: object) -> str | None:
    sides = [kernel[0] for kernel in allowed if _square(kernel)] if isinstance(allowed, tuple) else []
    smaller = [side for side in sides if side < (_square(use.kernel) or 0)]
    return _kernel_max(facts, use, max(smaller)) if smaller else None


def _stride_max(_facts: Facts, use: Use, allowed: object) -> str | None:
    stride = _square(use.strides)
    if use.op not in CONVS or stride is None or allowed != 1:
        return None
    return f"stride 1, and a MaxPool of {stride}x{stride} behind it"


def _strides(facts: Facts, use: Use, allowed: object) -> str | None:
    return _stride_max(facts, use, 1) if isinstance(allowed, tuple) and 1 in allowed else None


def _channels(facts: Facts, _use: Use, allowed: object) -> str | None:
    """Of a chain of equally wide convolutions: all of them narrower."""
    found = chain_of(facts)
    if found is None or not isinstance(allowed, int) or not 0 < allowed < found[1] or found[0].channels > allowed:
        return None
    return chain_text(found[0], allowed)


def _side(facts: Facts, _use: Use, allowed: object) -> str | None:
    def fits(graph: Graph) -> bool:
        sides = [value.shape[2:] for value in graph.values.values() if value.shape and len(value.shape) == 4]
        return all(isinstance(allowed, int) and max(side) <= allowed for side in sides if len(side) == 2)

    side = smaller_input(facts.graph, fits)
    return f"{side}x{side} input fits" if side else None


def _batch(_facts: Facts, _use: Use, allowed: object) -> str | None:
    return f"a batch of {allowed}: export without --dynamic-batch" if allowed == 1 else f"a batch of {allowed}"


def _square(shape: Shape | None) -> int | None:
    """The side of a square window, or the one step of equal strides."""
    return shape[0] if shape and len(set(shape)) == 1 else None


_HINTS: dict[str, Hint] = {
    "kernel_max_px": _kernel_max,
    "kernels_px": _kernels,
    "stride_max_px": _stride_max,
    "strides_px": _strides,
    "input_channels_max": _channels,
    "output_channels_max": _channels,
    "bias_channels_max": _channels,
    "side_max_px": _side,
    "batch_max": _batch,
}
