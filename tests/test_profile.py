from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from edgekd.errors import ProfileError
from edgekd.files import sha256_bytes, sha256_file
from edgekd.profile import HardwareProfile, load_profile, profile_names

SHIPPED = Path(__file__).parent.parent / "hw_profiles"


def write(folder: Path, name: str, text: str) -> str:
    path = folder / f"{name}.toml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", profile_names())
def test_every_shipped_profile_is_well_formed_and_gives_a_source_for_every_number(name: str) -> None:
    profile = load_profile(name)
    assert profile.name == name
    assert profile.description
    assert profile.unsourced() == []


@pytest.mark.parametrize("name", profile_names())
def test_every_shipped_profile_is_the_same_when_read_back_from_its_own_text(name: str) -> None:
    profile = load_profile(name)
    text = profile.text()
    assert "extends" not in tomllib.loads(text)
    assert HardwareProfile.from_text(text, sha256=profile.sha256) == profile


def test_the_hash_of_a_profile_that_stands_alone_is_that_of_its_file() -> None:
    assert load_profile("tu_accel_150k").sha256 == sha256_file(SHIPPED / "tu_accel_150k.toml")


def test_the_hash_of_text_is_the_one_given_or_its_own() -> None:
    text = load_profile("gap8").text()
    assert HardwareProfile.from_text(text, sha256="abc").sha256 == "abc"
    assert HardwareProfile.from_text(text).sha256 == sha256_bytes(text.encode())


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("name = ", "is not TOML"), ('name = "x"\nextends = "gap8"', "must stand alone"), ("nam = 1", "'nam'")],
)
def test_text_that_is_no_profile_of_its_own_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ProfileError, match=complaint):
        HardwareProfile.from_text(text, what="the profile in model.onnx")


def test_assumptions_are_marked_as_such() -> None:
    profile = load_profile("tu_accel_150k_assumed")
    assert profile.params.max == load_profile("tu_accel_150k").params.max
    assumed = {key for key, _ in profile.known()} - {"params.max"}
    assert all(profile.source(key).startswith("Assumption") for key in assumed)


def test_a_number_in_an_entry_needs_a_source_too() -> None:
    entry = {"op": "Conv", "stride_max_px": 1}
    bare = HardwareProfile.model_validate({"name": "x", "ops": [entry]})
    assert bare.unsourced() == ["ops.Conv.stride_max_px"]
    assert HardwareProfile.model_validate({"name": "x", "ops": [{**entry, "source": "page 3"}]}).unsourced() == []


def test_a_figure_is_kept_as_a_range() -> None:
    one = HardwareProfile.from_text('name = "x"\n[compute]\nclock_hz = 50_000_000\nmacs_per_cycle_peak = [2, 4.5]')
    assert one.compute.clock_hz == (5e7, 5e7)
    assert one.compute.macs_per_cycle_peak == (2, 4.5)


def test_unknown_lists_what_is_not_stated_and_nothing_else() -> None:
    profile = HardwareProfile.from_text('name = "x"\n[params]\nunlimited = true\n[weights]\nbits = [8]')
    assert "params.max" not in profile.unknown()
    assert "weights.bits" not in profile.unknown()
    assert {"layers.max", "weights.scale", "ops", "memory.regions", "compute.clock_hz"} <= set(profile.unknown())


def test_of_the_tu_accelerator_only_the_parameter_cap_is_known() -> None:
    tree = tomllib.loads((SHIPPED / "tu_accel_150k.toml").read_text())
    assert tree["params"] == {"max": 149_999}, "strictly fewer than 150,000"
    assert tree.keys() == {"name", "description", "sources", "params"}


def test_the_largest_single_memory_of_the_stm32h743_is_512_kib() -> None:
    regions = load_profile("stm32h743").memory.regions
    assert max(region.bytes for region in regions if region.role == "activations") == 512 * 1024
    assert sum(region.bytes for region in regions if region.role == "weights") == 2 * 1024 * 1024


@pytest.mark.parametrize("name", ["cmsis_nn", "stm32h743", "nrf52840"])
def test_tensorflow_lite_micro_joins_cuts_and_averages(name: str) -> None:
    profile = load_profile(name)
    entries = {entry.op: entry for entry in profile.ops or ()}
    assert {"Concat", "Slice", "ReduceMean"} <= entries.keys()
    assert (entries["Concat"].inputs_max, entries["Slice"].rank_max, entries["ReduceMean"].reduced_axes_max) == (
        10,
        4,
        2,
    )
    assert all("kernels/" in entries[op].source for op in ("Concat", "Slice", "ReduceMean"))


def test_a_profile_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_profile("tu_accel_150k").params.max = 1


def test_an_absent_key_is_unknown(tmp_path: Path) -> None:
    profile = load_profile(write(tmp_path, "bare", 'name = "bare"'))
    assert profile.params.max is None
    assert profile.ops is None
    assert profile.weights.bits is None
    assert profile.source("params.max") == ""


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(ProfileError, match=r"'stm32h74'\. Did you mean 'stm32h743'\?"):
        load_profile("stm32h74")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            'name = "x"\n[params]\nmaximum = 3',
            r"broken\.toml: unknown key in \[params\] 'maximum'\. Did you mean 'max'\?",
        ),
        ('name = "x"\n[params]\nmax = -1', r"broken\.toml: params\.max: .*greater than or equal to 0"),
        ('name = "x"\n[params]\nmax = "many"', r"params\.max: .*integer"),
        ('name = "x"\n[params]\nmax = 3\nunlimited = true', r"params: .*contradict"),
        ('name = "x"\n[[memory.regions]]\nname = "r"\nbytes = -4\nrole = "weights"', r"memory\.regions\.0\.bytes"),
        ('name = "x"\n[[memory.regions]]\nname = "r"\nbytes = 4\nrole = "scratch"', r"memory\.regions\.0\.role"),
        ('name = "x"\n[weights]\nscale = "shift"', r"weights\.scale: .*'power_of_two' or 'float'"),
        ('description = "no name"', r"name: Field required"),
        ('name = "x"\n[[ops]]\nop = "conv2d"', r"ops\.0\.op: unknown ONNX operator 'conv2d'\. Did you mean 'Conv'"),
        ('name = "x"\n[[ops]]\nop = "Conv"\nstride_max = 2', r"'stride_max'\. Did you mean 'stride_max_px'"),
        ('name = "x"\n[compute]\nclock_hz = [3, 1]', r"compute\.clock_hz: a figure is one positive number, or \[low"),
        ('name = "x"\n[compute]\nclock_hz = 0', r"compute\.clock_hz: a figure is one positive"),
        (
            'name = "x"\n[[sources]]\nkeys = ["params.mx"]\ntext = "t"',
            r"unknown key in \[\[sources\]\] 'params\.mx'\. Did you mean 'params\.max'",
        ),
        (
            'name = "x"\n[[sources]]\nkeys = ["ops.Convolution"]\ntext = "t"',
            r"unknown key in \[\[sources\]\] 'ops\.Convolution'",
        ),
        (
            'name = "x"\n[[memory.regions]]\nname = "r"\nbytes = 4\nrole = "shared"\nplacement = "channels"',
            r"memory\.regions\.0: .*needs 'banks' and 'bank_bytes'",
        ),
        ("name = ", r"broken\.toml is not a readable TOML file"),
        (
            'name = "x"\nextends = "stm32h74"',
            r"broken\.toml: key 'extends': unknown profile .*Did you mean 'stm32h743'",
        ),
        ('name = "x"\nextends = 3', r"extends: .*string"),
    ],
)
def test_a_broken_profile_is_refused_by_file_and_key(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ProfileError, match=complaint):
        load_profile(write(tmp_path, "broken", text))


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="no profile at"):
        load_profile(str(tmp_path / "absent.toml"))
    with pytest.raises(ProfileError, match="not a readable TOML file"):
        load_profile(f"{tmp_path}/")


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "binary.toml"
    path.write_bytes(b"\xff\xfe\x00name")
    with pytest.raises(ProfileError, match="not a readable TOML file"):
        load_profile(str(path))


def test_a_profile_extends_another_key_by_key(tmp_path: Path) -> None:
    write(tmp_path, "base", 'name = "base"\n[params]\nmax = 9\n[weights]\nbits = [8]\nsymmetric = true')
    child = 'name = "child"\nextends = "base"\n[weights]\nbits = [4]\n[[sources]]\nkeys = ["weights"]\ntext = "seen"'
    profile = load_profile(write(tmp_path, "child", child))
    assert profile.params.max == 9
    assert profile.weights.bits == (4,)
    assert profile.weights.symmetric is True
    assert profile.source("weights.bits") == "seen"
    assert profile.unsourced() == ["params.max"]


def test_a_cap_and_that_there_is_none_replace_each_other_with_their_sources(tmp_path: Path) -> None:
    source = '[[sources]]\nkeys = ["params"]\ntext = "manual"'
    write(tmp_path, "free", f'name = "free"\n[params]\nunlimited = true\n{source}')
    write(tmp_path, "small", f'name = "small"\n[params]\nmax = 9\n{source}')
    capped = load_profile(write(tmp_path, "a", 'name = "a"\nextends = "free"\n[params]\nmax = 5'))
    assert (capped.params.max, capped.params.unlimited, capped.unsourced()) == (5, False, ["params.max"])
    assert capped.source("params.max") == ""
    freed = load_profile(write(tmp_path, "b", 'name = "b"\nextends = "small"\n[params]\nunlimited = true'))
    assert (freed.params.max, freed.params.unlimited) == (None, True)
    again = load_profile(write(tmp_path, "c", 'name = "c"\nextends = "b"\n[params]\nmax = 7'))
    assert again.params.max == 7
    assert HardwareProfile.from_text(again.text(), sha256=again.sha256) == again


def test_regions_are_replaced_with_the_sources_that_name_them(tmp_path: Path) -> None:
    regions = '[[memory.regions]]\nname = "SRAM"\nbytes = 65536\nrole = "shared"'
    child = f'name = "mine"\nextends = "max78000"\n{regions}'
    profile = load_profile(write(tmp_path, "mine", child))
    assert [region.name for region in profile.memory.regions] == ["SRAM"]
    assert profile.unsourced() == ["memory.regions.SRAM.bytes"]
    assert profile.source("memory.pool_conv_fused") == load_profile("max78000").source("memory.pool_conv_fused")


def test_operators_are_replaced_added_and_taken_away_by_name(tmp_path: Path) -> None:
    child = 'name = "m"\nextends = "max78000"\nwithout_ops = ["Abs"]\n[[ops]]\nop = "Conv"\nstride_max_px = 3\n'
    profile = load_profile(write(tmp_path, "m", child + '[[ops]]\nop = "Pad"\n'))
    above = load_profile("max78000")
    kept = [entry for entry in above.ops or () if entry.op not in {"Abs", "Conv"}]
    assert [entry.op for entry in profile.ops or ()] == [*(entry.op for entry in kept), "Conv", "Pad"]
    assert (profile.ops or ())[-2].stride_max_px == 3
    assert profile.unsourced() == ["ops.Conv.stride_max_px"]
    assert profile.source("ops.MaxPool") == above.source("ops.MaxPool") != ""
    assert HardwareProfile.from_text(profile.text(), sha256=profile.sha256) == profile


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            'extends = "max78000"\nwithout_ops = ["Absx"]',
            "without_ops: unknown operator of the extended profile 'Absx'",
        ),
        ('without_ops = ["Abs"]', "there is nothing to take away"),
        ('extends = "max78000"\nwithout_ops = [1]', "without_ops"),
        ('extends = "max78000"\nops = 3', "ops: Input should be a list"),
    ],
)
def test_what_cannot_be_taken_away_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ProfileError, match=complaint):
        load_profile(write(tmp_path, "x", f'name = "x"\n{text}'))


@pytest.mark.parametrize(
    "keys",
    [
        {"params": {"max": True}},
        {"params": {"max": 3.0}},
        {"params": {"unlimited": 1}},
        {"accumulator_bits": True},
        {"weights": {"symmetric": 1}},
        {"weights": {"bits": [True]}},
        {"biases": {"shift_bits": False}},
        {"compute": {"clock_hz": [True, 2]}},
        {"compute": {"clock_hz": "5"}},
        {"ops": [{"op": "Conv", "equal_strides": 1}]},
        {"ops": [{"op": "Conv", "kernels_px": [[1.0, 1]]}]},
    ],
)
def test_a_boolean_is_no_number_and_a_number_no_boolean(keys: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        HardwareProfile.model_validate({"name": "x", **keys})


def test_the_hash_covers_what_is_extended(tmp_path: Path) -> None:
    child = write(tmp_path, "child", 'name = "child"\nextends = "base"')
    hashes = set()
    for cap in (1, 2):
        write(tmp_path, "base", f'name = "base"\n[params]\nmax = {cap}')
        hashes.add(load_profile(child).sha256)
    assert len(hashes) == 2


def test_a_profile_may_extend_one_that_comes_with_edgekd(tmp_path: Path) -> None:
    profile = load_profile(write(tmp_path, "mine", 'name = "mine"\nextends = "tu_accel_150k"'))
    assert profile.params.max == 149_999
    assert "TU Delft" in profile.source("params.max")


def test_extending_in_a_circle_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "a", 'name = "a"\nextends = "b"')
    write(tmp_path, "b", 'name = "b"\nextends = "a"')
    with pytest.raises(ProfileError, match=r"key 'extends' leads back to itself: a\.toml -> b\.toml -> a\.toml"):
        load_profile(str(tmp_path / "a.toml"))


def test_the_first_source_that_covers_a_key_is_named() -> None:
    sources = [{"keys": ["weights.bits"], "text": "table 2"}, {"keys": ["weights"], "text": "spec", "url": "https://x"}]
    profile = HardwareProfile.model_validate({"name": "x", "sources": sources, "weights": {"bits": [8]}})
    assert profile.source("weights.bits") == "table 2"
    assert profile.source("weights.scale") == "spec https://x"
    assert profile.source("weightsabc") == ""
