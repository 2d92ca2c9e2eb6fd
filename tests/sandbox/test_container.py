from __future__ import annotations

import pytest

from callgate.errors import SandboxError
from callgate.sandbox.container import Engine, Job, arguments, client_environment
from callgate.sandbox.spec import MIB, Limits, Mount

PODMAN = Engine(
    "podman", "/usr/bin/podman", "5.0", rootless=True, limits=True, options=("--cgroup-manager=cgroupfs",), init=True
)
DOCKER = Engine("docker", "/usr/bin/docker", "28.0", limits=True, init=True)
IMAGE = "example.test/server@sha256:" + "a" * 64


def job(**changes: object) -> Job:
    given: dict[str, object] = {
        "name": "callgate-1",
        "seccomp": "/run/user/1/seccomp.json",
        "image": IMAGE,
        "command": ("serve", "--stdio"),
        "mounts": (Mount("/srv/project", writable=True), Mount("/srv/data", target="/data")),
        "limits": Limits(processes=64, memory_bytes=512 * MIB, cpus=1.5, file_bytes=8 * MIB, disk_bytes=16 * MIB),
        "environment": {"API_TOKEN": "s3cret", "HOME": "/home/server"},
        "user": "1500:1500",
    }
    return Job(**{**given, **changes})


def test_podman_line_is_least_privilege() -> None:
    line = arguments(PODMAN, job())
    assert line[:3] == ("/usr/bin/podman", "--cgroup-manager=cgroupfs", "run")
    assert {
        "--rm",
        "--interactive",
        "--init",
        "--pull=never",
        "--network=none",
        "--read-only",
        "--read-only-tmpfs=false",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges",
        "--security-opt=seccomp=/run/user/1/seccomp.json",
        "--ipc=private",
        "--log-driver=none",
        "--no-hosts",
        "--http-proxy=false",
        "--user=1500:1500",
        "--pids-limit=64",
        f"--memory={512 * MIB}b",
        f"--memory-swap={512 * MIB}b",
        "--cpus=1.5",
        "--ulimit=core=0:0",
        "--ulimit=nofile=1024:1024",
        f"--ulimit=fsize={8 * MIB}:{8 * MIB}",
        "--ulimit=nproc=64:64",
        f"--tmpfs=/tmp:rw,noexec,nosuid,nodev,mode=1777,size={16 * MIB}",
        "--volume=/srv/project:/srv/project:rw,noexec,nosuid,nodev",
        "--volume=/srv/data:/data:ro,nosuid,nodev",
    } <= set(line)
    assert line[-3:] == (IMAGE, "serve", "--stdio")


def test_docker_line_says_what_docker_understands() -> None:
    line = arguments(DOCKER, job())
    assert "--volume=/srv/project:/srv/project:rw" in line
    assert "--cap-drop=ALL" in line and "--network=none" in line and "--read-only" in line
    assert not any(
        word.startswith(("--read-only-tmpfs", "--no-hosts", "--http-proxy", "--ulimit=nproc")) for word in line
    )


@pytest.mark.parametrize("engine", [PODMAN, DOCKER])
def test_no_value_of_a_variable_is_in_the_arguments(engine: Engine) -> None:
    line = arguments(engine, job())
    assert "--env=API_TOKEN" in line
    assert "s3cret" not in " ".join(line)
    client = client_environment(
        {"API_TOKEN": "s3cret", "HOME": "/x"}, {"HOME": "/home/me", "PATH": "/bin", "AWS_KEY": "k"}
    )
    assert client == {"API_TOKEN": "s3cret", "HOME": "/home/me", "PATH": "/bin"}


@pytest.mark.parametrize(
    "name", ["LD_PRELOAD", "DOCKER_HOST", "CONTAINERS_CONF", "STORAGE_DRIVER", "_CONTAINERS_ROOTLESS"]
)
def test_variables_that_steer_the_engine_are_refused(name: str) -> None:
    with pytest.raises(SandboxError, match=name):
        arguments(PODMAN, job(environment={name: "x"}))


@pytest.mark.parametrize("name", ["A=B", "A B", "1A", "Ä", "A-B", "A*"])
def test_names_that_are_none_are_refused(name: str) -> None:
    with pytest.raises(SandboxError):
        arguments(PODMAN, job(environment={name: "x"}))


@pytest.mark.parametrize("source", ["/srv/a:b", "-v", "", "/srv/\n"])
def test_paths_that_the_engine_reads_otherwise_are_refused(source: str) -> None:
    with pytest.raises(SandboxError):
        arguments(PODMAN, job(mounts=(Mount(source),)))


def test_an_image_cannot_be_an_option() -> None:
    with pytest.raises(SandboxError):
        arguments(PODMAN, job(image="--privileged"))


def test_docker_has_no_root_of_this_machine() -> None:
    with pytest.raises(SandboxError, match="images only"):
        arguments(DOCKER, job(image="", rootfs="/x"))


def test_without_control_groups_there_are_no_options_for_them() -> None:
    line = arguments(Engine("podman", "/usr/bin/podman", rootless=True), job())
    assert not any(word.startswith(("--memory", "--pids-limit", "--cpus", "--init")) for word in line)
