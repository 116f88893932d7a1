"""`edgekd data`: which image sets there are, what is in one, and getting one ready."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from edgekd.data import ImageSet, Splits


def loading_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say how images are loaded."""
    options = (
        click.option("--size", type=int, help="Resize images to SIZE x SIZE pixels.  [default: the dataset's own]"),
        click.option("--channels", type=int, metavar="1|3", help="Convert images to grayscale or RGB."),
        click.option("--skip-bad", is_flag=True, help="Leave out images that cannot be read, and say which."),
        click.option("--seed", default=0, show_default=True, help="Seed of splits and of generated images."),
    )
    for option in reversed(options):
        function = option(function)
    return function


@click.group()
def command() -> None:
    """List, describe and prepare image sets."""


@command.command("list")
def list_datasets() -> None:
    """List the datasets that a SPEC can name."""
    from rich.table import Table

    from edgekd.cli._console import open_console
    from edgekd.data.registry import DATASETS, data_folder, where

    table = Table("name", "what", "where", box=None, header_style="bold")
    for name, entry in sorted(DATASETS.items()):
        table.add_row(name, entry.summary, where(entry))
    open_console(markup=False).print(table)
    click.echo(
        f"\nSPEC is NAME or NAME:PATH. NAME alone is looked for in {data_folder()} (set EDGEKD_DATA to change it)."
    )
    click.echo("`edgekd data prepare NAME --download` downloads what may be downloaded.")


@command.command("info")
@click.argument("spec")
@loading_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(spec: str, as_json: bool, **options: Any) -> None:  # noqa: ANN401 - click hands over options of any type
    """Describe the train, val and test images of SPEC."""
    from edgekd.data import load_splits

    splits = load_splits(spec, notify=_notify, **options)
    if as_json:
        click.echo(json.dumps({"spec": spec, "novel": splits.novel, "splits": _facts(splits)}, indent=2))
    else:
        _print_facts(splits)


@command.command("prepare")
@click.argument("spec")
@loading_options
@click.option("--download", is_flag=True, help="Get the files first, where a dataset may be downloaded.")
def prepare(spec: str, download: bool, **options: Any) -> None:  # noqa: ANN401 - click hands over any type
    """Decode the images of SPEC once, so that later commands find them in the cache."""
    from edgekd.data import load_splits
    from edgekd.data.cache import cache_folder
    from edgekd.data.registry import download_dataset

    if download:
        download_dataset(spec, _notify)
    splits = load_splits(spec, notify=_notify, **options)
    _print_facts(splits)
    click.echo(f"ready; decoded and generated images are kept in {cache_folder()}")


def _print_facts(splits: Splits) -> None:
    from rich.table import Table

    from edgekd.cli._console import open_console

    table = Table("split", "images", "classes", "size", "mean pixel", "fingerprint", box=None, header_style="bold")
    for split, facts in _facts(splits).items():
        shape = f"{facts['channels']}x{facts['height']}x{facts['width']}"
        mean = " ".join(f"{value:.1f}" for value in facts["mean"])
        table.add_row(split, f"{facts['images']:,}", str(facts["classes"]), shape, mean, facts["fingerprint"][:16])
    open_console(markup=False).print(table)
    kind = "novel: no class is in two splits" if splits.novel else "closed: the same classes in every split"
    click.echo(f"{splits.name} is {kind}")


def _facts(splits: Splits) -> dict[str, dict[str, Any]]:
    from edgekd.data import SPLITS

    return {split: _describe(splits[split]) for split in SPLITS}


def _describe(images: ImageSet) -> dict[str, Any]:
    """Return what JSON says of one split; `mean` is of each channel, in 0..255."""
    return {
        "images": len(images),
        "classes": images.n_classes,
        "height": images.height,
        "width": images.width,
        "channels": images.channels,
        "mean": images.images.mean(axis=(0, 1, 2)).tolist(),
        "fingerprint": images.fingerprint,
        "class_names": list(images.class_names),
    }


def _notify(text: str) -> None:
    click.echo(text, err=True)
