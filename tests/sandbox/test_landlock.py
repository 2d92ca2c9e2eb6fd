"""What a server can and cannot do under Landlock alone: no namespaces, the user's own processes and files around it."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from callgate.errors import SandboxError
from callgate.sandbox.landlock import LandlockBackend, NoBackend
from callgate.sandbox.spec import Destination, Mount, SandboxSpec, SecretFile, Sentinel
from tests.sandbox import boxes_user
from tests.sandbox.boxes import needs_landlock, output, start, stop
from tests.sandbox.test_bubblewrap import AS_NOBODY, alive

SH = "/bin/sh"
SPEC = SandboxSpec("test", environment={"PATH": "/usr/bin:/bin"})


def sh(command: str, spec: SandboxSpec = SPEC) -> tuple[int, str]:
    return output(LandlockBackend(), spec, [SH, "-c", command])


@needs_landlock
class TestLandlock:
    def test_files_of_the_user_are_out_of_reach(self, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text("hunter2")
        status, text = sh(f"cat {tmp_path}/secret; ls {tmp_path}; echo x > {tmp_path}/new; : > {tmp_path}/secret")
        assert status and "hunter2" not in text and text.count("Permission denied") == 4
        assert (tmp_path / "secret").read_text() == "hunter2" and os.listdir(tmp_path) == ["secret"]

    def test_metadata_of_files_outside_cannot_be_changed(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")
        (tmp_path / "file").chmod(0o600)
        before = os.stat(tmp_path / "file")
        status, _ = sh(f"chmod 777 {tmp_path}/file; touch {tmp_path}/file; mv {tmp_path}/file {tmp_path}/other")
        assert status and os.stat(tmp_path / "file") == before

    def test_mounts_are_what_they_say(self, tmp_path: Path) -> None:
        for name in ("read", "write"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "file").write_text(name)
            shutil.copy("/usr/bin/true", tmp_path / name / "program")
        spec = dataclasses.replace(
            SPEC, mounts=(Mount(str(tmp_path / "read")), Mount(str(tmp_path / "write"), writable=True))
        )
        _, text = sh(
            f"cd {tmp_path}; cat read/file write/file; echo n > write/new; echo n > read/new;"
            "read/program && echo one; write/program && echo two; mv write/new write/moved && echo moved",
            spec,
        )
        assert text.startswith("readwrite") and "one" in text and "two" not in text and "moved" in text
        assert not (tmp_path / "read" / "new").exists()

    def test_a_mount_at_another_place_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(SandboxError, match="where they are"):
            LandlockBackend().prepare(
                dataclasses.replace(SPEC, mounts=(Mount(str(tmp_path), target="/data"),)), ["/usr/bin/true"]
            )

    def test_home_and_temporary_files_are_its_own_and_go(self) -> None:
        status, text = sh('echo a > "$HOME/a"; echo b > "$TMPDIR/b"; cat "$HOME/a" "$TMPDIR/b"; echo "$HOME"')
        assert status == 0 and text.startswith("a\nb\n")
        assert not os.path.exists(text.splitlines()[-1])

    def test_files_nested_deeper_than_anyone_follows_go_too(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        nest = "import os\nfor _ in range(3000): os.mkdir('d'); os.chdir('d')"
        assert sh(f'cd "$TMPDIR" && exec /usr/bin/python3 -c "{nest}"')[0] == 0
        assert os.listdir(tmp_path) == []

    def test_a_given_home_lasts(self, tmp_path: Path) -> None:
        spec = dataclasses.replace(SPEC, home=str(tmp_path))
        assert sh("pwd; echo kept > file", spec) == (0, f"{tmp_path}\n")
        assert (tmp_path / "file").read_text() == "kept\n"

    def test_secrets_are_files_and_variables_that_name_them_follow(self) -> None:
        secret = SecretFile("token", b"s3cret")
        spec = dataclasses.replace(SPEC, secret_files=(secret,), environment={"TOKEN_FILE": secret.path})
        status, text = sh('cat "$TOKEN_FILE"; echo; echo "$TOKEN_FILE"', spec)
        assert status == 0 and text.startswith("s3cret\n")
        assert not os.path.exists(text.splitlines()[-1])

    def test_no_socket_without_network(self) -> None:
        code = "import socket as s\nfor f in (1, 2, 10, 16, 17, 40):\n for k in (1, 2, 3):\n  try: s.socket(f, k); print(f, k)\n  except OSError: pass"
        assert output(LandlockBackend(), SPEC, ["/usr/bin/python3", "-c", code]) == (0, "")

    def test_with_network_only_the_gate_s_port_can_be_reached(self) -> None:
        spec = dataclasses.replace(SPEC, network=(Destination("example.org"),))
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            code = (
                "import os, socket; from urllib.parse import urlsplit\n"
                "proxy = urlsplit(os.environ['HTTPS_PROXY'])\n"
                "socket.create_connection(('127.0.0.1', proxy.port), 5).close(); print('gate', bool(proxy.password))\n"
                f"try: socket.create_connection(('127.0.0.1', {other.getsockname()[1]}), 5)\n"
                "except PermissionError: print('refused')\n"
                "try: socket.socket().bind(('127.0.0.1', 0))\n"
                "except PermissionError: print('no listener')\n"
                "try: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
                "except PermissionError: print('no datagram')\n"
            )
            box = start(LandlockBackend(), spec, ["/usr/bin/python3", "-c", code], merge=True)
            text = box.process.communicate(timeout=30)[0].decode()
            stop(box)
        assert text.splitlines() == ["gate True", "refused", "no listener", "no datagram"]
        assert any("other hosts" in line for line in box.prepared.not_enforced)

    def test_other_processes_cannot_be_looked_at_or_signalled(self) -> None:
        with subprocess.Popen(["/bin/sleep", "60"], env={"MARK": "hunter2"}) as victim:
            status, text = sh(f"cat /proc/{victim.pid}/environ; kill -9 {victim.pid}; kill -0 {os.getpid()}")
            assert status and "hunter2" not in text and victim.poll() is None
            victim.kill()

    def test_the_environment_is_the_spec_s(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LAUNCHER_SECRET", "hunter2")
        status, text = sh("/usr/bin/env")
        assert status == 0 and {line.partition("=")[0] for line in text.splitlines()} <= {
            "PATH", "HOME", "TMPDIR", "PWD", "_",
        }  # fmt: skip

    def test_it_ends_with_its_parent(self, tmp_path: Path) -> None:
        script = (
            "import os, subprocess, sys\n"
            "from callgate.sandbox.landlock import LandlockBackend\nfrom callgate.sandbox.spec import SandboxSpec\n"
            "p = LandlockBackend().prepare(SandboxSpec('t', environment={'PATH': '/usr/bin'}), ['/bin/sleep', '1000'])\n"
            "q = subprocess.Popen(p.argv, env={}, pass_fds=p.pass_fds)\np.started(q.pid)\n"
            "print(q.pid, flush=True)\nsys.stdin.read()\n"
        )
        with subprocess.Popen(
            [sys.executable, "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**boxes_user.environment(), "TMPDIR": str(tmp_path)},
        ) as parent:
            assert parent.stdout
            pid = int(parent.stdout.readline())
            until = time.monotonic() + 60
            while "sleep" not in _name(pid) and time.monotonic() < until:
                time.sleep(0.01)  # until the stub has become the server
            parent.send_signal(signal.SIGKILL)
        while alive(pid) and time.monotonic() < until:
            time.sleep(0.01)
        assert not alive(pid)

    def test_an_older_kernel_is_refused_network_and_says_what_is_missing(self) -> None:
        with pytest.raises(SandboxError, match="connects to"):
            LandlockBackend(abi=3).prepare(
                dataclasses.replace(SPEC, network=(Destination("example.org"),)), ["/usr/bin/true"]
            )
        prepared = LandlockBackend(abi=5).prepare(SPEC, ["/usr/bin/true"])
        assert prepared.abandon
        prepared.abandon()
        assert any("signals" in line for line in prepared.not_enforced)

    def test_without_landlock_nothing_is_started(self) -> None:
        with pytest.raises(SandboxError, match="no Landlock"):
            LandlockBackend(abi=0).prepare(SPEC, ["/usr/bin/true"])
        assert not LandlockBackend(abi=0).probe().usable

    def test_what_was_opened_is_given_back(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        output(LandlockBackend(), SPEC, ["/usr/bin/true"])
        before = sorted(os.listdir("/proc/self/fd"))
        prepared = LandlockBackend().prepare(SPEC, ["/usr/bin/true"])
        assert prepared.abandon
        prepared.abandon()
        output(LandlockBackend(), SPEC, ["/usr/bin/true"])
        assert sorted(os.listdir("/proc/self/fd")) == before and os.listdir(tmp_path) == []

    def test_without_a_place_for_its_own_files_it_says_so(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TMPDIR", "/nowhere/at/all")
        with pytest.raises(SandboxError, match="/nowhere/at/all"):
            LandlockBackend().prepare(SPEC, ["/usr/bin/true"])

    def test_it_works_for_an_unprivileged_user(self) -> None:
        found = boxes_user.run(AS_NOBODY, "landlock", "id -u; cat /etc/shadow; echo x > $HOME/y && cat $HOME/y")
        uid = str(boxes_user.USER if os.getuid() == 0 else os.getuid())
        assert found.stdout.split()[:3] == [uid, "0", uid] and found.stdout.endswith("x\n\n"), found


def _name(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm") as file:
            return file.read()
    except OSError:
        return ""


class TestNone:
    def test_it_changes_nothing_and_says_so(self) -> None:
        prepared = NoBackend().prepare(dataclasses.replace(SPEC, cwd="/"), ["/usr/bin/true", "x"])
        assert prepared.argv == ("/usr/bin/true", "x") and dict(prepared.environment) == dict(SPEC.environment)
        said = " ".join(prepared.not_enforced)
        assert all(word in said for word in ("files", "network", "processes", "system calls", "memory"))

    def test_it_does_not_take_secrets_that_need_a_sandbox(self) -> None:
        with pytest.raises(SandboxError, match="secrets"):
            NoBackend().prepare(dataclasses.replace(SPEC, secret_files=(SecretFile("a", b"b"),)), ["/usr/bin/true"])
        with pytest.raises(SandboxError, match="secrets"):
            NoBackend().prepare(dataclasses.replace(SPEC, sentinels=(Sentinel("a", "p", b"b"),)), ["/usr/bin/true"])
