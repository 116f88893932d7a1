"""The exported file of one tiny finished run, and files quantized directly for what no tiny run shows."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edgekd import export, passes
from edgekd.data import ImageSet, load_split
from edgekd.data.preprocess import to_int8
from edgekd.distill import quantize
from edgekd.distill.backbones import build_backbone, deployed_parameters
from edgekd.distill.embed import embed as embed_float
from edgekd.distill.pipeline import run_distillation
from edgekd.distill.quantizing import float_student_of, load_quantized
from edgekd.distill.scheme import resolve_scheme
from edgekd.distill.session import Silent, Stopped, open_session
from edgekd.errors import ModelError, RunError, StorageError
from edgekd.files import sha256_file
from edgekd.manifest import METADATA_KEY, DataRef, Manifest, QuantScheme
from edgekd.profile import HardwareProfile, load_profile
from edgekd.profile_toml import profile_names
from edgekd.recipe import Quantize, load_recipe
from edgekd.run import Run
from edgekd.verify.costs import costs_of
from edgekd.verify.layers import layers_of
from edgekd.verify.pipeline import verify
from edgekd.verify.reading import read_graph

INTEGER_KERNELS = {"QLinearConv": 4, "Conv": 0, "FusedConv": 0, "QLinearGlobalAveragePool": 1, "GlobalAveragePool": 0}


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_toml: str) -> Run:
    """A finished tiny run; tests must not change its folder."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "tiny.toml").write_text(tiny_toml)
    return run_distillation(load_recipe(folder / "tiny.toml"), folder / "run", open_session("fp32", 0, cpu=True))


@pytest.fixture(scope="session")
def exported(finished: Run, tmp_path_factory: pytest.TempPathFactory) -> export.Exported:
    return export.export_run(finished, tmp_path_factory.mktemp("exported") / "model.onnx")


@pytest.fixture(scope="session")
def pixels(finished: Run) -> NDArray[np.int8]:
    """Every test image of the run as int8 (n, c, h, w)."""
    return to_int8(load_split(finished.recipe.data.spec, "test").images)


QCDQ = ("QuantizeLinear", "DequantizeLinear")


def session(
    path: Path | bytes, *, level: str = "ORT_ENABLE_ALL", int8_allowed: bool = False, optimized: Path | None = None
) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.log_severity_level = 3
    # The first is exact on CPUs without VNNI too; onnxruntime 1.31 cannot do both.
    options.add_session_config_entry(f"session.{'qdqisint8allowed' if int8_allowed else 'x64quantprecision'}", "1")
    if optimized:
        options.optimized_model_filepath = str(optimized)
    model = str(path) if isinstance(path, Path) else path
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def embed(path: Path | bytes, pixels: NDArray[np.int8], level: str = "ORT_ENABLE_ALL") -> NDArray[np.integer]:
    opened = session(path, level=level)
    return np.concatenate([opened.run(None, {"pixels": image[None]})[0] for image in pixels])


def optimized_kinds(path: Path, folder: Path, *, int8_allowed: bool = False) -> Counter[str]:
    """Count the operators of the graph that onnxruntime runs by default."""
    session(path, int8_allowed=int8_allowed, optimized=folder / "optimized.onnx")
    return Counter(node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node)


def quantized(scheme: QuantScheme, size: int, spec: str = "conv4-8") -> tuple[torch.nn.Module, ImageSet]:
    """A Conv4-8 with random weights, quantized by calibration on the images that come with it."""
    torch.manual_seed(0)
    backbone = build_backbone(spec, 3)
    pixels = np.random.default_rng(0).integers(0, 256, (24, size, size, 3), dtype=np.uint8)
    images = ImageSet("random", pixels, np.arange(24) % 2, ("a", "b"))
    inputs = torch.tensor(to_int8(pixels)) / 128
    for _ in range(10):  # settles the statistics of BatchNorm
        backbone(inputs)
    folded = quantize.fold_batchnorm(backbone)
    calibration = quantize.calibrate_backbone(folded, inputs, scheme)
    return quantize.quantize_backbone(folded, scheme, calibration).eval(), images


def scales(model: onnx.ModelProto) -> NDArray[np.float64]:
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    quantizers = [node for node in model.graph.node if node.op_type in {"QuantizeLinear", "DequantizeLinear"}]
    return np.concatenate([constants[node.input[1]].reshape(-1) for node in quantizers]).astype(np.float64)


def test_the_file_is_integer_at_both_ends(exported: export.Exported) -> None:
    model = onnx.load(exported.path)
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]
    assert (model.ir_version, model.producer_name) == (10, "edgekd")
    (pixels,), (embedding,) = model.graph.input, model.graph.output
    assert (pixels.name, pixels.type.tensor_type.elem_type) == ("pixels", onnx.TensorProto.INT8)
    assert [axis.dim_value for axis in pixels.type.tensor_type.shape.dim] == [1, 3, 16, 16]
    assert (embedding.name, embedding.type.tensor_type.elem_type) == ("embedding", onnx.TensorProto.UINT8)
    assert [axis.dim_value for axis in embedding.type.tensor_type.shape.dim] == [1, 8]
    assert Counter(node.op_type for node in model.graph.node)["Clip"] == 0
    assert exported.bytes == exported.path.stat().st_size


def test_names_tell_the_place(exported: export.Exported) -> None:
    model = onnx.load(exported.path)
    names = {tensor.name for tensor in model.graph.initializer}
    for number in range(1, 5):
        assert {f"conv{number}.weight.value", f"conv{number}.bias.value"} <= names
    assert len({node.name for node in model.graph.node}) == len(model.graph.node)


def test_the_manifest_is_complete(exported: export.Exported, finished: Run) -> None:
    metadata = {entry.key: entry.value for entry in onnx.load(exported.path).metadata_props}
    assert json.loads(metadata[METADATA_KEY])["format"] == 1
    manifest = Manifest.from_metadata(metadata)
    assert manifest == exported.manifest
    assert manifest is not None
    assert manifest.profile_sha256 == load_profile("tu_accel_150k").sha256
    assert manifest.data == finished.manifest.data
    assert isinstance(manifest.data, DataRef)
    assert (manifest.preprocessing.height, manifest.preprocessing.channels) == (16, 3)
    assert (manifest.input.dtype, manifest.input.scale) == ("int8", 1 / 128)
    assert (manifest.output.dtype, manifest.quantization) == ("uint8", QuantScheme())
    assert manifest.output.scale == passes.tensor_scale(onnx.load(exported.path), "embedding")
    assert [stage.stage for stage in manifest.lineage] == ["teach", "scratch", "distill", "meta", "quantize"]
    assert all([row.shot for row in stage.accuracy] == [1, 5] for stage in manifest.lineage)
    assert len(manifest.base_mean) == 8
    assert manifest.golden_sha256 == sha256_file(exported.golden)
    assert {"torch", "brevitas", "onnx", "python"} <= manifest.versions.keys()


def test_golden_vectors_hold_the_float_student_beside_each_integer_tensor(
    exported: export.Exported, finished: Run
) -> None:
    model = onnx.load(exported.path)
    tensors = ["quantizelinear2.out", "quantizelinear3.out", "quantizelinear4.out", "quantizelinear5.out"]
    with np.load(exported.golden, allow_pickle=False) as golden:
        floats = {name.partition("/")[2]: golden[name] for name in golden.files if name.startswith("float/")}
        pixels = golden["pixels"][: export.GOLDEN_FLOAT_IMAGES]
    assert list(floats) == [*tensors, "quantizelinear6.out"]
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.UINT8, None) for name in floats)
    integers = session(model.SerializeToString(), level="ORT_DISABLE_ALL").run(list(floats), {"pixels": pixels[:1]})
    for name, found in zip(floats, integers, strict=True):
        real = found.astype(np.float64) * passes.tensor_scale(model, name)
        noise = np.square(real - floats[name][:1]).mean()
        assert np.square(floats[name][:1].astype(np.float64)).mean() > 30 * noise  # 15 dB: the same activation
    student = float_student_of(finished, 3)
    assert np.allclose(
        floats["quantizelinear6.out"][:, :, 0, 0],
        embed_float(student, np.moveaxis(pixels, 1, -1).astype(np.int16) + 128),
        atol=1e-2,
    )


@pytest.mark.parametrize("level", ["ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_ALL"])
def test_golden_vectors_come_out_again(exported: export.Exported, level: str) -> None:
    with np.load(exported.golden, allow_pickle=False) as golden:
        pixels, expected = golden["pixels"], golden["embedding"]
    found = embed(exported.path, pixels, level)
    assert (pixels.dtype, expected.dtype) == (np.int8, found.dtype)
    assert len(np.unique(expected)) > 10
    tolerance = 0 if exported.parity.differing == 0 and level == "ORT_ENABLE_ALL" else 1
    assert np.abs(found.astype(int) - expected).max() <= tolerance


def test_a_runtime_makes_integer_kernels_of_it(exported: export.Exported, tmp_path: Path) -> None:
    kinds = optimized_kinds(exported.path, tmp_path)
    assert {kind: kinds[kind] for kind in INTEGER_KERNELS} == INTEGER_KERNELS


@pytest.mark.parametrize("size", [32, 80])
def test_a_signed_scheme_makes_integer_kernels_where_int8_is_allowed(tmp_path: Path, size: int) -> None:
    network, images = quantized(QuantScheme(relu_unsigned=False), size)
    model = export.to_integer_onnx(network, images)
    onnx.save(model, tmp_path / "signed.onnx")
    assert model.graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.INT8
    kinds = optimized_kinds(tmp_path / "signed.onnx", tmp_path, int8_allowed=True)
    assert {kind: kinds[kind] for kind in INTEGER_KERNELS} == INTEGER_KERNELS
    parity = export.compare(network, model, images.images)
    assert parity.max_lsb <= 1
    assert parity.share < 0.03  # of 192 elements


@pytest.mark.parametrize("granularity", ["per_tensor", "per_channel"])
@pytest.mark.parametrize("relu_unsigned", [True, False], ids=["unsigned", "signed"])
@pytest.mark.parametrize(("size", "sums"), [(32, 0), (80, 1)], ids=["mean", "sum"])
def test_powers_of_two_are_exact(granularity: str, relu_unsigned: bool, size: int, sums: int) -> None:
    scheme = QuantScheme.model_validate(
        {"scale": "power_of_two", "granularity": granularity, "relu_unsigned": relu_unsigned}
    )
    network, images = quantized(scheme, size)
    model = export.to_integer_onnx(network, images)
    kinds = Counter(node.op_type for node in model.graph.node)
    assert (kinds["Conv"], kinds["GlobalAveragePool"]) == (4 + sums, 1 - sums)
    exponents = np.log2(scales(model))
    assert np.array_equal(exponents, np.rint(exponents))
    parity = export.compare(network, model, images.images)
    assert (parity.elements, parity.differing) == (24 * 8, 0)
    content = model.SerializeToString()
    plain, optimized = (embed(content, to_int8(images.images), f"ORT_{level}_ALL") for level in ("DISABLE", "ENABLE"))
    assert np.array_equal(plain, optimized)
    assert len(np.unique(plain)) > 5


@pytest.mark.parametrize("spec", ["convnet:8-8-8-8/4/signed", "convnet:8-8-8/2/signed"], ids=["pooled", "unpooled"])
@pytest.mark.parametrize("scale", ["float", "power_of_two"])
def test_a_signed_embedding_adds_nothing_to_the_file(spec: str, scale: str, tmp_path: Path) -> None:
    """Its last ReLU is gone, and its last normalization is in the last convolution."""
    scheme = QuantScheme.model_validate({"scale": scale, "relu_unsigned": False})
    network, images = quantized(scheme, 32, spec)
    model = export.to_integer_onnx(network, images)
    kinds = Counter(node.op_type for node in model.graph.node)
    assert (kinds["Conv"], kinds["Relu"]) == (spec.count("8"), spec.count("8") - 1)
    assert kinds.keys() <= {"Conv", "Relu", "MaxPool", "GlobalAveragePool", "Flatten", *QCDQ}
    export.require_parity(export.compare(network, model, images.images), scheme)
    embeddings = embed(model.SerializeToString(), to_int8(images.images))
    assert embeddings.min() < 0 < embeddings.max()


def test_biases_are_what_the_target_stores() -> None:
    scheme = QuantScheme(scale="power_of_two", granularity="per_tensor", bias_bits=8, bias_shift_bits=7)
    network, images = quantized(scheme, 32)
    model = export.to_integer_onnx(network, images)
    assert export.compare(network, model, images.images).differing == 0
    constants = [onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    stored = np.concatenate([values for values in constants if values.dtype == np.int32 and values.ndim == 1])
    assert np.any(stored)
    assert not np.any(stored % 128)
    assert np.all((stored >= -128 * 128) & (stored <= 127 * 128))


@pytest.mark.parametrize("name", profile_names())
def test_a_file_made_for_a_profile_is_in_its_formats(name: str, tmp_path: Path) -> None:
    """Nothing but the accuracy and the size of a network is left to the user: every shipped profile takes its file."""
    profile = load_profile(name)
    network, images = quantized(resolve_scheme(profile, Quantize()), 32)
    onnx.save(export.to_integer_onnx(network, images), tmp_path / "model.onnx")
    report = verify(tmp_path / "model.onnx", profile=profile, static=True)
    assert [f"{finding.rule}: {finding.message}" for finding in report.findings if finding.status == "fail"] == []


def test_a_float_run_exports_powers_of_two_on_demand(finished: Run, tmp_path: Path) -> None:
    done = export.export_run(finished, tmp_path / "pot.onnx", power_of_two=True)
    assert done.parity.differing == 0
    scheme = done.manifest.quantization
    assert (scheme.scale, scheme.method) == ("power_of_two", "ptq")
    assert done.manifest.base_mean != finished.manifest.base_mean
    exponents = np.log2(scales(onnx.load(done.path)))
    assert np.array_equal(exponents, np.rint(exponents))


def test_power_of_two_scales_that_add_too_much_are_refused(
    finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tight = HardwareProfile.model_validate({"name": "tight", "params": {"max": 1_984}})  # conv4-8 has 1,976
    monkeypatch.setattr(export, "load_profile", lambda _: tight)
    monkeypatch.setattr(quantize, "added_parameters", lambda *_: 9)
    message = r"--pot: conv4-8 has 1,976 .* adds 9; tight holds 1,984: 1 too many; .*`edgekd distill --pot`"
    with pytest.raises(ModelError, match=message):
        export.export_run(finished, tmp_path / "pot.onnx", power_of_two=True)
    assert not list(tmp_path.iterdir())


def test_a_batch_is_as_good_as_single_images(finished: Run, tmp_path: Path, pixels: NDArray[np.int8]) -> None:
    done = export.export_run(finished, tmp_path / "batch.onnx", dynamic_batch=True)
    opened = session(done.path)
    assert opened.get_inputs()[0].shape == ["batch", 3, 16, 16]
    assert opened.get_outputs()[0].shape == ["batch", 8]
    together = opened.run(None, {"pixels": pixels[:3]})[0]
    assert together.shape == (3, 8)
    assert np.array_equal(together, embed(done.path, pixels[:3]))


def test_the_trained_model_is_asked_in_double_precision(
    finished: Run, exported: export.Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What its integers are compared with does not depend on the order of sums in fp32; the network stays as it was."""
    network, _ = load_quantized(finished, 3)
    images = load_split(finished.recipe.data.spec, "test").images[:8]
    asked: list[torch.dtype] = []

    def recorded(exact: torch.nn.Module, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        asked.extend(parameter.dtype for parameter in exact.parameters())
        return embed_float(exact, pixels)

    monkeypatch.setattr(export, "embed", recorded)
    found = export.integer_embeddings(network, exported.manifest.output.scale, images)
    assert set(asked) == {torch.float64}
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    assert np.abs(found - embed(exported.path, to_int8(images))).max() <= 1


def test_training_and_verification_count_the_same_parameters(exported: export.Exported, finished: Run) -> None:
    graph = read_graph(exported.path)
    costs = costs_of(graph, layers_of(graph, 8))
    weights = 3 * 8 * 9 + 3 * 8 * 8 * 9
    assert costs.parameters == weights + 4 * 8
    assert costs.parameters == deployed_parameters(build_backbone(finished.recipe.student.backbone, 3))
    record = finished.manifest.stages["quantize"].result
    assert (record.parameters, record.weight_bytes) == (costs.parameters, costs.weight_bytes)


def test_the_same_run_exports_the_same_bytes(finished: Run, exported: export.Exported, tmp_path: Path) -> None:
    again = export.export_run(finished, tmp_path / "model.onnx")
    assert again.path.read_bytes() == exported.path.read_bytes()
    assert again.golden.read_bytes() == exported.golden.read_bytes()


def test_an_unfinished_run_is_refused(tmp_path: Path, tiny_recipe: Path) -> None:
    class StopAtOnce(Silent):
        def step(self, images: int) -> None:
            opened.deadline.signalled = "enough"

    opened = open_session("fp32", 0, None, StopAtOnce(), cpu=True)
    with pytest.raises(Stopped):
        run_distillation(load_recipe(tiny_recipe), tmp_path / "run", opened)
    with pytest.raises(RunError, match="run is not finished"):
        export.export_run(Run.open(tmp_path / "run"), tmp_path / "model.onnx")
    assert not list(tmp_path.glob("*.onnx"))


@pytest.mark.parametrize(
    ("scale", "parity", "allowed"),
    [
        ("float", export.Parity(1000, 10, 1), True),
        ("float", export.Parity(1000, 11, 1), False),
        ("float", export.Parity(1000, 1, 2), True),
        ("float", export.Parity(1000, 1, 3), False),
        ("power_of_two", export.Parity(1000, 0, 0), True),
        ("power_of_two", export.Parity(1000, 1, 1), False),
    ],
)
def test_parity_is_required(scale: str, parity: export.Parity, allowed: bool) -> None:
    scheme = QuantScheme.model_validate({"scale": scale})
    if allowed:
        export.require_parity(parity, scheme)
        return
    with pytest.raises(ModelError, match=rf"does not compute what was trained: {parity.differing} of 1000 .* {scale}"):
        export.require_parity(parity, scheme)


def test_a_folder_that_cannot_be_written_is_left_as_it_was(finished: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StorageError, match="cannot write"):
        export.export_run(finished, tmp_path / "file" / "model.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_model_that_cannot_be_written_leaves_no_golden_vectors(finished: Run, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").mkdir()
    with pytest.raises(StorageError, match=r"cannot write .*model\.onnx"):
        export.export_run(finished, tmp_path / "model.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize(("spec", "channels", "size"), [("cnn3:8", 3, 8), ("mlp:64-24-10", 1, 8)])
@pytest.mark.parametrize("scale", ["float", "power_of_two"])
def test_linear_layers_are_integer_in_the_file(spec: str, channels: int, size: int, scale: str) -> None:
    torch.manual_seed(0)
    pixels = np.random.default_rng(0).integers(0, 256, (24, size, size, channels), dtype=np.uint8)
    images = ImageSet("random", pixels, np.arange(24) % 2, ("a", "b"))
    scheme = QuantScheme.model_validate({"scale": scale})
    folded = quantize.fold_batchnorm(build_backbone(spec, channels))
    calibration = quantize.calibrate_backbone(folded, torch.tensor(to_int8(pixels)) / 128, scheme)
    network = quantize.quantize_backbone(folded, scheme, calibration).eval()
    model = export.to_integer_onnx(network, images)
    assert model.graph.output[0].type.tensor_type.elem_type == TensorProto.UINT8
    export.require_parity(export.compare(network, model, pixels), scheme)
