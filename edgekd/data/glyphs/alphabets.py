"""Which characters are classes: no script is in two splits, and no two characters look alike across scripts."""

from __future__ import annotations

from edgekd.data.imageset import Split

# Script -> characters. Letters that scripts share by descent (A, Alpha and Cyrillic A) are left out on every side.
ALPHABETS: dict[Split, dict[str, str]] = {
    "train": {
        "Latin": "abdefgkmqrstwyzGQR",
        "Greek": "ΔΘΞΣΨΩβδλξπχ",
        "Cyrillic": "БДЖИЛФЦЧЩЫЭЮЯЂ",
        "Hebrew": "אגהקלמסעפצ",
        "Syllabics": "ᐊᐱᑌᒉᒣᓀᓭᔦᕃᕕ",
    },
    "val": {
        "Lao": "ກຂຄງຈດນມ",
        "Arabic": "جسطعكمهي",
    },
    "test": {
        "Georgian": "ბდვლსფქჯ",
        "Armenian": "ԲԽԾՁՔՖ",
        "Tifinagh": "ⴳⴻⴼⵇⵐⵞ",
    },
}

IMAGES_PER_CLASS: dict[Split, int] = {"train": 100, "val": 60, "test": 120}

CLUTTER = "01456789&@%?§€"  # characters of no class, nor like one; parts of them lie about in every image

SCRIPTS: dict[Split, tuple[str, ...]] = {
    split: tuple(f"{script} {character}" for script, characters in scripts.items() for character in characters)
    for split, scripts in ALPHABETS.items()
}  # the class names


def characters(split: Split) -> str:
    """Return the characters of a split, in the order of their classes."""
    return "".join(ALPHABETS[split].values())
