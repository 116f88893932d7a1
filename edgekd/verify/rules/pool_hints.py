"""What would make the window of a pool one that the target takes."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from edgekd.verify.graph import Graph
from edgekd.verify.rules.hints import LARGEST_LEAST, smaller_input
from edgekd.verify.rules.misses import ALMOST_SAME, SAME, Miss, padding_kind, square, takes_window
from edgekd.verify.uses import Use

_AS_EXACT = {"MaxPool": SAME, "AveragePool": ALMOST_SAME}
_WINDOWED = {"GlobalMaxPool": "MaxPool", "GlobalAveragePool": "AveragePool"}


def pool_window(miss: Miss) -> str | None:
    """Several pools behind each other: maxima that overlap, else windows that do not."""
    side, stride = square(miss.use.kernel), square(miss.use.strides)
    if side is None or stride is None or not _is_plain(miss.use):
        return None
    if side == stride or miss.use.op != "MaxPool" or not miss.takes_stride(1):
        return pools_in_turn(miss)
    return _overlapping(miss, side, stride)


def pools_in_turn(miss: Miss) -> str | None:
    """Windows that do not overlap: one of m n is one of m behind one of n."""
    side, stride, op = square(miss.use.kernel), square(miss.use.strides), miss.use.op
    if side is None or side != stride or op not in _AS_EXACT or not _is_plain(miss.use):
        return None
    taken = [one for one in _smaller(side) if miss.takes_window(one) and miss.takes_stride(one)]
    found = _factors(side, taken)
    if not found:
        return None
    if len(set(found)) == 1:
        (one, *_), count = found, len(found)
        return f"{count} {op}s of {one}x{one} with stride {one} one behind the other, {_AS_EXACT[op]}"
    words = " and ".join(f"{one}x{one}" for one in found)
    return f"{op}s of {words} one behind the other, each with its side as stride, {_AS_EXACT[op]}"


def global_pool_window(miss: Miss) -> str | None:
    """A global pool's window is the whole image: a smaller input, or a pool in front."""
    node, side, op = miss.use.node, square(miss.use.kernel), _WINDOWED[miss.use.op]

    def fits(graph: Graph) -> bool:
        kernel = Use(graph, node, None).kernel
        return kernel is not None and takes_window(miss.limits, kernel)

    smaller, channels = smaller_input(miss.facts.graph, fits), miss.use.input_channels
    hints = [f"{smaller}x{smaller} input fits"] if smaller else []
    divisors = [one for one in reversed(_smaller(side or 0)) if side and side % one == 0]
    for one in divisors:
        if miss.takes_window((side or 0) // one) and miss.runs_pool(op, (one, one), channels, lone=True):
            hints.append(f"{op} of {one}x{one} with stride {one} before it, {_AS_EXACT[op]}")
            break
    return "; ".join(hints) or None


def _overlapping(miss: Miss, side: int, stride: int) -> str | None:
    """The maximum of k x k is that of n windows of m x m behind each other, where n (m - 1) = k - 1."""
    fitting = [one for one in _smaller(side) if (side - 1) % (one - 1) == 0 and miss.takes_window(one)]
    if not fitting:
        return None
    most = fitting[0]
    count = (side - 1) // (most - 1)
    each = f"{count} MaxPools of {most}x{most} one behind the other, the last with stride {stride}, the others with 1"
    return f"{each}, {SAME}"


def _factors(number: int, taken: Sequence[int]) -> tuple[int, ...]:
    """Return the fewest of the `taken` whose product is `number`; empty where there are none."""
    found: dict[int, tuple[int, ...]] = {1: ()}
    for one in range(2, number + 1 if taken else 2):
        if number % one == 0:
            ways = [(*found[one // last], last) for last in taken if one % last == 0 and one // last in found]
            found |= {one: min(ways, key=_uniform_first)} if ways else {}
    return tuple(sorted(found.get(number, ()), reverse=True))


def _uniform_first(factors: Collection[int]) -> tuple[int, int]:
    return len(factors), len(set(factors))


def _smaller(side: int) -> range:
    """Sides below this one, the largest first; none where there are too many to try."""
    return range(side - 1, 1, -1) if side <= LARGEST_LEAST else range(0)


def _is_plain(use: Use) -> bool:
    """Say whether a pool has no padding, no dilation, and drops what is left over."""
    gapless = set(use.dilations or ()) <= {1} and not use.node.int("ceil_mode", 0)
    return gapless and padding_kind(use) == "NOTSET" and not any(use.padding or ())
