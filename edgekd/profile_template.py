"""A profile to fill in: every key with its unit and meaning, commented out, so that all is unknown."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel

from edgekd.profile import HardwareProfile
from edgekd.profile_operator import Operator
from edgekd.profile_sections import Region, choices
from edgekd.schema import nested_model

_HEAD = """\
# A hardware profile. Take the '#' away from what you know; what stays commented is unknown, and no check that needs it
# can pass. The unit of a number is in its key. Every number needs a source at the end.
# `edgekd profiles check THIS_FILE` says what is wrong; `edgekd profiles schema` describes every key.

name = {name}
# description = "what it is, in a sentence"
# vendor = ""
# extends = "max78000"  # take everything from another profile, but for what stands here (see the end of this file)
# without_ops = ["LSTM"]  # operators of that profile which this target lacks
"""
_SOURCES = """
# [[sources]]
# keys = ["params", "memory.regions", "ops.Conv"]  # a section covers all below it; items of lists by their name
# text = "data sheet, page and table"
# url = "https://"

# Where this profile extends another, a key here takes the place of the one there (max also that of unlimited),
# [[memory.regions]] that of all regions there, and the [[ops]] of one name that of those of that name: the other
# operators stay. No source there speaks for what stands here. `edgekd profiles check` says what became of each key.
"""
_SKIPPED = {"name", "description", "vendor", "extends", "without_ops", "sources"}
_EXAMPLES = {"max": "149_999", "banks": "16", "bank_bytes": "32_768", "bytes": "524_288", "dims": "[2]", "bits": "[8]"}


def template(name: str) -> str:
    """Return the text of a profile called `name` in which everything is unknown."""
    quoted = f'"{name}"'
    return _HEAD.format(name=quoted) + "\n".join(_sections()) + "\n" + _SOURCES


def _sections() -> Iterator[str]:
    fields = {key: field for key, field in HardwareProfile.model_fields.items() if key not in _SKIPPED}
    yield from _keys(HardwareProfile, {key for key, field in fields.items() if _model(field)} | _SKIPPED)
    for key, field in fields.items():
        model = _model(field)
        if model is Operator:
            yield from (
                "",
                f"# [[{key}]]  # one for each operator, by its ONNX name",
                '# op = "Conv"',
                *_keys(Operator, {"op"}),
            )
        elif model:
            yield from ("", f"# [{key}]", *_keys(model, {"regions"}))
            if "regions" in model.model_fields:
                yield from (
                    "",
                    f"# [[{key}.regions]]  # one for each memory",
                    '# name = "SRAM"',
                    *_keys(Region, {"name"}),
                )


def _keys(model: type[BaseModel], skipped: set[str]) -> Iterator[str]:
    for key, field in model.model_fields.items():
        if key not in skipped:
            notes = "; ".join(filter(None, ((field.description or "").rstrip("."), _others(field.annotation))))
            yield f"# {key} = {_example(key, field.annotation)}" + (f"  # {notes}" if notes else "")


def _others(annotation: object) -> str:
    """List what else than the example may stand there."""
    options = choices(annotation)
    if len(options) > 1:
        return f"or {', '.join(str(option) for option in options[1:])}"
    return "one figure, or [low, high]" if "float" in str(annotation) else ""


def _example(key: str, annotation: object) -> str:
    options, text = choices(annotation), str(annotation)
    if options:
        return f'["{options[0]}"]' if "tuple" in text else f'"{options[0]}"'
    if "bool" in text or "Literal[True]" in text:
        return "true"
    if key in _EXAMPLES:
        return _EXAMPLES[key]
    if key == "kernels_px":
        return "[[1, 1], [3, 3]]"
    if "str" in text.replace("strict", ""):
        return '""'
    return "1_000_000" if "float" in text else "[1]" if "tuple" in text else "1"


def _model(field: object) -> type[BaseModel] | None:
    return nested_model(getattr(field, "annotation", None))
