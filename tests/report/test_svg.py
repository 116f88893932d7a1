from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from edgekd.report.svg import INK, draw

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def line(figure: Figure) -> None:
    axes = figure.subplots()
    axes.plot([0, 1, 2], [1, 3, 2], color=INK, clip_on=True)
    axes.set_title("a title")


def test_a_figure_is_an_svg_element_that_fills_the_page() -> None:
    svg = ET.fromstring(draw(4.0, 3.0, line, "A line"))
    assert svg.tag == "{http://www.w3.org/2000/svg}svg"
    assert svg.get("viewBox") == "0 0 288 216"
    assert svg.get("width") is None
    assert svg.get("height") is None
    assert svg.get("aria-label") == "A line"


def test_text_stays_text() -> None:
    svg = ET.fromstring(draw(4.0, 3.0, line, "A line"))
    texts = [element.text for element in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert "a title" in texts


def test_ids_carry_the_label_and_references_follow() -> None:
    text = draw(4.0, 3.0, line, "A line")
    svg = ET.fromstring(text)
    ids = {element.get("id") for element in svg.iter() if element.get("id")}
    assert all(name is not None and name.startswith("a-line-") for name in ids)
    assert "clip-path" in text


def test_drawing_leaves_the_users_settings_alone() -> None:
    from matplotlib import rcParams

    before = dict(rcParams)
    draw(4.0, 3.0, line, "A line")
    assert dict(rcParams) == before


def test_the_package_loads_without_matplotlib() -> None:
    code = "import sys, edgekd.report; print({'matplotlib', 'jinja2', 'torch'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
