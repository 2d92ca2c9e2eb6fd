from __future__ import annotations

import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callgate.errors import SandboxError
from callgate.sandbox.container_line import parse, refused_mount
from callgate.sandbox.spec import Mount

IMAGE = "example.test/acme/server@sha256:" + "0123456789abcdef" * 4


def test_an_ordinary_line(tmp_path: Path) -> None:
    line = parse(
        [
            "docker",
            "run",
            "-i",
            "--rm",
            "-e",
            "TOKEN",
            "--env=MODE=fast",
            "-v",
            f"{tmp_path}:/work:ro",
            IMAGE,
            "--stdio",
        ]
    )
    assert line.engine == "docker"
    assert line.image == IMAGE
    assert line.command == ("--stdio",)
    assert line.inherited == ("TOKEN",)
    assert line.environment == {"MODE": "fast"}
    assert line.mounts == (Mount(str(tmp_path), target="/work"),)


@pytest.mark.parametrize(
    "options",
    [
        ["-it"],
        ["-i", "-t", "--name", "x"],
        ["--memory=1g", "--cpus", "2"],
        ["-w", "/app", "--user=1000:1000"],
        ["--network", "none"],
        ["--network=bridge"],
        ["-eA=b"],
        ["--init=true", "--"],
        ["-v", "cache:/data"],
        ["--mount", "type=volume,src=cache,dst=/data"],
        ["-l", "a=b", "--log-driver", "none"],
    ],
)
def test_options_of_ordinary_servers_are_understood(options: list[str]) -> None:
    assert parse(["/usr/bin/podman", "run", *options, IMAGE]).image == IMAGE


DANGEROUS = [
    ["--privileged"],
    ["--privileged=true"],
    ["-v", "/:/host"],
    ["-v", "/etc:/etc:ro"],
    ["--mount", "type=bind,source=/,target=/host"],
    ["--net", "host"],
    ["--net=host"],
    ["--network", "container:other"],
    ["--pid", "host"],
    ["--pid=host"],
    ["--ipc=host"],
    ["--uts", "host"],
    ["--userns=host"],
    ["--cap-add", "SYS_ADMIN"],
    ["--cap-add=ALL"],
    ["--security-opt", "seccomp=unconfined"],
    ["--security-opt=apparmor=unconfined"],
    ["--device", "/dev/kvm"],
    ["--volumes-from", "other"],
    ["-p", "8080:80"],
    ["-p8080:80"],
    ["-P"],
    ["-d"],
    ["--gpus", "all"],
    ["--user", "root"],
    ["-u", "0"],
    ["-u", "0:0"],
    ["--group-add", "docker"],
    ["--runtime", "other"],
    ["--rootfs"],
    ["--env-file", "/etc/shadow"],
    ["--sysctl", "kernel.core_pattern=x"],
    ["--cgroup-parent=/"],
    ["--never-heard-of"],
    ["-v", "/run/docker.sock:/var/run/docker.sock"],
    ["-v", "relative/path:/x"],
    ["-v", "/tmp:/x:shared"],
    ["--mount", "type=bind,src=/tmp,dst=/x,bind-propagation=shared"],
    ["--mount", "type=image,source=x,dst=/y"],
    ["-e"],
]


@pytest.mark.parametrize("options", DANGEROUS, ids=" ".join)
def test_what_opens_a_container_is_refused_with_a_reason(options: list[str]) -> None:
    with pytest.raises(SandboxError) as caught:
        parse(["docker", "run", "-i", *options, IMAGE] if options != ["-e"] else ["docker", "run", "-e"])
    assert caught.value.what


def test_a_socket_is_not_mounted(tmp_path: Path) -> None:
    path = tmp_path / "engine.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        assert "socket" in refused_mount(str(path), "")


def test_the_home_and_what_it_hides_are_not_mounted(tmp_path: Path) -> None:
    for name in (".ssh", ".config/x", "work/.git"):
        (tmp_path / name).mkdir(parents=True)
    assert "home" in refused_mount(str(tmp_path), str(tmp_path))
    assert "home" in refused_mount(str(tmp_path.parent), str(tmp_path))
    assert "credentials" in refused_mount(str(tmp_path / ".ssh"), str(tmp_path))
    assert "credentials" in refused_mount(str(tmp_path / ".config/x"), str(tmp_path))
    (tmp_path / "innocent").symlink_to(tmp_path / ".ssh")
    assert "credentials" in refused_mount(str(tmp_path / "innocent"), str(tmp_path))
    assert refused_mount(str(tmp_path / "work"), str(tmp_path)) == ""


def test_an_image_that_was_built_here_is_pinned_by_its_id() -> None:
    image = "sha256:" + "0123456789abcdef" * 4
    assert parse(["docker", "run", "-i", image, "--stdio"], "").image == image


@pytest.mark.parametrize(
    "image",
    [
        "server",
        "server:1.2.3",
        "server@sha256:abc",
        "server@sha256:" + "A" * 64,
        "@sha256:" + "a" * 64,
        "s@" + "a" * 64,
    ],
)
def test_an_image_without_a_digest_is_refused(image: str) -> None:
    with pytest.raises(SandboxError, match="pinned"):
        parse(["docker", "run", "-i", image])


@pytest.mark.parametrize(
    "line",
    [
        ["docker"],
        ["docker", "run"],
        ["docker", "--host", "x", "run", IMAGE],
        ["docker", "compose", "up"],
        ["nerdctl", "run"],
    ],
)
def test_what_is_no_run_line_is_refused(line: list[str]) -> None:
    with pytest.raises(SandboxError):
        parse(line)


@given(
    st.lists(
        st.sampled_from([w for words in DANGEROUS for w in words] + ["-i", IMAGE, "--", "x", "-e", "A=b"]), max_size=8
    )
)
def test_whatever_the_line_the_answer_is_a_reading_or_a_reason(words: list[str]) -> None:
    try:
        line = parse(["docker", "run", *words])
    except SandboxError:
        return
    before = words[: words.index(line.image)]
    assert not {"--privileged", "--cap-add=ALL", "--net=host", "--pid=host", "-P", "-d"} & {
        word for word, last in zip(before, ["", *before], strict=False) if last != "-e"
    }
