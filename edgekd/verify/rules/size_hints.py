"""What would keep the size of images, of what is flattened, and of batches within what the target takes."""

from __future__ import annotations

from edgekd.verify.graph import Graph
from edgekd.verify.rules.hints import LARGEST_LEAST, smaller_input
from edgekd.verify.rules.misses import SAME, Miss, takes_strides, takes_window
from edgekd.verify.rules.narrower import narrower
from edgekd.verify.uses import GLOBAL_POOLS, Use


def side(miss: Miss) -> str | None:
    """A smaller input."""
    allowed = miss.allowed

    def fits(graph: Graph) -> bool:
        sides = [value.shape[2:] for value in graph.values.values() if value.shape and len(value.shape) == 4]
        return all(isinstance(allowed, int) and max(each) <= allowed for each in sides if len(each) == 2)

    smaller = smaller_input(miss.facts.graph, fits)
    return f"{smaller}x{smaller} input fits" if smaller else None


def flat_elements(miss: Miss) -> str | None:
    """Fewer channels, a smaller input, or a pool in front."""
    fewer = narrower(miss.facts, lambda changed: _flat_fits(miss, changed.graph, "flat_elements"))
    return "; ".join(filter(None, (fewer, _flat(miss, "flat_elements")))) or None


def flat_area(miss: Miss) -> str | None:
    """A smaller input, or a pool in front."""
    return _flat(miss, "flat_area")


def batch(miss: Miss) -> str | None:
    """What the target runs."""
    without = ": export without --dynamic-batch" if miss.allowed == 1 and miss.facts.manifest else ""
    return f"a batch of {miss.allowed}{without}"


def dims(miss: Miss) -> str | None:
    """A line is an image of height 1."""
    use, kernel, strides = miss.use, miss.use.kernel, miss.use.strides
    if use.dims != 1 or not isinstance(miss.allowed, tuple) or 2 not in miss.allowed or not kernel or not strides:
        return None
    flat = {**miss.limits, "dims": None}
    wide, step = kernel[0], strides[0]
    if use.op in GLOBAL_POOLS:
        return f"as 2-D, on an image of height 1, {SAME}"
    if not takes_window(flat, (1, wide), (use.dilations or (1,))[0]) or not takes_strides(flat, (step, step)):
        return None
    return f"as 2-D: an image of height 1, a window of 1x{wide} and stride {step} in both directions, {SAME}"


def _flat(miss: Miss, value: str) -> str | None:
    smaller = smaller_input(miss.facts.graph, lambda graph: _flat_fits(miss, graph, value))
    hints = [f"{smaller}x{smaller} input fits"] if smaller else []
    least = _least_pool(miss, value)
    hints += [f"a MaxPool of {least}x{least} before it, and train again"] if least else []
    return "; ".join(hints) or None


def _least_pool(miss: Miss, value: str) -> int | None:
    """Return the side of the smallest MaxPool in front with which the image fits, and that the target runs."""
    shape, allowed = miss.use.input_shape, miss.allowed
    if shape is None or len(shape) != 4 or not isinstance(allowed, int):
        return None
    channels = shape[1] if value == "flat_elements" else 1
    windows = range(2, min(*shape[2:], LARGEST_LEAST) + 1)
    fitting = (k for k in windows if channels * (shape[2] // k) * (shape[3] // k) <= allowed)
    return next((k for k in fitting if miss.runs_pool("MaxPool", (k, k), shape[1], lone=True)), None)


def _flat_fits(miss: Miss, graph: Graph, value: str) -> bool:
    found = getattr(Use(graph, miss.use.node, None), value)
    return isinstance(found, int) and isinstance(miss.allowed, int) and found <= miss.allowed
