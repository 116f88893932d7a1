"""What export tells verify: who made the file, from which data, how pixels enter and how embeddings leave.

The manifest travels inside the ONNX file, as JSON under one key of `metadata_props`: `verify` needs nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgekd.errors import ModelError

METADATA_KEY = "edgekd"
GOLDEN_FLOAT = "float"  # golden.npz holds under float/TENSOR what the float student has for that integer tensor
FORMAT: Final = 1


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataRef(_Frozen):
    """The images that the accuracy of this file is measured on; `fingerprint` is the SHA-256 of that split."""

    spec: str
    split: str
    fingerprint: str
    n_classes: int = Field(ge=1)
    novel: bool
    seed: int


class Preprocessing(_Frozen):
    """Resize to height x width, convert to `channels`; then int8 = pixel - offset, a step of which is worth `scale`."""

    height: int = Field(ge=1)
    width: int = Field(ge=1)
    channels: int = Field(ge=1)
    offset: int = 128
    scale: float = 1 / 128


class QuantScheme(_Frozen):
    """How numbers become integers: bit-widths, granularity of the weight scales, kind of every scale.

    `relu_unsigned`: what is never negative (ReLU outputs, the embedding) is unsigned, else signed; the zero point is 0
    either way.
    """

    weight_bits: int = Field(default=8, ge=2, le=8)
    act_bits: int = Field(default=8, ge=2, le=8)
    granularity: Literal["per_tensor", "per_channel"] = "per_channel"
    scale: Literal["float", "power_of_two"] = "float"
    relu_unsigned: bool = True
    method: Literal["qat", "ptq"] = "qat"


class TensorRef(_Frozen):
    """A graph input or output: `real value = scale * integer`."""

    name: str
    dtype: str
    scale: float = Field(gt=0)


class AccuracyRow(_Frozen):
    """One few-shot accuracy; `mean` and `ci95` are fractions in 0..1."""

    dataset: str
    split: str
    way: int
    shot: int
    query: int
    episodes: int
    head: str
    engine: str
    mean: float
    ci95: float


class StageResult(_Frozen):
    """One step on the way to the deployed file, with its size and accuracy.

    `parameters` counts weights and biases after BatchNorm is folded; `weight_bytes` is what they take at this stage.
    """

    stage: str
    backbone: str
    parameters: int
    weight_bytes: int
    accuracy: tuple[AccuracyRow, ...] = ()


class Manifest(_Frozen):
    """Everything `verify` and the runtime need to know about an exported file."""

    format: Literal[1] = FORMAT
    edgekd: str
    versions: dict[str, str]
    profile: str
    profile_sha256: str
    data: DataRef
    preprocessing: Preprocessing
    quantization: QuantScheme
    input: TensorRef
    output: TensorRef
    base_mean: tuple[float, ...]
    lineage: tuple[StageResult, ...] = ()
    weights_sha256: str
    golden_sha256: str

    def to_metadata(self) -> dict[str, str]:
        """Return the entries to write into the ONNX file's `metadata_props`."""
        return {METADATA_KEY: self.model_dump_json()}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> Manifest | None:
        """Read the manifest of an ONNX file; None where the file has none.

        Raises:
            ModelError: there is a manifest but it is damaged or of another format.
        """
        text = metadata.get(METADATA_KEY)
        if text is None:
            return None
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the JSON text"
            raise ModelError(f"the manifest inside the ONNX file is damaged at {where}: {first['msg']}") from error
