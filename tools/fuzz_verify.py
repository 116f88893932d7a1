"""Damage a good ONNX file in many ways and verify each: every mutant must end in a report or in an error that says why.

    python tools/fuzz_verify.py MODEL [--mutants 2000] [--seed 0] [--profile stm32h743] [--embed] [--keep FOLDER]

`--embed` also runs what can be read on two random images. The work is done in a child process, so that a crash of a
library is a failure with the mutant's number; `--first N --mutants 1 --keep FOLDER` writes that mutant. Exits 1 where
any mutant fails: another exception than edgekd's own, a NumPy warning, a crash, or more than `--slow` seconds.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from edgekd.errors import EdgekdError
from edgekd.profile import HardwareProfile, load_profile
from edgekd.verify import verify

Mutation = Callable[[onnx.ModelProto, random.Random], str]
MUTATIONS: list[Mutation] = []
MOST_AT_ONCE = 3
EDGES = (-(2**63), -(2**31), -2, -1, 0, 1, 2, 3, 127, 128, 255, 2**16, 2**31 - 1, 2**31, 2**40, 2**62, 2**63 - 1)
FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-45, 3e38, float("inf"), float("-inf"), float("nan"))
OPS = (
    "Conv",
    "Gemm",
    "MatMul",
    "Relu",
    "Clip",
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
    "Flatten",
    "Reshape",
    "Transpose",
    "Concat",
    "Add",
    "Mul",
    "Softmax",
    "QuantizeLinear",
    "DequantizeLinear",
    "QLinearConv",
    "QLinearAdd",
    "Quant",
    "Trunc",
    "Expand",
    "Tile",
    "ConstantOfShape",
    "Constant",
    "If",
    "Loop",
    "Split",
    "Pad",
    "Resize",
    "Cast",
    "Shape",
    "Gather",
    "Squeeze",
    "Unsqueeze",
    "Slice",
    "LSTM",
    "TopK",
    "NonZero",
    "Nothing",
)
ATTRIBUTES = (
    "axis",
    "kernel_shape",
    "strides",
    "pads",
    "dilations",
    "group",
    "auto_pad",
    "ceil_mode",
    "transA",
    "transB",
    "alpha",
    "perm",
    "to",
    "value",
    "block_size",
    "signed",
    "narrow",
    "count_include_pad",
)
NAMES = ("", "x", "pixels", "\x1b[2J", "[bold]", "../../etc/passwd", "a" * 5000, "\u202e", "nowhere", "%s%n", "\x00")


def mutation(change: Mutation) -> Mutation:
    """Register a way to change a model; it returns what it did in words."""
    MUTATIONS.append(change)
    return change


def main() -> None:
    """Run all mutants, print what became of them and the failures."""
    options = _arguments()
    if options.worker:
        _work(options)
        return
    outcomes: Counter[str] = Counter()
    failures = []
    begin = time.perf_counter()
    for row in _rows(options):
        outcomes[row["outcome"]] += 1
        if row["failed"]:
            failures.append(row)
            print(f"mutant {row['number']} of seed {options.seed}: {row['outcome']}: {row['text']}\n  {row['did']}")
    seconds = time.perf_counter() - begin
    print(f"{options.mutants} mutants of {options.model} in {seconds:.1f} s, {len(failures)} failures")
    print(", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common()))
    sys.exit(1 if failures else 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--mutants", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first mutant")
    parser.add_argument("--profile", default="stm32h743")
    parser.add_argument("--embed", action="store_true", help="run onnxruntime too")
    parser.add_argument("--slow", type=float, default=10.0, help="seconds that one mutant may take")
    parser.add_argument("--keep", type=Path, help="folder to write the mutants to")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def _rows(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield one row a mutant; where the child dies, blame the mutant it was at and go on behind it."""
    last = options.first + options.mutants
    number = options.first
    while number < last:
        command = [sys.executable, __file__, *sys.argv[1:], "--worker", "--first", str(number)]
        command += ["--mutants", str(last - number)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
            for line in child.stdout or ():
                row = json.loads(line)
                number = row["number"] + 1
                yield row
            errors = child.stderr.read() if child.stderr else ""
        if number < last:
            did = mutant(options.model.read_bytes(), options.seed, number)[1]
            text = f"exit {child.returncode}: {errors[-400:]}"
            yield {"number": number, "outcome": "crash", "text": text, "did": did, "failed": True}
            number += 1


def _work(options: argparse.Namespace) -> None:
    warnings.simplefilter("error", RuntimeWarning)
    content, profile = options.model.read_bytes(), load_profile(options.profile)
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(options.first, options.first + options.mutants):
            damaged, did = mutant(content, options.seed, number)
            path = (options.keep or Path(scratch)) / f"mutant_{number if options.keep else 0}.onnx"
            path.write_bytes(damaged)
            begin = time.perf_counter()
            row = {"number": number, "did": did, **_judge(path, profile, embed=options.embed)}
            if time.perf_counter() - begin > options.slow:
                row |= {"outcome": "slow", "text": f"{time.perf_counter() - begin:.1f} s", "failed": True}
            print(json.dumps(row), flush=True)


def _judge(path: Path, profile: HardwareProfile, *, embed: bool) -> dict[str, Any]:
    try:
        report = verify(path, profile, static=True)
        report.to_json()
        if embed:
            _embed(path)
    except EdgekdError as error:
        return {"outcome": type(error).__name__, "text": str(error), "failed": not _harmless(str(error))}
    except Exception:  # noqa: BLE001 - what we are looking for
        return {"outcome": "exception", "text": traceback.format_exc(), "failed": True}
    return {"outcome": report.verdict, "text": "", "failed": False}


def _harmless(text: str) -> bool:
    """Nothing in it steers a terminal; onnxruntime's messages have several lines."""
    return text.replace("\n", "").isprintable()


def _embed(path: Path) -> None:
    from edgekd.runtime import Embedder

    embedder = Embedder(path, threads=1)
    shape = onnx.load(path).graph.input[0].type.tensor_type.shape.dim
    channels, height, width = (min(max(dim.dim_value, 1), 64) for dim in list(shape)[1:4])
    images = np.random.default_rng(0).integers(0, 256, (2, height, width, channels), dtype=np.uint8)
    embedder.embed(images)


def mutant(content: bytes, seed: int, number: int) -> tuple[bytes, str]:
    """Return a damaged copy of a file, and what was done to it; the same for the same seed and number."""
    rng = random.Random(f"{seed}/{number}")  # noqa: S311 - reproducible on purpose
    if number % 8 == 0:
        return _damage_bytes(content, rng)
    model = onnx.ModelProto.FromString(content)
    done = []
    for _ in range(rng.choice((1, 1, 1, MOST_AT_ONCE))):
        change = rng.choice(MUTATIONS)
        try:
            done.append(f"{change.__name__}: {change(model, rng)}")
        except (IndexError, ValueError, TypeError, DecodeError) as error:  # nothing there to change, or out of range
            done.append(f"{change.__name__}: impossible, {error}")
    return model.SerializeToString(), "; ".join(done)


def _damage_bytes(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    damaged, done = bytearray(content), []
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.randrange(len(damaged))
        length = rng.choice((1, 1, 2, 4, 16, 200))
        kind = rng.choice(("flip", "flip", "flip", "delete", "insert", "repeat", "overwrite", "cut"))
        if kind == "flip":
            damaged[at] ^= 1 << rng.randrange(8)
        elif kind == "delete":
            del damaged[at : at + length]
        elif kind == "insert":
            damaged[at:at] = rng.randbytes(length)
        elif kind == "repeat":
            damaged[at:at] = damaged[at : at + length]
        elif kind == "overwrite":
            damaged[at : at + length] = bytes([rng.choice((0, 1, 127, 128, 255))]) * length
        elif rng.random() < 0.2:
            del damaged[max(at, 1) :]
        done.append(f"{kind} {length} at {at}")
        if not damaged:
            damaged = bytearray(b"\0")
    return bytes(damaged), ", ".join(done)


def _pick(items: Sequence[Any], rng: random.Random) -> Any:  # noqa: ANN401 - protobuf messages
    return items[rng.randrange(len(items))] if items else _nothing()


def _nothing() -> None:
    raise IndexError("nothing of that kind")


def _tensor(model: onnx.ModelProto, rng: random.Random) -> onnx.TensorProto:
    tensor: onnx.TensorProto = _pick(model.graph.initializer, rng)
    return tensor


def _node(model: onnx.ModelProto, rng: random.Random) -> onnx.NodeProto:
    node: onnx.NodeProto = _pick(model.graph.node, rng)
    return node


@mutation
def stored_dims(model: onnx.ModelProto, rng: random.Random) -> str:
    """Change a dimension of an initializer, or its rank."""
    tensor, value = _tensor(model, rng), rng.choice(EDGES)
    if tensor.dims and rng.random() < 0.7:
        tensor.dims[rng.randrange(len(tensor.dims))] = value
    else:
        tensor.dims.extend([value] * rng.choice((1, 1, 3, 100)))
    return f"{tensor.name} {list(tensor.dims)[:8]}"


@mutation
def stored_type(model: onnx.ModelProto, rng: random.Random) -> str:
    """Say that an initializer has another element type."""
    tensor = _tensor(model, rng)
    tensor.data_type = rng.randrange(30)
    return f"{tensor.name} {tensor.data_type}"


@mutation
def stored_bytes(model: onnx.ModelProto, rng: random.Random) -> str:
    """Truncate, extend or overwrite raw data."""
    tensor = _tensor(model, rng)
    raw = tensor.raw_data
    tensor.raw_data = rng.choice((raw[: len(raw) // 2], raw + b"\0", b"", rng.randbytes(len(raw)), b"\xff" * len(raw)))
    return f"{tensor.name} {len(raw)} -> {len(tensor.raw_data)}"


@mutation
def stored_number(model: onnx.ModelProto, rng: random.Random) -> str:
    """Replace an initializer by one number, or a few."""
    tensor = _tensor(model, rng)
    kind = rng.choice((np.float32, np.float32, np.float64, np.float16, np.int8, np.uint8, np.int32, np.int64, np.bool_))
    value = rng.choice(FLOATS) if np.issubdtype(kind, np.floating) else rng.choice((0, 1, 3, 127))
    shape = rng.choice(((), (), (1,), (2,), (3, 1), (0,)))
    with np.errstate(all="ignore"):
        array = np.full(shape, value).astype(kind)
    name = tensor.name
    tensor.CopyFrom(onnx.numpy_helper.from_array(array, name))
    return f"{name} {kind.__name__} {value} {shape}"


@mutation
def stored_text(model: onnx.ModelProto, rng: random.Random) -> str:
    """Replace an initializer by text."""
    tensor = _tensor(model, rng)
    name = tensor.name
    text = onnx.TensorProto(name=name, data_type=onnx.TensorProto.STRING, dims=[2])
    text.string_data.extend([b"a", rng.randbytes(3)])
    tensor.CopyFrom(text)
    return name


@mutation
def stored_elsewhere(model: onnx.ModelProto, rng: random.Random) -> str:
    """Say that an initializer lies in another file."""
    tensor = _tensor(model, rng)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    location = rng.choice(("../../etc/passwd", "/etc/passwd", "/dev/zero", ".", "", "mutant_0.onnx", "a\0b", "~/x"))
    for key, value in (("location", location), ("offset", str(rng.choice(EDGES))), ("length", str(rng.choice(EDGES)))):
        tensor.external_data.add(key=key, value=value)
    return f"{tensor.name} {location!a}"


@mutation
def input_shape(model: onnx.ModelProto, rng: random.Random) -> str:
    """Change a dimension of the graph's input or output, or its rank, or its type."""
    item = _pick([*model.graph.input, *model.graph.output], rng)
    tensor = item.type.tensor_type
    kind = rng.randrange(5)
    if kind == 0:
        tensor.elem_type = rng.randrange(30)
    elif kind == 1:
        tensor.shape.dim.add().dim_value = rng.choice(EDGES)
    elif kind == 2 and tensor.shape.dim:
        tensor.shape.dim.pop()
    elif kind == 3:
        item.type.sequence_type.elem_type.tensor_type.elem_type = 1
    else:
        _pick(tensor.shape.dim, rng).dim_value = rng.choice(EDGES)
    return f"{item.name} {kind}"


@mutation
def attribute_number(model: onnx.ModelProto, rng: random.Random) -> str:
    """Change an attribute of a node."""
    node = _pick([node for node in model.graph.node if node.attribute], rng)
    attribute = _pick(node.attribute, rng)
    if attribute.ints and rng.random() < 0.7:
        attribute.ints[rng.randrange(len(attribute.ints))] = rng.choice(EDGES)
    elif attribute.ints:
        attribute.ints.extend(rng.choices(EDGES, k=rng.choice((1, 4, 50))))
    elif rng.random() < 0.7:
        attribute.i = rng.choice(EDGES)
    else:
        attribute.type = rng.randrange(15)
    return f"{node.name}.{attribute.name}"


@mutation
def attribute_added(model: onnx.ModelProto, rng: random.Random) -> str:
    """Give a node an attribute that it may not know."""
    node, name = _node(model, rng), rng.choice(ATTRIBUTES)
    ints = rng.choices(EDGES, k=rng.choice((1, 2, 4)))
    value = rng.choice((rng.choice(EDGES), ints, rng.choice(FLOATS), "text", [1.5], model.graph))
    kept = [attribute for attribute in node.attribute if attribute.name != name]
    made = onnx.helper.make_attribute(name, value)
    del node.attribute[:]
    node.attribute.extend([*kept, made])
    return f"{node.name}.{name}"


@mutation
def attribute_lost(model: onnx.ModelProto, rng: random.Random) -> str:
    """Take an attribute away."""
    node = _pick([node for node in model.graph.node if node.attribute], rng)
    return f"{node.name}.{node.attribute.pop(rng.randrange(len(node.attribute))).name}"


@mutation
def operator(model: onnx.ModelProto, rng: random.Random) -> str:
    """Turn a node into another operator, or one of another domain."""
    node = _node(model, rng)
    before = node.op_type
    if rng.random() < 0.8:
        node.op_type = rng.choice(OPS)
    else:
        node.domain = rng.choice(("custom", "com.microsoft", "ai.onnx.ml", "ai.onnx", "evil"))
    return f"{node.name} {before} -> {node.domain}.{node.op_type}"


@mutation
def wires(model: onnx.ModelProto, rng: random.Random) -> str:
    """Swap two tensors, or read another, or leave one out."""
    node, other = _node(model, rng), _node(model, rng)
    kind = rng.randrange(4)
    if kind == 0:
        node.input[rng.randrange(len(node.input))] = _pick([*other.input, *other.output], rng)
    elif kind == 1:
        node.output[rng.randrange(len(node.output))] = _pick([*other.input, *other.output], rng)
    elif kind == 2:
        node.input.pop(rng.randrange(len(node.input)))
    else:
        node.input.append(_pick([*other.input, ""], rng))
    return f"{node.name} {kind}"


@mutation
def names(model: onnx.ModelProto, rng: random.Random) -> str:
    """Give something a name that nothing should have."""
    name = rng.choice(NAMES)
    kind = rng.randrange(6)
    if kind == 0:
        _node(model, rng).name = name
    elif kind == 1:
        _node(model, rng).op_type = name
    elif kind == 2:
        model.producer_name = name
    elif kind == 3:
        _pick(model.graph.input, rng).name = name
    elif kind == 4:
        _tensor(model, rng).name = name
    else:
        _rename(model, _pick(_node(model, rng).output, rng), name)
    return f"{kind} {name[:20]!a}"


def _rename(model: onnx.ModelProto, old: str, new: str) -> None:
    for node in model.graph.node:
        for field in (node.input, node.output):
            for at, name in enumerate(field):
                field[at] = new if name == old else name


@mutation
def order(model: onnx.ModelProto, rng: random.Random) -> str:
    """Repeat a node, drop one, or move one."""
    at = rng.randrange(len(model.graph.node))
    node = onnx.NodeProto()
    node.CopyFrom(model.graph.node[at])
    kind = rng.randrange(3)
    if kind:
        model.graph.node.pop(at)
    if kind != 1:
        model.graph.node.insert(rng.randrange(len(model.graph.node) + 1), node)
    return f"{node.name} {kind}"


@mutation
def bypass(model: onnx.ModelProto, rng: random.Random) -> str:
    """Take a node out of a chain, so that its reader meets another format than it expects."""
    node = _node(model, rng)
    source, target = _pick(node.input, rng), _pick(node.output, rng)
    model.graph.node.remove(node)
    _rename(model, target, source)
    return node.name


@mutation
def inserted(model: onnx.ModelProto, rng: random.Random) -> str:
    """Put an operator into a wire, with odd constants behind it."""
    reader, op = _node(model, rng), rng.choice(OPS)
    at = rng.randrange(len(reader.input))
    source, name = reader.input[at], f"inserted_{rng.randrange(10**9)}"
    extra = []
    for number in range(rng.randrange(3)):
        array = np.array(rng.choices(EDGES, k=rng.choice((1, 2, 4))), np.int64)
        extra.append(f"{name}_{number}")
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, extra[-1]))
    reader.input[at] = name
    attributes: dict[str, Any] = {rng.choice(ATTRIBUTES): rng.choice((rng.choice(EDGES), rng.choices(EDGES, k=4)))}
    node = onnx.helper.make_node(op, [source, *extra], [name], **attributes)
    model.graph.node.insert(list(model.graph.node).index(reader), node)
    return f"{op} before {reader.name}"


@mutation
def versions(model: onnx.ModelProto, rng: random.Random) -> str:
    """Change the IR version or an operator set."""
    kind = rng.randrange(4)
    if kind == 0:
        model.ir_version = rng.choice(EDGES)
    elif kind == 1:
        del model.opset_import[:]
    elif kind == 2:
        model.opset_import[0].version = rng.choice((*EDGES, *range(1, 26)))
    else:
        model.opset_import.add(domain=rng.choice(("", "custom", "com.microsoft")), version=rng.choice(EDGES))
    return str(kind)


@mutation
def metadata(model: onnx.ModelProto, rng: random.Random) -> str:
    """Write something into the manifest's place."""
    text = rng.choice(("", "{}", "null", "[" * 9999, '{"format": 1}', '{"\x1b[2J": 1}', "9" * 9999, '"\\ud800"', "NaN"))
    model.metadata_props.add(key="edgekd", value=text)
    return text[:20]


@mutation
def fields(model: onnx.ModelProto, rng: random.Random) -> str:
    """Clear or repeat a whole part of the graph."""
    name = rng.choice(("input", "output", "initializer", "value_info"))
    field = getattr(model.graph, name)
    if rng.random() < 0.5:
        field.pop(rng.randrange(len(field)))
    else:
        field.add().CopyFrom(_pick(field, rng))
    return name


if __name__ == "__main__":
    main()
