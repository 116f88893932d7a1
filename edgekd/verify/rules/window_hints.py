"""What would make the window of a convolution, its padding, stride or dilation one that the target takes."""

from __future__ import annotations

from edgekd.verify.operators import Kind, kind_of, plain_name
from edgekd.verify.readers import computing_readers
from edgekd.verify.rules.hints import LARGEST_LEAST, largest
from edgekd.verify.rules.misses import SAME, Miss, padding_kind, square, takes_strides
from edgekd.verify.uses import CONVS, Use


def conv_window(miss: Miss) -> str | None:
    """The same weights in a larger window of zeros, a smaller dilation, else several smaller windows."""
    side, gap = square(miss.use.kernel), square(miss.use.dilations)
    if side is None or gap is None:
        return None
    if gap > 1:
        return _smaller_dilation(miss, side, gap)
    return _zero_padded(miss, side) or _smaller_windows(miss, side)


def conv_stride(miss: Miss) -> str | None:
    """Take the stride from a pool behind the convolution."""
    use, strides = miss.use, miss.use.strides
    if use.op not in CONVS or not strides or not takes_strides(miss.limits, (1,) * len(strides)):
        return None
    readers = computing_readers(use.graph, use.node.outputs[0])
    lone = not readers or any(plain_name(reader.op) not in CONVS for reader in readers)
    if not miss.runs_pool("MaxPool", strides, use.output_channels, lone=lone):
        return None
    return f"stride 1, and a MaxPool of {'x'.join(map(str, strides))} behind it"


def conv_padding(miss: Miss) -> str | None:
    """A convolution adds zeros: an operator of its own can do that, or whoever makes the images."""
    use, most = miss.use, miss.allowed
    if use.op != "Conv" or use.padding is None or not isinstance(most, int) or padding_kind(use) != "NOTSET":
        return None
    more = max(use.padding) - most
    if miss.lists("Pad"):
        return f"a Pad with zeros of {more} px in front of it, and padding {most}, {SAME}"
    if len(set(use.padding)) == 1 and _reads_input(use):
        return f"padding {most}, and images that come with {more} px more of their zero point on each side, {SAME}"
    return None


def conv_dilation(miss: Miss) -> str | None:
    """Zeros between the weights are a dilation."""
    side = square(miss.use.dilated_kernel)
    if miss.use.op != "Conv" or side is None or not miss.takes_window(side):
        return None
    return f"zeros between the weights, {side}x{side} with dilation 1, {SAME}"


def _smaller_dilation(miss: Miss, side: int, gap: int) -> str | None:
    fits = largest(1, min(gap - 1, LARGEST_LEAST), lambda tried: miss.takes_window(side, tried))
    return f"dilation {fits} in place of {gap} fits, and train again" if fits else None


def _zero_padded(miss: Miss, side: int) -> str | None:
    """A ring of zero weights around the kernel, and a ring of padding more."""
    padding, most, listed = miss.use.padding, miss.limits.get("padding_max_px"), miss.limits.get("kernels_px")
    sides = [kernel[0] for kernel in listed if square(kernel)] if isinstance(listed, tuple) else []
    rings = [(one - side) // 2 for one in sides if one > side and (one - side) % 2 == 0 and miss.takes_window(one)]
    if miss.use.op != "Conv" or padding is None or not rings or padding_kind(miss.use) != "NOTSET":
        return None
    pads, wide = max(padding) + min(rings), side + 2 * min(rings)
    if (isinstance(most, int) and pads > most) or len(set(padding)) > 1:
        return None
    return f"zeros around the weights, {wide}x{wide} with padding {pads}, {SAME}"


def _smaller_windows(miss: Miss, side: int) -> str | None:
    """K x k sees as far as n windows of m x m do, where n (m - 1) >= k - 1."""
    stride = square(miss.use.strides)
    if stride is None or (stride > 1 and not miss.takes_stride(1)):
        return None
    most = next((one for one in range(min(side - 1, LARGEST_LEAST), 1, -1) if miss.takes_window(one)), None)
    if most is None:
        return None
    count = -(-(side - 1) // (most - 1))
    strided = f", the last with stride {stride} and the others with 1," if stride > 1 else ""
    return f"{count} convolutions of {most}x{most}{strided} see as far as one of {side}x{side}"


def _reads_input(use: Use) -> bool:
    """Say whether only quantizers lie between a graph input and this node, and nothing else reads it."""
    tensor, graph = use.node.input(0), use.graph
    while tensor not in graph.inputs:
        node = graph.producers[tensor]
        if kind_of(node) is not Kind.QUANTIZER or len(graph.consumers[tensor]) > 1:
            return False
        tensor = node.input(0)
    return len(graph.consumers[tensor]) == 1
