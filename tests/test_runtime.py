from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgekd.errors import DataError, ModelError, UsageError
from edgekd.manifest import DataRef, Manifest, Preprocessing, QuantScheme, TensorRef
from edgekd.onnx_session import Optimization
from edgekd.runtime import Embedder

Pixels = NDArray[np.uint8]
Port = tuple[int, Sequence[int | str]]  # element type and shape

KERNELS = np.random.default_rng(0).integers(-127, 128, (3, 2, 2, 2)).astype(np.int8)  # (out, in, 2, 2)
BIAS = np.array([300, -200, 0], np.int32)
WEIGHT_SCALE, OUTPUT_SCALE = 2.0**-7, 2.0**-5
BASE_MEAN = tuple(np.linspace(0.1, 0.9, 12).tolist())


def make_manifest(base_mean: tuple[float, ...] = BASE_MEAN) -> Manifest:
    return Manifest(
        edgekd="0",
        versions={},
        profile="any",
        profile_sha256="0",
        data=DataRef(spec="glyphs", split="test", fingerprint="0", n_classes=2, novel=True, seed=0),
        preprocessing=Preprocessing(height=4, width=4, channels=2),
        quantization=QuantScheme(),
        input=TensorRef(name="pixels", dtype="int8", scale=1 / 128),
        output=TensorRef(name="embedding", dtype="int8", scale=OUTPUT_SCALE),
        base_mean=base_mean,
        weights_sha256="0",
        golden_sha256="0",
    )


def constants(**values: NDArray[np.generic] | np.generic) -> list[TensorProto]:
    return [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()]


def save_int8(path: Path, batch: int | str = 1, manifest: Manifest | None = None) -> Path:
    """One quantized 2x2 convolution with stride 2 on (batch, 2, 4, 4) int8 pixels, ReLU, 12 int8 values out."""
    initializers = constants(
        zero=np.int8(0),
        zero32=np.int32(0),
        pixel_scale=np.float32(1 / 128),
        weight=KERNELS,
        weight_scale=np.float32(WEIGHT_SCALE),
        bias=BIAS,
        bias_scale=np.float32(WEIGHT_SCALE / 128),
        output_scale=np.float32(OUTPUT_SCALE),
    )
    nodes = [
        helper.make_node("DequantizeLinear", ["pixels", "pixel_scale", "zero"], ["x"]),
        helper.make_node("DequantizeLinear", ["weight", "weight_scale", "zero"], ["w"]),
        helper.make_node("DequantizeLinear", ["bias", "bias_scale", "zero32"], ["b"]),
        helper.make_node("Conv", ["x", "w", "b"], ["conv"], strides=[2, 2]),
        helper.make_node("Relu", ["conv"], ["relu"]),
        helper.make_node("QuantizeLinear", ["relu", "output_scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "output_scale", "zero"], ["dq"]),
        helper.make_node("Flatten", ["dq"], ["flat"]),
        helper.make_node("QuantizeLinear", ["flat", "output_scale", "zero"], ["embedding"]),
    ]
    ports = (TensorProto.INT8, [batch, 2, 4, 4]), (TensorProto.INT8, [batch, 12])
    return save(path, nodes, *ports, initializers=initializers, manifest=manifest)


def save(
    path: Path,
    nodes: list[onnx.NodeProto],
    pixels: Port,
    embedding: Port,
    *,
    initializers: Sequence[TensorProto] = (),
    manifest: Manifest | None = None,
) -> Path:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("pixels", *pixels)],
        [helper.make_tensor_value_info("embedding", *embedding)],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    if manifest is not None:
        helper.set_model_props(model, manifest.to_metadata())
    onnx.save(model, path)
    return path


def save_identity(path: Path, shape: Sequence[int | str], dtype: int = TensorProto.FLOAT) -> Path:
    nodes = [helper.make_node("Flatten", ["pixels"], ["embedding"])]
    return save(path, nodes, (dtype, shape), (dtype, [shape[0], "values"]))


def expected_embeddings(images: Pixels) -> NDArray[np.float32]:
    """The same network by integer arithmetic: every scale is a power of two."""
    integers = images.astype(np.int64) - 128
    blocks = integers.reshape(-1, 2, 2, 2, 2, 2)  # (n, row, in row, column, in column, channel)
    accumulators = np.einsum("nrycxk,okyx->norc", blocks, KERNELS.astype(np.int64)) + BIAS[:, None, None]
    real = np.maximum(accumulators, 0) * (WEIGHT_SCALE / 128)
    quantized = np.clip(np.rint(real / OUTPUT_SCALE), -128, 127)
    embeddings: NDArray[np.float32] = (quantized * OUTPUT_SCALE).reshape(len(images), 12).astype(np.float32)
    return embeddings


def make_images(count: int, seed: int = 0, channels: int = 2) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (count, 4, 4, channels)).astype(np.uint8)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_int8(tmp_path / "model.onnx", manifest=make_manifest())


# ---------------------------------------------------------------------------------------------------------- embed


@pytest.mark.parametrize("batch", [1, 4, "batch"])
@pytest.mark.parametrize("threads", [0, 1, 3])
@pytest.mark.parametrize("count", [1, 37])
def test_int8_file_gives_the_integers_times_their_scale(
    tmp_path: Path, batch: int | str, threads: int, count: int
) -> None:
    embedder = Embedder(save_int8(tmp_path / "m.onnx", batch, make_manifest()), threads=threads)
    images = make_images(count)
    found = embedder.embed(images)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected_embeddings(images))
    assert len(np.unique(found)) >= 8


@pytest.mark.parametrize("optimization", ["none", "basic", "extended", "all"])
def test_every_optimization_level_agrees(model: Path, optimization: Optimization) -> None:
    images = make_images(9)
    found = Embedder(model, optimization=optimization).embed(images)
    np.testing.assert_array_equal(found, expected_embeddings(images))


def test_float_file_receives_pixels_between_minus_one_and_one(tmp_path: Path) -> None:
    embedder = Embedder(save_identity(tmp_path / "m.onnx", ["batch", 1, 2, 2]))
    images = np.array([0, 64, 128, 255], np.uint8).reshape(1, 2, 2, 1)
    np.testing.assert_array_equal(embedder.embed(images), [[-1.0, -0.5, 0.0, 127 / 128]])
    assert embedder.manifest is None
    assert embedder.base_mean is None


def test_channels_come_first(tmp_path: Path) -> None:
    embedder = Embedder(save_identity(tmp_path / "m.onnx", [1, 3, 1, 2]))
    images = np.array([[[[128, 129, 130], [131, 132, 133]]]], np.uint8)  # (1, 1, 2, 3)
    np.testing.assert_array_equal(embedder.embed(images) * 128, [[0, 3, 1, 4, 2, 5]])


# --------------------------------------------------------------------------------------------- enroll and classify


@pytest.mark.parametrize("head", ["cosine", "euclid", "centred"])
def test_enrolled_images_are_recognised(model: Path, head: str) -> None:
    embedder = Embedder(model)
    images = np.concatenate([make_images(1, seed).repeat(3, axis=0) for seed in range(3)])
    prototypes = embedder.enroll(images, ["key"] * 3 + ["cup"] * 3 + ["ant"] * 3, head)
    assert prototypes.class_names == ("key", "cup", "ant")
    assert prototypes.vectors.shape == (3, 12)
    found = embedder.classify(images[[8, 0, 4]], prototypes)
    assert found.names == ("ant", "key", "cup")
    assert found.scores.shape == (3, 3)
    np.testing.assert_allclose(found.scores.max(axis=1), 1.0 if head == "cosine" else 0.0, atol=1e-12)


def test_prototype_is_the_mean_embedding_and_score_the_cosine(model: Path) -> None:
    embedder = Embedder(model)
    images, query = make_images(4), make_images(5, seed=7)
    prototypes = embedder.enroll(images, ["a", "b", "a", "b"])
    means = np.stack(
        [expected_embeddings(images[[0, 2]]).mean(axis=0), expected_embeddings(images[[1, 3]]).mean(axis=0)]
    )
    np.testing.assert_allclose(prototypes.vectors, means, rtol=1e-6)
    embedding = expected_embeddings(query)
    cosines = embedding @ means.T / np.outer(np.linalg.norm(embedding, axis=1), np.linalg.norm(means, axis=1))
    found = embedder.classify(query, prototypes)
    np.testing.assert_allclose(found.scores, cosines, rtol=1e-5)
    assert found.names == tuple("ab"[best] for best in cosines.argmax(axis=1))


def test_centred_prototypes_use_the_mean_in_the_file(model: Path) -> None:
    prototypes = Embedder(model).enroll(make_images(1), ["a"], "centred")
    centred = expected_embeddings(make_images(1))[0] - np.array(BASE_MEAN)
    np.testing.assert_allclose(prototypes.vectors[0], centred / np.linalg.norm(centred), rtol=1e-6)


def test_one_label_an_image(model: Path) -> None:
    with pytest.raises(DataError, match="3 images, 2 labels"):
        Embedder(model).enroll(make_images(3), ["a", "b"])


def test_logistic_cannot_be_enrolled(model: Path) -> None:
    with pytest.raises(UsageError, match="'logistic' needs every support image"):
        Embedder(model).enroll(make_images(2), ["a", "b"], "logistic")


def test_centred_needs_a_mean_in_the_file(tmp_path: Path) -> None:
    embedder = Embedder(save_int8(tmp_path / "m.onnx", manifest=make_manifest(base_mean=())))
    with pytest.raises(UsageError, match="needs base_mean"):
        embedder.enroll(make_images(2), ["a", "b"], "centred")


def test_prototypes_of_another_model_are_refused(model: Path, tmp_path: Path) -> None:
    prototypes = Embedder(model).enroll(make_images(2), ["a", "b"])
    other = Embedder(save_int8(tmp_path / "other.onnx", 4, make_manifest()))
    with pytest.raises(ModelError, match="enrolled with another model"):
        other.classify(make_images(1), prototypes)


# ------------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    "images",
    [make_images(2)[0], make_images(2).astype(np.float32), make_images(0), list(make_images(2))],
    ids=["one", "float", "none", "list"],
)
def test_images_must_be_uint8_nhwc(model: Path, images: Pixels) -> None:
    with pytest.raises(DataError, match="images must be uint8"):
        Embedder(model).embed(images)


def test_images_of_another_size(model: Path) -> None:
    with pytest.raises(ModelError, match=r"takes images of 4 x 4 x 2 .* not 4 x 4 x 3"):
        Embedder(model).embed(make_images(1, channels=3))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no model file .*absent\.onnx"):
        Embedder(tmp_path / "absent.onnx")


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x0a" * 40])
def test_damaged_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "damaged.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"cannot read .*damaged\.onnx"):
        Embedder(path)


def test_graph_that_fails_at_run_time(tmp_path: Path) -> None:
    nodes = [helper.make_node("Reshape", ["pixels", "shape"], ["embedding"])]
    ports = (TensorProto.FLOAT, ["batch", "c", "h", "w"]), (TensorProto.FLOAT, [1, 7])
    path = save(tmp_path / "m.onnx", nodes, *ports, initializers=constants(shape=np.array([1, 7])))
    with pytest.raises(ModelError, match=r"cannot run .*m\.onnx"):
        Embedder(path).embed(make_images(1))


@pytest.mark.parametrize(
    ("shape", "dtype"), [([1, 4], TensorProto.FLOAT), ([1, 1, 2, 2], TensorProto.DOUBLE)], ids=["rank", "type"]
)
def test_input_that_is_no_image(tmp_path: Path, shape: Sequence[int | str], dtype: int) -> None:
    path = save_identity(tmp_path / "m.onnx", shape, dtype)
    with pytest.raises(ModelError, match="input 'pixels' must be int8, uint8 or float"):
        Embedder(path)


def test_integer_output_without_manifest(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="scale is unknown"):
        Embedder(save_int8(tmp_path / "m.onnx"))


@pytest.mark.parametrize(
    ("to", "shape"), [(TensorProto.INT64, ["batch", 2]), (TensorProto.FLOAT, ["batch"])], ids=["type", "rank"]
)
def test_output_that_is_no_embedding(tmp_path: Path, to: int, shape: Sequence[int | str]) -> None:
    nodes = [
        helper.make_node("ReduceMax", ["pixels"], ["max"], axes=[2, 3] if len(shape) == 2 else [1, 2, 3], keepdims=0),
        helper.make_node("Cast", ["max"], ["embedding"], to=to),
    ]
    path = save(tmp_path / "m.onnx", nodes, (TensorProto.FLOAT, ["batch", 2, 2, 2]), (to, shape))
    with pytest.raises(ModelError, match="output 'embedding' must be int8, uint8 or float"):
        Embedder(path)


def test_two_outputs(tmp_path: Path) -> None:
    path = save_identity(tmp_path / "m.onnx", ["batch", 1, 2, 2])
    graph = onnx.load(path)
    graph.graph.output.append(helper.make_tensor_value_info("second", TensorProto.FLOAT, ["batch", "values"]))
    graph.graph.node.append(helper.make_node("Identity", ["embedding"], ["second"]))
    onnx.save(graph, path)
    with pytest.raises(ModelError, match="one output, this file has 2: embedding, second"):
        Embedder(path)


def test_options_out_of_range(model: Path) -> None:
    with pytest.raises(UsageError, match="threads must be 0"):
        Embedder(model, threads=-1)
    with pytest.raises(UsageError, match=r"unknown optimization level 'al'\. Did you mean 'all'"):
        Embedder(model, optimization="al")  # type: ignore[arg-type]
