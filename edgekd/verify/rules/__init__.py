"""Hardware rules: each a small function in a module of this package, found by being there."""

from __future__ import annotations

import importlib
import pkgutil

from edgekd.verify.rules.base import (
    KEYS,
    RULES,
    SCALES_RULE,
    WEIGHTS_RULE,
    Finding,
    Rule,
    Status,
    check_all,
    rule,
    sentence,
)

__all__ = ["KEYS", "RULES", "SCALES_RULE", "WEIGHTS_RULE", "Finding", "Rule", "Status", "check_all", "rule", "sentence"]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
