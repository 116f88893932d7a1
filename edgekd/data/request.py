"""What a reader is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from edgekd.errors import DataError

Notify = Callable[[str], None]


def silent(_: str) -> None:
    """Drop a notice."""


class Options(TypedDict, total=False):
    """How images are loaded; each key may be left out.

    `size` makes every image size x size and `channels` (1 or 3) gray or RGB; None keeps the dataset's own. `skip_bad`
    leaves out images that cannot be read instead of refusing the set. `seed` draws splits and generated images.
    `notify` gets lines on progress and warnings.
    """

    size: int | None
    channels: int | None
    skip_bad: bool
    seed: int
    notify: Notify | None


@dataclass(frozen=True)
class Request:
    """A dataset's name, where its images lie (None: embedded) and what `Options` say.

    Raises:
        DataError: a size, number of channels or seed that no dataset can have.
    """

    name: str
    path: Path | None = None
    size: int | None = None
    channels: int | None = None
    skip_bad: bool = False
    seed: int = 0
    notify: Notify = silent

    def __post_init__(self) -> None:
        if self.size is not None and self.size < 1:
            raise DataError(f"size must be at least 1 pixel, not {self.size}")
        if self.channels not in {None, 1, 3}:
            raise DataError(f"channels must be 1 (grayscale) or 3 (RGB), not {self.channels}")
        if self.seed < 0:
            raise DataError(f"the seed of a dataset must not be negative, and {self.seed} is")

    @classmethod
    def of(cls, name: str, path: Path | None, options: Options) -> Request:
        """Return the request with defaults for the options that were left out."""
        return cls(
            name,
            path,
            size=options.get("size"),
            channels=options.get("channels"),
            skip_bad=options.get("skip_bad", False),
            seed=options.get("seed", 0),
            notify=options.get("notify") or silent,
        )

    @property
    def root(self) -> Path:
        """The path, for readers that cannot do without one.

        Raises:
            DataError: there is none.
        """
        if self.path is None:
            raise DataError(f"'{self.name}' needs a path: write {self.name}:PATH")
        return self.path
