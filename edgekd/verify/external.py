"""Tensors that an ONNX file keeps in other files: read only from inside the model's own folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
from onnx.external_data_helper import ExternalDataInfo, load_external_data_for_tensor, uses_external_data

from edgekd.errors import ModelError


def load_external_data(path: Path, model: onnx.ModelProto) -> None:
    """Read every external tensor of `model` (the content of `path`) into it.

    Raises:
        ModelError: a tensor lies outside the model's folder, or its file is missing or too short.
    """
    for tensor in _tensors(model.graph):
        if uses_external_data(tensor):
            _require_inside(path, tensor)
            _load(path, tensor)


def _require_inside(path: Path, tensor: onnx.TensorProto) -> None:
    folder = path.parent.resolve()
    info = ExternalDataInfo(tensor)
    target = (folder / info.location).resolve()  # follows symbolic links
    if not info.location or not target.is_relative_to(folder):
        raise ModelError(f"{path}: the data of '{tensor.name}' is at '{info.location}', outside the model's folder")
    if not target.is_file():
        raise ModelError(f"{path}: the data of '{tensor.name}' should be in {target}, which does not exist")
    end = (info.offset or 0) + (info.length or 0)
    if min(info.offset or 0, info.length or 0) < 0 or end > target.stat().st_size:
        raise ModelError(f"{path}: the data of '{tensor.name}' ends at byte {end}, but {target} is shorter")


def _load(path: Path, tensor: onnx.TensorProto) -> None:
    try:
        load_external_data_for_tensor(tensor, str(path.parent))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise ModelError(f"{path}: the data of '{tensor.name}' cannot be read: {error}") from error
    tensor.data_location = onnx.TensorProto.DEFAULT
    del tensor.external_data[:]


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield from _tensors(inner)
