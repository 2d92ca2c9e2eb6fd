"""What is said to docker, by a stand-in for its client; the engine itself runs in tests/machine/test_docker.py."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from callgate.errors import SandboxError
from callgate.sandbox import docker
from callgate.sandbox.choose import make
from callgate.sandbox.spec import Destination, SandboxSpec

IMAGE = "example.test/server@sha256:" + "b" * 64
OURS, NEXT, THEIRS = ("sha256:" + digit * 64 for digit in "cde")


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A client program whose daemon says what the file beside it says, and keeps the image it is given."""
    program = tmp_path / "docker"
    program.write_text(
        '#!/bin/sh\ncase "$1" in\ninfo) cat "$0.version" "$0.security" ;;\n'
        'image) echo "$4" >>"$0.asked"; cat "$0.images/$4" ;;\n'
        'import) cat >"$0.layer"; mkdir -p "$0.images"; cat "$0.next" | tee "$0.images/$(cat "$0.next")" "$0.images/$4" ;;\n'
        "esac\n"
    )
    program.chmod(0o755)
    (tmp_path / "docker.next").write_text(f"{OURS}\n")
    (tmp_path / "docker.version").write_text("28.2.2|")
    (tmp_path / "docker.security").write_text("name=seccomp,profile=builtin name=cgroupns \n")
    monkeypatch.setattr(docker, "PLACES", (str(program),))
    return program


def test_without_a_daemon_it_is_not_usable(client: Path) -> None:
    (client.parent / "docker.version").unlink()
    probe = docker.DockerBackend().probe()
    assert not probe.usable
    assert "no docker daemon answers" in probe.reason


def test_a_client_that_succeeds_without_a_daemon_says_nothing_of_it(client: Path) -> None:
    (client.parent / "docker.version").write_text("|")
    (client.parent / "docker.security").write_text("\n")
    assert "no docker daemon answers" in docker.DockerBackend().probe().reason


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


def image_of(state: Path | str = "") -> tuple[str, ...]:
    """What is started for a command, the last three words: the image, and the command."""
    backend = make("docker", str(state)) if state else docker.DockerBackend()
    wrapped = backend.prepare(SandboxSpec("one"), ["/usr/bin/true", "--now"])
    assert wrapped.abandon is not None
    wrapped.abandon()
    assert {"--volume=/usr:/usr:ro", "--pull=never", "--network=none"} <= set(wrapped.argv)
    return wrapped.argv[-3:]


def asked(client: Path) -> list[str]:
    path = client.parent / "docker.asked"
    return path.read_text().splitlines() if path.exists() else []


def test_a_command_of_this_machine_is_hung_into_an_empty_image(client: Path, tmp_path: Path) -> None:
    for _ in range(2):  # the second time the daemon has it
        assert image_of(tmp_path / "state") == (OURS, "/usr/bin/true", "--now")
    assert asked(client) == [OURS]
    with tarfile.open(fileobj=io.BytesIO((client.parent / "docker.layer").read_bytes())) as layer:
        entries = {entry.name: entry for entry in layer}
    assert all(entry.size < 200 and not entry.mode & 0o022 for entry in entries.values())
    assert not any(entry.isfile() and entry.mode & 0o111 for entry in entries.values())
    assert entries["usr"].isdir() and entries["sbin"].isdir()
    if os.path.islink("/bin"):
        assert entries["bin"].linkname == os.readlink("/bin")


def test_the_name_of_the_image_is_worth_nothing(client: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    assert image_of(state)[0] == OURS
    (name,) = (one for one in (client.parent / "docker.images").iterdir() if one.name.startswith("callgate-root:"))
    name.write_text(f"{THEIRS}\n")  # docker tag THEIRS callgate-root:…
    assert image_of(state)[0] == OURS
    (client.parent / "docker.next").write_text(f"{NEXT}\n")
    assert image_of(tmp_path / "another state")[0] == NEXT, "a state directory that made none takes nobody else's"
    assert image_of()[0] == NEXT
    assert not any(one.startswith("callgate-root") for one in asked(client))


def test_an_image_that_is_gone_is_made_anew(client: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    assert image_of(state)[0] == OURS
    (client.parent / "docker.images" / OURS).unlink()
    (client.parent / "docker.next").write_text(f"{NEXT}\n")
    assert [image_of(state)[0] for _ in range(2)] == [NEXT, NEXT]
    assert asked(client) == [OURS, NEXT]


@pytest.mark.parametrize(
    "kept", ["", "callgate-root:latest\n", "sha256:beef\n", f"{THEIRS} {OURS}\n", "sha256:" + "E" * 64]
)
def test_what_is_no_id_was_not_made_here(client: Path, tmp_path: Path, kept: str) -> None:
    state = tmp_path / "state"
    image_of(state)
    (file,) = state.iterdir()
    file.write_text(kept)
    assert image_of(state)[0] == OURS
    assert asked(client) == [] and file.read_text() == f"{OURS}\n"


def test_another_daemon_has_an_image_of_its_own(client: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = tmp_path / "state"
    image_of(state)
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    image_of(state)
    assert len(list(state.iterdir())) == 2 and asked(client) == []


def test_a_daemon_that_keeps_no_image_starts_nothing(client: Path) -> None:
    (client.parent / "docker.next").write_text("kept\n")
    with pytest.raises(SandboxError, match="which image"):
        docker.DockerBackend().prepare(SandboxSpec("one"), ["/usr/bin/true"])


def test_a_line_that_asks_for_no_network_gets_none(client: Path) -> None:
    spec = SandboxSpec("one", kind="container", network=(Destination("api.example"),))
    wrapped = docker.DockerBackend().prepare(spec, ["docker", "run", "-i", "--network", "none", IMAGE])
    assert "--network=none" in wrapped.argv
    assert not any("PROXY" in name for name in wrapped.environment)
    assert wrapped.abandon is not None
    wrapped.abandon()
