"""Starting things in a sandbox for tests."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from callgate.sandbox.backend import Backend, Prepared, Running
from callgate.sandbox.bubblewrap import programs
from callgate.sandbox.spec import SandboxSpec
from callgate.sandbox.stub import landlock_abi

REQUIRED = bool(os.environ.get("CALLGATE_REQUIRE_PROGRAMS"))


def bubblewrap_works(prefix: Sequence[str] = ()) -> bool:
    """Whether one of this machine's may make namespaces; CI installs one and allows it."""
    options = ["--unshare-all", "--unshare-user", "--ro-bind", "/", "/", "--", "/bin/true"]
    commands = [[*prefix, path, *options] for path in programs()]
    return REQUIRED or any(not subprocess.run(one, capture_output=True, check=False).returncode for one in commands)


needs_bubblewrap = pytest.mark.skipif(
    not bubblewrap_works(), reason="bubblewrap is not there, or may make no namespace"
)
needs_landlock = pytest.mark.skipif(not REQUIRED and not landlock_abi(), reason="this kernel has no Landlock")


@dataclass
class Box:
    prepared: Prepared
    process: subprocess.Popen[bytes]
    running: Running | None


def start(backend: Backend, spec: SandboxSpec, argv: Sequence[str], **options: object) -> Box:
    """Start `argv` confined, with pipes."""
    prepared = backend.prepare(spec, argv)
    process = subprocess.Popen(
        prepared.argv,
        env=dict(prepared.environment),
        cwd=prepared.cwd or None,
        pass_fds=prepared.pass_fds,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if options.get("merge") else None,
    )
    running = prepared.started(process.pid) if prepared.started else None
    return Box(prepared, process, running)


def stop(box: Box) -> None:
    """End it and give everything back."""
    box.process.kill()
    box.process.wait(timeout=30)
    if box.running:
        box.running.close()  # what it left behind may hold the pipes
    box.process.communicate(timeout=30)


def output(backend: Backend, spec: SandboxSpec, argv: Sequence[str], seconds: float = 30) -> tuple[int, str]:
    """Run to the end: status, and what it wrote to both streams."""
    box = start(backend, spec, argv, merge=True)
    try:
        text, _ = box.process.communicate(timeout=seconds)
        return box.process.returncode, text.decode(errors="replace")
    finally:
        stop(box)
