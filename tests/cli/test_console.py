"""Off a terminal nothing is cut short; COLUMNS sets the width anywhere."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from edgekd.cli.data import command as data
from edgekd.cli.profiles import command as profiles
from edgekd.data import DATASETS
from edgekd.profile import load_profile, profile_names


def test_piped_lists_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    listed = CliRunner().invoke(profiles, ["list"]).output.splitlines()
    for name in profile_names():
        (line,) = [line for line in listed if line.split()[0] == name]
        assert load_profile(name).description in line
    listed = CliRunner().invoke(data, ["list"]).output.splitlines()
    for name, entry in DATASETS.items():
        assert [line for line in listed if line.split()[:1] == [name] and entry.summary in line]


def test_columns_are_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "90")
    assert max(map(len, CliRunner().invoke(profiles, ["list"]).output.splitlines())) <= 90
