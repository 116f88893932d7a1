"""A file whose image input has its channels last is measured as its twin with channels first is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from edgekd.errors import ModelError
from edgekd.runtime import Embedder, OutputFormat
from edgekd.verify import Options, Report, verify

PROFILE = "stm32h743"
SIZE, CLASSES, IMAGES = 16, 3, 5
KINDS = ["int8", "float", "float quantized first", "gray"]


@pytest.fixture
def spec(tmp_path: Path) -> str:
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for index in range(CLASSES):
            folder = tmp_path / "images" / split / f"{split}{index}"
            folder.mkdir(parents=True)
            base = rng.integers(0, 200, (SIZE, SIZE, 3))
            for number in range(IMAGES):
                noisy = (base + rng.integers(0, 56, base.shape)).astype(np.uint8)
                Image.fromarray(noisy).save(folder / f"{number}.png")
    return f"folder:{tmp_path / 'images'}"


def with_float_pixels(model: onnx.ModelProto) -> onnx.ModelProto:
    """Quantize float pixels first, in place of reading integers."""
    graph = model.graph
    graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT
    first = graph.node[0]
    quantize = helper.make_node("QuantizeLinear", ["pixels", *first.input[1:]], ["codes"], name="Entry")
    first.input[0] = "codes"
    graph.node.insert(0, quantize)
    return model


def channels_last(model: onnx.ModelProto, *, after: int = 0) -> onnx.ModelProto:
    """Put a Transpose in front of the node at `after`."""
    graph = model.graph
    dims = [dim.dim_value for dim in graph.input[0].type.tensor_type.shape.dim]
    kind = graph.input[0].type.tensor_type.elem_type
    shape = [dims[0], *dims[2:], dims[1]]
    graph.input[0].CopyFrom(helper.make_tensor_value_info("pixels", kind, shape))
    reader = graph.node[after]
    graph.node.insert(
        after, helper.make_node("Transpose", [reader.input[0]], ["first"], name="Transpose", perm=[0, 3, 1, 2])
    )
    reader.input[0] = "first"
    return model


@pytest.fixture
def twins(conv4: Callable[..., Any], tmp_path: Path) -> Callable[[str], tuple[Path, Path]]:
    """Save the same network with channels first and with channels last."""

    def build(kind: str) -> tuple[Path, Path]:
        def model() -> onnx.ModelProto:
            plain = conv4(width=6, size=SIZE, channels=1 if kind == "gray" else 3).model()
            return with_float_pixels(plain) if "float" in kind else plain

        last = channels_last(model(), after=1 if "first" in kind else 0)
        paths = tmp_path / "first.onnx", tmp_path / "last.onnx"
        for path, content in zip(paths, (model(), last), strict=True):
            path.write_bytes(content.SerializeToString())
        return paths

    return build


def measured(path: Path, spec: str) -> Report:
    options = Options(data=spec, way=3, shots=(1,), query=3, episodes=30, requant=("ort", "tflm"))
    return verify(path, PROFILE, options=options)


@pytest.mark.parametrize("kind", KINDS)
def test_accuracy_is_that_of_the_twin(twins: Callable[[str], tuple[Path, Path]], spec: str, kind: str) -> None:
    first, last = (measured(path, spec) for path in twins(kind))
    engines = {row.engine for row in first.accuracy}
    assert engines == {"onnxruntime", "onnxruntime:unoptimized", "integer:ort", "integer:tflm"}
    assert last.accuracy == first.accuracy
    assert last.engines == first.engines
    assert last.errors == ()
    assert last.pixels == f"{first.pixels}, channels last (NHWC)"
    (notice,) = set(last.warnings) - set(first.warnings)
    assert notice.startswith("the shape of the input reads as channels last (NHWC)")


@pytest.mark.parametrize("kind", KINDS)
def test_embeddings_are_those_of_the_twin(twins: Callable[[str], tuple[Path, Path]], kind: str) -> None:
    images = np.random.default_rng(1).integers(0, 256, (5, SIZE, SIZE, 1 if kind == "gray" else 3)).astype(np.uint8)
    first, last = (Embedder(path, output=OutputFormat(2.0**-4)) for path in twins(kind))
    np.testing.assert_array_equal(first.embed(images), last.embed(images))
    with pytest.raises(ModelError, match=r"takes images of 16 x 16 x [13] \(height x width x channels\), not 15"):
        last.embed(images[:, 1:])


def test_a_convolution_tells_that_channels_are_first(qcdq: type[Any], tmp_path: Path, spec: str) -> None:
    """A shape alone may lie: what reads the input directly says which axis the channels are."""
    net = qcdq(8, 3)
    net.input_shape = [1, 8, 8, 3]
    report = measured(net.conv(4).save(tmp_path / "model.onnx"), spec)
    (error,) = report.errors
    assert "8 channels: images have 1" in error
