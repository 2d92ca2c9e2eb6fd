"""Who can have put a program where it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from callgate.outside import places

ROOT = os.getuid() == 0


@pytest.fixture
def file(tmp_path: Path) -> Path:
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    made = folder / "tool"
    made.write_text("#!/bin/sh\n")
    made.chmod(0o755)
    return made


def test_a_program_of_the_user_is_nobody_elses(file: Path) -> None:
    assert places.others(str(file)) == ""  # although /tmp above it is everybody's: there nothing of others is renamed


@pytest.mark.parametrize("above", [0, 1, 2])
@pytest.mark.parametrize(("mode", "who"), [(0o757, "every user"), (0o1777, "every user")])
def test_what_every_user_may_change(file: Path, above: int, mode: int, who: str) -> None:
    place = [file, *file.parents][above]
    place.chmod(mode)
    shared = mode & 0o1000 and above
    assert (who in places.others(str(file))) is not bool(shared)


def test_a_link_is_followed_through_each_directory(tmp_path: Path, file: Path) -> None:
    link = tmp_path / "bin" / "tool"
    link.parent.mkdir()
    middle = tmp_path / "middle"
    middle.mkdir()
    (middle / "b").symlink_to("../a/b")
    link.symlink_to("../middle/b/tool")
    assert places.others(str(link)) == ""
    middle.chmod(0o777)  # somebody could put another `b` there
    assert "middle" in places.others(str(link))
    middle.chmod(0o755)
    file.parent.chmod(0o777)
    assert "every user" in places.others(str(link))


def test_a_link_that_leads_to_itself_ends(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    assert "cannot be looked at" in places.others(str(tmp_path / "loop"))


def test_what_is_not_there(tmp_path: Path) -> None:
    assert "cannot be looked at" in places.others(str(tmp_path / "no" / "tool"))


@pytest.mark.skipif(not ROOT, reason="only root gives files away")
def test_another_users_program(file: Path) -> None:
    os.chown(file, 65534, -1)
    assert "belongs to another user" in places.others(str(file))
    os.chown(file, 0, -1)
    os.chown(file.parent, 65534, -1)
    assert "belongs to another user" in places.others(str(file))


@pytest.mark.skipif(not ROOT, reason="only root gives files away")
def test_a_group_with_others_in_it(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.chown(file, 0, 12345)
    file.chmod(0o775)
    assert "its group" in places.others(str(file))
    monkeypatch.setattr(places, "_harmless_group", lambda number: number == 12345)
    assert places.others(str(file)) == ""


@pytest.mark.skipif(not ROOT, reason="only root gives files away")
def test_what_a_shell_would_start_as_well_unless_everybody_could_have_put_it_there(file: Path) -> None:
    """Tools of a company belong to whoever keeps them."""
    os.chown(file, 65534, 12345)
    os.chown(file.parent, 65534, 12345)
    file.parent.chmod(0o775)
    assert "another user" in places.others(str(file)) and places.everybody(str(file)) == ""
    file.parent.parent.chmod(0o1777)
    assert "another user" in places.everybody(str(file))
    os.chown(file, 0, 0)
    os.chown(file.parent, 0, 0)
    assert places.everybody(str(file)) == ""
    file.parent.parent.chmod(0o777)
    assert "every user" in places.everybody(str(file))


@pytest.mark.skipif(not ROOT, reason="only root has what is root's")
def test_a_project_that_root_has_put_there(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "_temporary", lambda: ())
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    monkeypatch.chdir(file.parent.parent)
    assert not places.installed_by_root(str(file))
    monkeypatch.chdir("/")
    assert places.installed_by_root(str(file))


@pytest.mark.parametrize("cwd", ["/", "/usr", "/usr/bin", "/usr/local/bin", "/opt"])
def test_a_directory_of_the_systems_is_no_project(monkeypatch: pytest.MonkeyPatch, cwd: str) -> None:
    monkeypatch.chdir(cwd)
    assert not places.in_project("/usr/bin/env") and places.installed_by_root("/usr/bin/env")


@pytest.mark.skipif(not ROOT, reason="what root has put there")
def test_roots_programs(file: Path) -> None:
    assert places.installed_by_root("/bin/sh")
    assert places.installed_by_root("/usr/bin/env")
    assert not places.installed_by_root(str(file))  # root's own file in /tmp is anybody's idea


def test_a_users_own_program_is_not_roots(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    assert not places.installed_by_root(str(file))


@pytest.mark.parametrize(
    ("cwd", "path", "inside"),
    [
        ("src/p", "src/p/node_modules/.bin/npm", True),
        ("src/p/packages/a", "src/p/node_modules/.bin/npm", True),  # the repository, not the package
        ("src/p/packages/a", "src/other/bin/npm", False),
        ("src/p", "tools/npm", False),
        ("home", "home/.nvm/bin/npm", False),  # a client that starts servers in the home says nothing of a project
        ("home/notes", "home/.nvm/bin/npm", False),
        ("home/notes", "home/notes/npm", True),
    ],
)
def test_what_lies_in_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cwd: str, path: str, inside: bool
) -> None:
    monkeypatch.setattr(places, "_temporary", lambda: ())
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for one in ("src/p/.git", "src/p/packages/a", "src/other", "home/notes"):
        (tmp_path / one).mkdir(parents=True)
    (tmp_path / "src/p/packages/a/package.json").touch()
    monkeypatch.chdir(tmp_path / cwd)
    assert places.in_project(str(tmp_path / path)) is inside


def test_a_link_into_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "_temporary", lambda: ())
    (tmp_path / "project/.git").mkdir(parents=True)
    (tmp_path / "bin").symlink_to("project")
    monkeypatch.chdir(tmp_path / "project")
    assert places.in_project(str(tmp_path / "bin" / "npm"))


def test_temporary_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    assert places.is_temporary("/tmp/x/npm") and places.is_temporary("/dev/shm/npm")
    assert not places.is_temporary("/opt/x/npm") and not places.is_temporary("/tmpx/npm")
