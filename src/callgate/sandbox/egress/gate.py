"""What a backend calls: everything a sandbox needs to have one way out, and the gate's process behind it.

    gate = EgressGate.prepare(spec)          # before the spawn: files, variables
    gate.attach(child_pid)                   # namespaces exist, the server has not started: listeners inside
    port, token = gate.listen_loopback()     # instead, before the spawn, where there is no network namespace

The process is started by the first connection (or the first look at `events_fd` after it): a server that never
connects costs nothing. It ends with the pipe it was started with, however callgate ends. When it dies, its
listeners die with it, nothing starts it again, and the sandbox has no way out any more.
"""

from __future__ import annotations

import _socket
import _thread
import os
import select
import sys

from callgate.errors import SandboxError
from callgate.sandbox.egress import attach as attaching

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from callgate.sandbox.egress.settings import Lab
    from callgate.sandbox.spec import SandboxSpec, Sentinel

PROXY_PORT = 3128
"""Where the explicit proxy listens in the sandbox, or the next free port above it."""
CA_PATH = "/run/callgate/ca-bundle.pem"
CA_VARIABLES = (
    "SSL_CERT_FILE",
    "NODE_EXTRA_CA_CERTS",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "AWS_CA_BUNDLE",
    "PIP_CERT",
    "DENO_CERT",
    "CARGO_HTTP_CAINFO",
)
_READ_BYTES = 256 * 1024
_CLOSE_S = 1.0
_EXIT_POLL_S = 0.002


class EgressGate:
    """The egress gate of one server. Only `replace_secrets` is for other threads. `close` is safe to call twice."""

    def __init__(self, spec: SandboxSpec, *, ca_path: str = CA_PATH, lab: Lab | None = None) -> None:
        self._name = spec.name
        self._network = spec.network
        self._private = spec.private
        self._proxy = spec.egress_proxy
        self._sentinels = tuple(spec.sentinels)
        self._lab = lab
        self._token = ""
        self._port = PROXY_PORT
        self._listeners: list[tuple[int, str]] = []
        self._pid = 0
        self._control: _socket.socket | None = None
        self._lifeline = -1
        self._unread = b""
        self._last: list[dict[str, object]] = []
        self._closed = False
        self._telling = _thread.allocate_lock()
        """Held while something is written to the process, or its socket changes: renewals come from a thread."""
        self._poller = select.epoll() if hasattr(select, "epoll") else None
        self._events_fd = self._poller.fileno() if self._poller else -1
        self._authority = self._authority_key = b""
        self._trust = ""
        self._ca_path = ca_path
        self.ca_files: Mapping[str, bytes] = {}
        """Path in the sandbox → content: the system's CAs and the session's. Empty where no TLS is terminated."""
        while self._port in {one.port for one in self._network}:
            self._port += 1
        self._names: Mapping[str, str] = {}
        if self._network or self._sentinels:
            from callgate.sandbox.egress import wanted

            wanted.check_sentinels(self._sentinels)
            self._names = wanted.stand_ins(self._network)
        if self._sentinels:
            self._make_authority()

    @classmethod
    def prepare(cls, spec: SandboxSpec, *, ca_path: str = CA_PATH, lab: Lab | None = None) -> EgressGate:
        """Before the spawn. Raises SandboxError for a network list or sentinel that cannot be kept.

        `ca_path`: where the server finds the CA bundle, when not at the usual place. `lab` is for tests.
        """
        return cls(spec, ca_path=ca_path, lab=lab)

    @property
    def hosts_file(self) -> bytes:
        """/etc/hosts of the sandbox: every name of the network list, at its own loopback address."""
        lines = ["127.0.0.1 localhost", "::1 localhost"]
        lines += [f"{address} {name}" for name, address in self._names.items()]
        return ("\n".join(lines) + "\n").encode("ascii")

    @property
    def environment(self) -> dict[str, str]:
        """Variables that lead programs to the gate. After `listen_loopback` they carry its port and token."""
        credentials = f"callgate:{self._token}@" if self._token else ""
        proxy = f"http://{credentials}127.0.0.1:{self._port}"
        found = {"NODE_USE_ENV_PROXY": "1"}
        for name, value in (
            ("HTTP_PROXY", proxy),
            ("HTTPS_PROXY", proxy),
            ("ALL_PROXY", proxy),
            ("NO_PROXY", "localhost,127.0.0.1,::1"),
        ):
            found[name] = found[name.lower()] = value
        if self.ca_files:
            for name in CA_VARIABLES:
                found[name] = self._ca_path
        return found

    @property
    def events_fd(self) -> int:
        """Readable when `read_events` has something to do or to tell."""
        return self._events_fd

    def attach(self, child_pid: int) -> None:
        """Open the listeners in the network namespace of `child_pid`. Raises SandboxError.

        Call it while the server waits to be started: nothing in the sandbox can then interfere. About 2 ms.
        """
        ports = sorted({one.port for one in self._network if not one.host.startswith("*")})
        wanted = [("127.0.0.1", self._port), *(("0.0.0.0", port) for port in ports)]  # noqa: S104 # the sandbox's own
        found = attaching.listen_inside(child_pid, wanted)
        self._wait_on([(found[0], "proxy"), *((fd, "transparent") for fd in found[1:])])

    def listen_loopback(self) -> tuple[int, str]:
        """For a backend without network namespaces: the explicit proxy at a random port of the host's loopback.

        Everyone on the machine can reach it, so it demands the token that it returns beside the port; both are in
        `environment` from then on. There is no transparent path. Raises SandboxError.
        """
        descriptor, self._port = attaching.listen_on_loopback()
        self._token = os.urandom(24).hex()
        self._wait_on([(descriptor, "proxy")])
        return self._port, self._token

    def read_events(self) -> list[dict[str, object]]:
        """What happened since the last call; never blocks. Starts the process when a connection waits.

        Empty after `events_fd` was readable means: the end.
        """
        if self._last:
            found, self._last = self._last, []
            return found
        if self._listeners and not self._closed:
            return [self._started()] if self._connection_waits() else []
        return self._receive()

    def replace_secrets(self, sentinels: Sequence[Sentinel]) -> None:
        """From the next request on, these values. Raises SandboxError for a host the session CA cannot speak for."""
        known = {host for one in self._sentinels for host in one.hosts}
        if any(host not in known for one in sentinels for host in one.hosts):
            raise SandboxError(
                "a renewed secret names a host that it did not have when the server started",
                next_step="restart the server",
            )
        from callgate.sandbox.egress import wanted

        wanted.check_sentinels(sentinels)
        with self._telling:
            self._sentinels = tuple(sentinels)
            if self._control is not None:
                import orjson

                from callgate.sandbox.egress.settings import encode_sentinels

                try:
                    self._control.settimeout(_CLOSE_S)
                    self._control.sendall(orjson.dumps({"sentinels": encode_sentinels(self._sentinels)}) + b"\n")
                except OSError:
                    pass  # it has died: then no secret goes anywhere, and `read_events` says so

    def close(self) -> None:
        """Stop the process and close everything. What it still had to tell can be read afterwards."""
        if self._closed:
            return
        self._closed = True
        for descriptor, _kind in self._listeners:
            os.close(descriptor)
        self._listeners = []
        if self._control is not None:
            self._finish(self._control)
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1
        self._reap()
        if self._poller is not None:
            self._poller.close()
        self._events_fd = -1

    def _make_authority(self) -> None:
        from callgate.sandbox.egress import authority, trust_store

        hosts = {host for one in self._sentinels for host in one.hosts}
        if not hosts:
            return
        self._trust = trust_store.bundle_path()
        self._authority, self._authority_key = authority.issue(hosts)
        content = trust_store.bundle(self._trust) + self._authority
        self.ca_files = {self._ca_path: content}
        if self._ca_path == CA_PATH and self._trust in {os.path.realpath(path) for path in trust_store.BUNDLES}:
            # For programs that obey no variable. A backend that shows the server the host's own files leaves it out.
            self.ca_files = {**self.ca_files, self._trust: content}

    def _wait_on(self, listeners: list[tuple[int, str]]) -> None:
        self._listeners = listeners
        if self._poller is None:
            self._last.append(self._started())
            return
        for descriptor, _kind in listeners:
            self._poller.register(descriptor, select.EPOLLIN)

    def _connection_waits(self) -> bool:
        return self._poller is None or bool(self._poller.poll(0))

    def _started(self) -> dict[str, object]:
        """Start the process and hand it the listeners. Whatever goes wrong closes the way out."""
        listeners, self._listeners = self._listeners, []
        try:
            with self._telling:
                self._spawn(listeners)
        except OSError as error:
            self._drop_control()
            return {"kind": "egress-gate", "outcome": "failed", "reason": str(error.strerror)}
        finally:
            for descriptor, _kind in listeners:
                if self._poller is not None:
                    self._poller.unregister(descriptor)
                os.close(descriptor)
        return {"kind": "egress-gate", "outcome": "started", "pid": self._pid}

    def _spawn(self, listeners: list[tuple[int, str]]) -> None:
        from callgate.sandbox.egress import settings, trust_store

        line = settings.encode(
            settings.Settings(
                network=self._network,
                listeners=tuple(kind for _fd, kind in listeners),
                names={address: name for name, address in self._names.items()},
                token=self._token,
                sentinels=self._sentinels,
                authority=self._authority.decode(),
                authority_key=self._authority_key.decode(),
                private=self._private,
                proxy=self._proxy,
                trust=self._trust or trust_store.bundle_path(),
                lab=self._lab,
            )
        )
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, attaching.SOCKET)
        self._control = ours
        life_read, self._lifeline = os.pipe()
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-I", "-m", "callgate.sandbox.egress.process"],
                {"LANG": "C.UTF-8"},
                file_actions=[
                    # First out of the way of 0 to 2: any of ours may be one of them.
                    (os.POSIX_SPAWN_DUP2, theirs.fileno(), _ABOVE),
                    (os.POSIX_SPAWN_DUP2, life_read, _ABOVE + 1),
                    (os.POSIX_SPAWN_DUP2, null, _ABOVE + 2),
                    (os.POSIX_SPAWN_DUP2, _ABOVE, 0),
                    (os.POSIX_SPAWN_DUP2, _ABOVE + 2, 1),
                    (os.POSIX_SPAWN_DUP2, _ABOVE + 2, 2),
                    (os.POSIX_SPAWN_DUP2, _ABOVE + 1, 3),
                    (os.POSIX_SPAWN_CLOSE, _ABOVE),
                    (os.POSIX_SPAWN_CLOSE, _ABOVE + 1),
                    (os.POSIX_SPAWN_CLOSE, _ABOVE + 2),
                ],
                setpgroup=0,
                setsigdef=(13, 25),
            )
        finally:
            os.close(null)
            os.close(life_read)
            theirs.close()
        numbers = b"".join(fd.to_bytes(4, sys.byteorder) for fd, _kind in listeners)
        ours.settimeout(5.0)
        sent = ours.sendmsg([line], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, numbers)])
        ours.sendall(line[sent:])
        if self._poller is not None:
            self._poller.register(ours.fileno(), select.EPOLLIN)
        else:
            self._events_fd = ours.fileno()

    def _receive(self) -> list[dict[str, object]]:
        if self._control is None:
            return []
        try:
            self._control.setblocking(False)
            data = self._control.recv(_READ_BYTES)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            self._drop_control()
            return [] if self._closed else [{"kind": "egress-gate", "outcome": "ended", "reason": "its process died"}]
        from callgate.sandbox.egress.told import EVENT_BYTES, event_of

        *lines, self._unread = (self._unread + data).split(b"\n")
        if len(self._unread) > EVENT_BYTES:
            self._drop_control()
            return [{"kind": "egress-gate", "outcome": "ended", "reason": "its process wrote no events"}]
        return [event_of(line) for line in lines if line]

    def _finish(self, control: _socket.socket) -> None:
        """Tell the process to end, and read what it says last."""
        import time

        until = time.monotonic() + _CLOSE_S
        try:
            control.shutdown(_socket.SHUT_WR)
            while self._control is not None and (left := until - time.monotonic()) > 0:
                if select.select([control], [], [], left)[0]:
                    self._last += self._receive()
        except (OSError, ValueError):
            pass  # it has died, or the descriptor is beyond what select takes: its last words are lost, no more
        self._drop_control()

    def _drop_control(self) -> None:
        if self._control is not None:
            if self._poller is not None and not self._poller.closed:
                try:
                    self._poller.unregister(self._control.fileno())
                except (OSError, ValueError):
                    pass  # it was never registered
            with self._telling:
                self._control.close()
                self._control = None

    def _reap(self) -> None:
        """The process ends with its pipe; one that does not is killed."""
        import time

        if not self._pid:
            return
        pid, self._pid = self._pid, 0
        until = time.monotonic() + _CLOSE_S
        try:
            while os.waitpid(pid, os.WNOHANG)[0] == 0:
                if time.monotonic() > until:
                    os.kill(pid, 9)
                    os.waitpid(pid, 0)
                    return
                time.sleep(_EXIT_POLL_S)
        except (ChildProcessError, ProcessLookupError):
            pass  # somebody else reaps our children


_ABOVE = 240
"""Descriptors below the usual limit (256 on macOS) that nothing else uses between spawn and exec."""
