"""Few-shot accuracy of the exported file itself, computed by onnxruntime on the images that its manifest names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgekd.manifest import AccuracyRow, DataRef, Manifest
from edgekd.verify.enough import require_enough
from edgekd.verify.environment import cpu_flags, saturation_warning
from edgekd.verify.facts import Facts
from edgekd.verify.rehearsal import rehearse
from edgekd.verify.rules import Finding

if TYPE_CHECKING:
    from edgekd.data import ImageSet
    from edgekd.fewshot import Protocol

ENGINE = "onnxruntime"
FINGERPRINT_RULE = "data-fingerprint"
Notify = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """How accuracy is measured. `data` and `split` default to the manifest's, `size` (pixels) to the graph's input."""

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

    def protocols(self) -> list[Protocol]:
        """One protocol a shot.

        Raises:
            UsageError: a number that no protocol can have.
        """
        from edgekd.fewshot import Protocol

        return [Protocol(self.way, shot, self.query, self.episodes, self.seed) for shot in self.shots]


@dataclass(frozen=True)
class Measured:
    """Accuracy rows, with what was found about the images on the way."""

    rows: tuple[AccuracyRow, ...] = ()
    findings: tuple[Finding, ...] = ()
    warnings: tuple[str, ...] = ()


def measure(facts: Facts, options: Options, notify: Notify | None = None) -> Measured:
    """Embed every image of the split once and measure each protocol; nothing where no images are named.

    Raises:
        DataError: the images cannot be read, or are too few for the protocol.
        ModelError: onnxruntime cannot run the file, or it takes other images.
        UsageError: an unknown head or an impossible protocol.
    """
    spec = options.data or (facts.manifest.data.spec if facts.manifest else None)
    if spec is None:
        return Measured(warnings=("accuracy not measured: the file names no images, give some with --data",))
    protocols = options.protocols()
    images = load_images(facts, options, spec, notify)
    require_enough(images, protocols)
    from edgekd.fewshot import evaluate
    from edgekd.runtime import Embedder

    rehearse(facts.graph.path, images.images)
    embedder = Embedder(facts.graph.path)
    embeddings = embedder.embed(images.images)
    found = [evaluate(embeddings, images.labels, protocol, options.head, embedder.base_mean) for protocol in protocols]
    split = images.name.rpartition("/")[2]
    rows = tuple(
        AccuracyRow.model_validate({**vars(row), "dataset": spec, "split": split, "engine": ENGINE}) for row in found
    )
    warnings = (*_novelty_warnings(facts.manifest, spec), *_arithmetic_warnings())
    return Measured(rows, _fingerprint_findings(facts.manifest, spec, images), warnings)


def load_images(facts: Facts, options: Options, spec: str, notify: Notify | None = None) -> ImageSet:
    """Return the images to measure on, in the size and channels that the graph takes.

    Raises:
        DataError: as `edgekd.data.load_split`.
    """
    from edgekd.data import load_split

    channels, height, width = _input_size(facts)
    size = options.size or (height if height == width else None)
    data = facts.manifest.data if facts.manifest else None
    return load_split(
        spec,
        options.split or (data.split if data else "test"),
        size=size,
        channels=channels,
        skip_bad=options.skip_bad,
        seed=data.seed if data else 0,
        notify=notify,
    )


def _input_size(facts: Facts) -> tuple[int | None, int | None, int | None]:
    """Channels, height and width of the first graph input (n, c, h, w); None where the graph leaves them open."""
    shape = facts.graph.value(facts.graph.inputs[0]).shape if facts.graph.inputs else None
    return (shape[1], shape[2], shape[3]) if shape and len(shape) == 4 else (None, None, None)


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
