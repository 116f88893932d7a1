"""Networks that turn images into embeddings. To add one, add a file with a registered builder."""

from __future__ import annotations

import importlib
import pkgutil

from edgekd.distill.backbones.base import (
    BACKBONES,
    EXAMPLES,
    Backbone,
    Request,
    build_backbone,
    register,
    require_input,
)
from edgekd.distill.backbones.size import (
    deployed_bytes,
    deployed_parameters,
    outline,
    require_buildable,
    require_fit,
    trained_parameters,
    widest_student,
)

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = [
    "BACKBONES",
    "EXAMPLES",
    "Backbone",
    "Request",
    "build_backbone",
    "deployed_bytes",
    "deployed_parameters",
    "outline",
    "register",
    "require_buildable",
    "require_fit",
    "require_input",
    "trained_parameters",
    "widest_student",
]
