"""Files that are no files, too large, damaged, or point elsewhere; and what a file may not make verify write."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from edgekd.verify.bounds import LARGEST_FILE_BYTES

Save = Callable[[onnx.ModelProto | bytes], Path]
Refused = Callable[[Path], str]

needs_fifo = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")


def weight_of(model: onnx.ModelProto) -> onnx.TensorProto:
    found: onnx.TensorProto = next(tensor for tensor in model.graph.initializer if tensor.name.startswith("weight"))
    return found


def move_out(tensor: onnx.TensorProto, location: str, offset: object = "0", length: object = None) -> bytes:
    """Say that a tensor's data lies in another file; return the data."""
    data = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length or len(data))):
        tensor.external_data.add(key=key, value=str(value))
    return data


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 999, b"\xff" * 999, b"\x0a" * 999, b"GIF89a", b"\x3a\xff\xff\xff\xff\x0f"]
)
def test_bytes_that_are_no_model(content: bytes, save: Save, refused: Refused) -> None:
    assert "model.onnx" in refused(save(content))


def test_messages_nested_too_deep(save: Save, refused: Refused) -> None:
    content = b""
    for _ in range(400):  # a graph in an attribute in a node in a graph ...
        for tag in (b"\x32", b"\x2a", b"\x0a"):
            size, length = len(content), b""
            while size >= 0x80:
                length, size = length + bytes([size & 0x7F | 0x80]), size >> 7
            content = tag + length + bytes([size]) + content
    assert "is cut off, or computes nothing" in refused(save(b"\x3a" + content[1:]))


def test_a_sparse_file_of_3_gb_is_refused_by_its_size(
    tmp_path: Path, measured: Callable[[Path], tuple[int, str]]
) -> None:
    path = tmp_path / "model.onnx"
    with path.open("wb") as stream:
        stream.truncate(3 * 2**30)
    code, text = measured(path)
    assert code == 2
    assert f"has {3 * 2**30:,} bytes, the limit is {LARGEST_FILE_BYTES:,}" in text


@needs_fifo
def test_a_pipe_that_nobody_writes_to(tmp_path: Path, refused: Refused) -> None:
    os.mkfifo(tmp_path / "model.onnx")
    assert "is not a regular file" in refused(tmp_path / "model.onnx")


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="this system has no /dev/zero")
def test_a_device_without_end(refused: Refused) -> None:
    assert "/dev/zero is not a regular file" in refused(Path("/dev/zero"))


def test_a_folder_and_a_circle_of_links(tmp_path: Path, refused: Refused) -> None:
    assert "is a folder" in refused(tmp_path)
    (tmp_path / "a.onnx").symlink_to("b.onnx")
    (tmp_path / "b.onnx").symlink_to("a.onnx")
    assert "cannot read" in refused(tmp_path / "a.onnx")


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("../../../etc/passwd", "outside the model's folder"),
        ("/etc/passwd", "outside the model's folder"),
        ("/dev/zero", "outside the model's folder"),
        ("link", "outside the model's folder"),
        ("circle", "cannot be read|is no path"),
        ("", "outside the model's folder"),
        (".", "not a regular file|cannot be read"),
        ("pipe", "not a regular file"),
        ("missing", "does not exist"),
        ("\x1b[2J", "does not exist"),
        ("a" * 5000, "cannot be read|is no path"),
    ],
)
@needs_fifo
def test_data_in_another_place(
    *, location: str, message: str, tmp_path: Path, good: onnx.ModelProto, save: Save, refused: Refused
) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "circle").symlink_to("circle")
    move_out(weight_of(good), location)
    with pytest.raises(AssertionError, match=rf"weight_.*({message})|({message})"):
        raise AssertionError(refused(save(good)))


@pytest.mark.parametrize(
    ("offset", "length", "message"),
    [
        (10, None, "is shorter"),
        (2**62, None, "is shorter"),
        (-1, None, "offset '-1', which is no number of bytes"),
        ("0x10", None, "offset '0x10', which is no number"),
        ("9" * 50, None, "offset '9999.*', which is no number"),
        (0, 5, "does not match its shape .* 5 bytes, not 108"),
        (0, 2**62, "does not match its shape"),
        (0, -1, "length '-1', which is no number"),
    ],
)
def test_data_that_is_not_where_it_is_said_to_be(
    *,
    offset: object,
    length: object,
    message: str,
    tmp_path: Path,
    good: onnx.ModelProto,
    save: Save,
    refused: Refused,
) -> None:
    (tmp_path / "data").write_bytes(move_out(weight_of(good), "data", offset, length))
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(refused(save(good)))


def test_one_file_that_a_thousand_tensors_share(
    tmp_path: Path, good: onnx.ModelProto, save: Save, measured: Callable[[Path], tuple[int, str]]
) -> None:
    with (tmp_path / "data").open("wb") as stream:
        stream.truncate(2**28)
    for number in range(1000):
        tensor = TensorProto(name=f"big_{number}", data_type=TensorProto.INT8, dims=[2**28])
        move_out(tensor, "data", 0, 2**28)
        good.graph.initializer.append(tensor)
    good.graph.initializer.insert(0, TensorProto(name="huge", data_type=TensorProto.INT8, dims=[2**40]))
    move_out(good.graph.initializer[0], "data", 0, 2**40)
    code, text = measured(save(good))
    assert code == 2
    assert f"more than the limit, {LARGEST_FILE_BYTES:,}" in text


def test_data_of_a_subgraph_is_read_from_the_folder_only(good: onnx.ModelProto, save: Save, refused: Refused) -> None:
    inner = onnx.GraphProto(name="inner")
    inner.initializer.append(numpy_helper.from_array(np.zeros(4, np.float32), "hidden"))
    move_out(inner.initializer[0], "/etc/passwd")
    node = onnx.helper.make_node("If", ["pixels"], ["y"], then_branch=inner, else_branch=inner)
    good.graph.node.append(node)
    assert "the data of 'hidden' is at '/etc/passwd', outside the model's folder" in refused(save(good))


def test_nothing_is_written_and_nothing_else_stays_running(
    tmp_path: Path, good: onnx.ModelProto, save: Save, command_line: Callable[[Path], tuple[int, str]]
) -> None:
    good.graph.node[0].name = "../escaped"
    path = save(good)
    before, threads = sorted(tmp_path.parent.rglob("*")), threading.active_count()
    command_line(path)
    assert sorted(tmp_path.parent.rglob("*")) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    assert threading.active_count() == threads
