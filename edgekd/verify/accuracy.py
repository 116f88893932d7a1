"""Few-shot accuracy of the exported file itself, on the images that its manifest names, by every engine."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgekd.axes import CHANNELS_LAST
from edgekd.cpu import cpu_flags
from edgekd.errors import ModelError
from edgekd.manifest import AccuracyRow, DataRef, Manifest
from edgekd.profile import HardwareProfile
from edgekd.verify.enough import require_enough
from edgekd.verify.environment import saturation_warning
from edgekd.verify.facts import Facts
from edgekd.verify.images import Notify, chosen_spec, load_images, refused_path
from edgekd.verify.integer.static import accumulator_rows
from edgekd.verify.outputs import output_format
from edgekd.verify.rehearsal import rehearse
from edgekd.verify.results import OPTIMIZED, UNOPTIMIZED, AccumulatorRow, EngineRow, SqnrRow
from edgekd.verify.rules import Finding
from edgekd.verify.work import MOST_SECONDS, Duration, episodes_duration, onnxruntime_duration, runs_of

if TYPE_CHECKING:
    from edgekd.data import ImageSet
    from edgekd.fewshot import Protocol
    from edgekd.runtime import Embedder, OutputFormat
    from edgekd.verify.engines import Embedded
    from edgekd.verify.integer.simulator import Simulator

FINGERPRINT_RULE, MEASURED_RULE = "data-fingerprint", "few-shot-accuracy"
LARGEST_EMBEDDINGS_BYTES = 2**30  # of one engine


@dataclass(frozen=True)
class Options:
    """How accuracy is measured. `data` and `split` default to the manifest's, `size` (pixels) to the graph's input.

    `requant` names arithmetics to simulate instead of the profile's own; `pixels`, an entry of
    `edgekd.data.preprocess.PIXELS`, how they enter a float input. No engine is run that would take `most_seconds`.
    """

    data: str | None = None
    split: str | None = None
    size: int | None = None
    skip_bad: bool = False
    way: int = 5
    shots: tuple[int, ...] = (1, 5)
    query: int = 15
    episodes: int = 10_000
    seed: int = 0
    head: str = "cosine"
    requant: tuple[str, ...] = ()
    pixels: str = "edgekd"
    most_seconds: float = MOST_SECONDS

    def protocols(self) -> list[Protocol]:
        """One protocol a shot.

        Raises:
            UsageError: a number that no protocol can have.
        """
        from edgekd.fewshot import Protocol

        return [Protocol(self.way, shot, self.query, self.episodes, self.seed) for shot in self.shots]


@dataclass(frozen=True)
class Measured:
    """Accuracy rows of every engine, how the engines differ, and what was found on the way.

    `accumulators` count overflows where the profile's arithmetic was simulated. `pixels` says how images entered, and
    `errors` why the file could not be measured.
    """

    rows: tuple[AccuracyRow, ...] = ()
    findings: tuple[Finding, ...] = ()
    warnings: tuple[str, ...] = ()
    engines: tuple[EngineRow, ...] = ()
    accumulators: tuple[AccumulatorRow, ...] = ()
    sqnr: tuple[SqnrRow, ...] = ()
    pixels: str | None = None
    errors: tuple[str, ...] = ()


def unmeasured(error: str, *, invalid: bool = False) -> Measured:
    """Return what a file that cannot be measured leaves: the reason, as a finding, and as an error unless known."""
    finding = Finding(rule=MEASURED_RULE, status="unknown", message=f"accuracy could not be measured: {error}")
    return Measured(findings=(finding,), errors=() if invalid else (error,))


def measure(facts: Facts, profile: HardwareProfile, options: Options, notify: Notify | None = None) -> Measured:
    """Embed every image of the split once with each engine and measure each protocol; nothing where none are named.

    Raises:
        DataError: the images cannot be read, or are too few for the protocol.
        ModelError: onnxruntime cannot run the file, or it takes other images.
        UsageError: an unknown head, an unknown arithmetic or an impossible protocol.
    """
    from edgekd.verify.agreement import check_golden, compare_engines, simulators, within

    simulated = simulators(facts, profile, options.requant)
    golden = check_golden(facts, profile, options.most_seconds)
    spec = chosen_spec(options, facts.manifest)
    if spec is None and facts.manifest:
        refused = Finding(rule=MEASURED_RULE, status="unknown", message=refused_path(facts.manifest.data.spec))
        return Measured((), (refused, *simulated.findings, *golden.findings), golden.warnings, sqnr=golden.sqnr)
    if spec is None:
        nothing = "accuracy not measured: the file names no images, give some with --data"
        return Measured((), (*simulated.findings, *golden.findings), (nothing, *golden.warnings), sqnr=golden.sqnr)
    from edgekd.runtime import Embedder

    protocols = options.protocols()  # impossible ones are refused before the images are read
    images = load_images(facts, options, spec, notify)
    require_enough(images, protocols)
    output = output_format(facts.graph)
    if found := _too_long(facts, options, images.images, output):
        findings = (*_fingerprint_findings(facts.manifest, spec, images), found)
        nothing = f"accuracy not measured: {found.message}"
        return Measured(
            (), (*findings, *simulated.findings, *golden.findings), (nothing, *golden.warnings), sqnr=golden.sqnr
        )
    simulated = within(simulated, facts, len(images.images), options.most_seconds)
    embedder = Embedder(facts.graph.path, pixels=options.pixels, output=output)
    embedded, broken = _embed_all(facts, profile, embedder, simulated.simulators, images.images)
    compared = compare_engines(facts, profile, embedded)
    warnings = (*_novelty_warnings(facts.manifest, spec), *_arithmetic_warnings(), *golden.warnings)
    findings = _fingerprint_findings(facts.manifest, spec, images)
    return Measured(
        rows=tuple(_accuracy_rows(facts, embedded, images, spec, options)),
        findings=(*findings, *simulated.findings, *broken, *compared.findings, *golden.findings),
        warnings=(*warnings, *_axes_warnings(embedder)),
        engines=compared.rows,
        accumulators=_counted(facts, profile, embedded),
        sqnr=golden.sqnr,
        pixels=embedder.pixel_words,
    )


def _too_long(facts: Facts, options: Options, images: NDArray[np.uint8], output: OutputFormat | None) -> Finding | None:
    """Say what would take longer than it may: as counted, and as the first image goes, which tells what counts miss.

    Raises:
        ModelError: onnxruntime cannot run the file on one image, or it makes embeddings that no memory holds.
    """
    limit_s = options.most_seconds
    if found := onnxruntime_duration(facts, len(images)).excess(MEASURED_RULE, limit_s):
        return found
    first = rehearse(facts.graph.path, images, seconds=limit_s, pixels=options.pixels, output=output)
    _refuse_large(facts, first.dimensions, len(images))
    runs = runs_of(facts.graph, len(images))
    durations = (
        Duration(first.run_s * runs / (os.cpu_count() or 1), f"onnxruntime, {runs:,} runs like the first,"),
        episodes_duration(options.protocols(), first.dimensions),
    )
    return next((found for item in durations if (found := item.excess(MEASURED_RULE, limit_s))), None)


def _embed_all(
    facts: Facts,
    profile: HardwareProfile,
    optimized: Embedder,
    simulators: Sequence[Simulator],
    images: NDArray[np.uint8],
) -> tuple[tuple[Embedded, ...], tuple[Finding, ...]]:
    """The images through onnxruntime, the same without optimizations, and each simulated arithmetic.

    A simulator that breaks off is a finding, and what onnxruntime computes remains.
    """
    from edgekd.verify.agreement import uncomputed
    from edgekd.verify.engines import open_embedder, run_onnxruntime, run_simulator

    program = facts.lowered.program
    plain = open_embedder(optimized, "none")
    done = [
        run_onnxruntime(optimized, OPTIMIZED, images, program),
        run_onnxruntime(plain, UNOPTIMIZED, images, program),
    ]
    for run in done:
        _require_finite(facts, run)
    broken = []
    for simulator in simulators:
        try:
            done.append(run_simulator(simulator, optimized, images))
        except ModelError as error:
            broken.append(uncomputed(facts, profile, simulator, error))
    return tuple(done), tuple(broken)


def _require_finite(facts: Facts, run: Embedded) -> None:
    """Refuse embeddings that no class can be told by.

    Raises:
        ModelError: naming the file, the engine and the first image whose embedding is no numbers.
    """
    bad = np.flatnonzero(~np.isfinite(run.embeddings).all(axis=1))
    if bad.size:
        counts = f"{bad.size:,} of {len(run.embeddings):,}"
        raise ModelError(
            f"{facts.graph.path}: {counts} embeddings from {run.engine} hold NaN or infinity, the first is that of "
            f"image {bad[0]}: look for NaN, infinity or overflow in weights and scales"
        )


def _accuracy_rows(
    facts: Facts,
    embedded: Sequence[Embedded],
    images: ImageSet,
    spec: str,
    options: Options,
) -> Iterator[AccuracyRow]:
    """One row an engine and protocol; engines with the same embeddings are evaluated once."""
    from edgekd.fewshot import evaluate

    split = images.name.rpartition("/")[2]
    base_mean = facts.manifest.base_mean if facts.manifest and facts.manifest.base_mean else None
    centre = None if base_mean is None else np.array(base_mean, np.float32)
    found: dict[tuple[bytes, int], Mapping[str, Any]] = {}
    for run in embedded:
        content = hashlib.sha256(run.embeddings.tobytes()).digest()
        for at, protocol in enumerate(options.protocols()):
            if (content, at) not in found:
                found[content, at] = vars(evaluate(run.embeddings, images.labels, protocol, options.head, centre))
            row = {**found[content, at], "dataset": spec, "split": split, "engine": run.engine}
            yield AccuracyRow.model_validate(row)


def _counted(facts: Facts, profile: HardwareProfile, embedded: Sequence[Embedded]) -> tuple[AccumulatorRow, ...]:
    """The bounds of every layer, with the overflows that the first simulated arithmetic met."""
    rows = accumulator_rows(facts.lowered, profile)
    overflows = next((run.overflows for run in embedded if run.overflows is not None), None)
    if overflows is None or profile.accumulator_bits is None:
        return rows
    return tuple(row.model_copy(update={"overflows": overflows[row.node]}) for row in rows)


def _refuse_large(facts: Facts, dimensions: int, count: int) -> None:
    """Refuse embeddings that would not fit beside each other, those of every engine.

    Raises:
        ModelError: with their number and size.
    """
    taken = 4 * dimensions * count
    if taken > LARGEST_EMBEDDINGS_BYTES:
        raise ModelError(
            f"{facts.graph.path}: {count:,} embeddings of {dimensions:,} values take {taken:,} bytes, "
            f"the limit is {LARGEST_EMBEDDINGS_BYTES:,}"
        )


def _fingerprint_findings(manifest: Manifest | None, spec: str, images: ImageSet) -> tuple[Finding, ...]:
    """Compare with the images that the export measured, where they go by the same name."""
    if manifest is None or not _same_images(manifest.data, spec, images):
        return ()
    expected, actual = manifest.data.fingerprint, images.fingerprint
    same = expected == actual
    message = f"'{images.name}' holds the images that the manifest names"
    if not same:
        message = f"'{images.name}' here is not what the manifest names ({actual[:12]}, not {expected[:12]})"
        message += ": the accuracies before and after export are of different images"
    return (
        Finding(
            rule=FINGERPRINT_RULE,
            status="pass" if same else "unknown",
            message=message,
            attribute="fingerprint",
            value=actual,
            limit=expected,
            source="manifest",
        ),
    )


def _same_images(data: DataRef, spec: str, images: ImageSet) -> bool:
    name = data.spec.partition(":")[0]
    return spec.partition(":")[0] == name and images.name.rpartition("/")[2] == data.split


def _novelty_warnings(manifest: Manifest | None, spec: str) -> tuple[str, ...]:
    if manifest is None or manifest.data.novel or spec.partition(":")[0] != manifest.data.spec.partition(":")[0]:
        return ()
    return (f"the classes of '{spec}' were seen in training: this is not accuracy on novel classes",)


def _arithmetic_warnings() -> tuple[str, ...]:
    warning = saturation_warning(cpu_flags())
    return () if warning is None else (warning,)


def _axes_warnings(embedder: Embedder) -> tuple[str, ...]:
    """Say that the file's channels were taken to be last: its shape suggests so, and nothing in it says so."""
    if embedder.axes != CHANNELS_LAST:
        return ()
    return (f"the shape of the input reads as {CHANNELS_LAST.words}: pixels enter as (batch, height, width, channels)",)
