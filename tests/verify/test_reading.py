from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekd.errors import ModelError
from edgekd.verify.operators import flavour_of
from edgekd.verify.reading import read_graph


def linear(dims: list[int | str | None], initializer: onnx.TensorProto | None = None) -> onnx.ModelProto:
    """A MatMul of float (dims) with weights (3, 2)."""
    weight = initializer or numpy_helper.from_array(np.ones((3, 2), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, dims)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [weight],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


def save(folder: Path, model: onnx.ModelProto) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_shapes_and_types_of_every_tensor_are_found(tmp_path: Path, conv4: Callable[..., Any]) -> None:
    graph = read_graph(conv4(width=4, size=32).save(tmp_path / "m.onnx"))
    assert graph.inputs == ("pixels",)
    assert graph.value("pixels").dtype == "int8"
    convs = [graph.value(node.outputs[0]) for node in graph.nodes if node.op == "Conv"]
    assert [value.shape for value in convs] == [(1, 4, 32, 32), (1, 4, 16, 16), (1, 4, 8, 8), (1, 4, 4, 4)]
    assert graph.value(graph.outputs[0]).shape == (1, 4)
    assert graph.symbolic == ()


def test_nodes_without_a_name_get_one(tmp_path: Path) -> None:
    assert [node.name for node in read_graph(save(tmp_path, linear([1, 3]))).nodes] == ["MatMul_0"]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is empty"),
        (b"<html>not found</html>", "is not an ONNX file"),
        (b"\x08\x0a", "holds no graph"),
        (b"PK\x03\x04 a zip file", "is not an ONNX file"),
    ],
    ids=["empty", "html", "no graph", "zip"],
)
def test_what_is_not_onnx_is_refused(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=complaint):
        read_graph(path)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.99])
def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, conv4: Callable[..., Any], kept: float) -> None:
    content = conv4().model().SerializeToString()
    path = tmp_path / "model.onnx"
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(ModelError, match=r"model\.onnx"):
        read_graph(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no file at"):
        read_graph(tmp_path / "absent.onnx")
    with pytest.raises(ModelError, match="is a folder"):
        read_graph(tmp_path)


def test_a_graph_that_breaks_the_specification_is_refused(tmp_path: Path) -> None:
    model = linear([1, 3])
    model.graph.node[0].input[0] = "nowhere"
    with pytest.raises(ModelError, match="breaks the ONNX specification"):
        read_graph(save(tmp_path, model))


def test_names_that_are_not_text_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path, linear([1, 3]))
    path.write_bytes(path.read_bytes().replace(b"linear", b"line\xffr").replace(b"MatMul", b"Mat\x91ul"))
    with pytest.raises(ModelError, match="not text"):
        read_graph(path)


def test_a_negative_dimension_of_an_initializer_is_refused(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.ones((3, 2), np.float32), "w")
    weight.dims[0] = -3
    with pytest.raises(ModelError, match=r"'w' has a negative dimension: \[-3, 2\]"):
        read_graph(save(tmp_path, linear([1, 3], weight)))


def test_an_initializer_larger_than_its_data_is_refused(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.ones((3, 2), np.float32), "w")
    weight.dims[0] = 2**50
    with pytest.raises(ModelError, match=r"\bw\b.*(size|shape)"):
        read_graph(save(tmp_path, linear([1, 3], weight)))


def test_a_huge_input_dimension_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="'x' has an impossible dimension, 1099511627776"):
        read_graph(save(tmp_path, linear([1, 2**40])))


@pytest.mark.parametrize("label", ["batch", None])
def test_a_symbolic_batch_is_seen_as_one_and_reported(tmp_path: Path, label: str | None) -> None:
    graph = read_graph(save(tmp_path, linear([label, 3])))
    assert [(dim.tensor, dim.axis) for dim in graph.symbolic] == [("x", 0)]
    assert graph.value("y").shape == (1, 2)


def test_other_symbolic_dimensions_leave_shapes_unknown(tmp_path: Path) -> None:
    graph = read_graph(save(tmp_path, linear([1, "rows", 3])))
    assert [(dim.axis, dim.label) for dim in graph.symbolic] == [(1, "rows")]
    assert graph.value("y").shape is None


def test_external_data_in_the_folder_is_read(tmp_path: Path) -> None:
    onnx.save(
        linear([1, 3]),
        tmp_path / "model.onnx",
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    assert (tmp_path / "weights.bin").exists()
    graph = read_graph(tmp_path / "model.onnx")
    assert np.array_equal(graph.constants["w"], np.ones((3, 2)))


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/hostname", "link.bin"])
def test_external_data_outside_the_folder_is_refused(tmp_path: Path, location: str) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(24))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    with pytest.raises(ModelError, match="outside the model's folder"):
        read_graph(save(folder, linear([1, 3], external_weight(location))))


@pytest.mark.parametrize(("size", "complaint"), [(None, "does not exist"), (4, "is shorter")])
def test_external_data_that_is_missing_or_short_is_refused(tmp_path: Path, size: int | None, complaint: str) -> None:
    if size is not None:
        (tmp_path / "w.bin").write_bytes(bytes(size))
    with pytest.raises(ModelError, match=complaint):
        read_graph(save(tmp_path, linear([1, 3], external_weight("w.bin"))))


def external_weight(location: str) -> onnx.TensorProto:
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3, 2], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, "offset": "0", "length": "24"}.items():
        weight.external_data.add(key=key, value=value)
    return weight


def test_local_functions_are_inlined(tmp_path: Path) -> None:
    double = helper.make_function(
        "custom", "Double", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 17)]
    )
    model = linear([1, 3])
    model.graph.node.insert(0, helper.make_node("Double", ["x"], ["doubled"], domain="custom"))
    model.graph.node[1].input[0] = "doubled"
    model.functions.append(double)
    model.opset_import.append(helper.make_opsetid("custom", 1))
    graph = read_graph(save(tmp_path, model))
    assert [node.op for node in graph.nodes] == ["Add", "MatMul"]


def test_the_flavour_of_a_float_file(tmp_path: Path) -> None:
    assert flavour_of(read_graph(save(tmp_path, linear([1, 3])))) == "float"


def test_a_clip_on_integers_tells_qcdq_from_qdq(tmp_path: Path, qcdq: type[Any]) -> None:
    plain = read_graph(qcdq().conv(4).save(tmp_path / "plain.onnx"))
    clipped = read_graph(qcdq().conv(4, clip=(-7, 7)).save(tmp_path / "clipped.onnx"))
    assert (flavour_of(plain), flavour_of(clipped)) == ("qdq", "qcdq")


def test_shapes_are_known_behind_qonnx_quantizers(tmp_path: Path) -> None:
    model = linear([1, 3])
    for name, value in {"s": 0.5, "z": 0.0, "bits": 4.0}.items():
        model.graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), name))
    quant = helper.make_node("Quant", ["x", "s", "z", "bits"], ["q"], domain="qonnx.custom_op.general", signed=1)
    model.graph.node.insert(0, quant)
    model.graph.node[1].input[0] = "q"
    model.opset_import.append(helper.make_opsetid("qonnx.custom_op.general", 1))
    graph = read_graph(save(tmp_path, model))
    assert flavour_of(graph) == "qonnx"
    assert graph.value("y").shape == (1, 2)


def test_shapes_are_known_behind_operators_of_onnxruntime(tmp_path: Path) -> None:
    model = linear([1, 3])
    scale, zero = (
        numpy_helper.from_array(np.array(0.5, np.float32), "s"),
        numpy_helper.from_array(np.array(0, np.int8), "z"),
    )
    model.graph.initializer.extend([scale, zero])
    add = helper.make_node("QLinearAdd", ["x", "s", "z", "x", "s", "z", "s", "z"], ["sum"], domain="com.microsoft")
    model.graph.node.insert(0, add)
    model.graph.node[1].input[0] = "sum"
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    assert read_graph(save(tmp_path, model)).value("sum").shape == (1, 3)
