"""An operator's entry in a hardware profile: which of its attributes the target takes.

A limit that is absent is *unknown*, unless `unlisted = "any"` says that the source lists every limit: then an attribute
which the entry does not mention is free.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection
from functools import cache
from typing import Literal

from pydantic import field_validator

from edgekd.errors import unknown
from edgekd.profile_sections import Count, Only, Positive, Section

Groups = Literal["one", "depthwise", "depthwise_multiplied", "any"]


class Operator(Section):
    """An operator that the target runs, by its ONNX name, with the limits of its attributes.

    An operator may have several entries (1-D and 2-D, dense and depthwise): a node needs one that takes all of it.
    `unlisted = "any"`: the source lists every limit; without it an attribute that is not listed is unknown.
    """

    op: str
    """Its ONNX name."""
    source: str = ""
    """Where this entry's limits were read, if not in [[sources]]."""
    unlisted: Literal["any"] | None = None
    """The source lists every limit: what is not mentioned here is free."""
    dims: tuple[Positive, ...] | None = None
    """Spatial dimensions: 2 for images."""
    rank_max: Positive | None = None
    """Dimensions of each tensor, with batch and channels."""
    groups: tuple[Groups, ...] | None = None
    """One, one a channel (depthwise), that with several outputs each, or any."""
    kernels_px: tuple[tuple[Positive, ...], ...] | None = None
    """Each [height, width] that there is."""
    kernel_max_px: Positive | None = None
    """Each side of the window."""
    kernel_area_max_px: Positive | None = None
    """Height times width of the window."""
    dilated_kernel_max_px: Positive | None = None
    """Each side, with the gaps of dilation."""
    dilated_kernel_area_max_px: Positive | None = None
    """Height times width, with the gaps."""
    strides_px: tuple[Positive, ...] | None = None
    """Each side one of these."""
    stride_max_px: Positive | None = None
    """Each side."""
    equal_strides: Only | None = None
    """The same in both directions."""
    padding_max_px: Count | None = None
    """Each side."""
    dilation_max_px: Positive | None = None
    """1: no dilation."""
    input_channels_max: Positive | None = None
    """Or features of a dense layer."""
    output_channels_max: Positive | None = None
    """Or features of a dense layer."""
    bias_channels_max: Positive | None = None
    """Output channels that may have a bias."""
    lone_channels_max: Positive | None = None
    """Of a pool that no convolution follows."""
    side_max_px: Positive | None = None
    """Height and width of input and output."""
    flat_elements_max: Positive | None = None
    """Of an image that is flattened."""
    flat_area_max_px: Positive | None = None
    """Height times width of one."""
    weight_abs_sum_max: Positive | None = None
    """Of one output channel, in units of the integers."""
    batch_max: Positive | None = None
    """Images at once."""
    inputs_max: Positive | None = None
    """Tensors that are read at once."""
    reduced_axes_max: Positive | None = None
    """Of a reduction: how many dimensions at once."""

    @field_validator("op")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in known_operators():
            raise ValueError(_unknown_operator(name))
        return name

    def limits(self) -> dict[str, object]:
        """Return the limits that are set, by key."""
        return self.model_dump(exclude={"op", "source", "unlisted"}, exclude_none=True)


@cache
def known_operators() -> Collection[str]:
    """Return the names of the operators that ONNX defines."""
    from onnx.defs import get_all_schemas

    return frozenset(schema.name for schema in get_all_schemas() if schema.domain == "")


def _unknown_operator(name: str) -> str:
    """Name those that look like `name`, else some of the commonest: nobody wants to read two hundred."""
    common = ["Conv", "Gemm", "MatMul", "MaxPool", "AveragePool", "GlobalAveragePool", "Relu", "Clip", "Add", "Flatten"]
    folded = {known.lower(): known for known in known_operators()}
    close = difflib.get_close_matches(name.lower(), folded, n=3, cutoff=0.5)
    if close:
        return unknown("ONNX operator", name, [folded[found] for found in close])
    return f"unknown ONNX operator '{name}'. Any that ONNX defines is known, for example {', '.join(common)}"
