"""Engines, certificate and golden vectors: agreement, contradiction and damage."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekd.errors import ModelError, UsageError
from edgekd.files import sha256_bytes
from edgekd.manifest import DataRef, Manifest, Preprocessing, QuantScheme, TensorRef
from edgekd.profile import HardwareProfile, Requant
from edgekd.verify import agreement
from edgekd.verify.agreement import check_golden, compare_engines, may_saturate, refuted, simulators, uncomputed
from edgekd.verify.engines import Embedded, compare
from edgekd.verify.facts import facts_of
from edgekd.verify.integer.golden import read_golden
from edgekd.verify.integer.requant import ARITHMETICS
from edgekd.verify.integer.simulator import Simulator
from edgekd.verify.integer.sqnr import EXACT_DB, sqnr_db
from edgekd.verify.integer.static import certificate_of
from edgekd.verify.reading import read_graph
from edgekd.verify.results import OPTIMIZED, UNOPTIMIZED
from edgekd.verify.rules import RULES

FP32 = HardwareProfile(name="fp32", requant=Requant(multiplier="fp32", rounding="half_even", saturate=True))
PIXELS = np.random.default_rng(0).integers(-128, 128, (3, 3, 8, 8)).astype(np.int8)


def manifest(golden: str = "") -> Manifest:
    return Manifest(
        edgekd="0.1.0",
        versions={},
        profile="tu_accel_150k",
        profile_sha256="",
        data=DataRef(spec="x", split="test", fingerprint="", n_classes=2, novel=True, seed=0),
        preprocessing=Preprocessing(height=8, width=8, channels=3),
        quantization=QuantScheme(scale="power_of_two"),
        input=TensorRef(name="pixels", dtype="int8", scale=2.0**-7),
        output=TensorRef(name="embedding", dtype="int8", scale=2.0**-4),
        base_mean=(),
        weights_sha256="",
        golden_sha256=golden,
    )


def embedded(engine: str, *values: int) -> Embedded:
    integers = np.array([values], np.int64)
    return Embedded(engine, integers.astype(np.float32), integers)


@pytest.fixture
def model(qcdq: Any, tmp_path: Path) -> Callable[..., Any]:
    """Facts of a small network with power-of-two scales and of the golden vectors beside it."""

    def build(vectors: bytes | None = None, named: bytes | None = None) -> Any:
        net = qcdq(3, 8).conv(4)
        chosen = vectors if named is None else named
        net.metadata = manifest(sha256_bytes(chosen) if chosen else "").to_metadata()
        path = net.save(tmp_path / "m.onnx")
        if vectors is not None:
            path.with_name("m.golden.npz").write_bytes(vectors)
        return facts_of(read_graph(path))

    return build


def simulated(facts: Any) -> tuple[Any, Any]:
    program = facts.lowered.program
    result = program.results[0]
    values = Simulator(program, ARITHMETICS["ort"]).run({"pixels": PIXELS}).tensors[result.tensor]
    return result, values


def archive(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def golden_of(model: Any, **more: Any) -> bytes:
    _, values = simulated(model())
    return archive(**{"pixels": PIXELS, "embedding": values.reshape(3, -1), **more})


def test_engines_are_compared_element_by_element() -> None:
    row = compare(embedded(OPTIMIZED, 1, 2, 3, 4), embedded(UNOPTIMIZED, 1, 2, 5, 3))
    assert row is not None
    assert (row.engine, row.images, row.elements, row.differing, row.max_lsb) == (UNOPTIMIZED, 1, 4, 0.5, 2)


def test_agreement_confirms_the_certificate(model: Any) -> None:
    found = compare_engines(
        model(), FP32, [embedded(OPTIMIZED, 1, 2), embedded(UNOPTIMIZED, 1, 2), embedded("integer:ort", 1, 2)]
    )
    assert [finding.status for finding in found.findings] == ["pass"]


def test_a_certificate_that_engines_contradict_fails(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "may_saturate", lambda program: False)
    runs = [embedded(OPTIMIZED, 1, 2), embedded(UNOPTIMIZED, 1, 2), embedded("integer:ort", 1, 3)]
    (finding,) = compare_engines(model(), FP32, runs).findings
    assert finding.status == "fail"
    assert "integer:ort" in finding.message


def test_outputs_of_other_sizes_contradict_the_certificate(model: Any) -> None:
    runs = [embedded(OPTIMIZED, 1, 2), embedded(UNOPTIMIZED, 1, 2), embedded("integer:ort", 1, 2, 3)]
    (finding,) = compare_engines(model(), FP32, runs).findings
    assert (finding.rule, finding.status) == ("bit-exact-engines", "fail")
    assert "onnxruntime and integer:ort make 2 and 3 integers of an image" in finding.message


def test_what_cannot_be_compared_does_not_confirm_the_certificate(model: Any) -> None:
    floats = Embedded(OPTIMIZED, np.zeros((1, 2), np.float32), None)
    (finding,) = compare_engines(model(), FP32, [floats, embedded(UNOPTIMIZED, 0, 0)]).findings
    assert finding.status == "fail"
    assert "cannot be compared" in finding.message


def test_a_simulator_that_breaks_off_contradicts_the_certificate(model: Any, qcdq: Any, analyse: Any) -> None:
    facts, error = model(), ModelError("cannot reshape")
    (simulator,) = simulators(facts, FP32, ("ort",)).simulators
    finding = uncomputed(facts, FP32, simulator, error)
    assert (finding.rule, finding.status) == ("integer-simulation", "fail")
    assert finding.message == "certified bit-exact, yet 'ort' breaks off: cannot reshape"
    uncertified = analyse(qcdq(3, 8).conv(4, scale=0.3))
    assert uncomputed(uncertified, FP32, simulator, error).status == "unknown"


def test_a_refuted_certificate_is_none(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "may_saturate", lambda program: False)
    given = certificate_of(model().lowered, FP32)
    assert given.bit_exact
    agreeing = compare_engines(model(), FP32, [embedded(OPTIMIZED, 1), embedded("integer:ort", 1)])
    assert refuted(given, agreeing.findings) == given
    differing = compare_engines(model(), FP32, [embedded(OPTIMIZED, 1), embedded("integer:ort", 2)])
    left = refuted(given, differing.findings)
    assert (left.bit_exact, left.arithmetics) == (False, ())
    assert left.reasons == (differing.findings[0].message,)
    assert set(left.unproven) == {*given.arithmetics, *given.unproven}


def test_saturating_kernels_alone_do_not_contradict_it(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "may_saturate", lambda program: True)
    runs = [embedded(OPTIMIZED, 9, 9), embedded(UNOPTIMIZED, 1, 2), embedded("integer:ort", 1, 2)]
    (finding,) = compare_engines(model(), FP32, runs).findings
    assert finding.status == "unknown"
    assert "saturate on this CPU" in finding.message


def test_signed_activations_do_not_saturate(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "saturation_warning", lambda flags: "no VNNI")
    assert not may_saturate(model().lowered.program)
    assert not may_saturate(None)


def test_an_arithmetic_that_the_certificate_names_must_agree(model: Any) -> None:
    runs = [embedded(OPTIMIZED, 1, 2), embedded(UNOPTIMIZED, 1, 2), embedded("integer:xnnpack", 1, 3)]
    assert [finding.status for finding in compare_engines(model(), FP32, runs).findings] == ["fail"]


def test_other_arithmetics_are_no_contradiction(model: Any) -> None:
    runs = [embedded(OPTIMIZED, 1, 2), embedded(UNOPTIMIZED, 1, 2), embedded("integer:tflm", 1, 3)]
    assert [finding.status for finding in compare_engines(model(), FP32, runs).findings] == ["pass"]


def test_the_arithmetic_is_the_profiles_or_forced(model: Any) -> None:
    facts, shifts = model(), HardwareProfile(name="s", requant=Requant(multiplier="shift", rounding="half_up"))

    def names(profile: HardwareProfile, *forced: str) -> list[str]:
        return [item.arithmetic.name for item in simulators(facts, profile, forced).simulators]

    assert names(shifts) == ["shift"]
    assert names(HardwareProfile(name="unknown")) == ["ort"]
    assert names(shifts, "tflm", "xnnpack") == ["tflm", "xnnpack"]
    with pytest.raises(UsageError, match="Did you mean 'tflm'"):
        names(shifts, "tflmm")


def test_an_unknown_arithmetic_is_an_unknown_finding(model: Any) -> None:
    (finding,) = RULES["integer-arithmetic"](model(), HardwareProfile(name="unknown"))
    assert (finding.status, finding.attribute) == ("unknown", "requant")
    assert "simulated as 'ort'" in finding.message
    (finding,) = RULES["integer-arithmetic"](model(), FP32)
    assert (finding.status, finding.value) == ("pass", "ort")


def test_golden_vectors_agree(model: Any) -> None:
    found = check_golden(model(golden_of(model)), FP32)
    assert [finding.status for finding in found.findings] == ["pass"]
    assert "no float activations" in found.warnings[0]


def test_one_wrong_integer_fails_where_scales_are_powers_of_two(model: Any) -> None:
    _, values = simulated(model())
    wrong = values.reshape(3, -1).astype(np.int64)
    wrong[1, 5] += 1
    (finding,) = check_golden(model(archive(pixels=PIXELS, embedding=wrong)), FP32).findings
    assert (finding.rule, finding.status) == ("golden-vectors", "fail")
    assert "1 LSB" in finding.message


def test_vectors_that_would_take_too_long_are_not_compared(model: Any) -> None:
    (finding,) = check_golden(model(golden_of(model)), FP32, most_seconds=1e-9).findings
    assert (finding.rule, finding.status) == ("golden-vectors", "unknown")
    assert "not run: the simulator, 3 images" in finding.message


def test_vectors_of_another_file_are_not_compared(model: Any) -> None:
    (finding,) = check_golden(model(golden_of(model), named=b"other"), FP32).findings
    assert finding.status == "unknown"


def test_vectors_that_the_file_names_and_are_not_there_are_missed(model: Any) -> None:
    found = check_golden(model(named=b"elsewhere"), FP32)
    assert not found.findings
    assert found.warnings == (
        "the golden vectors that the file names are not beside it (m.golden.npz), and were not compared",
    )
    assert check_golden(model(), FP32).warnings == ()


def test_sqnr_is_computed_per_tensor_and_the_worst_named(model: Any) -> None:
    result, values = simulated(model())
    real = (values.astype(np.float64) - int(result.format.zero_point)) * float(result.format.scale)
    noisy = real + np.where(np.arange(real.size).reshape(real.shape) % 2, 0.01, -0.01)
    floats = {f"float/{result.name}": noisy.astype(np.float32), "float/absent": noisy.astype(np.float32)}
    found = check_golden(model(golden_of(model, **floats)), FP32)
    (row,) = found.sqnr
    assert (row.tensor, row.node[:4]) == (result.name, "Conv")
    assert row.sqnr_db == pytest.approx(10 * np.log10(np.sum(noisy**2) / (0.01**2 * noisy.size)), abs=0.01)
    assert any("absent" in text for text in found.warnings)


def test_sqnr_takes_fewer_images_than_there_are(model: Any) -> None:
    result, values = simulated(model())
    floats = {f"float/{result.name}": (values[:2] * 2.0**-4).astype(np.float16)}
    (row,) = check_golden(model(golden_of(model, **floats)), FP32).sqnr
    assert row.sqnr_db == EXACT_DB


def test_sqnr_of_an_exact_tensor_is_finite() -> None:
    assert sqnr_db(np.ones(3), np.ones(3)) == EXACT_DB
    assert sqnr_db(np.ones(4), np.array([1, 1, 1, 0.0])) == pytest.approx(10 * np.log10(4))


def bomb() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as made, made.open("pixels.npy", "w") as entry:
        for _ in range(600):
            entry.write(bytes(2**20))
    return buffer.getvalue()


def pickled() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, pixels=np.array([{"a": 1}], dtype=object))
    return buffer.getvalue()


DAMAGED: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "no archive": lambda: b"golden",
    "cut off": lambda: archive(pixels=PIXELS, embedding=np.zeros((3, 4), np.int8))[:200],
    "a bomb": bomb,
    "pickles": pickled,
    "no pixels": lambda: archive(embedding=np.zeros((3, 4), np.int8)),
    "pixels of floats": lambda: archive(pixels=PIXELS.astype(float), embedding=np.zeros((3, 4), np.int8)),
    "no embedding": lambda: archive(pixels=PIXELS),
    "rows missing": lambda: archive(pixels=PIXELS, embedding=np.zeros((2, 4), np.int8)),
}


@pytest.mark.parametrize("name", sorted(DAMAGED))
def test_damaged_vectors_are_a_finding(name: str, tmp_path: Path, model: Any) -> None:
    content = DAMAGED[name]()
    path = tmp_path / "x.golden.npz"
    path.write_bytes(content)
    with pytest.raises(ModelError):
        read_golden(path)
    (finding,) = check_golden(model(content), FP32).findings
    assert finding.status == "unknown"


def test_vectors_of_another_shape_fail(model: Any) -> None:
    content = archive(pixels=PIXELS, embedding=np.zeros((3, 4), np.int8))
    (finding,) = check_golden(model(content), FP32).findings
    assert finding.status == "fail"


@pytest.mark.parametrize(("bits", "status"), [(None, "unknown"), (32, "pass"), (8, "fail")])
def test_the_accumulator_rule(bits: int | None, status: str, model: Any) -> None:
    (finding,) = RULES["accumulator-width"](model(), HardwareProfile(name="p", accumulator_bits=bits))
    assert finding.status == status


def test_the_certificate_is_said_not_demanded(model: Any, qcdq: Any, analyse: Any) -> None:
    (finding,) = RULES["bit-exact"](model(), FP32)
    assert (finding.status, finding.value) == ("pass", True)
    assert "arithmetic ort, xnnpack give" in finding.message
    (unsaid,) = RULES["bit-exact"](model(), HardwareProfile(name="says-nothing"))
    assert unsaid.message == finding.message, "no stronger a claim where the target is not known"
    assert not list(RULES["bit-exact"](analyse(qcdq(3, 8, scale=0.01).conv(4, scale=0.3)), FP32))


@pytest.mark.parametrize("rule", ["integer-arithmetic", "accumulator-width"])
def test_a_float_file_is_unknown(rule: str, qcdq: Any, analyse: Any) -> None:
    (finding,) = RULES[rule](analyse(qcdq(3, 8).conv(4, float_weights=True)), FP32)
    assert finding.status == "unknown"
    assert finding.node


SHIFT = HardwareProfile(name="s", requant=Requant(multiplier="shift", rounding="half_up"))


@pytest.mark.parametrize("rounding", ["half_up", None])
def test_a_target_that_only_shifts_fails_each_node_with_other_scales(rounding: Any, qcdq: Any, analyse: Any) -> None:
    """Of three convolutions the first and the last take a factor that is no power of two."""
    net = qcdq(3, 8).conv(4, scale=0.3).conv(4, act_scale=2.0**-3).conv(4, act_scale=0.1)
    profile = HardwareProfile(name="s", requant=Requant(multiplier="shift", rounding=rounding))
    found = list(RULES["integer-arithmetic"](analyse(net), profile))
    convs = [node.name for node in net.nodes if node.op_type == "Conv"]
    assert [(item.status, item.node) for item in found] == [("fail", convs[0]), ("fail", convs[2])]
    assert all("power-of-two scales" in (item.hint or "") and "--pot" not in (item.hint or "") for item in found)
    net.metadata = manifest().to_metadata()
    assert "--pot" in str(next(iter(RULES["integer-arithmetic"](analyse(net), profile))).hint)


def test_a_ratio_of_float_scales_may_be_a_shift(qcdq: Any, analyse: Any) -> None:
    net = qcdq(3, 8, scale=0.3).conv(4, act_scale=0.3)
    (finding,) = RULES["integer-arithmetic"](analyse(net), SHIFT)
    assert finding.status == "unknown"


def test_an_average_of_nine_is_no_shift(qcdq: Any, analyse: Any) -> None:
    (finding,) = RULES["integer-arithmetic"](analyse(qcdq(3, 3).conv(4).global_pool()), SHIFT)
    assert (finding.status, finding.hint) == ("fail", "average a power of two of elements")
    (finding,) = RULES["integer-arithmetic"](analyse(qcdq(3, 4).conv(4).global_pool()), SHIFT)
    assert finding.status == "pass"
