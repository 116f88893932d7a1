from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgekd.cli import main
from edgekd.cli.profiles import command
from edgekd.errors import ProfileError, StorageError, UsageError
from edgekd.profile import HardwareProfile, load_profile, profile_names
from edgekd.profile_template import template
from edgekd.verify.profile_page import profile_page


def run(*arguments: str) -> str:
    result = CliRunner().invoke(command, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_list_names_every_profile_and_its_cap() -> None:
    output = run("list")
    assert "tu_accel_150k" in output
    assert "149,999" in output
    assert "stm32h743" in output


@pytest.mark.parametrize("name", profile_names())
def test_what_show_prints_is_the_profile_itself(name: str) -> None:
    output, profile = run("show", name), load_profile(name)
    assert HardwareProfile.from_text(output, sha256=profile.sha256) == profile
    assert f"# sha256 {profile.sha256}" in output


def test_show_says_what_is_unknown_and_gives_sources() -> None:
    output = run("show", "tu_accel_150k")
    assert "P. Vunderink" in output
    assert "# unknown: accumulator_bits, " in output
    assert "[memory" not in output, "what is unknown is not there"


def test_show_prints_what_a_profile_extends() -> None:
    tree = tomllib.loads(run("show", "stm32h743"))
    assert "extends" not in tree
    assert tree["weights"]["bits"] == [4, 8]
    assert [region["name"] for region in tree["memory"]["regions"]][:2] == ["flash", "AXI SRAM"]


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


def test_check_exits_2_with_the_nearest_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\n[[ops]]\nop = "Conf"')
    monkeypatch.setattr("sys.argv", ["edgekd", "profiles", "check", str(path)])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2


def test_new_writes_a_template_in_which_all_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "wrote mine.toml" in run("new", "mine")
    assert "is well formed" in run("check", "mine.toml")
    profile = load_profile("mine.toml")
    assert list(profile.known()) == []
    with pytest.raises(UsageError, match="is there already"):
        run("new", "mine")
    assert "other.toml" in run("new", "mine", "--output", "other.toml")


def test_new_refuses_a_name_that_is_none_and_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no name"):
        run("new", "../mine")
    with pytest.raises(StorageError, match=r"there is no folder .*absent"):
        run("new", "mine", "--output", str(tmp_path / "absent" / "mine.toml"))


def test_check_refuses_such_a_name_and_names_repeated_entries(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('name = "../../x"')
    with pytest.raises(ProfileError, match="is no name for a profile"):
        run("check", str(file))
    entry = '[[ops]]\nop = "Conv"\nkernel_max_px = '
    file.write_text(f'name = "mine"\n{entry}3\n{entry}5\n')
    assert "twice" not in run("check", str(file))
    file.write_text(f'name = "mine"\n{entry}3\n{entry}3\n')
    assert "Conv is listed twice with the same limits" in run("check", str(file))


def test_names_alone() -> None:
    assert run("list", "--names").splitlines() == profile_names()


def test_the_template_is_a_profile_when_every_comment_is_taken_away() -> None:
    """Each example has the right type and unit; contradictions and names apart."""
    text, _, _ = template("mine").partition("# Where this profile extends another")
    lines = [line.removeprefix("# ") for line in text.splitlines() if not line.startswith("# `")]
    lines = lines[lines.index('name = "mine"') :]
    dropped = ("extends", "without_ops", "unlimited", "description", "vendor")
    kept = [line for line in lines if not line.startswith(dropped)]
    profile = HardwareProfile.from_text("\n".join(kept))
    assert {key for key in profile.unknown() if key not in {"params.max", "layers.max"}} == set()


def test_schema_is_a_json_schema_with_units() -> None:
    schema = json.loads(run("schema"))
    assert schema["type"] == "object"
    assert "px (pixels)" in schema["$comment"]
    region = schema["$defs"]["Region"]["properties"]
    assert region["bytes"]["description"] == "Its size, all banks together."
    assert schema["$defs"]["Compute"]["properties"]["clock_hz"]["anyOf"]


def test_adding_a_target_is_one_file(tmp_path: Path) -> None:
    """A TOML file and no Python: every command takes it, and so does what it extends."""
    path = tmp_path / "tiny.toml"
    source = '[[sources]]\nkeys = ["layers"]\ntext = "mine"'
    path.write_text(f'name = "tiny"\nextends = "max78000"\n[layers]\nmax = 3\n{source}')
    assert "tiny" in run("show", str(path))
    assert "no source" not in run("check", str(path))
    child = tmp_path / "tinier.toml"
    child.write_text('name = "tinier"\nextends = "tiny"')
    assert load_profile(str(child)).layers.max == 3
    assert "# tiny" in profile_page(load_profile(str(path)))


def test_check_says_what_becomes_of_the_extended_profile(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    text = 'name = "mine"\nextends = "max78000"\nwithout_ops = ["Abs"]\n[params]\nmax = 5\n[[ops]]\nop = "Pad"\n'
    path.write_text(text + '[[ops]]\nop = "Conv"\n')
    output = CliRunner().invoke(command, ["check", str(path)]).output.splitlines()
    assert output[0].startswith("extends ")
    assert output[0].endswith("max78000.toml")
    assert output[1:4] == [
        "  replaced: ops.Conv",
        "  added: params.max, ops.Pad",
        "  removed: params.unlimited, ops.Abs",
    ]
    assert "memory.regions" in output[4]
    assert "ops.MaxPool" in output[4]
    assert "ops.Conv," not in output[4]


def test_a_file_that_hides_a_profile_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "max78000.toml").write_text('name = "max78000"\n')
    (tmp_path / "kid.toml").write_text('name = "kid"\nextends = "max78000"\n')
    output = CliRunner().invoke(command, ["check", str(tmp_path / "kid.toml")]).output
    assert "max78000.toml, in place of the profile of that name that comes with edgekd" in output
    assert "hides the profile" in CliRunner().invoke(command, ["check", str(tmp_path / "max78000.toml")]).output
    assert "hides" not in CliRunner().invoke(command, ["check", "max78000"]).output


def test_new_refuses_the_name_of_a_profile_that_comes_with_edgekd(tmp_path: Path) -> None:
    arguments = ["new", "max78000", "--output", str(tmp_path / "max78000.toml")]
    assert isinstance(CliRunner().invoke(command, arguments).exception, UsageError)
    assert not (tmp_path / "max78000.toml").exists()
    assert CliRunner().invoke(command, [*arguments, "--force"]).exit_code == 0
