"""What would keep a node within a limit of its operator: a row for each limit where that can be computed."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from edgekd.verify.facts import Facts
from edgekd.verify.graph import Graph
from edgekd.verify.operators import Kind, kind_of
from edgekd.verify.rules.hints import LARGEST_LEAST, chain_of, chain_text, smaller_input
from edgekd.verify.rules.narrower import narrower
from edgekd.verify.uses import CONVS, Shape, Use

SAME = "which computes the same"


@dataclass(frozen=True, eq=False)
class Miss:
    """A node whose value for one of the `limits` of its entry is not `allowed`; `legal`: operators of the target."""

    facts: Facts
    use: Use
    allowed: object
    limits: Mapping[str, object]
    legal: Collection[str]


Hint = Callable[[Miss], str | None]


def limit_hint(key: str, miss: Miss) -> str | None:
    """Return what to change in a node whose value for `key` is not allowed; None where nothing was found."""
    found = _HINTS.get(key)
    return found(miss) if found else None


def _kernel_max(miss: Miss) -> str | None:
    most = miss.allowed
    if not isinstance(most, int) or most < 2:
        return None
    return _smaller_pools(miss, most) if miss.use.op == "MaxPool" else _smaller_convs(miss.use, most)


def _smaller_convs(use: Use, most: int) -> str | None:
    """K x k sees as far as n windows of m x m do, where n (m - 1) >= k - 1."""
    side = _square(use.kernel)
    if use.op not in CONVS or side is None or _square(use.strides) != 1:
        return None
    count = -(-(side - 1) // (most - 1))
    return f"{count} convolutions of {most}x{most} see as far as one of {side}x{side}"


def _smaller_pools(miss: Miss, most: int) -> str | None:
    """The maximum of k x k is that of n windows of m x m behind each other, where n (m - 1) = k - 1."""
    side, stride = _square(miss.use.kernel), _square(miss.use.strides)
    if side is None or stride is None or not _is_plain(miss.use) or (side - 1) % (most - 1):
        return _pools_in_turn(miss, most)
    count = (side - 1) // (most - 1)
    if side == stride or not _takes_stride(miss, 1):
        return _pools_in_turn(miss, most)
    each = f"{count} MaxPools of {most}x{most} one behind the other, the last with stride {stride}, the others with 1"
    return f"{each}, {SAME}"


def _pools_in_turn(miss: Miss, most: int) -> str | None:
    """Pools that do not overlap: one of m^n is n of m."""
    side, stride = _square(miss.use.kernel), _square(miss.use.strides)
    if side is None or side != stride or not _is_plain(miss.use):
        return None
    for each in range(min(most, side), 1, -1):
        count = round(math.log(side, each))
        if count > 1 and each**count == side and _takes_stride(miss, each) and _takes_kernel(miss, each):
            return f"{count} MaxPools of {each}x{each} with stride {each} one behind the other, {SAME}"
    return None


def _kernels(miss: Miss) -> str | None:
    """The same weights in a larger window of zeros, else several smaller windows."""
    side, sides = _square(miss.use.kernel), _listed_sides(miss.allowed)
    if side is None:
        return None
    larger = [one for one in sides if one > side and (one - side) % 2 == 0]
    if miss.use.op == "Conv" and larger and (text := _zero_padded(miss, side, min(larger))):
        return text
    smaller = [one for one in sides if 1 < one < side]
    if not smaller:
        return None
    return _smaller_pools(miss, max(smaller)) if miss.use.op == "MaxPool" else _smaller_convs(miss.use, max(smaller))


def _zero_padded(miss: Miss, side: int, larger: int) -> str | None:
    """A ring of zero weights around the kernel, and a ring of padding more."""
    padding, most = miss.use.padding, miss.limits.get("padding_max_px")
    if padding is None or set(miss.use.dilations or ()) != {1} or str(_padding_kind(miss.use)) != "NOTSET":
        return None
    pads = max(padding) + (larger - side) // 2
    if (isinstance(most, int) and pads > most) or len(set(padding)) > 1:
        return None
    return f"zeros around the weights, {larger}x{larger} with padding {pads}, {SAME}"


def _stride(miss: Miss) -> str | None:
    """Take a convolution's stride from a pool behind it, a pool's from several pools."""
    stride = _square(miss.use.strides)
    listed = miss.allowed if isinstance(miss.allowed, tuple) else (miss.allowed,)
    if miss.use.op == "MaxPool":
        return _pools_in_turn(miss, max(listed, default=0))
    if miss.use.op not in CONVS or stride is None or not _takes_stride(miss, 1):
        return None
    return f"stride 1, and a MaxPool of {stride}x{stride} behind it"


def _padding(miss: Miss) -> str | None:
    """A convolution adds zeros: an operator of its own can do that, or whoever makes the images."""
    use, most = miss.use, miss.allowed
    if use.op != "Conv" or use.padding is None or not isinstance(most, int) or _padding_kind(use) != "NOTSET":
        return None
    more = max(use.padding) - most
    if "Pad" in miss.legal:
        return f"a Pad with zeros of {more} px in front of it, and padding {most}, {SAME}"
    if len(set(use.padding)) == 1 and _reads_input(use):
        return f"padding {most}, and images that come with {more} px more of their zero point on each side, {SAME}"
    return None


def _reads_input(use: Use) -> bool:
    """Say whether only quantizers lie between a graph input and this node, and nothing else reads it."""
    tensor, graph = use.node.input(0), use.graph
    while tensor not in graph.inputs:
        node = graph.producers[tensor]
        if kind_of(node) is not Kind.QUANTIZER or len(graph.consumers[tensor]) > 1:
            return False
        tensor = node.input(0)
    return len(graph.consumers[tensor]) == 1


def _dilation(miss: Miss) -> str | None:
    """Zeros between the weights are a dilation."""
    side = _square(miss.use.dilated_kernel)
    if miss.use.op != "Conv" or side is None or not _takes_kernel(miss, side):
        return None
    return f"zeros between the weights, {side}x{side} with dilation 1, {SAME}"


def _groups(miss: Miss) -> str | None:
    """A convolution of one group, with zeros where the groups do not meet."""
    allowed, count, shape = miss.allowed, miss.use.node.int("group", 1), miss.use.weight_shape
    if miss.use.op != "Conv" or not isinstance(allowed, tuple) or "one" not in allowed or not shape or count < 2:
        return None
    each = math.prod(shape)
    return f"one group, with zeros for the weights between groups: {each * count:,} weights, not {each:,}, {SAME}"


def _channels(miss: Miss) -> str | None:
    """Of a chain of equally wide convolutions: all of them narrower."""
    found, allowed = chain_of(miss.facts), miss.allowed
    if found is None or not isinstance(allowed, int) or not 0 < allowed < found[1] or found[0].channels > allowed:
        return None
    return chain_text(found[0], allowed)


def _side(miss: Miss) -> str | None:
    allowed = miss.allowed

    def fits(graph: Graph) -> bool:
        sides = [value.shape[2:] for value in graph.values.values() if value.shape and len(value.shape) == 4]
        return all(isinstance(allowed, int) and max(side) <= allowed for side in sides if len(side) == 2)

    side = smaller_input(miss.facts.graph, fits)
    return f"{side}x{side} input fits" if side else None


def _flat_elements(miss: Miss) -> str | None:
    fewer = narrower(miss.facts, lambda changed: _flat_fits(miss, changed.graph, "flat_elements"))
    return "; ".join(filter(None, (fewer, _flat(miss, "flat_elements")))) or None


def _flat_area(miss: Miss) -> str | None:
    return _flat(miss, "flat_area")


def _flat(miss: Miss, value: str) -> str | None:
    """A smaller input, or a pool in front."""
    side = smaller_input(miss.facts.graph, lambda graph: _flat_fits(miss, graph, value))
    hints = [f"{side}x{side} input fits"] if side else []
    shape = miss.use.input_shape
    if shape and len(shape) == 4 and "MaxPool" in miss.legal and isinstance(miss.allowed, int):
        channels = shape[1] if value == "flat_elements" else 1
        windows = range(2, min(*shape[2:], LARGEST_LEAST) + 1)
        least = next((k for k in windows if channels * (shape[2] // k) * (shape[3] // k) <= miss.allowed), None)
        hints += [f"a MaxPool of {least}x{least} before it, and train again"] if least else []
    return "; ".join(hints) or None


def _flat_fits(miss: Miss, graph: Graph, value: str) -> bool:
    found = getattr(Use(graph, miss.use.node, None), value)
    return isinstance(found, int) and isinstance(miss.allowed, int) and found <= miss.allowed


def _batch(miss: Miss) -> str | None:
    without = ": export without --dynamic-batch" if miss.allowed == 1 and miss.facts.manifest else ""
    return f"a batch of {miss.allowed}{without}"


def _square(shape: Shape | None) -> int | None:
    """The side of a square window, or the one step of equal strides."""
    return shape[0] if shape and len(set(shape)) == 1 else None


def _listed_sides(allowed: object) -> list[int]:
    return [kernel[0] for kernel in allowed if _square(kernel)] if isinstance(allowed, tuple) else []


def _padding_kind(use: Use) -> object:
    return use.node.attributes.get("auto_pad", "NOTSET")


def _is_plain(use: Use) -> bool:
    """Say whether a pool has no padding, no dilation, and drops what is left over."""
    gapless = set(use.dilations or ()) <= {1} and not use.node.int("ceil_mode", 0)
    return gapless and _padding_kind(use) == "NOTSET" and not any(use.padding or ())


def _takes_stride(miss: Miss, stride: int) -> bool:
    listed, most = miss.limits.get("strides_px"), miss.limits.get("stride_max_px")
    return not (isinstance(listed, tuple) and stride not in listed) and not (isinstance(most, int) and stride > most)


def _takes_kernel(miss: Miss, side: int) -> bool:
    """Say whether every limit on windows takes one of side x side without gaps."""
    limits = miss.limits
    sides = [limits.get(key) for key in ("kernel_max_px", "dilated_kernel_max_px")]
    areas = [limits.get(key) for key in ("kernel_area_max_px", "dilated_kernel_area_max_px")]
    listed = limits.get("kernels_px")
    return (
        all(side <= most for most in sides if isinstance(most, int))
        and all(side * side <= most for most in areas if isinstance(most, int))
        and not (isinstance(listed, tuple) and (side, side) not in listed)
    )


_HINTS: dict[str, Hint] = {
    "kernel_max_px": _kernel_max,
    "kernels_px": _kernels,
    "stride_max_px": _stride,
    "strides_px": _stride,
    "padding_max_px": _padding,
    "dilation_max_px": _dilation,
    "groups": _groups,
    "input_channels_max": _channels,
    "output_channels_max": _channels,
    "bias_channels_max": _channels,
    "side_max_px": _side,
    "flat_elements_max": _flat_elements,
    "flat_area_max_px": _flat_area,
    "batch_max": _batch,
}
