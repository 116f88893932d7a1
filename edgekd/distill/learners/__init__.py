"""Few-shot learners, one file each: how a network comes by its embeddings. To add one, add a file with a class."""

from __future__ import annotations

import importlib
import pkgutil

from edgekd.distill.learners.base import (
    EPISODES,
    IMAGES,
    LEARNERS,
    TRIPLETS,
    Draw,
    EpisodeLearner,
    Learner,
    Measure,
    MetricLearner,
    Unit,
    build_learner,
    find_learner,
    measures_of,
    register,
)

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = [
    "EPISODES",
    "IMAGES",
    "LEARNERS",
    "TRIPLETS",
    "Draw",
    "EpisodeLearner",
    "Learner",
    "Measure",
    "MetricLearner",
    "Unit",
    "build_learner",
    "find_learner",
    "measures_of",
    "register",
]
