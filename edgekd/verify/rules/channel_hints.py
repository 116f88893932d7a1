"""What would keep channels, groups and sums of weights within what the target takes."""

from __future__ import annotations

import math

from edgekd.verify.rules.hints import chain_of, chain_text
from edgekd.verify.rules.misses import SAME, Miss


def narrower_chain(miss: Miss) -> str | None:
    """Of a chain of equally wide convolutions: all of them narrower."""
    found, allowed = chain_of(miss.facts), miss.allowed
    if found is None or not isinstance(allowed, int) or not 0 < allowed < found[1] or found[0].channels > allowed:
        return None
    return chain_text(found[0], allowed)


def output_channels(miss: Miss) -> str | None:
    """A narrower chain, or each part of the outputs in a convolution of its own."""
    return "; ".join(filter(None, (narrower_chain(miss), _in_parts(miss)))) or None


def bias_channels(miss: Miss) -> str | None:
    """As outputs, or no bias at all."""
    without = "leave the bias out, and train again"
    return "; ".join(filter(None, (narrower_chain(miss), _in_parts(miss), without)))


def lone_channels(miss: Miss) -> str | None:
    """A convolution behind the pool, of the identity where nothing is to change."""
    channels = miss.use.input_channels
    hints = [narrower_chain(miss)]
    if channels and miss.runs_point_conv(channels):
        hints.append(f"a 1x1 Conv of the identity behind it, {SAME}: {channels * channels:,} weights more")
    return "; ".join(filter(None, hints)) or None


def one_group(miss: Miss) -> str | None:
    """A convolution of one group, with zeros where the groups do not meet."""
    allowed, count, shape = miss.allowed, miss.use.node.int("group", 1), miss.use.weight_shape
    if miss.use.op != "Conv" or not isinstance(allowed, tuple) or "one" not in allowed or not shape or count < 2:
        return None
    each = math.prod(shape)
    return f"one group, with zeros for the weights between groups: {each * count:,} weights, not {each:,}, {SAME}"


def _in_parts(miss: Miss) -> str | None:
    channels, most = miss.use.output_channels, miss.allowed
    dense = miss.use.op == "Conv" and miss.use.groups == "one"
    if not dense or not miss.lists("Concat") or not channels or not isinstance(most, int):
        return None
    return f"{-(-channels // most)} Convs of at most {most} output channels each and a Concat, {SAME}"
