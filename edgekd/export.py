"""From a finished run to the file that ships: INT8 QCDQ ONNX with a manifest inside and golden vectors beside it.

The last place torch appears. What is written is checked first: onnxruntime must give the Brevitas model's integers.
"""

from __future__ import annotations

import copy
import io
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from edgekd import __version__, passes
from edgekd.bound import Bound
from edgekd.data import ImageSet, Splits
from edgekd.data.preprocess import INPUT_SCALE, to_int8
from edgekd.distill import quantize
from edgekd.distill.backbones import Backbone
from edgekd.distill.backbones.size import require_fit
from edgekd.distill.embed import embed, mean_embedding
from edgekd.distill.golden import float_activations
from edgekd.distill.quantizing import calibration_images, float_student_of, load_quantized
from edgekd.errors import ModelError, RunError
from edgekd.files import sha256_bytes, write_together, writer_of
from edgekd.manifest import GOLDEN_FLOAT, DataRef, Manifest, Preprocessing, QuantScheme, StageResult, TensorRef
from edgekd.onnx_session import open_session
from edgekd.profile import load_profile
from edgekd.recipe import Recipe
from edgekd.renaming import rename_all
from edgekd.run import Run, load_images
from edgekd.versions import library_versions

OPSET = 17
IR_VERSION = 10  # onnxruntime reads up to 13, other compilers less
INPUT, OUTPUT = "pixels", "embedding"
GOLDEN_IMAGES = 16
GOLDEN_FLOAT_IMAGES = 2  # whole activations are large
PARITY_IMAGES = 256
PASSES = (
    passes.fold_weight_clips,
    passes.integer_input,
    passes.unsigned_entry,
    passes.rectify_integers,
    passes.sink_dequantize,
    passes.integer_output,
    passes.own_zero_points,
)
LIBRARIES = ("torch", "brevitas", "onnx", "onnxruntime", "numpy")


@dataclass(frozen=True)
class Parity:
    """How onnxruntime's integers differ from the Brevitas model's, over `elements` output elements."""

    elements: int
    differing: int
    max_lsb: int

    @property
    def share(self) -> float:
        """The share of elements that differ, as a fraction."""
        return self.differing / self.elements

    def __str__(self) -> str:
        count = f"{self.differing} of {self.elements} output elements differ ({100 * self.share:.3f} %)"
        return f"{count}, by at most {self.max_lsb} LSB"


@dataclass(frozen=True)
class Student:
    """A quantized network, its scheme, its mean embedding (d,) of the training classes, and its float original."""

    network: nn.Module
    reference: nn.Module
    scheme: QuantScheme
    base_mean: NDArray[np.float32]


@dataclass(frozen=True)
class Origin:
    """Where a student comes from: its recipe, the images that it is measured on, the stages on the way."""

    recipe: Recipe
    data: DataRef
    lineage: tuple[StageResult, ...] = ()


@dataclass(frozen=True)
class Exported:
    """What `export_run` wrote."""

    path: Path
    golden: Path
    parity: Parity
    manifest: Manifest
    bytes: int


def export_run(run: Run, path: Path, *, power_of_two: bool = False, dynamic_batch: bool = False) -> Exported:
    """Write the quantized student of a finished run to `path`, and `<stem>.golden.npz` beside it.

    With `power_of_two` and a run that has float scales, the float student is quantized anew by calibration alone.

    Raises:
        RunError: the run is not finished, or ended before quantizing.
        ModelError: with `power_of_two` the student would exceed the profile's cap; onnxruntime's integers are not the
            Brevitas model's (beyond 1 LSB, or on more than 1 % of elements; 2 % where onnxruntime sums in fp32;
            any difference at all where every scale is a power of two).
        StorageError: the files cannot be written.
    """
    if not run.recipe.quantize.enabled:
        raise RunError(
            f"{run.folder} was trained without quantizing (quantize.enabled = false), there is nothing to export; "
            f"edgekd distill --recipe {run.folder / 'recipe.toml'} --set quantize.enabled=true --run ANOTHER"
            f"{_teacher_option(run)}"
        )
    if not run.manifest.complete:
        what = "has a teacher alone" if [*run.manifest.stages] == ["teach"] else "is not finished"
        raise RunError(f"{run.folder} {what}; to go on: {run.resume_command}")
    splits = load_images(run)
    student = _student(run, splits, power_of_two=power_of_two)
    model = to_integer_onnx(student.network, splits.test)
    if dynamic_batch:
        passes.set_dynamic_batch(model)
    images = splits.test.images[_evenly(len(splits.test), PARITY_IMAGES)]
    parity = compare(student.network, model, images)
    require_parity(parity, student.scheme)
    golden = _golden_vectors(student, model, images[:GOLDEN_IMAGES])
    origin = Origin(run.recipe, run.manifest.data, tuple(record.result for record in run.manifest.stages.values()))
    manifest = manifest_of(origin, student, splits.test, model, sha256_bytes(golden))
    passes.stamp(model, manifest.to_metadata(), __version__, IR_VERSION)
    content, golden_path = model.SerializeToString(), path.with_name(f"{path.stem}.golden.npz")
    write_together({golden_path: writer_of(golden), path: writer_of(content)})
    return Exported(path, golden_path, parity, manifest, len(content))


def to_integer_onnx(network: nn.Module, images: ImageSet) -> onnx.ModelProto:
    """Export a quantized network for images of this size: int8 (1, c, h, w) in, int8 (1, d) out."""
    example = torch.zeros(1, images.channels, images.height, images.width)
    with quantize.quiet_brevitas(), tempfile.TemporaryDirectory() as folder:
        from brevitas.export import export_onnx_qcdq

        file = Path(folder) / "model.onnx"
        export_onnx_qcdq(network, args=example, export_path=str(file), dynamo=False, opset_version=OPSET)
        model = onnx.load(file)
    passes.run_to_end(model, *PASSES)
    passes.drop_unused_constants(model)
    rename_all(model, INPUT, OUTPUT)
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model, full_check=True)
    return model


def manifest_of(
    origin: Origin, student: Student, images: ImageSet, model: onnx.ModelProto, golden_sha256: str = ""
) -> Manifest:
    """Return what the file of `model` says of itself; without golden vectors beside it, it names none."""
    profile = load_profile(origin.recipe.profile)
    return Manifest(
        edgekd=__version__,
        versions=library_versions(*LIBRARIES),
        profile=origin.recipe.profile,
        profile_sha256=profile.sha256,
        profile_toml=profile.text(),
        data=origin.data,
        preprocessing=Preprocessing(height=images.height, width=images.width, channels=images.channels),
        quantization=student.scheme,
        input=TensorRef(name=INPUT, dtype="int8", scale=INPUT_SCALE),
        output=TensorRef(name=OUTPUT, dtype=_embedding_dtype(student.scheme), scale=passes.tensor_scale(model, OUTPUT)),
        base_mean=tuple(float(value) for value in student.base_mean),
        lineage=origin.lineage,
        weights_sha256=_weights_sha256(model),
        golden_sha256=golden_sha256,
    )


def integer_embeddings(network: nn.Module, scale: float, images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the integers (n, d) behind the Brevitas model's embeddings.

    In double precision: in fp32 a deep network does not agree with itself, since the order of its sums, which the
    layout in memory decides, moves values over the half between two integers, and each layer passes on more of them.
    """
    exact = copy.deepcopy(network).double()
    return np.rint(embed(exact, images).astype(np.float64) / scale).astype(np.int64)


def compare(network: nn.Module, model: onnx.ModelProto, images: NDArray[np.uint8]) -> Parity:
    """Run both on the same images, one at a time as on the device, and count differing output elements."""
    expected = integer_embeddings(network, passes.tensor_scale(model, OUTPUT), images)
    found = _run_onnx(model, images).astype(np.int64)
    difference = np.abs(found - expected)
    return Parity(difference.size, int((difference > 0).sum()), int(difference.max()))


def require_parity(parity: Parity, scheme: QuantScheme) -> None:
    """Refuse a file that does not compute what was trained.

    Raises:
        ModelError: with the figures.
    """
    bound = Bound.of_onnxruntime(scheme)
    if not bound.allows(parity.max_lsb, parity.share):
        raise ModelError(
            f"the exported file does not compute what was trained: {parity}; allowed with {scheme.scale} scales: "
            f"{bound.max_lsb} LSB on {100 * bound.max_share:.0f} % of them. Nothing was written; where values lie half "
            "way between two integers, training with another seed (--set seed=1) moves them, and --pot gives the same "
            "integers everywhere"
        )


def _student(run: Run, splits: Splits, *, power_of_two: bool) -> Student:
    network, scheme = load_quantized(run, splits.train.channels)
    student = float_student_of(run, splits.train.channels)
    folded = quantize.fold_batchnorm(student)
    if not power_of_two or scheme.scale == "power_of_two":
        return Student(network, folded, scheme, np.array(run.manifest.base_mean, dtype=np.float32))
    scheme = scheme.model_copy(update={"scale": "power_of_two", "method": "ptq"})
    _require_fit(student, scheme, run.recipe.profile, splits.test)
    images = calibration_images(splits, run.recipe.quantize.calibration_images, run.recipe.seed)
    network = quantize.quantize_backbone(folded, scheme, quantize.calibrate_backbone(folded, images, scheme)).eval()
    return Student(network, folded, scheme, mean_embedding(network, splits.train))


def _require_fit(student: Backbone, scheme: QuantScheme, profile_name: str, images: ImageSet) -> None:
    """Refuse power-of-two scales where what they add to a pooling does not fit the profile."""
    profile = load_profile(profile_name)
    added = quantize.added_parameters(student, scheme, images.height, images.width)
    try:
        require_fit(student, profile.params.max, profile.name, added)
    except ModelError as error:
        raise ModelError(f"--pot: {error}; `edgekd distill --pot` trains one that does") from error


def _teacher_option(run: Run) -> str:
    record = run.manifest.stages.get("teach")
    return f" --teacher-weights {run.folder / record.file}" if record else ""


def _golden_vectors(student: Student, model: onnx.ModelProto, images: NDArray[np.uint8]) -> bytes:
    """Return an npz of the first inputs (n, c, h, w) and what the trained network makes of them (n, d), as integers.

    And under `float/TENSOR` what the float student has where the file has that integer tensor, for the first images.
    """
    scale = passes.tensor_scale(model, OUTPUT)
    embedding = integer_embeddings(student.network, scale, images).astype(_embedding_dtype(student.scheme))
    activations = float_activations(student.reference, images[:GOLDEN_FLOAT_IMAGES])
    floats = zip(passes.integer_activations(model), activations, strict=True)
    arrays: dict[str, Any] = {"pixels": to_int8(images), "embedding": embedding}
    arrays |= {f"{GOLDEN_FLOAT}/{tensor}": values for tensor, values in floats}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _run_onnx(model: onnx.ModelProto, images: NDArray[np.uint8]) -> NDArray[np.integer]:
    session = open_session(model.SerializeToString())
    pixels = to_int8(images)
    return np.concatenate([session.run(None, {INPUT: pixels[row : row + 1]})[0] for row in range(len(pixels))])


def _embedding_dtype(scheme: QuantScheme) -> str:
    return "uint8" if scheme.relu_unsigned else "int8"


def _evenly(n: int, count: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, n - 1, min(n, count)).astype(np.int64))


def _weights_sha256(model: onnx.ModelProto) -> str:
    """SHA-256 over every initializer in file order: its name, shape and bytes."""
    parts = [
        f"{t.name}{list(t.dims)}".encode() + onnx.numpy_helper.to_array(t).tobytes() for t in model.graph.initializer
    ]
    return sha256_bytes(b"".join(parts))
