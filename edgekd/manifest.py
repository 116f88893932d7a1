"""What export tells verify: who made the file, from which data, how pixels enter and how embeddings leave.

The manifest travels inside the ONNX file, as JSON under one key of `metadata_props`: `verify` needs nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from edgekd.errors import ModelError
from edgekd.text import escaped, harmless

METADATA_KEY = "edgekd"
GOLDEN_FLOAT = "float"  # golden.npz holds under float/TENSOR what the float student has for that integer tensor
FORMAT: Final = 1
LONGEST_TEXT = 1_000  # characters
LONGEST_PROFILE = 2**20  # characters
MOST_ROWS = 1_000  # stages, and accuracies of one


def _require_harmless(text: str) -> str:
    if not harmless(text):
        raise ValueError(f"it has characters that cannot be printed: {text!a}")
    return text


# The file may come from anyone, and all that it says is printed.
Text = Annotated[str, Field(max_length=LONGEST_TEXT), AfterValidator(_require_harmless)]


Fraction = Annotated[float, Field(ge=0, le=1)]
Width = Annotated[float, Field(ge=0, allow_inf_nan=False)]  # of an interval: of few episodes it may be above 1
Count = Annotated[int, Field(ge=0)]
Number = Annotated[int, Field(ge=1)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class DataRef(_Frozen):
    """The images that the accuracy of this file is measured on; `fingerprint` is the SHA-256 of that split."""

    spec: Text
    split: Text
    fingerprint: Text
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
    either way. A bias is a stored number of `bias_bits` times 2^`bias_shift_bits`; the file holds the product as int32.
    """

    weight_bits: int = Field(default=8, ge=2, le=8)
    act_bits: int = Field(default=8, ge=2, le=8)
    granularity: Literal["per_tensor", "per_channel"] = "per_channel"
    scale: Literal["float", "power_of_two"] = "float"
    relu_unsigned: bool = True
    bias_bits: int = Field(default=32, ge=2, le=32)
    bias_shift_bits: int = Field(default=0, ge=0, le=24)
    method: Literal["qat", "ptq"] = "qat"


class TensorRef(_Frozen):
    """A graph input or output: `real value = scale * integer`."""

    name: Text
    dtype: Text
    scale: float = Field(gt=0)


class AccuracyRow(_Frozen):
    """One few-shot accuracy; `mean` is a fraction in 0..1, `ci95` half the width of its interval."""

    dataset: Text
    split: Text
    way: Number
    shot: Number
    query: Number
    episodes: Number
    head: Text
    engine: Text
    mean: Fraction
    ci95: Width


class Classification(_Frozen):
    """How well a network's own head names the class of each image; every share is a fraction in 0..1.

    `ci95` is the distance from `accuracy` to the further end of its 95 % interval. macro: the mean over classes; micro:
    over all images, which with one label an image equals the accuracy.
    """

    dataset: Text
    split: Text
    images: int = Field(ge=1)
    classes: int = Field(ge=1)
    accuracy: Fraction
    ci95: Width
    macro_f1: Fraction
    macro_precision: Fraction
    macro_recall: Fraction
    micro_f1: Fraction
    micro_precision: Fraction
    micro_recall: Fraction


class OwnMeasure(_Frozen):
    """What a learner judges embeddings by: a share of `trials` draws from the images; `mean`, `ci95` are fractions."""

    name: Text
    dataset: Text
    split: Text
    trials: int = Field(ge=1)
    mean: Fraction
    ci95: Width


class StageResult(_Frozen):
    """One step on the way to the deployed file, with its size and accuracy.

    `parameters` counts weights and biases after BatchNorm is folded; `weight_bytes` is what they take at this stage.
    `classification` is there where the stage trained a head and the test images are of the training classes; `measures`
    are those of the learners that the recipe names.
    """

    stage: Text
    backbone: Text
    parameters: Count
    weight_bytes: Count
    accuracy: tuple[AccuracyRow, ...] = Field(default=(), max_length=MOST_ROWS)
    classification: Classification | None = None
    measures: tuple[OwnMeasure, ...] = Field(default=(), max_length=MOST_ROWS)


class Manifest(_Frozen):
    """Everything `verify` and the runtime need to know about an exported file.

    `profile_toml` is the profile as it was, whole: a board's own file need not travel with the model.
    """

    format: Literal[1] = FORMAT
    edgekd: Text
    versions: dict[Text, Text]
    profile: Text
    profile_sha256: Text
    profile_toml: str = Field(default="", max_length=LONGEST_PROFILE)
    data: DataRef
    preprocessing: Preprocessing
    quantization: QuantScheme
    input: TensorRef
    output: TensorRef
    base_mean: tuple[float, ...]
    lineage: tuple[StageResult, ...] = Field(default=(), max_length=MOST_ROWS)
    weights_sha256: Text
    golden_sha256: Text

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
            where = ".".join(str(part) for part in first["loc"])[:LONGEST_TEXT] or "the JSON text"
            text = escaped(f"{where}: {first['msg']}")
            raise ModelError(f"the manifest inside the ONNX file is damaged at {text}") from error
