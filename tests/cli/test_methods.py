from __future__ import annotations

import json
import sys

import pytest
from click.testing import CliRunner

from edgekd.cli._listing import wrapped
from edgekd.cli.methods import command
from edgekd.distill.methods import METHODS, option_types


def run(*arguments: str) -> str:
    result = CliRunner().invoke(command, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_every_term_is_listed_with_its_options_and_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")  # off a terminal nothing is cut or folded
    lines = run().splitlines()
    for name, method in METHODS.items():
        assert len([line for line in lines if line.startswith(f"{name}  ")]) == 1
        assert f"  source: {method.source}" in lines
        assert all(any(f"{option} = " in line for line in lines) for option in option_types(method))
    assert "  options: a1 = 0.3, a2 = 0.5, beta = 0.8, temperature = 4.0" in lines
    assert not any("…" in line for line in lines)


def test_json_has_the_same() -> None:
    facts = {fact["name"]: fact for fact in json.loads(run("--json"))}
    assert set(facts) == set(METHODS)
    assert facts["kd"]["options"] == {"temperature": 4.0}
    assert (facts["dml"]["online"], facts["ce"]["uses_teacher"], facts["kd"]["uses_labels"]) == (True, False, False)
    assert all(fact["summary"].endswith(".") and fact["loss"] and fact["source"] for fact in facts.values())


def test_a_terminal_folds_between_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    text = "source: " + "word " * 20 + "https://example.org/a-very-long-address-that-stays-in-one-piece"
    *folded, address = wrapped([text])
    assert all(len(line) <= 40 for line in folded)
    assert address.strip() == text.rsplit(maxsplit=1)[-1]
