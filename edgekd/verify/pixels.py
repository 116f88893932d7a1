"""Which axis of a graph's image input holds the channels."""

from __future__ import annotations

from edgekd.axes import CHANNELS_FIRST, Axes, axes_of
from edgekd.verify.graph import Graph, once_each
from edgekd.verify.operators import plain_name
from edgekd.verify.readers import computing_readers
from edgekd.verify.uses import CONVS, GLOBAL_POOLS, POOLS

_READ_FIRST = CONVS | POOLS | GLOBAL_POOLS  # operators that read no image whose channels are last


@once_each
def image_axes(graph: Graph) -> Axes:
    """Return where the first graph input has its channels: as its shape says, unless an operator reads it otherwise."""
    name = graph.inputs[0]
    readers = {plain_name(reader.op) for reader in computing_readers(graph, name)}
    return CHANNELS_FIRST if readers & _READ_FIRST else axes_of(graph.value(name).shape or ())
