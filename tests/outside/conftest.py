"""A process that a client started, with a project, a home and directories of its own."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from callgate.config import Config, LaunchConfig
from callgate.outside import caller, places, remembered
from callgate.outside.remembered import Remembered

Program = Callable[[Path, str], Path]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, in a repository; what lies beside it is not in a directory for temporary files."""
    folder = tmp_path / "src" / "project"
    (folder / ".git").mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(places, "_temporary", lambda: ())
    return folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of the account. HOME is what the test says."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setattr(caller, "home", lambda: str(folder))
    return folder


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def entry(monkeypatch: pytest.MonkeyPatch, project: Path, home: Path) -> None:
    """A client started this process, for an entry of the project."""
    monkeypatch.setattr(caller, "_own", False)


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    """What a hostile program of `program` leaves behind."""
    return tmp_path / "ran"


@pytest.fixture
def program(ran: Path) -> Program:
    """Makes a program that says that it ran."""

    def make(folder: Path, name: str) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / name
        file.write_text(f"#!/bin/sh\necho {name} >> {ran}\nexit 1\n")
        file.chmod(0o755)
        return file

    return make


def settle(launch: LaunchConfig, state: Path) -> None:
    """Settings that the user's own commands have worked with."""
    source = state / "own.toml"
    remembered.write(str(state), Remembered({}, (os.path.realpath(source),)))
    caller.settle(Config(launch=launch, source=str(source)), state)


def path_of(*folders: Path | str) -> str:
    """A value of PATH."""
    return os.pathsep.join(str(one) for one in folders)
