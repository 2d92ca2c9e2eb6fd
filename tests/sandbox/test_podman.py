"""podman for real: this machine's programs, an image of our own, a gate in its network namespace, and its end."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from callgate.errors import SandboxError
from callgate.sandbox.backend import Prepared
from callgate.sandbox.podman import PLACES, PodmanBackend, engine
from callgate.sandbox.spec import Destination, Limits, Mount, SandboxSpec, SecretFile
from tests.support.programs import REQUIRED

PYTHON = next((p for p in ("/usr/bin/python3", "/usr/local/bin/python3") if os.access(p, os.X_OK)), "/usr/bin/python3")


@pytest.fixture(scope="module", autouse=True)
def _there() -> None:
    if not any(os.access(place, os.X_OK) for place in PLACES) or not os.access(PYTHON, os.X_OK):
        if REQUIRED:
            pytest.fail("podman or the system's Python is missing")
        pytest.skip("podman or the system's Python is missing")


def run(prepared: Prepared, feed: bytes = b"") -> tuple[str, str]:
    process = subprocess.Popen(
        prepared.argv,
        env=dict(prepared.environment),
        cwd=prepared.cwd,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert prepared.started is not None
    running = prepared.started(process.pid)
    try:
        out, err = process.communicate(feed, timeout=60)
    finally:
        process.kill()
        running.close()
        running.close()
    return out.decode(), err.decode()


def containers() -> str:
    found = engine()
    return subprocess.run(
        [found.program, *found.options, "ps", "-a", "--format={{.Names}}"], capture_output=True, text=True, check=True
    ).stdout


def name_of(wrapped: Prepared) -> str:
    return next(word.partition("=")[2] for word in wrapped.argv if word.startswith("--name="))


def prepared(spec: SandboxSpec, script: str) -> Prepared:
    return PodmanBackend().prepare(spec, [PYTHON, "-I", "-c", script])


def test_a_program_of_this_machine(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("readable")
    tmp_path.chmod(0o755)
    spec = SandboxSpec(
        "one",
        mounts=(Mount(str(tmp_path)),),
        environment={"TOKEN": "s3cret-value", "PATH": "/usr/bin"},
        secret_files=(SecretFile("key", b"from memory"),),
        limits=Limits(processes=32, memory_bytes=1 << 28),
    )
    script = f"""
import os
print(open({str(tmp_path / "data")!r}).read())
print(os.environ["TOKEN"], open("/run/secrets/key").read())
print(sorted(os.environ))
print([l for l in open("/proc/self/status") if l.startswith(("CapBnd", "CapEff", "NoNewPrivs", "Seccomp:"))])
for path in ("/etc/x", "/usr/x", {str(tmp_path)!r} + "/x"):
    try: open(path, "w"); print("wrote", path)
    except OSError as error: print(error.errno)
print(os.listdir("/sys/class/net") if os.path.isdir("/sys/class/net") else [])
"""
    wrapped = prepared(spec, script)
    assert "s3cret-value" not in " ".join(wrapped.argv)
    out, err = run(wrapped)
    lines = out.splitlines()
    assert lines[:2] == ["readable", "s3cret-value from memory"], err
    assert "CapEff:\\t0000000000000000" in lines[3] and "NoNewPrivs:\\t1" in lines[3] and "Seccomp:\\t2" in lines[3]
    assert lines[4:7] == ["30", "30", "30"]
    assert lines[7] in ("['lo']", "[]")
    assert name_of(wrapped) not in containers()


def test_its_end_is_the_end_of_everything_in_it() -> None:
    spec = SandboxSpec("two", environment={"PATH": "/usr/bin"})
    wrapped = prepared(
        spec, "import signal,time\nsignal.signal(15, signal.SIG_IGN)\nprint('up', flush=True)\ntime.sleep(300)"
    )
    process = subprocess.Popen(
        wrapped.argv, env=dict(wrapped.environment), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert wrapped.started is not None and process.stdout is not None and process.stdin is not None
    running = wrapped.started(process.pid)
    assert process.stdout.readline() == b"up\n"
    name = name_of(wrapped)
    process.kill()  # the client only
    process.wait()
    assert name in containers()
    running.close()
    assert name not in containers()
    process.stdin.close()
    process.stdout.close()


def test_what_is_abandoned_leaves_nothing() -> None:
    wrapped = prepared(SandboxSpec("three", secret_files=(SecretFile("key", b"x"),)), "pass")
    seccomp = next(word for word in wrapped.argv if "seccomp=" in word).partition("seccomp=")[2]
    assert os.path.exists(seccomp)
    assert wrapped.abandon is not None
    wrapped.abandon()
    assert not os.path.exists(os.path.dirname(seccomp))


def test_the_egress_gate_stands_in_its_network_namespace() -> None:
    spec = SandboxSpec(
        "four", network=(Destination("allowed.example"),), environment={"PATH": "/usr/bin"}, limits=Limits(processes=32)
    )
    script = """
import os, socket
print(open("/etc/hosts").read().splitlines()[-1])
with socket.create_connection(("127.0.0.1", 3128), 10) as s:
    s.sendall(b"CONNECT other.example:443 HTTP/1.1\\r\\nHost: other.example:443\\r\\n\\r\\n")
    print(s.recv(100).split(b"\\r\\n")[0])
try: socket.create_connection(("192.0.2.1", 443), 2)
except OSError as error: print(type(error).__name__, error.errno)
print(os.environ["HTTPS_PROXY"], flush=True)
"""
    wrapped = prepared(spec, script)
    process = subprocess.Popen(
        wrapped.argv,
        env=dict(wrapped.environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert wrapped.started is not None
    running = wrapped.started(process.pid)
    events: list[dict[str, object]] = []
    end = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < end:
        events += running.read_events()
        time.sleep(0.01)
    out, err = process.communicate(timeout=60)
    running.close()
    lines = out.decode().splitlines()
    assert lines[0].endswith("allowed.example"), err
    assert b"403" in lines[1].encode()
    assert "101" in lines[2] or "113" in lines[2] or "TimeoutError" in lines[2]
    assert lines[3] == "http://127.0.0.1:3128"
    assert any("other.example" in str(event.get("host", event)) for event in events)


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    """An image with a shell and cat in it, pinned by its digest."""
    found = engine()
    pack = io.BytesIO()
    with tarfile.open(fileobj=pack, mode="w") as tar:
        for program in ("sh", "cat", "id"):
            path = os.path.realpath(shutil.which(program) or "")
            tar.add(path, f"bin/{program}", recursive=False)
            said = subprocess.run(["ldd", path], capture_output=True, text=True, check=True).stdout
            for word in said.split():
                if word.startswith("/") and word.strip("/") not in tar.getnames():
                    tar.add(os.path.realpath(word), word.strip("/"), recursive=False)
    tagged = "localhost/callgate-test-image:1"
    command = [found.program, *found.options]
    done = subprocess.run(
        [*command, "import", "-q", "-", tagged], input=pack.getvalue(), capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"podman imports no image here: {done.stderr.decode()[-200:]}")
    digest = subprocess.run(
        [*command, "image", "inspect", "--format={{.Digest}}", tagged], capture_output=True, text=True, check=True
    ).stdout.strip()
    yield f"localhost/callgate-test-image@{digest}"
    subprocess.run([*command, "rmi", "--force", tagged], capture_output=True, check=False)


def test_a_server_that_is_an_image(image: str) -> None:
    spec = SandboxSpec("five", kind="container", environment={"TOKEN": "s3cret-value"})
    line = ["podman", "run", "-i", "--rm", "-e", "TOKEN", image, "/bin/sh", "-c", 'echo "$TOKEN"; id -u; cat; echo >/x']
    wrapped = PodmanBackend().prepare(spec, line)
    assert "s3cret-value" not in " ".join(wrapped.argv)
    out, err = run(wrapped, b"hello\n")
    assert out.splitlines()[0] == "s3cret-value", err
    assert out.splitlines()[2:] == ["hello"]
    assert "x: " in err


def test_an_image_without_a_digest_does_not_start() -> None:
    spec = SandboxSpec("six", kind="container")
    with pytest.raises(SandboxError, match="pinned"):
        PodmanBackend().prepare(spec, ["podman", "run", "-i", "localhost/callgate-test-image:1"])


@pytest.mark.skipif(os.getuid() != 0, reason="for root only")
def test_roots_own_directory_is_not_given_to_a_server(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="belongs to root"):
        prepared(SandboxSpec("seven", mounts=(Mount(str(tmp_path), writable=True),)), "pass")


def test_a_control_group_holds_what_all_processes_take_together() -> None:
    if not engine().limits:
        pytest.skip("podman has no control group for this user")
    script = """
import os, signal, time
forks = []
try:
    while len(forks) < 60:
        pid = os.fork()
        if pid == 0: signal.pause()
        forks.append(pid)
except OSError: pass
print(len(forks))
for pid in forks: os.kill(pid, 9); os.waitpid(pid, 0)
ends = []
for _ in range(4):
    pid = os.fork()
    if pid == 0:
        kept = b"1" * (48 << 20); time.sleep(1); os._exit(0)
    ends.append(pid)
print(sum(os.waitpid(pid, 0)[1] == 0 for pid in ends))
"""
    limits = Limits(processes=20, memory_bytes=96 << 20)
    out, _ = run(prepared(SandboxSpec("eight", environment={"PATH": "/usr/bin"}, limits=limits), script))
    started, *ended = map(int, out.split())
    assert 10 <= started < 20
    assert not ended or ended[0] < 4  # or the group's first process was taken, and all of it ended
