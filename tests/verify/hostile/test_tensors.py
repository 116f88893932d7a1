"""Tensors and attributes that no network has: each case damages a good one, and the message names what is wrong."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekd.verify import Report, verify

Save = Callable[[onnx.ModelProto | bytes], Path]
BIG = 2**40


def node_of(model: onnx.ModelProto, op: str) -> onnx.NodeProto:
    found: onnx.NodeProto = next(node for node in model.graph.node if node.op_type == op)
    return found


def weight_of(model: onnx.ModelProto) -> onnx.TensorProto:
    found: onnx.TensorProto = next(tensor for tensor in model.graph.initializer if tensor.name.startswith("weight"))
    return found


def scale_of(model: onnx.ModelProto, op: str = "QuantizeLinear", position: int = 1) -> onnx.TensorProto:
    name = node_of(model, op).input[position]
    found: onnx.TensorProto = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    return found


def replace(tensor: onnx.TensorProto, values: object, kind: type[np.generic] = np.float32) -> None:
    tensor.CopyFrom(numpy_helper.from_array(np.array(values, kind), tensor.name))


def change_attribute(model: onnx.ModelProto, op: str, name: str, value: int | Sequence[int] | str) -> None:
    node = node_of(model, op)
    kept = [attribute for attribute in node.attribute if attribute.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(name, value)])


def insert(model: onnx.ModelProto, op: str, *constants: object, **attributes: Any) -> None:
    """Put an operator with int64 constants between the first Relu and its quantizer."""
    names = []
    for constant in constants:
        names.append(f"constant_{len(model.graph.initializer)}")
        model.graph.initializer.append(numpy_helper.from_array(np.array(constant, np.int64), names[-1]))
    relu, reader = node_of(model, "Relu"), node_of(model, "QuantizeLinear")
    reader.input[0] = "put"
    made = helper.make_node(op, [relu.output[0], *names], ["put"], name="put_here", **attributes)
    model.graph.node.insert(list(model.graph.node).index(reader), made)


def verdict_of(path: Path, command_line: Callable[[Path], tuple[int, str]]) -> str:
    code, _ = command_line(path)
    return "refused" if code == 2 else verify(path, "stm32h743", static=True).verdict


@pytest.mark.parametrize(
    ("dims", "message"),
    [
        ([-4, 3, 3, 3], "negative dimension"),
        ([BIG, 3, 3, 3], "elements in"),
        ([BIG, BIG, BIG, BIG], r"about 1e\+"),
        ([2**62, 2, 2], r"about 1e\+"),
        ([5, 3, 3, 3], "does not match its shape|shape"),
        ([1] * 100, "100 dimensions"),
    ],
    ids=["negative", "terabytes", "overflowing", "wrapping to zero", "one channel more", "rank 100"],
)
def test_a_shape_that_its_data_cannot_have(
    dims: list[int], message: str, good: onnx.ModelProto, save: Save, refused: Callable[[Path], str]
) -> None:
    del weight_of(good).dims[:]
    weight_of(good).dims.extend(dims)
    text = refused(save(good))
    with pytest.raises(AssertionError, match=rf"weight_\d+.*({message})|({message}).*weight_\d+"):
        raise AssertionError(text)


@pytest.mark.parametrize(
    "kind", ["INT4", "UINT4", "FLOAT8E4M3FN", "FLOAT", "INT64", "STRING", "COMPLEX64", "UNDEFINED"]
)
def test_data_of_another_element_type(
    kind: str, good: onnx.ModelProto, save: Save, refused: Callable[[Path], str]
) -> None:
    weight_of(good).data_type = TensorProto.DataType.Value(kind)
    weight_of(good).raw_data = weight_of(good).raw_data[:7]
    assert "weight_" in refused(save(good))


def test_an_element_type_that_onnx_does_not_have(
    good: onnx.ModelProto, save: Save, refused: Callable[[Path], str]
) -> None:
    weight_of(good).data_type = 999
    assert "weight_" in refused(save(good))


def test_a_constant_of_text_in_two_values(good: onnx.ModelProto, save: Save, refused: Callable[[Path], str]) -> None:
    node = helper.make_node("Constant", [], ["text"], value_strings=[b"a"], value_int=1)
    good.graph.node.insert(0, node)
    assert "text" in refused(save(good)) or "Constant" in refused(save(good))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 0.0, -0.5])
def test_a_scale_that_is_no_positive_number(
    value: float, good: onnx.ModelProto, save: Save, judged: Callable[[Path], Report]
) -> None:
    replace(scale_of(good), value)
    report = judged(save(good))
    failed = [finding for finding in report.findings if finding.status == "fail"]
    assert {"quantizer-parameters", "valid-scales"} == {finding.rule for finding in failed}
    assert f"is {value} (in '{scale_of(good).name}')" in report.errors[0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0.5, 0.5, 0.5], "3 scales for .*, which has 4 channels on axis 1"),
        ([[0.5, 0.5], [0.5, 0.5]], r"has shape \[2, 2\]"),
        ([], "0 scales for"),
    ],
    ids=["three", "matrix", "none"],
)
def test_scales_that_are_not_one_a_channel(
    values: list[float], message: str, good: onnx.ModelProto, save: Save, judged: Callable[[Path], Report]
) -> None:
    replace(scale_of(good), values)
    found = [item.message for item in judged(save(good)).findings if item.rule == "quantizer-parameters"]
    with pytest.raises(AssertionError, match=message):
        raise AssertionError("\n".join(found))


def test_a_zero_point_of_another_type(good: onnx.ModelProto, save: Save, judged: Callable[[Path], Report]) -> None:
    replace(scale_of(good, "DequantizeLinear", 2), 0, np.uint8)
    found = [item.message for item in judged(save(good)).findings if item.rule == "quantizer-parameters"]
    assert found == ["DequantizeLinear_0: the zero point of 'pixels' is uint8, the integers are int8"]


def test_a_scale_that_is_text(good: onnx.ModelProto, save: Save, refused: Callable[[Path], str]) -> None:
    scale = scale_of(good)
    scale.CopyFrom(numpy_helper.from_array(np.array(["half"], object), scale.name))
    assert f"'{scale.name}' of QuantizeLinear_5 is a string tensor" in refused(save(good))


@pytest.mark.parametrize(
    ("op", "name", "value"),
    [
        ("Conv", "group", 0),
        ("Conv", "group", -1),
        ("Conv", "group", 2**62),
        ("Conv", "strides", [0, 0]),
        ("Conv", "strides", [-1, -1]),
        ("Conv", "dilations", [0, 2**62]),
        ("Conv", "pads", [-9, -9, -9, -9]),
        ("Conv", "pads", [2**62] * 4),
        ("Conv", "kernel_shape", [5, 5]),
        ("Conv", "kernel_shape", [3]),
        ("Conv", "auto_pad", "\x1b[2J"),
        ("MaxPool", "kernel_shape", [0, 0]),
        ("MaxPool", "strides", [0, 0]),
        ("MaxPool", "strides", [2**63 - 1] * 2),
        ("Flatten", "axis", 99),
    ],
    ids=lambda value: str(value).replace("\x1b", "ESC"),
)
def test_an_attribute_that_no_operator_takes(
    *,
    op: str,
    name: str,
    value: int | list[int] | str,
    good: onnx.ModelProto,
    save: Save,
    command_line: Callable[[Path], tuple[int, str]],
) -> None:
    change_attribute(good, op, name, value)
    assert verdict_of(save(good), command_line) in {"fail", "unknown", "refused"}


@pytest.mark.parametrize(
    ("op", "constants", "attributes"),
    [
        ("Reshape", [[-1, -1]], {}),
        ("Reshape", [[1, 2**62]], {}),
        ("Transpose", [], {"perm": [0, 0, 0, 0]}),
        ("Transpose", [], {"perm": [0, 9, -1, 2]}),
        ("Concat", [], {"axis": 99}),
        ("Softmax", [], {"axis": -99}),
        ("Split", [[2**62, -1]], {"axis": 0}),
        ("Slice", [[0], [2**63 - 1], [0], [0]], {}),
        ("Pad", [[-(2**62)] * 8], {}),
        ("Tile", [[2**40, 1, 1, 1]], {}),
        ("Squeeze", [[7]], {}),
        ("Unsqueeze", [[99, 99]], {}),
    ],
    ids=str,
)
def test_an_operator_that_cannot_work_on_its_input(
    *,
    op: str,
    constants: list[list[int]],
    attributes: dict[str, int | list[int]],
    good: onnx.ModelProto,
    save: Save,
    command_line: Callable[[Path], tuple[int, str]],
) -> None:
    insert(good, op, *constants, **attributes)
    assert verdict_of(save(good), command_line) in {"fail", "unknown", "refused"}


@pytest.mark.parametrize(
    ("op", "changes", "window", "padded"),
    [
        ("MaxPool", {"kernel_shape": [9, 2]}, "9 x 2", "8 x 8"),
        ("MaxPool", {"kernel_shape": [7, 7], "pads": [0, 0, 1, 0], "dilations": [2, 1]}, "13 x 7 with its", "9 x 8"),
        ("Conv", {"dilations": [1, 5]}, "3 x 11 with its dilations", "10 x 10"),
        ("Conv", {"dilations": [4, 4], "auto_pad": "VALID"}, "9 x 9 with its dilations", "8 x 8"),
    ],
    ids=str,
)
def test_a_window_larger_than_its_image(
    *,
    op: str,
    changes: dict[str, Any],
    window: str,
    padded: str,
    good: onnx.ModelProto,
    save: Save,
    judged: Callable[[Path], Report],
) -> None:
    for name, value in changes.items():
        change_attribute(good, op, name, value)
    report = judged(save(good))
    (found,) = [item for item in report.findings if item.rule == "layer-shapes"]
    name = node_of(good, op).name
    assert (found.status, found.node) == ("fail", name)
    assert found.message.startswith(f"{name}: its window of {window}")
    assert found.message.endswith(f"is larger than its padded input, {padded}")
    assert report.errors == (f"{report.model.path}: {found.message}",)
    assert not any("axis of the batch" in item.message for item in report.findings)


@pytest.mark.parametrize("dims", [[0, 3, 3, 3], [4, 3, 0, 3]])
def test_weights_without_elements(
    dims: list[int], good: onnx.ModelProto, save: Save, refused: Callable[[Path], str]
) -> None:
    weight = weight_of(good)
    weight.CopyFrom(numpy_helper.from_array(np.zeros(dims, np.int8), weight.name))
    assert f"'{weight.name}' has dimension 0 on axis {dims.index(0)}" in refused(save(good))


def test_an_operator_that_leaves_nothing(good: onnx.ModelProto, save: Save, refused: Callable[[Path], str]) -> None:
    insert(good, "Slice", [2], [2], [3])
    assert "'put' has dimension 0 on axis 3" in refused(save(good))


def test_an_empty_list_of_sizes_is_no_tensor(
    good: onnx.ModelProto, save: Save, judged: Callable[[Path], Report]
) -> None:
    """Resize takes an empty region and empty scales for absent."""
    insert(good, "Resize", [], [], [1, 4, 8, 8])
    for name in node_of(good, "Resize").input[1:3]:
        tensor = next(item for item in good.graph.initializer if item.name == name)
        replace(tensor, [])
    assert not judged(save(good)).errors


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_weights_that_are_no_numbers(
    value: float, qcdq: type[Any], save: Save, judged: Callable[[Path], Report]
) -> None:
    model = qcdq(3, 8).conv(4, float_weights=True).model()
    weight = next(tensor for tensor in model.graph.initializer if tensor.name.startswith("float_"))
    values = numpy_helper.to_array(weight).copy()
    values[1, 2, 0, 1] = value
    replace(weight, values)
    report = judged(save(model))
    (found,) = [item for item in report.findings if item.rule == "finite-weights"]
    assert found.status == "fail"
    assert found.message.startswith(f"'{weight.name}' at {node_of(model, 'Conv').name} holds {value}")
    assert found.message in report.errors[0]
    assert len(report.findings) > 10


@pytest.mark.parametrize(
    "attributes",
    [
        {"kernel_shape": [2, 2], "strides": [2**63 - 1] * 2, "pads": [2**63 - 1] * 4},
        {"kernel_shape": [2**63 - 1] * 2, "strides": [2**63 - 1] * 2, "pads": [2**62] * 4},
        {"kernel_shape": [2, 2], "pads": [-(2**62)] * 4},
        {"kernel_shape": [2, 2], "dilations": [-1, 0]},
        {"kernel_shape": [2, 2], "strides": [1]},
    ],
    ids=str,
)
def test_a_pool_that_rounds_up_what_no_pool_has(
    attributes: dict[str, list[int]], good: onnx.ModelProto, save: Save, command_line: Callable[[Path], tuple[int, str]]
) -> None:
    insert(good, "MaxPool", ceil_mode=1, **attributes)
    assert verdict_of(save(good), command_line) in {"fail", "refused"}


def test_a_pool_that_rounds_up_windows_of_no_sides(
    good: onnx.ModelProto, save: Save, command_line: Callable[[Path], tuple[int, str]]
) -> None:
    insert(good, "MaxPool", ceil_mode=1, kernel_shape=[2])
    (kernel,) = (item for item in node_of(good, "MaxPool").attribute if item.name == "kernel_shape")
    del kernel.ints[:]
    assert verdict_of(save(good), command_line) in {"fail", "refused"}


def test_weights_of_rank_1(good: onnx.ModelProto, save: Save, judged: Callable[[Path], Report]) -> None:
    weight = weight_of(good)
    elements = math.prod(weight.dims)
    del weight.dims[:]
    weight.dims.append(elements)
    assert "layer-shapes" in {item.rule for item in judged(save(good)).findings if item.status == "fail"}


def test_a_matrix_product_of_rank_0(good: onnx.ModelProto, save: Save, judged: Callable[[Path], Report]) -> None:
    insert(good, "MatMul", 1)
    assert "consistent-shapes" in {item.rule for item in judged(save(good)).findings if item.status == "fail"}


def test_a_gemm_of_rank_3(good: onnx.ModelProto, save: Save, judged: Callable[[Path], Report]) -> None:
    node_of(good, "Gemm").input[0] = node_of(good, "Relu").output[0]
    assert "layer-shapes" in {item.rule for item in judged(save(good)).findings if item.status == "fail"}


def test_an_input_without_elements(good: onnx.ModelProto, save: Save, refused: Callable[[Path], str]) -> None:
    good.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 0
    assert "input 'pixels' has dimension 0 on axis 2" in refused(save(good))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no json",
        "[" * 100_000,
        '{"format": 9e999}',
        "9" * 100_000,
        '{"\x1b[2J": 1}',
        '{"format": 1, "edgekd": []}',
        "null",
    ],
    ids=["empty", "no json", "deep", "huge float", "huge integer", "escape", "wrong types", "null"],
)
def test_a_manifest_that_is_none(text: str, good: onnx.ModelProto, save: Save, refused: Callable[[Path], str]) -> None:
    helper.set_model_props(good, {"edgekd": text})
    assert "manifest inside the ONNX file is damaged" in refused(save(good))


def test_two_manifests(good: onnx.ModelProto, save: Save, refused: Callable[[Path], str]) -> None:
    for _ in range(2):
        good.metadata_props.add(key="edgekd", value="{}")
    assert "duplicate keys in metadata_props" in refused(save(good))
