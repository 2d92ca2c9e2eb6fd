"""What starts programs when a project is opened stays as it is, unless it was given by name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from callgate.config import SandboxConfig
from callgate.sandbox.defaults import spec_for
from callgate.sandbox.project_guard import guards
from callgate.sandbox.spec import Mount


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    (root / ".git" / "hooks").mkdir(parents=True)
    (root / ".git" / "config").write_text("")
    (root / ".vscode").mkdir()
    (root / ".mcp.json").write_text("{}")
    (root / "src").mkdir()
    return root


def mounts(project: Path, tmp_path: Path, **config: tuple[str, ...]) -> dict[str, bool]:
    spec, _ = spec_for(
        "s",
        [sys.executable, "-c", "pass", str(project)],
        environment={"PATH": "/usr/bin"},
        cwd="/",
        state=tmp_path / "state",
        config=SandboxConfig(**config),  # type: ignore[arg-type]
    )
    return {mount.source: mount.writable for mount in spec.mounts}


def test_the_project_is_written_and_what_starts_programs_is_not(project: Path, tmp_path: Path) -> None:
    found = mounts(project, tmp_path)
    assert found[str(project)] and found[str(project / ".git")]
    held = {str(project / name) for name in (".git/hooks", ".git/config", ".vscode", ".mcp.json")}
    assert held <= found.keys()
    assert not any(found[path] for path in held)


def test_what_the_settings_give_by_name_is_given(project: Path, tmp_path: Path) -> None:
    found = mounts(project, tmp_path, write=(str(project / ".vscode"),))
    assert found[str(project / ".vscode")]
    assert not found[str(project / ".mcp.json")]


def test_a_directory_without_such_places_gets_none(tmp_path: Path) -> None:
    assert guards(str(tmp_path)) == ()


def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".git").symlink_to("elsewhere")
    (tmp_path / ".vscode").symlink_to("elsewhere")
    assert guards(str(tmp_path)) == ()


def test_git_itself_is_laid_over_itself_so_that_it_cannot_be_renamed(project: Path) -> None:
    assert Mount(str(project / ".git"), writable=True) in guards(str(project))


def test_under_another_name_it_is_held_there(project: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(project)
    spec, _ = spec_for(
        "s",
        [sys.executable, "-c", "pass", str(link)],
        environment={"PATH": "/usr/bin"},
        cwd="/",
        state=tmp_path / "state",
        config=SandboxConfig(),
    )
    found = {mount.target: mount for mount in spec.mounts}
    assert found[str(link)].writable and found[str(link / ".git")].writable
    assert not found[str(link / ".git/hooks")].writable and not found[str(link / ".mcp.json")].writable


def test_the_file_of_a_worktree_says_where_its_settings_are(tmp_path: Path) -> None:
    (tmp_path / ".git").write_text("gitdir: /elsewhere\n")
    assert guards(str(tmp_path)) == (Mount(str(tmp_path / ".git")),)
