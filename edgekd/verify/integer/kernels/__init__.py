"""Integer kernels by name: `ADDING` make sums that are requantized, `MOVING` keep the integers they read."""

from __future__ import annotations

from edgekd.verify.integer.kernels import conv, matmul, moving
from edgekd.verify.integer.kernels.base import ADDING, MOVING, Array, Kernel

__all__ = ["ADDING", "MOVING", "Array", "Kernel", "conv", "matmul", "moving"]
