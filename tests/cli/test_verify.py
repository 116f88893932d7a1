from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from onnx import helper, parser
from PIL import Image

from edgekd.cli.verify import command
from edgekd.data import load_split
from edgekd.errors import DataError, EdgekdError, ModelError, ProfileError, UsageError
from edgekd.manifest import AccuracyRow, DataRef, Manifest, Preprocessing, QuantScheme, StageResult, TensorRef

# 8x8 gray pixels -> convolution with one 1x1 weight -> the 64 integers of its output.
TINY = """
<ir_version: 10, opset_import: ["" : 17]>
tiny (int8[1,1,8,8] pixels) => (int8[1,64] embedding)
<float scale = {0.5}, int8 zero = {0}, int8[1,1,1,1] weight = {2}> {
    x = DequantizeLinear (pixels, scale, zero)
    w = DequantizeLinear (weight, scale, zero)
    y = Conv (x, w)
    flat = Flatten (y)
    embedding = QuantizeLinear (flat, scale, zero)
}
"""


def stage(name: str, parameters: int, *means: float) -> StageResult:
    rows = tuple(
        AccuracyRow.model_validate(
            {"dataset": "folder", "split": "test", "way": 2, "shot": shot, "query": 2, "episodes": 40, "head": "cosine"}
            | {"engine": "torch", "mean": mean, "ci95": 0.01}
        )
        for shot, mean in zip((1, 3), means, strict=False)
    )
    return StageResult(stage=name, backbone="b", parameters=parameters, weight_bytes=4 * parameters, accuracy=rows)


LINEAGE = (
    stage("teach", 8_000_000, 0.9, 0.95),
    stage("scratch", 500, 0.5, 0.6),
    stage("distill", 500, 0.52, 0.63),
    stage("meta", 500, 0.53, 0.63),
    stage("quantize", 500, 0.1, 0.1),
)


@pytest.fixture
def images(tmp_path: Path) -> str:
    for split in ("train", "val", "test"):
        for shade in (10, 200):
            folder = tmp_path / "images" / split / f"{split}{shade}"
            folder.mkdir(parents=True)
            for number in range(6):
                Image.new("L", (8, 8), shade + number).save(folder / f"{number}.png")
    return f"folder:{tmp_path / 'images'}"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A file that edgekd did not export."""
    return save(tmp_path / "foreign.onnx")


@pytest.fixture
def exported(tmp_path: Path, images: str) -> Path:
    """A file with a manifest and a lineage."""
    return save(tmp_path / "exported.onnx", make_manifest(images).to_metadata())


def make_manifest(images: str) -> Manifest:
    return Manifest(
        edgekd="0.1.0",
        versions={},
        profile="tu_accel_150k",
        profile_sha256="",
        data=DataRef(
            spec=images,
            split="test",
            fingerprint=load_split(images, "test", channels=1).fingerprint,
            n_classes=2,
            novel=True,
            seed=0,
        ),
        preprocessing=Preprocessing(height=8, width=8, channels=1),
        quantization=QuantScheme(),
        input=TensorRef(name="pixels", dtype="int8", scale=0.5),
        output=TensorRef(name="embedding", dtype="int8", scale=0.5),
        base_mean=(),
        lineage=LINEAGE,
        weights_sha256="",
        golden_sha256="",
    )


def save(path: Path, metadata: dict[str, str] | None = None) -> Path:
    proto = parser.parse_model(TINY)
    helper.set_model_props(proto, metadata or {})
    path.write_bytes(proto.SerializeToString())
    return path


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(command, [str(item) for item in arguments], catch_exceptions=False)


def last_line(result: Result) -> str:
    return result.stdout.strip().splitlines()[-1]


def profile(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(f'name = "mine"\n{text}')
    return path


def test_unknown_exits_0_and_3_under_strict(model: Path) -> None:
    relaxed, strict = (run(model, "--profile", "tu_accel_150k", "--static", *more) for more in ([], ["--strict"]))
    assert (relaxed.exit_code, strict.exit_code) == (0, 3)
    assert last_line(relaxed).startswith("verdict: unknown (")
    assert "does not say weights.bits" in relaxed.stdout.replace("\n", " ")


def test_a_requirement_that_was_not_decided_lets_nothing_pass(model: Path, images: str) -> None:
    common = (model, "--profile", "stm32h743", "--require", "accuracy[2w1s] >= 0.5")
    for more in ((), ("--static",)):
        undecided = run(*common, *more)
        assert undecided.exit_code == 3
        assert "a requirement could not be decided: the exit code is 3" in undecided.stdout
    decided = run(*common, "--data", images, "--way", 2, "--shot", 1, "--query", 2, "--episodes", 40)
    assert decided.exit_code == 0


def test_how_pixels_enter_is_said(model: Path, images: str) -> None:
    measure = ("--data", images, "--way", 2, "--shot", 1, "--query", 2, "--episodes", 40)
    result = run(model, "--profile", "stm32h743", *measure)
    assert "pixels enter as pixel - 128" in result.stdout
    with pytest.raises(UsageError, match="pixels 'unit' are for float inputs"):
        run(model, "--profile", "stm32h743", *measure, "--pixels", "unit")


def test_a_failure_exits_1_with_the_numbers(model: Path, tmp_path: Path) -> None:
    result = run(model, "--profile", profile(tmp_path, "[params]\nmax = 0"), "--static", "--strict")
    assert result.exit_code == 1
    assert "1 parameters exceed the cap of 0 by 1" in result.stdout
    assert last_line(result).startswith("verdict: fail (")


def test_a_pass_exits_0_even_under_strict(model: Path) -> None:
    result = run(model, "--profile", "stm32h743", "--static", "--strict")
    assert result.exit_code == 0
    assert re.fullmatch(r"verdict: pass \(\d+ pass, 0 unknown, 0 fail\)", last_line(result))


def test_the_memory_peak_is_printed_with_its_arithmetic(model: Path) -> None:
    lines = run(model, "--profile", "stm32h743", "--static").stdout
    assert "64 (pixels, 1 x 1 x 8 x 8) + 64 (y, 1 x 1 x 8 x 8) = 128 B" in lines


def test_the_table_from_teacher_to_deployed_file(exported: Path, images: str) -> None:
    result = run(exported, "--data", images, "--way", 2, "--shot", 1, "--shot", 3, "--query", 2, "--episodes", 40)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    rows = [line for line in lines if line.startswith(("teacher", "student", "distilled", "INT8"))]
    assert [row.split("  ")[0] for row in rows] == [
        "teacher *",
        "student from scratch *",
        "distilled *",
        "distilled + meta *",
        "INT8 deployed",
    ]
    assert "90.00 ± 1.00" in rows[0]
    assert "8,000,000" in rows[0]
    assert "100.00 ± 0.00" in rows[-1]
    gains = next(line for line in lines if "distilling gained" in line)
    assert gains == (
        "by what the file says: distilling gained +2.0/+3.0 points (1-shot/3-shot; 1-shot within noise); "
        "meta-learning gained +1.0/+0.0 points (1-shot/3-shot; within noise); "
        "quantizing cost -47.0/-37.0 points (1-shot/3-shot; beyond both intervals)"
    )
    assert lines[-1].startswith("verdict: ")


@pytest.mark.parametrize("spec", ["folder:/etc", "folder:photos of me", "omniglot:../x"])
def test_no_path_is_read_because_the_file_names_it(tmp_path: Path, images: str, spec: str) -> None:
    manifest = make_manifest(images)
    manifest = manifest.model_copy(update={"data": manifest.data.model_copy(update={"spec": spec})})
    result = run(save(tmp_path / "forged.onnx", manifest.to_metadata()), "--json", "-")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert report["accuracy"] == []
    (finding,) = [item for item in report["findings"] if item["rule"] == "few-shot-accuracy"]
    assert finding["status"] == "unknown"
    quoted = f"'{spec}'" if " " in spec else spec
    assert finding["message"].endswith(f"if they are yours: --data {quoted}")


def test_what_the_file_says_is_told_from_what_was_measured(exported: Path) -> None:
    output = run(exported, "--static").stdout
    assert "teacher *" in output
    assert "* as the file says, not measured here" in output
    assert "by what the file says: distilling gained" in output
    report = json.loads(run(exported, "--static", "--json", "-").stdout)
    assert report["lineage_from"] == ["file"] * len(LINEAGE) + ["measured"]


@pytest.mark.parametrize("mean", [9.9784, -0.1, float("nan")])
def test_an_accuracy_that_is_no_share_is_refused(tmp_path: Path, images: str, mean: float) -> None:
    forged = make_manifest(images).to_metadata()
    key = next(iter(forged))
    tree = json.loads(forged[key])
    tree["lineage"][0]["accuracy"][0]["mean"] = mean
    with pytest.raises(ModelError, match=r"damaged at lineage\.0\.accuracy\.0\.mean"):
        run(save(tmp_path / "forged.onnx", {key: json.dumps(tree)}), "--static")


def lines_of(result: Result) -> str:
    return " ".join(result.stdout.split())


def measured(result: Result) -> list[tuple[int, int, int, str]]:
    rows = json.loads(result.stdout)["accuracy"]
    return [(row["way"], row["shot"], row["query"], row["head"]) for row in rows if row["engine"] == "onnxruntime"]


def test_the_protocol_follows_the_lineage_of_the_file(exported: Path, images: str) -> None:
    assert measured(run(exported, "--data", images, "--episodes", 40, "--json", "-")) == [
        (2, 1, 2, "cosine"),
        (2, 3, 2, "cosine"),
    ]
    other = ("--shot", 2, "--query", 1, "--head", "euclid", "--episodes", 40)
    assert measured(run(exported, "--data", images, *other, "--json", "-")) == [(2, 2, 1, "euclid")]


def test_headings_show_the_queries_where_they_differ(
    exported: Path, images: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert "2 queries" not in run(exported, "--data", images, "--episodes", 40).stdout
    output = run(exported, "--data", images, "--episodes", 40, "--query", 1).stdout
    assert "1 queries" in output
    assert "2 queries" in output


def test_the_shot_that_a_requirement_is_of_is_measured(exported: Path, images: str) -> None:
    arguments = (exported, "--data", images, "--episodes", 40, "--require", "accuracy[2w2s] >= 0.9", "--json", "-")
    report = json.loads(run(*arguments).stdout)
    assert {row["shot"] for row in report["accuracy"]} == {1, 3, 2}
    (found,) = [finding for finding in report["findings"] if finding["rule"] == "require"]
    assert (found["status"], found["value"]) == ("pass", 1.0)
    failed = run(exported, "--data", images, "--episodes", 40, "--require", "accuracy_low[2w1s] > 1")
    assert failed.exit_code == 1
    assert "accuracy_low[2w1s] is 1.0000 = 1.0000 - 0.0000 (onnxruntime); required > 1.0000" in lines_of(failed)


def test_arithmetics_are_simulated_by_name(exported: Path, images: str) -> None:
    def simulated(*arguments: str) -> set[str]:
        report = json.loads(run(exported, "--data", images, "--episodes", 40, *arguments, "--json", "-").stdout)
        return {row["engine"] for row in report["accuracy"] if row["engine"].startswith("integer:")}

    assert simulated() == {"integer:ort"}
    assert simulated("--requant", "tflm", "--requant", "xnnpack") == {"integer:tflm", "integer:xnnpack"}
    assert simulated("--require", "accuracy[2w1s, engine=integer:tflm] > 0") == {"integer:ort", "integer:tflm"}


def test_a_profile_that_is_not_on_this_machine_comes_from_the_file(tmp_path: Path, images: str) -> None:
    own = 'name = "mine"\n[params]\nmax = 0\n'
    manifest = make_manifest(images).model_copy(update={"profile": "gone.toml", "profile_toml": own})
    path = save(tmp_path / "own.onnx", manifest.to_metadata())
    result = run(path, "--static")
    assert result.exit_code == 1
    assert "profile mine" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--query", "6"], r"needs 7 images in each class; class 'test10' of '.*test' has 6: --query 5 would do"),
        (["--shot", "9", "--query", "1"], "fewer --shot would do, at most 5 with --query 1"),
        (["--way", "3"], "needs 3 classes, '.*test' has 2: --way 2 would do"),
    ],
)
def test_too_few_images_name_the_class_and_the_option(
    exported: Path, images: str, arguments: list[str], complaint: str
) -> None:
    with pytest.raises(DataError, match=complaint):
        run(exported, "--data", images, *arguments)


def test_what_was_measured_on_other_images_is_not_compared(exported: Path, images: str) -> None:
    folder = Path(images.partition(":")[2]) / "test" / "test10"
    Image.new("L", (8, 8), 99).save(folder / "0.png")
    output = run(exported, "--data", images, "--way", 2, "--shot", 1, "--query", 2, "--episodes", 40).stdout
    assert "is not what the manifest names" in output.replace("\n", " ")
    assert "distilling gained" in output
    assert "quantizing cost" not in output


def test_stages_that_were_left_out_are_left_out(model: Path) -> None:
    output = run(model, "--profile", "stm32h743", "--static").stdout
    assert "INT8 deployed" in output
    assert "teacher" not in output
    assert "gained" not in output


def test_json_to_a_file(model: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    run(model, "--profile", "stm32h743", "--static", "--json", tmp_path / "out" / "report.json")
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["verdict"] == "pass"
    assert report["params"]["total"] == 1


def test_options_that_static_ignores_are_named(model: Path) -> None:
    result = run(model, "--profile", "stm32h743", "--static", "--way", 3, "--requant", "ort", "--skip-bad")
    assert "--static measures nothing: --requant, --way, --skip-bad ignored" in result.stderr
    assert "ignored" not in run(model, "--profile", "stm32h743", "--static").stderr


def test_json_to_stdout_leaves_nothing_else_there(model: Path) -> None:
    result = run(model, "--profile", "stm32h743", "--static", "--json", "-")
    assert json.loads(result.stdout)["verdict"] == "pass"
    assert "verdict: pass" in result.stderr


def test_a_foreign_file_measured_on_given_images(exported: Path, images: str) -> None:
    arguments = ("--data", images, "--split", "val", "--way", 2, "--shot", 1, "--query", 2, "--episodes", 40)
    report = json.loads(run(exported, "--data", images, *arguments, "--json", "-").stdout)
    assert {(row["split"], row["shot"]) for row in report["accuracy"]} == {("val", 1)}


@pytest.mark.parametrize(
    ("arguments", "error", "complaint"),
    [
        (["absent.onnx", "--profile", "stm32h743"], ModelError, "no file at"),
        (["MODEL"], UsageError, "--profile"),
        (["MODEL", "--profile", "stm32"], ProfileError, "Did you mean 'stm32h743'"),
        (["MODEL", "--profile", "stm32h743", "--data", "glyph"], DataError, "Did you mean 'glyphs'"),
        (["MODEL", "--profile", "stm32h743", "--data", "glyphs", "--way", "1"], UsageError, "way must be at least 2"),
    ],
)
def test_what_the_user_can_fix_is_raised(
    model: Path, arguments: list[str], error: type[EdgekdError], complaint: str
) -> None:
    with pytest.raises(error, match=complaint):
        run(*(model if item == "MODEL" else item for item in arguments))
