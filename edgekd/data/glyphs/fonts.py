"""Characters as masks, from the fonts that matplotlib brings along."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgekd.errors import DataError

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

FACES = (
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique",
    "DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSansMono-Oblique", "DejaVuSansMono-BoldOblique",
    "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic",
    "STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta",
)  # fmt: skip

MASK = 64  # pixels along a mask
GLYPH = 56  # pixels along the longer side of a character in its mask; the rest is empty margin
DRAWN_AT = 96  # font size, in pixels, at which a character is drawn before it is scaled to GLYPH


@dataclass(frozen=True)
class Masks:
    """Masks of several characters, one for each face that has the character.

    Shapes: masks (n, MASK, MASK) uint8, 255 where there is ink; masks first[i] .. first[i] + count[i] - 1 belong to
    character i.
    """

    masks: NDArray[np.uint8]
    first: NDArray[np.int64]
    count: NDArray[np.int64]


@cache
def masks_of(characters: str) -> Masks:
    """Draw every character in every face that really has it.

    Raises:
        DataError: a character is in no face, so that this matplotlib cannot stand for the set.
    """
    faces = [(_characters_of(face), _font(face)) for face in FACES]
    drawn: list[NDArray[np.uint8]] = []
    counts = []
    for character in characters:
        having = [font for known, font in faces if ord(character) in known]
        if not having:
            raise DataError(f"matplotlib's fonts lack U+{ord(character):04X}, a character of the embedded set")
        drawn += [_mask(font, character) for font in having]
        counts.append(len(having))
    count = np.array(counts, np.int64)
    return Masks(np.stack(drawn), np.cumsum(count) - count, count)


def _path(face: str) -> Path:
    import matplotlib as mpl

    return Path(mpl.get_data_path()) / "fonts" / "ttf" / f"{face}.ttf"


def _characters_of(face: str) -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(str(_path(face))).get_charmap())


def _font(face: str) -> FreeTypeFont:
    from PIL import ImageFont

    return ImageFont.truetype(str(_path(face)), DRAWN_AT, layout_engine=ImageFont.Layout.BASIC)


def _mask(font: FreeTypeFont, character: str) -> NDArray[np.uint8]:
    """Draw a character and scale its ink to GLYPH pixels, centred."""
    from PIL import Image, ImageDraw

    page = Image.new("L", (3 * DRAWN_AT, 3 * DRAWN_AT))
    ImageDraw.Draw(page).text((DRAWN_AT, DRAWN_AT), character, fill=255, font=font)
    ink = page.crop(page.getbbox())
    scale = GLYPH / max(ink.size)
    width, height = (max(1, round(side * scale)) for side in ink.size)
    mask = Image.new("L", (MASK, MASK))
    mask.paste(ink.resize((width, height), Image.Resampling.BILINEAR), ((MASK - width) // 2, (MASK - height) // 2))
    return np.asarray(mask)
