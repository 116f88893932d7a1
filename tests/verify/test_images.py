"""What a file may ask of images, how pixels enter it, and what its integer outputs are worth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from edgekd.errors import DataError, ModelError, UsageError
from edgekd.runtime import Embedder, OutputFormat
from edgekd.verify import Options, Report, Request, verify
from edgekd.verify.outputs import output_format
from edgekd.verify.reading import read_graph

QUICK: dict[str, Any] = {"episodes": 20, "query": 2, "way": 2, "shots": (1,)}
PROFILE = "stm32h743"


@pytest.fixture
def spec(tmp_path: Path) -> str:
    for shade in range(3):
        folder = tmp_path / "images" / "test" / f"c{shade}"
        folder.mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (8, 8), (60 * shade + number, 90, 200)).save(folder / f"{number}.png")
    for split in ("train", "val"):
        folder = tmp_path / "images" / split / f"of_{split}"
        folder.mkdir(parents=True)
        Image.new("RGB", (8, 8), (1, 2, 3 + len(split))).save(folder / "0.png")
    return f"folder:{tmp_path / 'images'}"


def chain(
    path: Path,
    shape: Sequence[int | str],
    kind: int = TensorProto.FLOAT,
    *,
    codes: tuple[float, Any] | None = None,
) -> Path:
    """Save a graph that flattens its input, as float or quantized by (scale, zero point) `codes`."""
    nodes = [helper.make_node("Cast", ["pixels"], ["real"], to=TensorProto.FLOAT)]
    nodes.append(helper.make_node("Flatten", ["real"], ["flat"]))
    output, out_kind, stored = "flat", TensorProto.FLOAT, []
    if codes:
        scale, zero = np.float32(codes[0]), np.asarray(codes[1])
        stored = [numpy_helper.from_array(np.array(scale), "s"), numpy_helper.from_array(zero, "z")]
        nodes.append(helper.make_node("QuantizeLinear", ["flat", "s", "z"], ["codes"]))
        output, out_kind = "codes", helper.np_dtype_to_tensor_dtype(zero.dtype)
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("pixels", kind, shape)],
        [helper.make_tensor_value_info(output, out_kind, None)],
        stored,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path)
    return path


@pytest.fixture
def measured(tmp_path: Path, spec: str) -> Callable[..., Report]:
    def run(*shape: int | str, **options: Any) -> Report:
        codes, kind = options.pop("codes", None), options.pop("kind", TensorProto.FLOAT)
        path = chain(tmp_path / "m.onnx", shape, kind, codes=codes)
        return verify(path, PROFILE, options=Options(data=spec, **{**QUICK, **options}))

    return run


@pytest.mark.parametrize(
    ("shape", "complaint"),
    [
        ((1, 3, 100_000, 100_000), "1 x 3 x 100000 x 100000: the limit is 4,096 px a side"),
        ((10**6, 3, 8, 8), "one batch takes 768,000,000 bytes, the limit is 268,435,456"),
        ((1, 8, 64, 3), "8 channels: images have 1"),
        ((1, 5, 8, 8), "5 channels: images have 1"),
        ((1, 192), r"images enter as \(batch, channels, height, width\) or"),
    ],
    ids=["huge", "batch", "elongated", "channels", "rank"],
)
def test_an_input_that_takes_no_images_keeps_the_static_report(
    measured: Callable[..., Report], shape: tuple[int, ...], complaint: str
) -> None:
    report = measured(*shape)
    (error,) = report.errors
    with pytest.raises(AssertionError, match=complaint):
        raise AssertionError(error)
    (found,) = [finding for finding in report.findings if finding.rule == "few-shot-accuracy"]
    assert found.status == "unknown"
    assert error in found.message
    assert len(report.findings) > 10
    assert report.accuracy == ()


def test_images_that_fill_the_memory_together_are_refused_with_the_number(
    measured: Callable[..., Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgekd.data.preprocess.LARGEST_SET_BYTES", 10_000)
    (error,) = measured(1, 3, 64, 64).errors
    assert "12 images of 64 x 64 x 3 take 147,456 bytes together, the limit is 10,000" in error


def test_embeddings_that_fill_the_memory_are_refused(
    measured: Callable[..., Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgekd.verify.accuracy.LARGEST_EMBEDDINGS_BYTES", 1000)
    (error,) = measured(1, 3, 8, 8).errors
    assert "12 embeddings of 192 values take 9,216 bytes, the limit is 1,000" in error


def test_a_size_beyond_the_limit_is_refused_before_a_file_is_read() -> None:
    with pytest.raises(UsageError, match="size must be at most 4,096, not 100,000"):
        Request(size=100_000).check()


def test_images_that_are_not_there_are_still_an_error_of_the_user(tmp_path: Path) -> None:
    path = chain(tmp_path / "m.onnx", (1, 3, 8, 8))
    with pytest.raises(DataError, match="nothing at"):
        verify(path, PROFILE, options=Options(data=f"folder:{tmp_path / 'absent'}", **QUICK))


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        ("edgekd", lambda x: (x - 128) / 128),
        ("unit", lambda x: x / 255),
        ("raw", lambda x: x),
        ("imagenet", lambda x: (x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]),
    ],
)
def test_pixels_enter_a_float_input_as_asked(
    tmp_path: Path, pixels: str, expected: Callable[[Any], Any], measured: Callable[..., Report]
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3)).astype(np.uint8)
    embedder = Embedder(chain(tmp_path / "f.onnx", ("n", 3, 8, 8)), pixels=pixels)
    wanted = expected(images.astype(np.float64)).transpose(0, 3, 1, 2).reshape(5, -1)
    np.testing.assert_allclose(embedder.embed(images), wanted, rtol=1e-5, atol=1e-5)
    assert measured(1, 3, 8, 8, pixels=pixels).pixels == embedder.pixel_words


def test_integer_inputs_take_pixels_as_their_type_says(tmp_path: Path, measured: Callable[..., Report]) -> None:
    images = np.arange(192, dtype=np.uint8).reshape(1, 8, 8, 3)
    path = chain(tmp_path / "u.onnx", (1, 3, 8, 8), TensorProto.UINT8)
    np.testing.assert_array_equal(Embedder(path).embed(images), images.transpose(0, 3, 1, 2).reshape(1, -1))
    assert measured(1, 3, 8, 8, kind=TensorProto.UINT8).pixels == "pixel, 0..255"
    assert measured(1, 3, 8, 8, kind=TensorProto.INT8).pixels == "pixel - 128"
    with pytest.raises(UsageError, match="pixels 'unit' are for float inputs"):
        Embedder(path, pixels="unit")
    with pytest.raises(UsageError, match="Did you mean 'unit'"):
        Request(pixels="units").check()


@pytest.mark.parametrize(("scale", "zero"), [(0.05, np.uint8(77)), (2.0**-5, np.int8(-3)), (0.25, np.int8(0))])
def test_integer_outputs_are_worth_what_the_graph_says(
    tmp_path: Path, scale: float, zero: Any, measured: Callable[..., Report]
) -> None:
    images = np.random.default_rng(1).integers(0, 256, (3, 8, 8, 3)).astype(np.uint8)
    path = chain(tmp_path / "q.onnx", (1, 3, 8, 8), codes=(scale, zero))
    found = output_format(read_graph(path))
    assert found == OutputFormat(float(np.float32(scale)), int(zero))
    reals = (images.astype(np.float64) - 128).transpose(0, 3, 1, 2).reshape(3, -1) / 128
    low, high = np.iinfo(zero.dtype).min, np.iinfo(zero.dtype).max
    clipped = np.clip(reals, (low - int(zero)) * scale, (high - int(zero)) * scale)
    embedded = Embedder(path, output=found).embed(images)
    assert np.abs(embedded - clipped).max() <= scale / 2 + 1e-6
    assert {row.engine for row in measured(1, 3, 8, 8, codes=(scale, zero)).accuracy} >= {"onnxruntime"}
    with pytest.raises(ModelError, match="its scale is unknown"):
        Embedder(path)
