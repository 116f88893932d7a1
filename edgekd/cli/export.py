"""`edgekd export`: the file that ships."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option("--int8", is_flag=True, help="Write INT8 QCDQ; the default and only format.")
@click.option("--run", "folder", type=click.Path(path_type=Path), help="Run folder.  [default: the latest under runs/]")
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    default=Path("model.onnx"),
    show_default=True,
    help="ONNX file to write.",
)
@click.option(
    "--pot", is_flag=True, help="Force power-of-two scales (calibrated anew if the run was trained with float scales)."
)
@click.option("--dynamic-batch", is_flag=True, help="Leave the batch dimension open instead of 1.")
def command(folder: Path | None, output: Path, *, pot: bool, dynamic_batch: bool, int8: bool) -> None:  # noqa: ARG001 - one format
    """Write a finished run's student as INT8 ONNX, with its manifest inside and golden vectors beside it.

    Before anything is written, onnxruntime's integers are compared with the trained model's.
    """
    from edgekd.cli._extras import require_training
    from edgekd.errors import UsageError
    from edgekd.run import Run, latest_run

    if output.suffix != ".onnx":
        raise UsageError(f"--output {output} does not end in .onnx")
    require_training()
    from edgekd.export import export_run

    run = Run.open(folder) if folder else latest_run()
    done = export_run(run, output, power_of_two=pot, dynamic_batch=dynamic_batch)
    scheme = done.manifest.quantization
    click.echo(
        f"{done.path}: {done.bytes:,} bytes, w{scheme.weight_bits}a{scheme.act_bits}, "
        f"{scheme.granularity} {scheme.scale} scales, {scheme.method}"
    )
    click.echo(f"{done.golden}: golden vectors")
    click.echo(f"onnxruntime against the trained model: {done.parity}")
    click.echo(f"Next: {_next(done.path, done.manifest.data.spec)}")


def _next(path: Path, spec: str) -> str:
    """Return the command that verifies the file; it is told images at a path, which no file may name."""
    import shlex

    return shlex.join(["edgekd", "verify", str(path), *(["--data", spec] if ":" in spec else [])])
