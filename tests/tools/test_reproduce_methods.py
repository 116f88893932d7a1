"""The command that reproduces the table of methods: how it ends where nothing ran or a run failed."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edgekd.errors import DataError
from tools import reproduce_methods


@pytest.fixture(autouse=True)
def _private_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reproduce_methods, "RESULTS", tmp_path / "results.jsonl")
    monkeypatch.setattr(reproduce_methods, "PAGE", tmp_path / "README.md")


def invoked(*arguments: str) -> Result:
    return CliRunner().invoke(reproduce_methods.main, arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "say with --data"),
        (("--data", "mnits:/x"), "unknown set 'mnits'. Did you mean 'mnist'"),
        (("--only", "kdd", "--data", "mnist:/x"), "unknown method 'kdd'. Did you mean 'kd'"),
        (("--only", "feature_mse-direct", "--data", "omniglot:/x"), "omniglot does not run feature_mse-direct"),
        (("--data", "mnist:/x", "--seeds", "0"), "--seeds"),
    ],
)
def test_what_cannot_run_is_a_usage_error(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    result = invoked(*arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert not (tmp_path / "README.md").exists()


def test_a_run_that_fails_is_told_at_the_end_and_the_others_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(data: str, method: str, seed: int, spec: str, work: Path) -> reproduce_methods.Result:
        if seed == 0:
            raise DataError(f"nothing at {spec} for {work.name}")
        return reproduce_methods.Result(data, method, seed, 0.5, 0.01, None, 10, 1.0)

    monkeypatch.setattr(reproduce_methods, "run", run)
    arguments = ("--only", "kd", "--data", "mnist:/x", "--seeds", "2", "--work", str(tmp_path / "work"))
    result = invoked(*arguments)
    assert result.exit_code == 1
    assert "nothing at mnist:/x for work" in result.output
    assert "2 failed: mnist kd 0, mnist-mlp kd 0" in result.output
    assert [(row.data, row.seed) for row in reproduce_methods.read_results()] == [("mnist", 1), ("mnist-mlp", 1)]
    assert "`kd`" in (tmp_path / "README.md").read_text()
    monkeypatch.setattr(reproduce_methods, "run", lambda *_: reproduce_methods.Result("m", "kd", 0, 1, 0, None, 1, 1))
    assert invoked(*arguments).exit_code == 0
    assert invoked("--table").exit_code == 0
