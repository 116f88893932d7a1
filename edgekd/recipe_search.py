"""The section of a recipe that says which students `edgekd search` looks among."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from edgekd.recipe_sections import Section, rising

Channels = Annotated[int, Field(ge=1, le=65_536)]
Blocks = Annotated[int, Field(ge=1, le=16)]
Poolings = Annotated[int, Field(ge=0, le=16)]
Bits = Annotated[int, Field(ge=2, le=8)]
Rising = AfterValidator(rising)


class Search(Section):
    """Which students `edgekd search` looks among, networks of 3x3 convolutions, and how briefly it trains each.

    `trials` counts those that are trained. The search ends early after `refused` candidates in a row that were refused,
    failed or had been seen before. `epochs` and `quantize_epochs` are those of a candidate: the schedules of the recipe
    are squeezed into them. Bounds are [smallest, largest]: `depth` in blocks, `poolings` of how many of the first
    blocks pool (all of a shallower student), `width` of every block but the last and `embedding` of the last in
    channels, steps of `width_step`.
    `signed`: every student's embedding is (`convnet:.../signed`). `weight_bits` are the bit-widths to choose from; none
    given: those of the profile, 8 where it does not say. `require` holds requirements as `edgekd verify --require`
    takes them, of what a file tells that was not run (`macs <= 60e6`): what fails one is not trained.
    Candidates are compared on `episodes` of the validation classes. The students in `first` are tried before others,
    with the widest weights; `startup_trials` are drawn at random.
    """

    trials: int = Field(default=20, ge=1, le=100_000)
    refused: int = Field(default=100, ge=1, le=100_000)
    epochs: float = Field(default=2, ge=0, le=100_000)
    quantize_epochs: float = Field(default=0.25, ge=0, le=100_000)
    depth: Annotated[tuple[Blocks, Blocks], Rising] = (3, 5)
    poolings: Annotated[tuple[Poolings, Poolings], Rising] = (2, 5)
    width: Annotated[tuple[Channels, Channels], Rising] = (16, 128)
    embedding: Annotated[tuple[Channels, Channels], Rising] = (32, 192)
    width_step: int = Field(default=8, ge=1)
    signed: bool = False
    weight_bits: tuple[Bits, ...] = ()
    require: tuple[str, ...] = ()
    episodes: int = Field(default=2_000, ge=2)
    first: tuple[str, ...] = ()
    startup_trials: int = Field(default=10, ge=1)
