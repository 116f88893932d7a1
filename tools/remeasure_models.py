"""Verify the students in models/ anew, in full: report.json and card.md of each, then the tables.

    python tools/remeasure_models.py                   # all of them, or those that are named

Run it where the verdict, the simulator or onnxruntime's kernels have changed. The data must be where `edgekd data list`
looks for them, and the same images as before.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click

from edgekd.errors import EdgekdError
from edgekd.files import write_text
from edgekd.report.card import model_card
from edgekd.report.released import EPISODES, full_report
from edgekd.zoo import CARD, MODEL, REPORT, ZooModel

MODELS = Path(__file__).parent.parent / "models"


def other_ways(model: ZooModel) -> tuple[int, ...]:
    """Return how many classes further episodes have in the report that is there, beside those of the first row."""
    rows = model.report.accuracy
    return tuple(dict.fromkeys(int(row.way) for row in rows if row.way != rows[0].way))


def remeasure(model: ZooModel, episodes: int) -> str:
    """Write report and card; return a line of what came out.

    Raises:
        EdgekdError: the data are not at hand, or not those that the student was measured on.
    """
    report = full_report(model.folder, episodes, other_ways(model))
    write_text(model.folder / REPORT, report.to_json())
    write_text(model.folder / CARD, model_card(ZooModel(model.name, model.folder)))
    shots = " / ".join(f"{100 * row.mean:.2f}" for row in report.accuracy if row.engine == report.accuracy[0].engine)
    return f"{model.name}: verdict {report.verdict}, {shots} %"


@click.command()
@click.argument("names", nargs=-1)
@click.option("--episodes", default=EPISODES, show_default=True)
@click.option("--zoo", type=click.Path(path_type=Path), default=MODELS, help="Where they lie.  [default: models/]")
def main(names: tuple[str, ...], episodes: int, zoo: Path) -> None:
    """Verify the named students of the zoo anew, or all of them."""
    try:
        for name in names or sorted(path.parent.name for path in zoo.glob(f"*/{MODEL}")):
            print(remeasure(ZooModel(name, zoo / name), episodes), flush=True)
    except EdgekdError as error:
        sys.exit(f"Error: {error}")
    if zoo == MODELS:
        subprocess.run([sys.executable, Path(__file__).with_name("model_cards.py")], check=True)


if __name__ == "__main__":
    main()
