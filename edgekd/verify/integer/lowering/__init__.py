"""ONNX operators that the simulator claims, each with its lowering."""

from __future__ import annotations

from edgekd.verify.integer.lowering import elementwise, layers, pools, qlinear, quantizers, views
from edgekd.verify.integer.lowering.base import LOWERINGS

__all__ = ["LOWERINGS", "elementwise", "layers", "pools", "qlinear", "quantizers", "views"]
