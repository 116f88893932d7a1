"""The manifest of a run folder: what it is about, and what each finished stage made."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from edgekd import __version__
from edgekd.manifest import DataRef, StageResult


class StageRecord(BaseModel):
    """A finished stage: its file (relative to the run folder) and the SHA-256 of it, seconds spent, size, accuracy."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    sha256: str
    seconds: float
    result: StageResult


class RunManifest(BaseModel):
    """What a run folder is about; rewritten whole at the end of each stage.

    `unlabelled` is the fingerprint of the images of `distill.images`, empty where the recipe names none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    edgekd: str = __version__
    recipe_sha256: str
    seed: int
    versions: dict[str, str]
    data: DataRef
    unlabelled: str = ""
    base_mean: tuple[float, ...] = ()
    stages: dict[str, StageRecord] = {}
    complete: bool = False
