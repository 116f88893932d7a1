"""The whole way from a file to its report, and accuracy of a file on images that a channel's brightness tells apart."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from edgekd.data import load_split
from edgekd.errors import DataError, ModelError, ProfileError, UsageError
from edgekd.manifest import DataRef, Manifest, Preprocessing, QuantScheme, StageResult, TensorRef
from edgekd.profile import HardwareProfile, load_profile
from edgekd.verify import Options, Report, Unverified, collect, find_models, parse, verify, verify_each
from edgekd.verify.accuracy import Measured
from edgekd.verify.assembly import Computed, report_of
from edgekd.verify.facts import facts_of
from edgekd.verify.integer.simulator import Simulator
from edgekd.verify.reading import read_graph
from edgekd.verify.report import CONVENTION, Timings, verdict_of
from edgekd.verify.results import Certificate
from edgekd.verify.rules import Finding

QUICK: dict[str, Any] = {"episodes": 50, "query": 2, "way": 2, "shots": (1, 3)}


@pytest.fixture
def images(tmp_path: Path) -> str:
    """A folder of 6 classes a split, each a shade of its own with a little noise."""
    rng = np.random.default_rng(0)
    for at, split in enumerate(("train", "val", "test")):
        for shade in range(6):
            folder = tmp_path / "images" / split / f"{split}_{shade}"
            folder.mkdir(parents=True)
            for number in range(6):
                pixels = rng.integers(0, 9, (8, 8, 3)) + 40 * shade + at
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    return f"folder:{tmp_path / 'images'}"


def brightness_net(batch: int | str = 1, manifest: Manifest | None = None) -> onnx.ModelProto:
    """Embeds 8x8 RGB pixels as (mean, -mean, 1) of their brightness: cosine tells shades apart."""
    weights = np.concatenate([np.ones((1, 192)), -np.ones((1, 192)), np.zeros((1, 192))]).astype(np.int8)
    arrays: dict[str, NDArray[Any]] = {
        "s_in": np.array(2.0**-7, np.float32),
        "z": np.array(0, np.int8),
        "w": weights,
        "s_w": np.array(2.0**-8, np.float32),
        "b": np.array([0, 0, 2**14], np.int32),
        "s_b": np.array(2.0**-15, np.float32),
        "z_b": np.array(0, np.int32),
        "s_out": np.array(2.0**-6, np.float32),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["pixels", "s_in", "z"], ["x"]),
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("DequantizeLinear", ["w", "s_w", "z"], ["wf"]),
        helper.make_node("DequantizeLinear", ["b", "s_b", "z_b"], ["bf"]),
        helper.make_node("Gemm", ["flat", "wf", "bf"], ["y"], transB=1),
        helper.make_node("QuantizeLinear", ["y", "s_out", "z"], ["embedding"]),
    ]
    graph = helper.make_graph(
        nodes,
        "brightness",
        [helper.make_tensor_value_info("pixels", TensorProto.INT8, [batch, 3, 8, 8])],
        [helper.make_tensor_value_info("embedding", TensorProto.INT8, [batch, 3])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    if manifest:
        helper.set_model_props(model, manifest.to_metadata())
    return model


def make_manifest(spec: str, fingerprint: str, **changes: Any) -> Manifest:
    keys = {
        "edgekd": "0.1.0",
        "versions": {},
        "profile": "tu_accel_150k",
        "profile_sha256": load_profile("tu_accel_150k").sha256,
        "data": DataRef(spec=spec, split="test", fingerprint=fingerprint, n_classes=6, novel=True, seed=0),
        "preprocessing": Preprocessing(height=8, width=8, channels=3),
        "quantization": QuantScheme(scale="power_of_two"),
        "input": TensorRef(name="pixels", dtype="int8", scale=2.0**-7),
        "output": TensorRef(name="embedding", dtype="int8", scale=2.0**-6),
        "base_mean": (0.0, 0.0, 0.0),
        "lineage": (StageResult(stage="teach", backbone="resnet12", parameters=8_000_000, weight_bytes=32_000_000),),
        "weights_sha256": "",
        "golden_sha256": "",
    }
    return Manifest.model_validate(keys | changes)


def save(folder: Path, model: onnx.ModelProto) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def fingerprint_of(spec: str) -> str:
    return load_split(spec, "test").fingerprint


def test_the_json_has_every_key_of_the_contract(tmp_path: Path, conv4: Callable[..., Any]) -> None:
    path = conv4(width=64, size=84).save(tmp_path / "m.onnx")
    report = json.loads(verify(path, "tu_accel_150k", static=True).to_json())
    assert report["verdict"] == "unknown"
    assert report["model"] | {"path": "", "sha256": ""} == report["model"] | {
        "path": "",
        "sha256": "",
        "flavour": "qdq",
    }
    assert report["profile"] == {"name": "tu_accel_150k", "sha256": load_profile("tu_accel_150k").sha256}
    assert report["params"] == {"total": 112_576, "cap": 149_999, "convention": CONVENTION, "unknown": []}
    assert report["macs"] == 97_164_288
    memory = {
        key: report["memory"][key] for key in ("weight_bytes", "peak_activation_bytes", "peak_activation_bytes_fused")
    }
    assert memory == {"weight_bytes": 113_344, "peak_activation_bytes": 564_480, "peak_activation_bytes_fused": 141_120}
    assert report["memory"]["lower_bound_bytes"] == 564_480
    assert "minimal" in report["memory"]["planner"]
    keys = {"rule", "status", "node", "attribute", "value", "limit", "message", "source"}
    assert all(finding.keys() >= keys for finding in report["findings"])
    assert report["accuracy"] == []


CONTRACT: dict[str, set[str]] = {
    "Report": {"verdict", "model", "profile", "params", "macs", "memory", "findings", "accuracy"},
    "ModelRef": {"path", "sha256", "flavour"},
    "ProfileRef": {"name", "sha256"},
    "Params": {"total", "cap"},
    "Memory": {
        "weight_bytes",
        "peak_activation_bytes",
        "peak_activation_bytes_fused",
        "lower_bound_bytes",
        "planner",
    },
    "Finding": {"rule", "status", "node", "attribute", "value", "limit", "message", "source"},
    "AccuracyRow": {
        *("dataset", "split", "way", "shot", "query", "episodes", "head", "engine", "mean", "ci95"),
    },
}


@pytest.mark.parametrize("name", CONTRACT)
def test_the_json_schema_of_the_report_has_every_key_of_the_contract(name: str) -> None:
    schema = Report.model_json_schema(mode="serialization")
    described = schema if name == "Report" else schema["$defs"][name]
    assert described["properties"].keys() >= CONTRACT[name]
    assert schema["properties"]["verdict"]["enum"] == ["pass", "fail", "unknown"]


def test_a_report_is_valid_by_its_own_schema(tmp_path: Path, conv4: Callable[..., Any]) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    report = verify(conv4(width=4).save(tmp_path / "m.onnx"), "stm32h743", static=True)
    jsonschema.validate(json.loads(report.to_json()), Report.model_json_schema(mode="serialization"))
    assert Report.model_validate_json(report.to_json()) == report


def test_the_plan_says_where_every_tensor_lies(tmp_path: Path, conv4: Callable[..., Any]) -> None:
    memory = verify(conv4(width=64, size=84).save(tmp_path / "m.onnx"), "stm32h743", static=True).memory
    assert memory.plan[0].tensor == "pixels"
    assert max(item.offset + item.bytes for item in memory.plan) == memory.peak_activation_bytes == 564_480
    peak = memory.steps.index(memory.peak_node or "")
    live = {item.tensor for item in memory.plan if item.first_step <= peak <= item.last_step}
    assert live == {item.tensor for item in memory.live_at_peak}
    assert sum(item.bytes for item in memory.live_at_peak) == memory.lower_bound_bytes


def test_several_files_one_after_the_other(tmp_path: Path) -> None:
    good = save(tmp_path, brightness_net())
    (tmp_path / "bad.onnx").write_bytes(b"")
    paths = find_models(tmp_path)
    assert [path.name for path in paths] == ["bad.onnx", "model.onnx"]
    bad, report = verify_each(paths, "tu_accel_150k", static=True, require=[parse("params < 1")])
    assert isinstance(bad, Unverified)
    assert isinstance(report, Report)
    assert (report.model.path, report.verdict) == (str(good), "fail")
    assert collect([report]).verdict == collect([bad]).verdict == "fail"
    relaxed = list(verify_each([good], "tu_accel_150k", static=True))
    assert collect(relaxed).verdict == "unknown"
    assert collect([]).verdict == "pass"
    with pytest.raises(ProfileError):
        list(verify_each(paths, "no such profile", static=True))


def test_embeddings_that_are_no_numbers_leave_the_findings(tmp_path: Path, images: str) -> None:
    model = brightness_net()
    for tensor in model.graph.initializer:
        if tensor.name in {"s_in", "s_w"}:
            tensor.CopyFrom(numpy_helper.from_array(np.array(3e38, np.float32), tensor.name))
    model.graph.node.append(helper.make_node("DequantizeLinear", ["embedding", "s_in", "z"], ["large"]))
    model.graph.node.append(helper.make_node("Mul", ["large", "large"], ["infinite"]))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("infinite", TensorProto.FLOAT, [1, 3]))
    path = save(tmp_path, model)
    report = verify(path, "tu_accel_150k", options=Options(data=images, **QUICK))
    assert not report.accuracy
    assert len(report.findings) > 10
    (error,) = report.errors
    assert error.startswith(f"{path}: 36 of 36 embeddings from onnxruntime hold NaN or infinity")


def test_a_certificate_that_engines_contradict_fails_the_file(
    tmp_path: Path, images: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(self: Simulator, inputs: Any) -> Any:
        ran = run(self, inputs)
        return replace(ran, tensors={name: values[:, ::-1] for name, values in ran.tensors.items()})

    path, run = save(tmp_path, brightness_net()), Simulator.run
    assert verify(path, "tu_accel_150k", static=True).certificate == Certificate(
        bit_exact=True, arithmetics=("ort", "xnnpack"), unproven=("tflm", "shift")
    )
    monkeypatch.setattr(Simulator, "run", wrong)
    report = verify(path, "tu_accel_150k", options=Options(data=images, **QUICK))
    (found,) = [item for item in report.findings if item.rule == "bit-exact-engines"]
    assert (report.verdict, found.status) == ("fail", "fail")
    assert report.certificate is not None
    assert report.certificate.reasons == (found.message,)
    assert not report.certificate.bit_exact


def test_a_simulator_that_breaks_off_leaves_what_onnxruntime_computes(
    tmp_path: Path, images: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Simulator, inputs: Any) -> Any:
        raise ModelError("it breaks off")

    monkeypatch.setattr(Simulator, "run", broken)
    report = verify(save(tmp_path, brightness_net()), "tu_accel_150k", options=Options(data=images, **QUICK))
    assert report.verdict == "fail"
    assert {row.engine for row in report.accuracy} == {"onnxruntime", "onnxruntime:unoptimized"}
    assert "'ort' breaks off: it breaks off" in " ".join(item.message for item in report.findings)


def test_an_integer_engine_is_no_stage_of_the_lineage(tmp_path: Path, images: str) -> None:
    path = save(tmp_path, brightness_net(manifest=make_manifest(images, fingerprint_of(images))))
    facts = facts_of(read_graph(path))
    row = verify(path, options=Options(data=images, **QUICK)).accuracy[0]
    measured = Measured(rows=(row, row.model_copy(update={"engine": "integer:tflm"})))
    report = report_of(
        facts,
        load_profile("tu_accel_150k"),
        (),
        measured=measured,
        computed=Computed(certificate=Certificate(bit_exact=True)),
        warnings=(),
        timings=Timings(static_s=0.0),
    )
    assert len(report.accuracy) == 2
    assert report.lineage[-1].accuracy == (row,)
    assert report.certificate == Certificate(bit_exact=True)


def test_the_verdict() -> None:
    def of(*statuses: str) -> str:
        return verdict_of(Finding.model_validate({"status": status, "message": ""}) for status in statuses)

    assert of("pass", "pass") == "pass"
    assert of("pass", "unknown") == "unknown"
    assert of("unknown", "fail", "pass") == "fail"


def test_a_small_network_passes_a_profile_that_says_everything(tmp_path: Path, conv4: Callable[..., Any]) -> None:
    report = verify(conv4(width=8, size=32).save(tmp_path / "m.onnx"), "stm32h743", static=True)
    assert report.verdict == "pass"
    assert {finding.status for finding in report.findings} == {"pass"}


def test_conv4_64_at_84x84_does_not_fit_the_largest_bank_of_the_stm32h743(
    tmp_path: Path, conv4: Callable[..., Any]
) -> None:
    report = verify(conv4(width=64, size=84).save(tmp_path / "m.onnx"), "stm32h743", static=True)
    (failed,) = [finding for finding in report.findings if finding.status == "fail"]
    assert (failed.rule, failed.value, failed.limit) == ("activation-memory", 564_480, 524_288)


def test_accuracy_on_the_images_that_the_manifest_names(tmp_path: Path, images: str) -> None:
    path = save(tmp_path, brightness_net(manifest=make_manifest(images, fingerprint_of(images))))
    report = verify(path, options=Options(data=images, **QUICK))
    engines = ("onnxruntime", "onnxruntime:unoptimized", "integer:ort")
    expected = [(2, shot, engine, "test") for engine in engines for shot in (1, 3)]
    assert [(row.way, row.shot, row.engine, row.split) for row in report.accuracy] == expected
    assert all(row.mean > 0.95 for row in report.accuracy)
    assert all(0 <= row.ci95 < 0.1 for row in report.accuracy)
    (same,) = [finding for finding in report.findings if finding.rule == "data-fingerprint"]
    assert same.status == "pass"
    assert [stage.stage for stage in report.lineage] == ["teach", "deployed"]
    assert report.lineage[-1].accuracy == tuple(row for row in report.accuracy if row.engine == "onnxruntime")


def test_a_dynamic_batch_gives_the_same_accuracy(tmp_path: Path, images: str) -> None:
    manifest = make_manifest(images, fingerprint_of(images))
    rows = [
        verify(save(tmp_path, brightness_net(batch, manifest)), options=Options(data=images, **QUICK)).accuracy
        for batch in (1, "n")
    ]
    assert rows[0] == rows[1]


def test_other_images_under_the_same_name_make_a_finding(tmp_path: Path, images: str) -> None:
    path = save(tmp_path, brightness_net(manifest=make_manifest(images, "0" * 64)))
    report = verify(path, options=Options(data=images, **QUICK))
    (found,) = [finding for finding in report.findings if finding.rule == "data-fingerprint"]
    assert (found.status, found.limit, found.value) == ("unknown", "0" * 64, fingerprint_of(images))
    assert report.accuracy, "measured all the same"


def test_a_foreign_file_is_measured_on_the_images_given(tmp_path: Path, images: str) -> None:
    model = brightness_net()
    del model.graph.node[-1]  # a float output needs no manifest
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3]))
    report = verify(save(tmp_path, model), "tu_accel_150k", options=Options(data=images, **QUICK))
    assert all(row.mean > 0.95 for row in report.accuracy)
    assert not [finding for finding in report.findings if finding.rule == "data-fingerprint"]


def test_without_images_accuracy_is_left_out_with_a_warning(tmp_path: Path) -> None:
    report = verify(save(tmp_path, brightness_net()), "tu_accel_150k")
    assert report.accuracy == ()
    assert "--data" in report.warnings[0]


def test_classes_seen_in_training_are_named_in_a_warning(tmp_path: Path, images: str) -> None:
    fingerprint = fingerprint_of(images)
    data = DataRef(spec=images, split="test", fingerprint=fingerprint, n_classes=6, novel=False, seed=0)
    path = save(tmp_path, brightness_net(manifest=make_manifest(images, fingerprint, data=data)))
    assert any("seen in training" in text for text in verify(path, options=Options(data=images, **QUICK)).warnings)


def test_a_profile_that_has_changed_is_named_in_a_warning(tmp_path: Path) -> None:
    path = save(tmp_path, brightness_net(manifest=make_manifest("glyphs", "", profile_sha256="other")))
    assert verify(path, static=True).warnings == (
        "profile 'tu_accel_150k' has changed since the file was exported for it",
    )
    assert verify(path, "stm32h743", static=True).warnings == ()


def test_a_foreign_file_needs_a_profile(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--profile NAME\|FILE \(.*tu_accel_150k"):
        verify(save(tmp_path, brightness_net()), static=True)
    with pytest.raises(ProfileError, match="Did you mean 'stm32h743'"):
        verify(save(tmp_path, brightness_net()), "stm32h73", static=True)
    assert verify(save(tmp_path, brightness_net()), HardwareProfile(name="mine"), static=True).profile.name == "mine"


def test_a_damaged_manifest_is_refused(tmp_path: Path) -> None:
    model = brightness_net()
    helper.set_model_props(model, {"edgekd": '{"format": 1}'})
    with pytest.raises(ModelError, match=r"\.onnx: the manifest inside the ONNX file is damaged"):
        verify(save(tmp_path, model), "tu_accel_150k", static=True)


def test_too_few_images_are_refused_with_the_arithmetic(tmp_path: Path, images: str) -> None:
    path = save(tmp_path, brightness_net(manifest=make_manifest(images, "")))
    with pytest.raises(DataError, match="needs 16 images in each class"):
        verify(path, options=Options(data=images, way=2))
    with pytest.raises(DataError, match="needs 9 classes"):
        verify(path, options=Options(data=images, way=9, query=1))


def test_a_missing_dataset_and_an_unknown_head_are_refused(tmp_path: Path, images: str) -> None:
    path = save(tmp_path, brightness_net(manifest=make_manifest(images, "")))
    with pytest.raises(DataError, match="nothing at"):
        verify(path, options=Options(data=f"folder:{tmp_path / 'absent'}", **QUICK))
    with pytest.raises(UsageError, match="cosine"):
        verify(path, options=Options(data=images, head="cosin", **QUICK))


def test_a_static_check_loads_neither_torch_nor_onnxruntime(tmp_path: Path) -> None:
    path = save(tmp_path, brightness_net())
    code = (
        "import sys; from edgekd.verify import verify; verify(sys.argv[1], 'tu_accel_150k', static=True); "
        "print(sorted({'torch', 'onnxruntime', 'sklearn', 'matplotlib', 'PIL'} & sys.modules.keys()))"
    )
    root = str(Path(__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout.strip() == "[]"


def test_a_file_of_fake_quantizers_is_sound_and_its_accuracy_unknown(tmp_path: Path, images: str) -> None:
    model = brightness_net()
    name = model.graph.output[0].name
    model.graph.node.append(
        helper.make_node(
            "Quant", [name, "one", "nil", "eight"], ["fake"], name="Quant_0", domain="qonnx.custom_op.general"
        )
    )
    for label, value in (("one", 1.0), ("nil", 0.0), ("eight", 8.0)):
        model.graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), label))
    model.graph.output[0].name = "fake"
    model.opset_import.append(helper.make_opsetid("qonnx.custom_op.general", 1))
    report = verify(save(tmp_path, model), "pynq_z1", options=Options(data=images, **QUICK))
    assert report.errors == ()
    (finding,) = [item for item in report.findings if item.rule == "few-shot-accuracy"]
    assert finding.status == "unknown"
