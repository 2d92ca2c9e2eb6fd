"""Compile the C programs with `cc -O2`, again only when a source is newer."""

from __future__ import annotations

import compileall
import shutil
import subprocess
from pathlib import Path

import callgate
from bench.harness.paths import BUILD, SOURCES

PROGRAMS = ("stdio_echo", "stdio_pump", "stdio_load", "http_echo", "http_load", "l4_pump")
FLAGS = ("-O2", "-std=gnu11", "-Wall", "-Wextra")
TLS_FLAGS = ("-DBENCH_TLS", "-lssl", "-lcrypto")


class BuildError(Exception):
    """No compiler, or a program does not compile."""


def program(name: str) -> str:
    """The path of a built program."""
    return str(BUILD / name)


def byte_code() -> None:
    """Compile callgate, as an installer does; with PYTHONDONTWRITEBYTECODE set, each start would do it anew."""
    compileall.compile_dir(str(Path(callgate.__file__).parent), quiet=2)


def build_all() -> None:
    """Build what is missing or old. Raises BuildError."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise BuildError("no C compiler: install one that answers to `cc` (Debian: build-essential)")
    byte_code()
    BUILD.mkdir(exist_ok=True)
    newest = max(path.stat().st_mtime for path in SOURCES.iterdir())
    for name in PROGRAMS:
        target = BUILD / name
        if not target.exists() or target.stat().st_mtime < newest:
            _compile(compiler, name, target)


def _compile(compiler: str, name: str, target: Path) -> None:
    source = str(SOURCES / f"{name}.c")
    base = [compiler, *FLAGS, "-o", str(target), source, "-pthread"]
    # Only the HTTP client speaks TLS, and only where OpenSSL's headers are there.
    attempts = [[*base, *TLS_FLAGS], base] if name == "http_load" else [base]
    for command in attempts:
        result = subprocess.run(command, check=False, capture_output=True, text=True)
        if result.returncode == 0:
            return
    raise BuildError(f"{name}.c does not compile:\n{result.stderr}")
