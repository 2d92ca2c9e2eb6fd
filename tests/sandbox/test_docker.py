"""What is said to docker, by a stand-in for its client; the engine itself runs in tests/machine/test_docker.py."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from callgate.errors import SandboxError
from callgate.sandbox import docker
from callgate.sandbox.spec import Destination, SandboxSpec

IMAGE = "example.test/server@sha256:" + "b" * 64


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A client program whose daemon says what the file beside it says, and keeps the image it is given."""
    program = tmp_path / "docker"
    program.write_text(
        '#!/bin/sh\ncase "$1" in\nversion) cat "$0.version" ;;\ninfo) cat "$0.security" ;;\n'
        'image) echo "$4" >>"$0.asked"; cat "$0.id" ;;\n'
        f'import) cat >"$0.layer"; echo sha256:{"c" * 64} | tee "$0.id" ;;\nesac\n'
    )
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


def test_where_containers_run_in_another_machine_no_escape_is_tried(
    client: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker, "_ON_LINUX", False)
    probe = docker.DockerBackend().probe()
    assert probe.usable
    assert probe.version == "28.2.2"
    assert any("no escape was tried" in line for line in probe.not_enforced)
    with pytest.raises(SandboxError, match="another machine"):
        docker.DockerBackend().prepare(SandboxSpec("one"), ["/usr/bin/true"])


def test_an_engine_that_starts_nothing_is_not_usable(client: Path) -> None:
    probe = docker.DockerBackend().probe()
    assert not probe.usable
    assert "the self-test did not come to its end" in probe.reason


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


def test_a_command_of_this_machine_is_hung_into_an_empty_image(client: Path) -> None:
    lines = []
    for _ in range(2):  # the second time the daemon has it
        wrapped = docker.DockerBackend().prepare(SandboxSpec("one"), ["/usr/bin/true", "--now"])
        assert wrapped.abandon is not None
        wrapped.abandon()
        lines.append(wrapped.argv)
    assert lines[0][-3:] == lines[1][-3:] == ("sha256:" + "c" * 64, "/usr/bin/true", "--now")
    assert {"--volume=/usr:/usr:ro", "--pull=never", "--network=none"} <= set(lines[0])
    asked = (client.parent / "docker.asked").read_text().splitlines()
    assert len(set(asked)) == 1 and asked[0].startswith("callgate-root:")
    with tarfile.open(fileobj=io.BytesIO((client.parent / "docker.layer").read_bytes())) as layer:
        entries = {entry.name: entry for entry in layer}
    assert all(entry.size < 200 and not entry.mode & 0o022 for entry in entries.values())
    assert not any(entry.isfile() and entry.mode & 0o111 for entry in entries.values())
    assert entries["usr"].isdir() and entries["sbin"].isdir()
    if os.path.islink("/bin"):
        assert entries["bin"].linkname == os.readlink("/bin")


def test_a_daemon_that_keeps_no_image_starts_nothing(client: Path) -> None:
    (client.parent / "docker.id").write_text("\n")
    with pytest.raises(SandboxError, match="which image"):
        docker.DockerBackend().prepare(SandboxSpec("one"), ["/usr/bin/true"])


def test_a_line_that_asks_for_no_network_gets_none(client: Path) -> None:
    spec = SandboxSpec("one", kind="container", network=(Destination("api.example"),))
    wrapped = docker.DockerBackend().prepare(spec, ["docker", "run", "-i", "--network", "none", IMAGE])
    assert "--network=none" in wrapped.argv
    assert not any("PROXY" in name for name in wrapped.environment)
    assert wrapped.abandon is not None
    wrapped.abandon()
