"""The range: baits on this host, a hostile server started by one backend, and what really happened to the baits.

`arena.py BACKEND FOLDER [PROBE…]` runs as the user whose baits they are and prints one JSON object. A probe's own word
counts only where the host agrees: a secret must be one that was laid, a file must have changed, a listener must have
heard. The backends `bare` (nothing) and `namespaces` (root in new namespaces, no filter) are the controls.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import pty
import resource
import secrets
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "hostile"))

from calls import LIBC, call  # noqa: E402 - of the hostile program
from index import PROBES  # noqa: E402
from probes import MARK  # noqa: E402

from callgate.outside import caller  # noqa: E402
from callgate.sandbox.backend import Backend, Prepared, Running  # noqa: E402
from callgate.sandbox.project_guard import guards  # noqa: E402
from callgate.sandbox.spec import MIB, Limits, Mount, SandboxSpec  # noqa: E402

SLOWNESS = float(os.environ.get("RANGE_SLOWNESS", "1"))
SECONDS = 40 * SLOWNESS
LIMITS = Limits(processes=48, memory_bytes=192 * MIB, file_bytes=8 * MIB, disk_bytes=16 * MIB, descriptors=128)
CONTROLS = ("bare", "namespaces")


def _order(probe: str) -> int:
    return {"daemon": 0, "daemon_at_the_end": 2}.get(probe, 1)


class Range:
    """All baits, and what became of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.nonce = "nonce-" + secrets.token_hex(8)
        self.secrets: set[str] = set()
        self.heard: set[tuple[str, bytes]] = set()
        self.signalled = False
        self._end: list[Callable[[], object]] = []
        self._ends = False
        self.facts: dict[str, Any] = {"nonce": self.nonce, "launcher": os.getpid(), "slowness": SLOWNESS}
        self._files()
        self._terminal()
        self._victim()
        self._listeners()
        self._shared()
        signal.signal(signal.SIGUSR2, lambda *_: setattr(self, "signalled", True))
        self.secrets.add(os.environ["LAUNCHER_SECRET"])
        left = os.open(folder / "left-open", os.O_RDWR | os.O_CREAT, 0o600)
        os.write(left, self.secret().encode())
        for descriptor in (left, os.open("/", os.O_RDONLY | os.O_DIRECTORY)):
            os.set_inheritable(descriptor, True)

    def secret(self) -> str:
        value = MARK + secrets.token_hex(8)
        self.secrets.add(value)
        return value

    def _files(self) -> None:
        for name, content in {
            "home/.ssh/id_ed25519": self.secret(),
            "home/.mcp.json": self.secret(),
            "home/.bashrc": "",
            "home/.profile": "",
            "state/callgate.lock": "",
            "state/keys/signing": self.secret(),
            "state/servers/other/home/token": self.secret(),
            "state/servers/hostile/home/.keep": "",
            "project/.git/config": "",
            "project/.git/hooks/sample": "",
            "project/.mcp.json": "{}",
            "package/data.txt": "data",
        }.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        (self.folder / "home/.ssh/id_ed25519").chmod(0o600)
        shutil.copytree(HERE / "hostile", self.folder / "package", dirs_exist_ok=True)
        for name in ("home", "state", "project", "package"):
            self.facts[name] = str(self.folder / name)
        # An account of the host that no sandbox would make up.
        accounts = [line.split(":") for line in Path("/etc/passwd").read_text().splitlines()]
        self.facts["account"] = ":".join(max(accounts, key=lambda fields: len(fields[4])))
        self.facts["hostname"] = os.uname().nodename

    def _terminal(self) -> None:
        self.master, slave = pty.openpty()
        self.facts["terminal"] = os.ttyname(slave)
        self.slave = os.open(os.ttyname(slave), os.O_RDWR)  # the first one opened becomes this session's own
        for descriptor in (self.master, self.slave):
            os.set_blocking(descriptor, False)

    def _victim(self) -> None:
        self._marker = self.folder / "victim-was-hit"
        self.victim = subprocess.Popen(
            [sys.executable, "-I", str(HERE / "victim.py"), str(self._marker)],
            env={"VICTIM_SECRET": self.secret()},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.victim.stdout
        said = json.loads(self.victim.stdout.readline())
        # Its memory holds what its environment holds.
        self.facts |= {"victim": self.victim.pid, "victim_address": said["address"], "victim_fd": said["fd"]}
        self._end.append(self.victim.kill)

    def _listeners(self) -> None:
        self._selector = selectors.DefaultSelector()

        def listen(name: str, family: int, kind: int, address: Any) -> Any:
            listener = socket.socket(family, kind)
            listener.bind(address)
            if kind == socket.SOCK_STREAM:
                listener.listen(16)
            listener.setblocking(False)
            self._selector.register(listener, selectors.EVENT_READ, name)
            return listener.getsockname()

        stream, datagram = socket.SOCK_STREAM, socket.SOCK_DGRAM
        sockets = self.folder / "sockets"
        sockets.mkdir()
        self.facts["tcp"] = listen("tcp", socket.AF_INET, stream, ("127.0.0.1", 0))[1]
        self.facts["http"] = listen("http", socket.AF_INET, stream, ("127.0.0.1", 0))[1]
        with contextlib.suppress(OSError):
            self.facts["tcp6"] = listen("tcp6", socket.AF_INET6, stream, ("::1", 0))[1]
        self.facts["udp"] = listen("udp", socket.AF_INET, datagram, ("127.0.0.1", 0))[1]
        for name in ("docker", "agent"):
            self.facts[name] = listen(name, socket.AF_UNIX, stream, str(sockets / name))
        self.facts["datagram"] = listen("datagram", socket.AF_UNIX, datagram, str(sockets / "datagram"))
        self.facts["abstract"] = "callgate-" + self.nonce
        listen("abstract", socket.AF_UNIX, stream, "\0" + self.facts["abstract"])
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.facts["bind"] = free.getsockname()[1]
        self._page = self.secret().encode()
        threading.Thread(target=self._serve, daemon=True).start()
        threading.Thread(target=self._visit, daemon=True).start()

    def _serve(self) -> None:
        while not self._ends:
            for key, _ in self._selector.select(0.2):
                listener: socket.socket = key.fileobj  # type: ignore[assignment]
                with contextlib.suppress(OSError):
                    if listener.type == socket.SOCK_DGRAM:
                        self.heard.add((key.data, listener.recv(1000)))
                        continue
                    connection, _ = listener.accept()
                    with connection:
                        connection.settimeout(2)
                        data = connection.recv(1000)
                        self.heard.add((key.data, data))
                        if key.data == "http":
                            head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
                            connection.sendall(head % len(self._page) + self._page)

    def _visit(self) -> None:
        while not self._ends:
            with contextlib.suppress(OSError), socket.socket() as visitor:
                visitor.settimeout(0.2)
                visitor.connect(("127.0.0.1", self.facts["bind"]))
            time.sleep(0.02)

    def _shared(self) -> None:
        key = secrets.randbelow(1 << 30) + 1
        segment = call("shmget", key, 64, 0o1600)
        LIBC.shmat.restype = ctypes.c_void_p
        address = LIBC.shmat(segment, None, 0)
        ctypes.memmove(address, self.secret().encode(), 26)
        self._end.append(lambda: LIBC.shmctl(segment, 0, None))
        queue = "callgate-" + self.nonce
        call("mq_open", queue.encode(), os.O_CREAT | os.O_RDWR, 0o600, 0)
        self._end.append(lambda: LIBC.mq_unlink(b"/" + queue.encode()))
        shared = Path("/dev/shm") / queue
        shared.write_text(self.secret())
        self._end.append(shared.unlink)
        with contextlib.suppress(OSError):
            value = self.secret().encode()
            number = call("add_key", b"user", queue.encode(), value, len(value), -4)
            call("keyctl", 5, number, 0x3F3F0000)
            self._end.append(lambda: call("keyctl", 9, number, -4))
        self.facts |= {"shm_key": key, "queue": queue, "shm_name": queue, "key": queue}

    def close(self) -> None:
        self._ends = True
        for end in self._end:
            with contextlib.suppress(OSError):
                end()
        for name in ("/tmp/", "/var/tmp/"):
            with contextlib.suppress(OSError):
                os.unlink(name + self.nonce)

    def agrees(self, probe: str, detail: str) -> bool:
        """Whether the host shows what the probe says."""
        if detail.startswith(MARK):
            return detail in self.secrets
        heard = {
            "tcp_loopback": "tcp",
            "tcp_loopback_v6": "tcp6",
            "udp_loopback": "udp",
            "docker_socket": "docker",
            "ssh_agent": "agent",
            "abstract_socket": "abstract",
            "datagram_socket": "datagram",
        }
        if probe in heard:
            return self._in_time(lambda: (heard[probe], self.nonce.encode()) in self.heard)
        if probe == "bash_tcp":
            return self._in_time(lambda: ("tcp", self.nonce.encode() + b"\n") in self.heard)
        if probe in ("write_var_tmp", "write_host_tmp"):
            return os.path.exists(("/var/tmp/" if probe == "write_var_tmp" else "/tmp/") + self.nonce)
        written = {
            "write_bashrc": "home/.bashrc",
            "write_client_config": "home/.mcp.json",
            "symlink_write": "home/.profile",
            "write_git_hook": "project/.git/hooks/pre-commit",
            "write_project_agent_config": "project/.mcp.json",
            "replace_git_directory": "project/.git/hooks/post-checkout",
            "write_own_package": "package/index.py",
            "write_callgate_lock": "state/callgate.lock",
        }
        if probe in written:
            path = self.folder / written[probe]
            moved = Path(str(path).replace("/.git/", "/.git-moved/"))
            return any(one.exists() and self.nonce in one.read_text() for one in (path, moved))
        if probe == "truncate_own_package":
            return (self.folder / "package/data.txt").stat().st_size == 0
        if probe == "leave_setuid_file":
            return bool((self.folder / "project/setuid").stat().st_mode & 0o4000)
        if probe == "chmod_home_file":
            return (self.folder / "home/.ssh/id_ed25519").stat().st_mode & 0o777 == 0o644
        if probe == "signal_process":
            return self._in_time(self._marker.exists)
        if probe == "signal_launcher":
            return self._in_time(lambda: self.signalled)
        if probe == "limit_process":
            return resource.prlimit(self.victim.pid, resource.RLIMIT_CORE) == (0, 0)
        if probe == "type_into_terminal":
            return self.nonce in self._read(self.slave)
        if probe == "write_terminal":
            return self.nonce in self._read(self.master)
        if probe == "daemon":
            return self._beats("heartbeat")
        if probe == "daemon_at_the_end":
            return self._beats("last-heartbeat")
        return True

    def _beats(self, name: str) -> bool:
        path = self.folder / "project" / name
        before = path.read_text()
        alive = self._in_time(lambda: path.read_text() not in ("", before), 0.7)
        if alive:
            self._end_daemon(path.read_text() or before)
        return alive

    def _end_daemon(self, heartbeat: str) -> None:
        """It has shown what it can; it would write into the folder while that is removed."""
        pid = heartbeat.partition(" ")[0]
        with contextlib.suppress(OSError, ValueError):
            if str(self.folder).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(int(pid), signal.SIGKILL)

    def _read(self, descriptor: int) -> str:
        with contextlib.suppress(OSError):
            return os.read(descriptor, 65536).decode("latin-1")
        return ""

    def _in_time(self, holds: Callable[[], bool], seconds: float = 1.0) -> bool:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if holds():
                return True
            time.sleep(0.01)
        return False


def specification(baits: Range, python: str) -> SandboxSpec:
    """What a server gets that was given a project to write to."""
    folder = baits.folder
    runtime = () if python.startswith("/usr/") else (Mount(sys.base_prefix),)
    return SandboxSpec(
        name="hostile",
        kind="python",
        mounts=(
            Mount(str(folder / "package")),
            Mount(str(folder / "project"), writable=True),
            *guards(str(folder / "project")),
            *runtime,
        ),
        home=str(folder / "state/servers/hostile/home"),
        cwd=str(folder / "project"),
        limits=LIMITS,
        environment={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"},
    )


class Control:
    """No sandbox at all, or only what an ordinary user can make without one."""

    def __init__(self, name: str) -> None:
        self.name = name

    def prepare(self, spec: SandboxSpec, argv: list[str]) -> Prepared:
        prefix = ["/usr/bin/unshare", "-r", "-m", "-n", "-i", "-u", "-p", "-f", "--"] if self.name != "bare" else []
        environment = {**os.environ, **spec.environment, "HOME": spec.home}
        return Prepared(argv=(*prefix, *argv), environment=environment, cwd=spec.cwd, backend=self.name)


def backend(name: str, state: Path) -> Backend | Control:
    """A control, or the product's own."""
    if name in CONTROLS:
        return Control(name)
    from callgate.sandbox.choose import make

    return make(name, str(state))


def launch(prepared: Prepared) -> tuple[int, int, Running | None]:
    """Start it as callgate does: pipes, a process group of its own, nothing else closed."""
    for descriptor in prepared.pass_fds:
        os.set_inheritable(descriptor, True)
    reader, writer = os.pipe()
    hold, feed = os.pipe()
    here = os.getcwd()
    if prepared.cwd:
        os.chdir(prepared.cwd)
    try:
        pid = os.posix_spawn(
            prepared.argv[0],
            list(prepared.argv),
            dict(prepared.environment),
            file_actions=[(os.POSIX_SPAWN_DUP2, hold, 0), (os.POSIX_SPAWN_DUP2, writer, 1)],
            setpgroup=0,
        )
    finally:
        os.chdir(here)
        os.close(hold)
        os.close(writer)
    os.set_inheritable(feed, False)
    try:
        running = prepared.started(pid) if prepared.started else None
    except BaseException:
        os.killpg(pid, signal.SIGKILL)
        raise
    return pid, reader, running


def lines(pid: int, reader: int, running: Running | None) -> Iterator[bytes]:
    """What it says until it ends, then end all that is left of it, as callgate does."""
    end = time.monotonic() + SECONDS
    kept = b""
    with selectors.DefaultSelector() as selector:
        selector.register(reader, selectors.EVENT_READ)
        while time.monotonic() < end:
            if running is not None:
                running.read_events()
            if selector.select(0.2):
                chunk = os.read(reader, 65536)
                if not chunk:
                    break
                kept += chunk
                *whole, kept = kept.split(b"\n")
                yield from whole
    os.close(reader)
    with contextlib.suppress(OSError):
        os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    if running is not None:
        running.close()


def run(name: str, folder: Path, chosen: list[str]) -> dict[str, Any]:
    baits = Range(folder)
    try:
        python = os.path.realpath(sys.executable)
        (folder / "gate").mkdir()
        wall = backend(name, folder / "gate")
        results: dict[str, Any] = {}
        not_enforced: tuple[str, ...] = ()
        quick = [one for one in chosen if not PROBES[one].bomb]
        # Daemons first: whoever looks at the server's processes has time to see them. The last one comes last.
        bombs = sorted((one for one in chosen if PROBES[one].bomb), key=_order)
        seconds = []
        # A launch whose processes all die (a memory limit does that) goes on with the next probe in a new one.
        for group in (quick, bombs):
            left = list(group)
            while left:
                begin = time.monotonic()
                spec = specification(baits, python)  # again: a probe may have taken away what was to be guarded
                argv = [python, "-I", spec.mounts[0].source + "/index.py", json.dumps(baits.facts), *left]
                prepared = wall.prepare(spec, argv)
                not_enforced = prepared.not_enforced
                pid, reader, running = launch(prepared)
                before = len(left)
                for line in lines(pid, reader, running):
                    said = json.loads(line)
                    results[said["probe"]] = [said["outcome"], said["detail"]]
                    left.remove(said["probe"])
                if left and group is quick and len(left) == before:
                    raise RuntimeError(f"{name} started nothing: {left[:3]}")
                if left:
                    results[left.pop(0)] = ["killed", "with all of its processes"]
                seconds.append(round(time.monotonic() - begin, 2))
        for probe, (outcome, detail) in results.items():
            if outcome == "succeeded" and not baits.agrees(probe, detail):
                results[probe] = ["inside", detail]
        return {"backend": name, "not_enforced": not_enforced, "seconds": seconds, "results": results}
    finally:
        baits.close()


def main(argv: list[str]) -> int:
    if "LAUNCHER_SECRET" not in os.environ:  # /proc/PID/environ shows what a process was started with
        secret = MARK + secrets.token_hex(8)
        environment = {**os.environ, "LAUNCHER_SECRET": secret, "LD_LIBRARY_PATH": "/nonexistent"}
        os.execve(sys.executable, sys.orig_argv, environment)
    caller.is_the_user()  # no client started this; its home is the one that the range made
    name, folder, *chosen = argv
    print(json.dumps(run(name, Path(folder), chosen or list(PROBES))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
