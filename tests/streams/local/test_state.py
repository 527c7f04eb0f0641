"""The state folder: nobody but its owner gets to what is in it."""

from __future__ import annotations

from pathlib import Path

from streams.local.state import FOLDERS, make_state_folder


def open_to_others(folder: Path) -> list[str]:
    """The folders in a folder that other users can open."""
    return sorted(path.name for path in folder.iterdir() if path.stat().st_mode & 0o077)


def test_a_new_state_folder_and_the_folders_in_it_are_closed_to_others(tmp_path: Path) -> None:
    make_state_folder(tmp_path / "state")
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    assert open_to_others(tmp_path / "state") == []
    assert {path.name for path in (tmp_path / "state").iterdir()} == set(FOLDERS)


def test_folders_of_an_earlier_release_are_closed_and_the_folder_of_a_person_is_left_as_it_is(
    tmp_path: Path,
) -> None:
    for name in ("logs", "cursors", "thesis"):
        (tmp_path / name).mkdir(mode=0o755)
    tmp_path.chmod(0o755)
    make_state_folder(tmp_path)
    assert open_to_others(tmp_path) == ["thesis"]
    assert tmp_path.stat().st_mode & 0o777 == 0o755
