"""The pages' templates: one frame and style for all, nothing outside the page."""

from __future__ import annotations

from importlib import resources
from typing import Any

from edgekd import __version__
from edgekd.text import spelled


def render(template: str, **values: Any) -> str:  # noqa: ANN401 - templates take anything
    """Return the HTML of a template of this package; text in it is escaped, a name it lacks is an error."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(_read), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"percent": _percent, "thousands": "{:,}".format, "kib": _kib, "spelled": spelled}
    return environment.get_template(template).render(version=__version__, **values)


def _read(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f}"


def _kib(size_bytes: int) -> str:
    return f"{size_bytes / 1024:,.1f} KiB"
