"""Graphs that no network has: each case damages a good one in one way, and the message names what is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekd.verify import Report, find_models, verify_each

Change = Callable[[onnx.ModelProto], None]
Save = Callable[[onnx.ModelProto | bytes], Path]
REFUSED: dict[str, tuple[Change, str]] = {}
FAILED: dict[str, tuple[Change, str]] = {}
CUSTOM = [helper.make_opsetid("", 17), helper.make_opsetid("custom", 1)]


def refused_as(message: str) -> Callable[[Change], Change]:
    """Register a change after which the file is no longer legal."""
    return lambda change: REFUSED.setdefault(change.__name__, (change, message))[0]


def failed_as(message: str) -> Callable[[Change], Change]:
    """Register a change after which the file is legal, or nearly, and a finding says why it cannot be deployed."""
    return lambda change: FAILED.setdefault(change.__name__, (change, message))[0]


def node_of(model: onnx.ModelProto, op: str) -> onnx.NodeProto:
    found: onnx.NodeProto = next(node for node in model.graph.node if node.op_type == op)
    return found


def put(model: onnx.ModelProto, op: str, *inputs: str, at: int = 0, domain: str = "", **attributes: Any) -> None:
    node = helper.make_node(op, list(inputs), ["put"], name="put_here", domain=domain, **attributes)
    model.graph.node.insert(at, node)


def store(model: onnx.ModelProto, name: str, values: object, kind: type[np.generic] = np.int64) -> str:
    model.graph.initializer.append(numpy_helper.from_array(np.array(values, kind), name))
    return name


def function(name: str, *callees: str) -> onnx.FunctionProto:
    steps = [
        helper.make_node(callee, [f"t{at}"], [f"t{at + 1}"], domain="custom") for at, callee in enumerate(callees)
    ] or [helper.make_node("Relu", ["t0"], ["t1"])]
    return helper.make_function("custom", name, ["t0"], [f"t{len(steps)}"], steps, CUSTOM)


@refused_as(r"its nodes form a cycle: .+ -> ")
def cycle(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = model.graph.output[0].name


@refused_as("topologically sorted")
def wrong_order(model: onnx.ModelProto) -> None:
    first = onnx.NodeProto()
    first.CopyFrom(model.graph.node[0])
    del model.graph.node[0]
    model.graph.node.append(first)


@refused_as("single static assignment")
def duplicate_tensor_name(model: onnx.ModelProto) -> None:
    model.graph.node[1].output[0] = model.graph.node[0].output[0]


@refused_as("initializer name is not unique|single static assignment|Duplicate")
def duplicate_initializer(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(model.graph.initializer[0])


@refused_as("no output")
def no_output(model: onnx.ModelProto) -> None:
    del model.graph.output[:]


@refused_as("no input")
def no_input(model: onnx.ModelProto) -> None:
    store(model, "pixels", np.zeros((1, 3, 8, 8)), np.int8)
    del model.graph.input[:]


@refused_as("output 'nobody'")
def output_that_nothing_computes(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = "nobody"


@refused_as("opset")
def opset_missing(model: onnx.ModelProto) -> None:
    del model.opset_import[:]


@refused_as("(?i)opset|No Op registered")
def opset_0(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 0


@refused_as("9999")
def opset_9999(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 9999


@refused_as("ir_version|IR version")
def ir_version_0(model: onnx.ModelProto) -> None:
    model.ir_version = 0


@refused_as("9999")
def ir_version_9999(model: onnx.ModelProto) -> None:
    model.ir_version = 9999


@refused_as("'Again' calls itself")
def function_that_calls_itself(model: onnx.ModelProto) -> None:
    model.functions.append(function("Again", "Again"))
    put(model, "Again", "pixels", domain="custom")


@refused_as("calls itself, directly or through others")
def functions_that_call_each_other(model: onnx.ModelProto) -> None:
    model.functions.extend([function("There", "Back"), function("Back", "There")])


@refused_as("1,073,741,8.. nodes with its functions expanded")
def functions_that_double_30_times(model: onnx.ModelProto) -> None:
    model.functions.append(function("F0"))
    model.functions.extend(function(f"F{at}", f"F{at - 1}", f"F{at - 1}") for at in range(1, 31))
    put(model, "F30", "pixels", domain="custom")


@refused_as("about 1e\\+30. nodes")
def functions_that_double_1000_times(model: onnx.ModelProto) -> None:
    model.functions.append(function("F0"))
    model.functions.extend(function(f"F{at}", f"F{at - 1}", f"F{at - 1}") for at in range(1, 1001))
    put(model, "F1000", "pixels", domain="custom")


@refused_as("120,0.. nodes .* limit is 100,000")
def nodes_120_000(model: onnx.ModelProto) -> None:
    model.graph.node.extend(helper.make_node("Relu", ["pixels"], [f"r{at}"]) for at in range(120_000))


@refused_as("characters that cannot be printed: '\\\\x1b\\[2J'")
def name_that_clears_the_screen(model: onnx.ModelProto) -> None:
    model.graph.node[3].name = "\x1b[2J"


@refused_as("cannot be printed: 'a\\\\u202eb'")
def name_that_reverses_text(model: onnx.ModelProto) -> None:
    model.graph.input[0].name = "a\u202eb"


@refused_as("cannot be printed: 'two\\\\nlines'")
def name_in_a_subgraph_with_a_line_break(model: onnx.ModelProto) -> None:
    inner = helper.make_graph([helper.make_node("Relu", ["pixels"], ["two\nlines"])], "inner", [], [])
    put(model, "If", "pixels", then_branch=inner, else_branch=inner)


@refused_as("a name in it has 100,000 characters, the limit is 1,000")
def name_of_100_000_characters(model: onnx.ModelProto) -> None:
    model.graph.node[0].name = "n" * 100_000


@refused_as("'sparse' is a sparse tensor")
def sparse_initializer(model: onnx.ModelProto) -> None:
    values = numpy_helper.from_array(np.ones(1, np.float32), "sparse")
    indices = numpy_helper.from_array(np.zeros(1, np.int64), "at")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [9]))


@refused_as("'pixels' has 1,000 dimensions, the limit is 64")
def input_of_1000_dimensions(model: onnx.ModelProto) -> None:
    for _ in range(996):
        model.graph.input[0].type.tensor_type.shape.dim.add().dim_value = 1


@refused_as("'pixels' has an impossible dimension")
def input_of_2_to_the_62(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 2**62


@refused_as("impossible size: about 1e\\+")
def expanded_beyond_any_memory(model: onnx.ModelProto) -> None:
    put(model, "Expand", store(model, "one", [1.0], np.float32), store(model, "to", [2**31, 2**31, 2**31]))


@refused_as("more than [0-9,]+ MiB of memory|crashes the library|bad_alloc|MemoryError")
def shape_that_doubles_34_times(model: onnx.ModelProto) -> None:
    store(model, "d0", [1])
    for at in range(34):
        model.graph.node.insert(at, helper.make_node("Concat", [f"d{at}"] * 2, [f"d{at + 1}"], axis=0))
    put(model, "Reshape", "pixels", "d34", at=34)


@refused_as("more than [0-9,]+ MiB of memory|crashes the library|bad_alloc|MemoryError")
def rank_of_200_000_in_2000_tensors(model: onnx.ModelProto) -> None:
    put(model, "Reshape", "pixels", store(model, "ones", [1] * 200_000))
    chain = ["put", *(f"i{at}" for at in range(2000))]
    for at in range(2000):
        model.graph.node.insert(at + 1, helper.make_node("Identity", [chain[at]], [chain[at + 1]]))


@failed_as("peak [0-9,]{17,} B exceeds .*, the largest region")
def expanded_to_terabytes(model: onnx.ModelProto) -> None:
    put(model, "Expand", "pixels", store(model, "to", [2**40, 3, 8, 8]))
    model.graph.output.append(helper.make_tensor_value_info("put", TensorProto.INT8, None))


@failed_as("Nothing is not among the operators")
def custom_operator(model: onnx.ModelProto) -> None:
    put(model, "Nothing", "pixels", domain="custom")


@failed_as("Nothing is not among the operators")
def custom_operator_without_output(model: onnx.ModelProto) -> None:
    put(model, "Nothing", "pixels", domain="custom")
    del model.graph.node[0].output[:]


@failed_as("Constant is not among the operators")
def constant_of_another_domain(model: onnx.ModelProto) -> None:
    put(model, "Constant", "pixels", domain="custom", value=model.graph)


@failed_as("If is not among the operators")
def layers_hidden_in_a_branch(model: onnx.ModelProto) -> None:
    out = helper.make_tensor_value_info("inner", TensorProto.INT8, None)
    inner = helper.make_graph([helper.make_node("Identity", ["pixels"], ["inner"])], "inner", [], [out])
    put(model, "If", store(model, "yes", True, np.bool_), then_branch=inner, else_branch=inner)


@failed_as("SequenceAt is not among the operators")
def sequence_input(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_sequence_value_info("many", TensorProto.FLOAT, None))
    put(model, "SequenceAt", "many", store(model, "first", 0))


@failed_as("OptionalGetElement is not among the operators")
def optional_input(model: onnx.ModelProto) -> None:
    kind = helper.make_optional_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, [1]))
    model.graph.input.append(helper.make_value_info("maybe", kind))
    put(model, "OptionalGetElement", "maybe")


@failed_as("\\[bold\\]x\\[/bold\\].* has")
def name_that_is_markup(model: onnx.ModelProto) -> None:
    node = node_of(model, "DequantizeLinear")
    node.name = "[bold]x[/bold][link=file:///etc/passwd]"
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.array(np.nan, np.float32), node.input[1]))
    node.name = node.name[:15] + " has"


@failed_as("../../etc/passwd")
def name_that_is_a_path(model: onnx.ModelProto) -> None:
    put(model, "Softmax", "pixels")
    model.graph.node[0].name = "../../etc/passwd"


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_by_name(name: str, good: onnx.ModelProto, save: Save, refused: Callable[[Path], str]) -> None:
    change, message = REFUSED[name]
    change(good)
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(refused(save(good)))


@pytest.mark.parametrize("name", FAILED)
def test_it_fails_with_a_finding(
    name: str, good: onnx.ModelProto, save: Save, judged: Callable[[Path], Report]
) -> None:
    change, message = FAILED[name]
    change(good)
    failures = "\n".join(f"{item.node} {item.message}" for item in judged(save(good)).findings if item.status == "fail")
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(failures)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "custom_operator",
            "put_here is the custom operator Nothing of domain 'custom'.*ai.onnx.*or as an ONNX function in the file",
        ),
        ("custom_operator_without_output", "put_here is the custom operator Nothing of domain 'custom'"),
        ("constant_of_another_domain", "put_here is the custom operator Constant of domain 'custom'"),
        ("layers_hidden_in_a_branch", r"put_here \(If\) holds a graph of its own.*export without control flow"),
    ],
)
def test_what_only_its_author_can_judge_must_be_changed(
    name: str, message: str, good: onnx.ModelProto, save: Save, command_line: Callable[[Path], tuple[int, str]]
) -> None:
    FAILED[name][0](good)
    code, text = command_line(save(good))
    assert code == 2
    assert re.search(rf"Error: .*model\.onnx: {message}", text)


def test_a_custom_operator_does_not_stop_the_files_after_it(good: onnx.ModelProto, save: Save) -> None:
    fine = save(good)
    fine.rename(fine.with_name("z.onnx"))
    FAILED["custom_operator"][0](good)
    first, second = verify_each(find_models(save(good).parent), "stm32h743", static=True)
    assert isinstance(first, Report)
    assert isinstance(second, Report)
    assert ("custom operator Nothing" in first.errors[0], second.errors) == (True, ())


def test_of_many_custom_operators_the_first_are_named(
    good: onnx.ModelProto, save: Save, judged: Callable[[Path], Report]
) -> None:
    for at in range(200):
        good.graph.node.append(helper.make_node(f"Mine{at}", ["pixels"], [f"m{at}"], domain="custom"))
    errors = judged(save(good)).errors
    assert len(errors) == 6
    assert errors[-1].endswith("it has 195 more custom operators or operators with graphs of their own")


def test_operators_of_known_domains_are_findings(
    good: onnx.ModelProto, save: Save, judged: Callable[[Path], Report]
) -> None:
    good.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    for op, domain in (("Einsum", ""), ("BiasGelu", "com.microsoft")):
        attributes = {"equation": "bchw->bchw"} if op == "Einsum" else {}
        good.graph.node.append(helper.make_node(op, ["pixels"], [op], name=op, domain=domain, **attributes))
    report = judged(save(good))
    assert report.errors == ()
    assert {"Einsum", "BiasGelu"} <= {item.value for item in report.findings if item.rule == "operators"}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (-3, "'pixels' has a negative dimension, -3, on axis 1"),
        (
            -1,
            "'pixels' has a negative dimension, -1, on axis 1: give it a size, or a name (dim_param) where it is open",
        ),
        (0, "input 'pixels' has dimension 0 on axis 1"),
    ],
)
def test_dimensions_that_no_tensor_has(
    value: int, message: str, good: onnx.ModelProto, save: Save, refused: Callable[[Path], str]
) -> None:
    good.graph.input[0].type.tensor_type.shape.dim[1].dim_value = value
    assert message in refused(save(good))


def test_an_output_of_a_negative_dimension(good: onnx.ModelProto, save: Save, refused: Callable[[Path], str]) -> None:
    good.graph.output[0].type.tensor_type.shape.dim.add().dim_value = -9
    assert "has a negative dimension, -9, on axis 0" in refused(save(good))


def test_a_batch_of_0_is_no_open_batch(good: onnx.ModelProto, save: Save, refused: Callable[[Path], str]) -> None:
    good.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 0
    assert "input 'pixels' has dimension 0 on axis 0" in refused(save(good))


@pytest.mark.parametrize("where", ["input", "output", "constant"])
def test_text_that_enters_a_network(
    where: str, good: onnx.ModelProto, save: Save, refused: Callable[[Path], str]
) -> None:
    if where == "constant":
        good.graph.initializer.append(numpy_helper.from_array(np.array(["a"], object), "words"))
    if where == "output":
        good.graph.initializer.append(numpy_helper.from_array(np.zeros((2, 3), np.float32), "words_from"))
        put(good, "Cast", "words_from", to=TensorProto.STRING)
        good.graph.output.append(helper.make_tensor_value_info("put", TensorProto.STRING, [2, 3]))
    elif where == "input":
        good.graph.input.append(helper.make_tensor_value_info("words", TensorProto.STRING, [3]))
    if where != "output":
        put(good, "Identity", "words")
    assert "is a string tensor: a network computes with numbers" in refused(save(good))


def test_a_constant_that_is_computed_and_put_out_takes_memory(
    good: onnx.ModelProto, save: Save, judged: Callable[[Path], Report]
) -> None:
    put(good, "ConstantOfShape", store(good, "to", [2**20, 2**20]))
    good.graph.output.append(helper.make_tensor_value_info("put", TensorProto.FLOAT, None))
    report = judged(save(good))
    assert report.memory.peak_activation_bytes is not None
    assert report.memory.peak_activation_bytes > 2**42
    (found,) = [finding for finding in report.findings if finding.rule == "activation-memory"]
    assert found.status == "fail"
