from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from edgekd.cli.profiles import command
from edgekd.errors import ProfileError


def run(*arguments: str) -> str:
    result = CliRunner().invoke(command, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_list_names_every_profile_and_its_cap() -> None:
    output = run("list")
    assert "tu_accel_150k" in output
    assert "149,999" in output
    assert "stm32h743" in output


def test_show_gives_each_value_a_numbered_source() -> None:
    output = run("show", "tu_accel_150k")
    assert "params.max = 149999  [1]" in output
    assert "[1] P. Vunderink" in output
    assert "sha256 " in output
    assert "memory" not in output, "what is unknown is not there"


def test_show_flattens_tables_and_lists() -> None:
    output = run("show", "stm32h743")
    assert 'memory.regions[1].name = "AXI SRAM"' in output
    assert "weights.bits = [4, 8]" in output


def test_check_names_numbers_without_a_source(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\naccumulator_bits = 32')
    output = run("check", str(path))
    assert "no source for accumulator_bits" in output
    assert "profile 'mine' is well formed" in output


def test_check_refuses_a_broken_profile(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('nam = "mine"')
    with pytest.raises(ProfileError, match="unknown key 'nam'"):
        CliRunner().invoke(command, ["check", str(path)], catch_exceptions=False)
