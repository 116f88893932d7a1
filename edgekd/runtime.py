"""Run an exported student without torch: embed images, enroll classes from a few of them, classify new ones.

embedder = Embedder("model.onnx")
prototypes = embedder.enroll(few_images, ["cup", "cup", "key", "key"])
embedder.classify(more_images, prototypes).names
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekd.axes import Axes
from edgekd.entry import entry_of
from edgekd.errors import DataError, ModelError, UsageError
from edgekd.files import sha256_file
from edgekd.heads import Head, find_head
from edgekd.manifest import Manifest
from edgekd.onnx_session import Optimization, onnxruntime_errors, open_session
from edgekd.prototypes import Prototypes

Pixels = NDArray[np.uint8]

_FLOAT = "tensor(float)"
_INTEGERS = ("tensor(int8)", "tensor(uint8)")
# Images to one run where the graph leaves the batch open: enough to hide the call, few enough to stay in the cache.
_OPEN_BATCH = 16


@dataclass(frozen=True)
class Classification:
    """The best class of each image, and the scores (n, classes) of all in the order of `Prototypes.class_names`.

    A score is what the head says: a cosine, or minus a squared distance. Higher is better.
    """

    names: tuple[str, ...]
    scores: NDArray[np.float64]


@dataclass(frozen=True)
class OutputFormat:
    """What integer outputs are worth: `real = scale * (integer - zero_point)`."""

    scale: float = 1.0
    zero_point: int = 0


class Embedder:
    """An ONNX file as a function from images to embeddings.

    `threads` images are computed at a time, each by one core: 0 means all cores. An embedding depends neither on it nor
    on the images around it. `optimization` is onnxruntime's graph optimization level.
    `pixels` names how pixels enter a float input, an entry of `edgekd.data.preprocess.PIXELS`; `output` is the format
    of integer outputs where no manifest states it.

    Raises:
        ModelError: the file cannot be read, or its input and output are not those of an embedding network.
        UsageError: a negative number of threads, an unknown optimization level, or pixels that the file does not take.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        threads: int = 0,
        optimization: Optimization = "all",
        pixels: str = "edgekd",
        output: OutputFormat | None = None,
    ) -> None:
        if threads < 0:
            raise UsageError(f"threads must be 0 (all cores) or more, not {threads}")
        self.path = Path(path)
        self.threads = threads or os.cpu_count() or 1
        self._session = open_session(self.path, optimization)
        self.manifest = Manifest.from_metadata(self._session.get_modelmeta().custom_metadata_map)
        self._input = _sole("input", self._session.get_inputs())
        self._output = _sole("output", self._session.get_outputs())
        self._pixels, self._entry = pixels, entry_of(self._input, pixels)
        self.output_format = _output_format(self._output, self.manifest, output)

    @property
    def axes(self) -> Axes:
        """Which axis of the input holds the channels."""
        return self._entry.axes

    @property
    def pixel_words(self) -> str:
        """What of an image enters the network."""
        return self._entry.words

    @property
    def base_mean(self) -> NDArray[np.float32] | None:
        """The mean embedding (d,) of the training classes, None where the file does not say."""
        if self.manifest is None or not self.manifest.base_mean:
            return None
        return np.array(self.manifest.base_mean, np.float32)

    def embed(self, images: Pixels) -> NDArray[np.float32]:
        """Return the embeddings (n, d) of images (n, height, width, channels), n at least 1.

        Raises:
            DataError: the images are not uint8 with four dimensions, or there are none.
            ModelError: the images are not the size that the graph takes, or onnxruntime cannot run it.
        """
        return self.reals(self.outputs(images))

    def reals(self, outputs: NDArray[Any]) -> NDArray[np.float32]:
        """Return outputs of the graph (n, d) as embeddings: integers less their zero point, times their scale."""
        zero_point, scale = self.output_format.zero_point, np.float32(self.output_format.scale)
        centred = outputs.astype(np.int64) - zero_point if zero_point else outputs
        embeddings: NDArray[np.float32] = centred.astype(np.float32) * scale
        return embeddings

    def outputs(self, images: Pixels) -> NDArray[Any]:
        """Return what the graph itself puts out for images (n, height, width, channels), as (n, d): integers or floats.

        Raises:
            DataError, ModelError: as `embed`.
        """
        self._require_size(images)
        with ThreadPoolExecutor(self.threads) as pool:
            outputs = list(pool.map(self._run_batch, _batches(images, self._input.shape[0])))
        return np.concatenate(outputs)[: len(images)]

    def pixels(self, images: Pixels) -> dict[str, NDArray[Any]]:
        """Return what the graph takes for images (n, height, width, channels): its input's name, and the pixels.

        Raises:
            DataError, ModelError: as `embed`.
        """
        self._require_size(images)
        return {str(self._input.name): self._entry.prepare(images)}

    def reopened(self, optimization: Optimization) -> Embedder:
        """Return the same file at another level of graph optimization."""
        return Embedder(
            self.path,
            threads=self.threads,
            optimization=optimization,
            pixels=self._pixels,
            output=self.output_format,
        )

    def enroll(self, images: Pixels, labels: Sequence[str], head: str = "cosine") -> Prototypes:
        """Return the prototype of each class named in `labels` (n,), the mean of its images' embeddings.

        Raises:
            DataError: the number of labels is not the number of images; the images as in `embed`.
            UsageError: a head that needs more than the mean of each class, or a mean that the file does not hold.
        """
        if len(labels) != len(images):
            raise DataError(f"enroll needs one label an image: {len(images)} images, {len(labels)} labels")
        prepared = self._prepare(images, _mean_head(head))
        names = np.array(labels)
        class_names = tuple(dict.fromkeys(labels))  # as first seen
        vectors = np.stack([prepared[names == name].mean(axis=0) for name in class_names])
        return Prototypes(class_names, vectors, head, sha256_file(self.path))

    def classify(self, images: Pixels, prototypes: Prototypes) -> Classification:
        """Return the best class of each image; on a tie, the one enrolled first.

        Raises:
            DataError: the images as in `embed`.
            ModelError: the prototypes were enrolled with another model file.
        """
        if prototypes.model_sha256 != sha256_file(self.path):
            raise ModelError(f"these prototypes were enrolled with another model than {self.path}: enroll again")
        head = find_head(prototypes.head)
        query = self._prepare(images, head)[None]  # one episode of (n, d)
        scores = head.score(prototypes.vectors[None, :, None], query)[0]  # one-shot: the prototype is its own mean
        return Classification(tuple(prototypes.class_names[best] for best in scores.argmax(axis=1)), scores)

    def _prepare(self, images: Pixels, head: Head) -> NDArray[np.float64]:
        centre = None if self.base_mean is None else self.base_mean.astype(np.float64)
        return head.prepare(self.embed(images).astype(np.float64), centre)

    def _run_batch(self, images: Pixels) -> NDArray[Any]:
        feed = {self._input.name: self._entry.prepare(images)}
        try:
            (outputs,) = self._session.run([self._output.name], feed)
        except onnxruntime_errors() as error:
            raise ModelError(f"onnxruntime cannot run {self.path}: {error}") from error
        rows: NDArray[Any] = outputs.reshape(len(images), -1)
        return rows

    def _require_size(self, images: Pixels) -> None:
        if not isinstance(images, np.ndarray):
            raise DataError(f"images must be uint8 (n, height, width, channels), not a {type(images).__name__}")
        if images.dtype != np.uint8 or images.ndim != 4 or len(images) == 0:
            raise DataError(f"images must be uint8 (n, height, width, channels), not {images.dtype} {images.shape}")
        takes, given = self._entry.image_shape, images.shape[1:]
        if any(isinstance(size, int) and size != have for size, have in zip(takes, given, strict=True)):
            wanted, found = (" x ".join(map(str, sizes)) for sizes in (takes, given))
            raise ModelError(f"{self.path} takes images of {wanted} (height x width x channels), not {found}")


def _batches(images: Pixels, batch: int | str) -> Iterator[Pixels]:
    """Cut images (n, ...) into the graph's batch, the last one filled up with copies where that size is fixed."""
    size = batch if isinstance(batch, int) else _OPEN_BATCH
    for start in range(0, len(images), size):
        part = images[start : start + size]
        missing = size - len(part) if isinstance(batch, int) else 0
        yield np.concatenate([part, np.repeat(part[-1:], missing, axis=0)]) if missing else part


def _mean_head(name: str) -> Head:
    head = find_head(name)
    if not head.means_suffice:
        raise UsageError(f"the head '{name}' needs every support image: prototypes hold one mean a class")
    return head


def _sole(kind: str, tensors: Sequence[Any]) -> Any:  # noqa: ANN401 - onnxruntime does not export NodeArg's type
    if len(tensors) != 1:
        names = ", ".join(tensor.name for tensor in tensors) or "none"
        raise ModelError(f"an embedding network has one {kind}, this file has {len(tensors)}: {names}")
    return tensors[0]


def _output_format(tensor: Any, manifest: Manifest | None, given: OutputFormat | None) -> OutputFormat:  # noqa: ANN401
    if tensor.type not in (_FLOAT, *_INTEGERS) or len(tensor.shape) < 2:
        raise ModelError(
            f"output '{tensor.name}' must be int8, uint8 or float (batch, values), "
            f"not {tensor.type} {tuple(tensor.shape)}"
        )
    if tensor.type == _FLOAT:
        return OutputFormat()
    if manifest is not None:
        return OutputFormat(manifest.output.scale)
    if given is None:
        raise ModelError(
            f"output '{tensor.name}' is integer and its scale is unknown: neither a manifest nor constants say it"
        )
    return given
