"""What a user asks to measure, and what a file's manifest adds to it."""

from __future__ import annotations

from dataclasses import dataclass, fields

from edgekd.errors import UsageError, unknown
from edgekd.manifest import AccuracyRow, Manifest
from edgekd.verify.accuracy import Options
from edgekd.verify.work import LARGEST_LIMIT_S

MOST_EPISODES = 1_000_000  # the interval is then a tenth of that of 10,000


@dataclass(frozen=True)
class Request:
    """How to measure accuracy; what is None or empty is as the file's manifest says, else as `Options` do.

    `requant` names the arithmetics to simulate, else the profile's own; `more_shots` and `more_requant` come on top.
    """

    data: str | None = None
    split: str | None = None
    size: int | None = None
    skip_bad: bool = False
    way: int | None = None
    shots: tuple[int, ...] = ()
    query: int | None = None
    episodes: int = Options.episodes
    seed: int = 0
    head: str | None = None
    requant: tuple[str, ...] = ()
    pixels: str = Options.pixels
    most_seconds: float = Options.most_seconds
    more_shots: tuple[int, ...] = ()
    more_requant: tuple[str, ...] = ()

    def check(self) -> None:
        """Refuse what no file and no image set could serve, before anything is read.

        Raises:
            UsageError: a number that no protocol can have, an unknown head or arithmetic, absurdly many episodes.
            DataError: an unknown split.
        """
        from edgekd.heads import find_head
        from edgekd.verify.integer.requant import ARITHMETICS

        options = self.options(None, None)
        for name in options.requant:
            if name not in ARITHMETICS:
                raise UsageError(unknown("arithmetic", name, ARITHMETICS))
        options.protocols()
        find_head(options.head)
        if options.episodes > MOST_EPISODES:
            raise UsageError(f"episodes must be at most {MOST_EPISODES:,}, not {options.episodes:,}")
        if not 0 < options.most_seconds <= LARGEST_LIMIT_S:
            raise UsageError(
                f"most-seconds must be above 0 and at most {LARGEST_LIMIT_S:,}, not {options.most_seconds:g}"
            )
        if self != Request():  # the readers of images, which a static check does not wait for
            _check_images(options)

    def options(self, manifest: Manifest | None, own_requant: str | None) -> Options:
        """Return the options for one file: what is not asked for is as when its lineage was measured.

        `own_requant` is the arithmetic of the profile.
        """
        rows = _last_measured(manifest)
        first = rows[0] if rows else None
        shots = self.shots or tuple(dict.fromkeys(row.shot for row in rows)) or Options.shots
        chosen = {
            **{field.name: getattr(self, field.name) for field in fields(self)},
            "way": self.way if self.way is not None else first.way if first else Options.way,
            "query": self.query if self.query is not None else first.query if first else Options.query,
            "head": self.head or (first.head if first else Options.head),
            "shots": tuple(dict.fromkeys((*shots, *self.more_shots))),
            "requant": self._arithmetics(own_requant),
        }
        return Options(**{field.name: chosen[field.name] for field in fields(Options)})

    def _arithmetics(self, own: str | None) -> tuple[str, ...]:
        """The profile's own stays where it is not replaced, only added to."""
        first = self.requant or ((own,) if own and self.more_requant else ())
        return tuple(dict.fromkeys((*first, *self.more_requant)))


def _check_images(options: Options) -> None:
    from edgekd.data.imageset import checked_split
    from edgekd.data.preprocess import LARGEST_SIDE, PIXELS

    if options.split:
        checked_split(options.split)
    if options.pixels not in PIXELS:
        raise UsageError(unknown("way of pixels", options.pixels, PIXELS))
    if options.size is not None and not 1 <= options.size <= LARGEST_SIDE:
        bound = "at least 1" if options.size < 1 else f"at most {LARGEST_SIDE:,}"
        raise UsageError(f"size must be {bound}, not {options.size:,}")


def _last_measured(manifest: Manifest | None) -> tuple[AccuracyRow, ...]:
    """The accuracies of the last stage that has any, those in the protocol of the first; shots may differ."""
    stages = reversed(manifest.lineage if manifest else ())
    rows: tuple[AccuracyRow, ...] = next((stage.accuracy for stage in stages if stage.accuracy), ())
    return tuple(row for row in rows if (row.way, row.query, row.head) == (rows[0].way, rows[0].query, rows[0].head))
