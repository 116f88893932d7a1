"""What came of a search, to read: the rows of its table, the remarks below it, and both as a page of Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from edgekd.recipe import Recipe
from edgekd.report.markdown import table
from edgekd.search.results import Outcome, TrialRow

MOST_ROWS = 20  # of the table; results.json has all
TEXTS = 2  # columns that hold no numbers


def header(outcome: Outcome) -> tuple[str, ...]:
    """Return the headings of the columns, for an outcome with trials."""
    shots = (f"{row.way}-way {row.shot}-shot %" for row in outcome.trials[0].measured.by_shot)
    return "trial", "student", "bits", "parameters", "bytes", "peak", "MACs", *shots, "validation %", "front"


def rows(outcome: Outcome) -> Iterator[tuple[str, ...]]:
    """Yield a row for each of the best trials, and for each on the front."""
    for place, row in enumerate(outcome.trials):
        if place < MOST_ROWS or row.front:
            yield _cells(row)


def remarks(outcome: Outcome) -> Iterator[str]:
    """Yield what else there is to know: how to read the table, how many candidates there were, which rules refused."""
    if outcome.trials:
        yield "front: most accurate for its parameters; the best of many is optimistic, on classes it was chosen by"
    counts = {"trained": len(outcome.trials), "refused": outcome.refused, "seen before": outcome.repeated}
    counts |= {"failed": outcome.failed, "begun": outcome.running}
    yield "candidates: " + ", ".join(f"{count} {what}" for what, count in counts.items() if count or what == "trained")
    if len(outcome.refusals) > 1:
        yield "a candidate may be refused by several rules:"
    for row in outcome.refusals:
        yield f"  {row.rule} refused {row.candidates}, for example: {row.message}"
    for error in outcome.errors:
        yield f"  failed: {error}"


def results_page(outcome: Outcome, recipe: Recipe) -> str:
    """Return a page with the best students under the recipe's profile, and how briefly each was trained."""
    settings, data = recipe.search, recipe.data.spec.partition(":")[0]
    epochs = "1 epoch" if settings.epochs == 1 else f"{settings.epochs:g} epochs"
    training = f"Each candidate was trained for {epochs} by `{recipe.distill.method}`, exported and measured"
    measuring = f"in onnxruntime on {settings.episodes:,} episodes of *validation* classes; % ± 95 % interval."
    lines = [
        "<!-- Written by edgekd search; do not edit. -->",
        f"# The students that do best on {data} under `{outcome.profile}`",
        "",
        f"{training} {measuring}",
        "",
    ]
    if outcome.trials:
        lines += [*table(header(outcome), rows(outcome), numbers=TEXTS), ""]
    return "\n".join([*lines, *(f"- {line.strip()}" for line in remarks(outcome))]) + "\n"


def _cells(row: TrialRow) -> tuple[str, ...]:
    found = row.measured
    peak = "unknown" if found.peak_activation_bytes is None else f"{found.peak_activation_bytes:,}"
    sizes = (f"{found.parameters:,}", f"{found.weight_bytes:,}", peak, f"{found.macs:,}")
    shots = (_percent(shot.mean, shot.ci95) for shot in found.by_shot)
    first = str(row.number), row.candidate.student, str(row.candidate.weight_bits)
    return *first, *sizes, *shots, _percent(found.mean, found.ci95), "*" if row.front else ""


def _percent(mean: float, ci95: float) -> str:
    return f"{100 * mean:.2f} ± {100 * ci95:.2f}"
