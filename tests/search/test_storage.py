from __future__ import annotations

from pathlib import Path

import pytest

from edgekd.errors import EdgekdError, RunError, UsageError
from edgekd.recipe import Recipe, Search, load_recipe
from edgekd.search.folder import open_folder, require_journal
from edgekd.search.storage import open_storage, open_study, require_fingerprints


def nobody_waits() -> None:
    raise AssertionError("a lock was not free")


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("nothing://host/name", "--storage nothing://host/name cannot be opened: Can't load plugin"),
        ("sqlite:////no/such/folder/x.db", "unable to open database file"),
        ("://", "--storage :// cannot be opened"),
        ("no/such/folder/study.journal", "there is no folder no/such/folder"),
    ],
)
def test_a_storage_that_cannot_be_opened(where: str, message: str) -> None:
    with pytest.raises(EdgekdError, match=message):
        open_storage(where)


def test_a_folder_is_no_storage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder; name a file in it"):
        open_storage(tmp_path)


def test_a_file_that_is_no_journal(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("buy milk\nand bread\n")
    with pytest.raises(RunError, match="cannot be read as a journal"):
        open_storage(tmp_path / "notes.txt")


@pytest.mark.parametrize("end", ['{"op_code": 5, "wor', '{"op_code": 5, "wor\n', "[1, 2]", "not JSON\n"])
def test_a_journal_whose_last_line_broke_off(tmp_path: Path, end: str) -> None:
    path = tmp_path / "study.journal"
    open_study(open_storage(path), "s", Recipe(), {"images": "1"})
    whole = path.read_text()
    path.write_text(whole + end)
    with pytest.raises(RunError, match=r"cannot be read as a journal of a search: "):
        open_storage(path)
    path.write_text(whole)
    open_study(open_storage(path), "s", Recipe(), {"images": "1"})


def test_a_study_belongs_to_one_recipe(tmp_path: Path) -> None:
    storage = open_storage(tmp_path / "study.journal")
    open_study(storage, "s", Recipe(), {"images": "1"})
    more = load_recipe(None, ["search.trials=99", "teacher.weights=/elsewhere/teacher.safetensors"])
    open_study(storage, "s", more, {"images": "1"})
    with pytest.raises(RunError, match=r"the study 's' holds a search of another recipe: search\.epochs differ"):
        open_study(storage, "s", Recipe(search=Search(epochs=9)), {"images": "1"})
    open_study(storage, "t", Recipe(search=Search(epochs=9)), {"images": "1"})


def test_a_study_belongs_to_one_set_of_images_and_one_teacher(tmp_path: Path) -> None:
    storage = open_storage(tmp_path / "study.journal")
    study = open_study(storage, "s", Recipe(), {"images": "1", "profile": "2"})
    require_fingerprints(study, {"teacher": "3"})
    require_fingerprints(study, {"teacher": "3"})
    with pytest.raises(RunError, match="began with another images"):
        open_study(storage, "s", Recipe(), {"images": "9", "profile": "2"})
    with pytest.raises(RunError, match=r"began with another teacher; .* give its --teacher-weights"):
        require_fingerprints(study, {"teacher": "4"})


def test_a_folder_belongs_to_one_search(tmp_path: Path) -> None:
    folder = open_folder(tmp_path / "s", Recipe(), nobody_waits)
    again = open_folder(tmp_path / "s", Recipe(search=Search(trials=5)), nobody_waits)
    assert again.identity == folder.identity
    assert open_folder(tmp_path / "t", Recipe(), nobody_waits).identity != folder.identity
    with pytest.raises(RunError, match=r"holds a search of another recipe: seed differ"):
        open_folder(tmp_path / "s", Recipe(seed=1), nobody_waits)


def test_results_without_their_journal_are_not_begun_anew(tmp_path: Path) -> None:
    folder = open_folder(tmp_path / "s", Recipe(), nobody_waits)
    require_journal(folder)
    folder.results.write_text("{}")
    folder.journal.touch()
    for _ in range(2):
        with pytest.raises(RunError, match=r"study\.journal is empty or gone: put it back"):
            require_journal(folder)
        folder.journal.unlink(missing_ok=True)
    folder.journal.write_text("{}")
    require_journal(folder)


def test_the_folder_of_a_run_is_none(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(RunError, match="is the folder of a run"):
        open_folder(tmp_path, Recipe(), nobody_waits)
