from __future__ import annotations

from pathlib import Path

import pytest

from callgate.errors import SandboxError
from callgate.sandbox import docker
from callgate.sandbox.spec import Destination, SandboxSpec

IMAGE = "example.test/server@sha256:" + "b" * 64


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A client program whose daemon says what the file beside it says."""
    program = tmp_path / "docker"
    program.write_text('#!/bin/sh\ncase "$1" in\nversion) cat "$0.version" ;;\ninfo) cat "$0.security" ;;\nesac\n')
    program.chmod(0o755)
    (tmp_path / "docker.version").write_text("28.2.2\n")
    (tmp_path / "docker.security").write_text("name=seccomp,profile=builtin name=cgroupns \n")
    monkeypatch.setattr(docker, "PLACES", (str(program),))
    return program


def test_without_a_daemon_it_is_not_usable(client: Path) -> None:
    (client.parent / "docker.version").unlink()
    probe = docker.DockerBackend().probe()
    assert not probe.usable
    assert "no docker daemon answers" in probe.reason


def test_without_a_client_it_is_not_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker, "PLACES", ())
    assert "no docker" in docker.DockerBackend().probe().reason


def test_a_daemon_without_seccomp_is_not_usable(client: Path) -> None:
    (client.parent / "docker.security").write_text("name=cgroupns\n")
    assert not docker.DockerBackend().probe().usable


def test_it_says_what_was_not_tried(client: Path) -> None:
    probe = docker.DockerBackend().probe()
    assert probe.usable
    assert probe.version == "28.2.2"
    assert any("no escape was tried" in line for line in probe.not_enforced)


def test_the_line_of_a_server_is_said_anew(client: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET", "not for it")
    spec = SandboxSpec("one", kind="container", environment={"TOKEN": "s3cret"})
    wrapped = docker.DockerBackend().prepare(spec, ["docker", "run", "-i", "--rm", "-e", "TOKEN", IMAGE, "--stdio"])
    assert wrapped.argv[0] == str(client)
    assert {"--cap-drop=ALL", "--network=none", "--read-only", "--pull=never", "--env=TOKEN"} <= set(wrapped.argv)
    assert wrapped.argv[-2:] == (IMAGE, "--stdio")
    assert wrapped.environment["TOKEN"] == "s3cret" and "AWS_SECRET" not in wrapped.environment
    assert wrapped.abandon is not None
    wrapped.abandon()


def test_the_network_is_refused(client: Path) -> None:
    spec = SandboxSpec("one", kind="container", network=(Destination("api.example"),))
    with pytest.raises(SandboxError, match="egress gate"):
        docker.DockerBackend().prepare(spec, ["docker", "run", "-i", IMAGE])


def test_a_command_of_this_machine_is_refused(client: Path) -> None:
    with pytest.raises(SandboxError, match="images only"):
        docker.DockerBackend().prepare(SandboxSpec("one"), ["/usr/bin/true"])


def test_a_line_that_asks_for_no_network_gets_none(client: Path) -> None:
    spec = SandboxSpec("one", kind="container", network=(Destination("api.example"),))
    wrapped = docker.DockerBackend().prepare(spec, ["docker", "run", "-i", "--network", "none", IMAGE])
    assert "--network=none" in wrapped.argv
    assert not any("PROXY" in name for name in wrapped.environment)
    assert wrapped.abandon is not None
    wrapped.abandon()
