from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekd.data.cache import Made, cache_folder, cached


class Maker:
    """Counts how often images had to be made."""

    def __init__(self, value: int = 3) -> None:
        self.value, self.calls = value, 0

    def __call__(self) -> Made:
        self.calls += 1
        return Made(np.full((4, 2, 2, 3), self.value, np.uint8), np.arange(4), ("a.jpg (empty file)",))


def files(suffix: str) -> list[Path]:
    return sorted((cache_folder() / "images").glob(f"*{suffix}"))


def test_the_second_call_reads_what_the_first_one_made() -> None:
    make = Maker()
    notices: list[str] = []
    first = cached("images", {"a": 1}, make, notices.append)
    second = cached("images", {"a": 1}, make, notices.append)
    assert make.calls == 1
    assert np.array_equal(first.images, second.images)
    assert second.labels.tolist() == [0, 1, 2, 3]
    assert second.problems == ("a.jpg (empty file)",)
    assert notices == []


def test_another_key_is_another_entry() -> None:
    make = Maker()
    cached("images", {"a": 1}, make, print)
    cached("images", {"a": 2}, make, print)
    assert make.calls == 2
    assert len(files(".npy")) == len(files(".json")) == 2


@pytest.mark.parametrize("suffix", [".npy", ".json"])
@pytest.mark.parametrize("damage", [b"", b"{}", b"garbage"])
def test_a_damaged_entry_is_made_again(suffix: str, damage: bytes) -> None:
    make = Maker()
    cached("images", {"a": 1}, make, print)
    files(suffix)[0].write_bytes(damage)
    again = cached("images", {"a": 1}, make, print)
    assert make.calls == 2
    assert (again.images == 3).all()
    cached("images", {"a": 1}, make, print)
    assert make.calls == 2


def test_one_flipped_bit_is_noticed() -> None:
    make = Maker()
    cached("images", {"a": 1}, make, print)
    path = files(".npy")[0]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert (cached("images", {"a": 1}, make, print).images == 3).all()
    assert make.calls == 2


def test_pixels_without_their_index_do_not_count() -> None:
    make = Maker()
    cached("images", {"a": 1}, make, print)
    files(".json")[0].unlink()
    cached("images", {"a": 1}, make, print)
    assert make.calls == 2


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("EDGEKD_CACHE", str(blocked))
    notices: list[str] = []
    made = cached("images", {"a": 1}, Maker(), notices.append)
    assert made.images.shape == (4, 2, 2, 3)
    assert len(notices) == 1
    assert "without the cache" in notices[0]


def test_the_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGEKD_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_folder() == Path("/somewhere/edgekd")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "edgekd"
