"""The package clients, and registries of our own for them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from callgate.supply import artefacts
from tests.supply import registry as registries
from tests.support import programs


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[registries.Registry]:
    """Empty registries, which the clients of this test are configured for."""
    found = registries.Registry()
    server = registries.serve(found)
    folder = tmp_path / "clients"
    folder.mkdir()
    registries.configure(found, monkeypatch, folder)
    yield found
    server.shutdown()
    server.server_close()


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """npm and node on PATH: the system's, else those of the test environment."""
    if shutil.which("npm") and shutil.which("node"):
        return
    node = Path(programs.node())
    folder = tmp_path / "bin"
    folder.mkdir()
    cli = node.parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    (folder / "npm").write_text(f'#!/bin/sh\nexec "{node}" "{cli}" "$@"\n')
    (folder / "npm").chmod(0o755)
    (folder / "node").symlink_to(node)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    yield folder
    artefacts.remove(folder)  # its trees are read-only: pytest, as an ordinary user, could not
