"""The walls between the parts, read from the source and from what a fresh interpreter loads."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "edgekd"
MODULES = sorted(PACKAGE.rglob("*.py"))
TORCH_FREE = (
    "edgekd.verify",
    "edgekd.runtime",
    "edgekd.fewshot",
    "edgekd.siamese",
    "edgekd.data",
    "edgekd.profile",
    "edgekd.manifest",
    "edgekd.cli",
    "edgekd.cli.distill",
    "edgekd.cli.teach",
    "edgekd.cli.export",
    "edgekd.cli.methods",
    "edgekd.cli.models",
    "edgekd.zoo",
    "edgekd.report.card",
    "edgekd.cli.search",
    "edgekd.cli.verify",
    "edgekd.recipe",
    "edgekd.run",
    "edgekd.passes",
    "edgekd.comparison",
    "edgekd.measures",
    "edgekd.cli.compare",
    "edgekd.report",
)
HEAVY = ("torch", "torchvision", "brevitas", "accelerate", "timm", "safetensors")


def imports(path: Path) -> Iterator[str]:
    """Yield every module and member that a file imports, at its top or inside a function."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def calls(path: Path) -> Iterator[str]:
    """Yield the dotted name of every function that a file calls."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


def below(*folders: str) -> list[Path]:
    return [path for path in MODULES if path.relative_to(PACKAGE).parts[0] in folders]


@pytest.mark.parametrize("module", TORCH_FREE)
def test_it_loads_without_torch(module: str) -> None:
    probe = f"import sys, {module}; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("side", "other"), [("distill", "verify"), ("verify", "distill")])
def test_training_and_verification_meet_in_files_only(side: str, other: str) -> None:
    assert below(side)
    for path in below(side):
        assert not [name for name in imports(path) if f"{name}.".startswith(f"edgekd.{other}.")], path


def test_only_the_command_line_knows_of_the_search() -> None:
    for path in set(MODULES) - set(below("search", "cli")):
        assert not [name for name in imports(path) if f"{name}.".startswith("edgekd.search.")], path


def test_only_training_and_export_import_torch() -> None:
    for path in MODULES:
        if path in below("distill", "export.py"):
            continue
        assert not [name for name in imports(path) if name.partition(".")[0] in HEAVY], path


def test_only_the_command_line_prints_or_exits() -> None:
    forbidden = {"print", "exit", "quit", "sys.exit", "os._exit", "sys.stdout.write", "sys.stderr.write", "click.echo"}
    copies = PACKAGE / "verify" / "contained.py"  # its forked child must not run the parent's clean-up
    for path in set(MODULES) - set(below("cli")):
        allowed = {"os._exit"} if path == copies else set()
        assert not forbidden & set(calls(path)) - allowed, path


def test_no_file_of_a_user_can_run_code() -> None:
    for path in MODULES:
        names = {name.partition(".")[0] for name in imports(path)}
        assert not names & {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}, path
        called = set(calls(path))
        assert not called & {"torch.load", "eval", "exec", "yaml.load"}, path
        assert not [name for name in called if name.endswith("torch.hub.load")], path
        assert "allow_pickle=True" not in path.read_text(), path


def test_tools_are_never_imported() -> None:
    assert not [path for path in MODULES for name in imports(path) if name.partition(".")[0] in {"tools", "tests"}]
