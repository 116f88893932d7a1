"""Distillation terms, one file each, and their weighted sums. To add a term, add a file with a registered class."""

from __future__ import annotations

import importlib
import pkgutil

from edgekd.distill.methods.base import METHODS, Dims, LayerShapes, MapShape, Method, Outputs, Samples, register
from edgekd.distill.methods.expression import (
    Needs,
    Term,
    WeightedMethods,
    adapt_recipe,
    build_method,
    needs_of,
    option_types,
    parse_expression,
)
from edgekd.recipe import DEFAULT_METHOD

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = [
    "DEFAULT_METHOD",
    "METHODS",
    "Dims",
    "LayerShapes",
    "MapShape",
    "Method",
    "Needs",
    "Outputs",
    "Samples",
    "Term",
    "WeightedMethods",
    "adapt_recipe",
    "build_method",
    "needs_of",
    "option_types",
    "parse_expression",
    "register",
]
