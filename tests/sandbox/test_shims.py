"""Stand-ins of version managers are followed to the program they mean, outside of the sandbox."""

from __future__ import annotations

from pathlib import Path

import pytest

from callgate.config import LaunchConfig
from callgate.errors import SandboxError
from callgate.outside import caller
from callgate.sandbox.defaults_runtime import which
from callgate.sandbox.shims import behind
from tests.outside.conftest import settle


def manager(root: Path, answer: str) -> Path:
    """A pyenv of our own, with one stand-in."""
    for folder in ("bin", "shims", "versions/3.12.1/bin"):
        (root / folder).mkdir(parents=True)
    real = root / "versions/3.12.1/bin/python3"
    command = root / "bin" / "pyenv"
    command.write_text(f"#!/bin/sh\n{answer.replace('REAL', str(real))}\n")
    shim = root / "shims" / "python3"
    shim.write_text("#!/bin/sh\nexec pyenv exec python3\n")
    real.write_text("#!/bin/sh\n")
    for path in (command, shim, real):
        path.chmod(0o755)
    return shim


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("PYENV_ROOT", "VOLTA_HOME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_the_manager_is_asked(tmp_path: Path) -> None:
    shim = manager(tmp_path / ".pyenv", 'test "$1 $2" = "which python3" && echo REAL')
    real = str(tmp_path / ".pyenv/versions/3.12.1/bin/python3")
    assert behind(str(shim), "/") == real
    assert which("python3", "/", str(shim.parent)) == real


@pytest.mark.parametrize("answer", ["exit 1", "echo", "echo relative/python3", "echo /nowhere/python3", "echo '  '"])
def test_an_answer_that_is_no_program_is_refused(tmp_path: Path, answer: str) -> None:
    shim = manager(tmp_path / ".pyenv", answer)
    with pytest.raises(SandboxError, match="stands for no program") as caught:
        behind(str(shim), "/")
    assert "full path" in caught.value.next_step


def test_a_manager_that_is_gone_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    shim = manager(tmp_path / ".pyenv", "echo REAL")
    (tmp_path / ".pyenv/bin/pyenv").unlink()
    with pytest.raises(SandboxError, match="'pyenv' manages"):
        behind(str(shim), "/")


@pytest.mark.parametrize("place", ["bin", "some/shims", ".pyenv/versions/3/bin"])
def test_other_programs_are_what_they_are(tmp_path: Path, place: str) -> None:
    folder = tmp_path / place
    folder.mkdir(parents=True)
    program = folder / "python3"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    assert behind(str(program), "/") == str(program)


def test_volta(tmp_path: Path) -> None:
    root = tmp_path / ".volta"
    (root / "bin").mkdir(parents=True)
    real = tmp_path / "node-20"
    for path, text in (
        (root / "bin/volta-shim", "exit 1"),
        (root / "bin/volta", f"echo {real}"),
        (real, "exit 0"),
    ):
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    (root / "bin/node").symlink_to("volta-shim")
    assert behind(str(root / "bin/node"), "/") == str(real)


def test_a_project_brings_no_manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its command would run outside of the sandbox, before anything is confined."""
    shim = manager(tmp_path / "project" / ".pyenv", f"touch {tmp_path / 'ran'}; echo REAL")
    with pytest.raises(SandboxError, match="yours is not kept there"):
        behind(str(shim), str(tmp_path / "project"))
    assert not (tmp_path / "ran").exists()
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "project" / ".pyenv"))  # this user says that it is theirs
    assert behind(str(shim), "/") == str(tmp_path / "project/.pyenv/versions/3.12.1/bin/python3")
    assert (tmp_path / "ran").exists()


class TestEntry:
    """What a client started: an entry's variables lead to no manager, and name no code that one loads."""

    @pytest.fixture(autouse=True)
    def _entry(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(caller, "_own", False)
        monkeypatch.setattr(caller, "home", lambda: str(tmp_path / "account"))

    @pytest.mark.parametrize("variable", ["PYENV_ROOT", "HOME"])
    def test_a_variable_leads_to_no_manager(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
    ) -> None:
        shim = manager(tmp_path / "project" / ".pyenv", f"touch {tmp_path / 'ran'}; echo REAL")
        monkeypatch.setenv(variable, str(tmp_path / "project" / (".pyenv" if variable == "PYENV_ROOT" else "")))
        with pytest.raises(SandboxError, match="yours is not kept there") as caught:
            behind(str(shim), str(tmp_path / "project"))
        assert "launch.variables" in caught.value.next_step
        assert not (tmp_path / "ran").exists()

    def test_the_users_settings_say_where_it_is(self, tmp_path: Path) -> None:
        root = tmp_path / "opt" / ".pyenv"
        shim = manager(root, "echo REAL")
        given = LaunchConfig(variables={"PYENV_ROOT": str(root)})
        settle(given, tmp_path)
        assert behind(str(shim), "/") == str(root / "versions/3.12.1/bin/python3")

    def test_the_accounts_manager_sees_the_version_and_no_code(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen = tmp_path / "seen"
        shim = manager(tmp_path / "account" / ".pyenv", f"env > {seen}; echo REAL")
        for name, value in {
            "PYENV_VERSION": "3.12",
            "PYENV_HOOK_PATH": "/evil",
            "BASH_FUNC_which%%": "() { /evil; }",
            "MISE_TRUSTED_CONFIG_PATHS": "/",
            "ASDF_NODEJS_VERSION": "path:/evil",
            "NODENV_VERSION": "../../evil",
            "PATH": f"{tmp_path / 'project'}:/usr/bin:/bin",
        }.items():
            monkeypatch.setenv(name, value)
        assert behind(str(shim), str(tmp_path)).startswith(str(tmp_path / "account"))
        text = seen.read_text()
        assert "PYENV_VERSION=3.12" in text and "evil" not in text and "MISE_" not in text
        assert str(tmp_path / "project") not in text

    def test_a_managers_command_is_not_the_projects(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        shim = manager(tmp_path / "account" / ".pyenv", "echo REAL")
        (tmp_path / "account/.pyenv/bin/pyenv").rename(tmp_path / "pyenv")
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin")
        with pytest.raises(SandboxError, match="cannot be found"):
            behind(str(shim), "/")
