"""Arithmetics by name: `ort`, `xnnpack`, `tflm`, `shift`. Another one is one more module with one `register` call."""

from __future__ import annotations

from edgekd.verify.integer.requant import fp32, q31, shift
from edgekd.verify.integer.requant.base import ARITHMETICS, Arithmetic, Sums, Term, UnfitError, finish, register
from edgekd.verify.integer.requant.profiles import Accumulator, accumulator_of, arithmetic_name

__all__ = [
    "ARITHMETICS",
    "Accumulator",
    "Arithmetic",
    "Sums",
    "Term",
    "UnfitError",
    "accumulator_of",
    "arithmetic_name",
    "finish",
    "fp32",
    "q31",
    "register",
    "shift",
]
