"""The embedded set: printed characters of several scripts, the novel ones of scripts never seen in training."""

from __future__ import annotations

from edgekd.data.arrays import image_set
from edgekd.data.glyphs import SCRIPTS, make_split
from edgekd.data.imageset import ImageSet, Split
from edgekd.data.registry import Dataset, dataset
from edgekd.data.request import Request


@dataset(
    "glyphs",
    "characters of several scripts, 3x32x32, 64/16/20 novel classes; made on the spot",
    embedded=True,
    licence="drawn from the free fonts that matplotlib ships (https://matplotlib.org/stable/project/license.html)",
)
def read_glyphs(request: Request) -> Dataset:
    """Render the set, or find it rendered; `seed` draws everything but the characters themselves."""

    def load(split: Split) -> ImageSet:
        made = make_split(split, request.seed, request.notify)
        return image_set(f"{request.name}/{split}", made.images, made.labels, SCRIPTS[split], request)

    return Dataset(novel=True, load=load)
