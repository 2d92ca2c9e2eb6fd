"""The life of a gate: prepared, attached, started by a connection, ended with whoever started it."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time

import pytest

from callgate.errors import SandboxError
from callgate.sandbox.egress.gate import CA_PATH, CA_VARIABLES, EgressGate
from callgate.sandbox.egress.settings import Lab, Settings, decode, encode
from callgate.sandbox.egress.told import event_of
from callgate.sandbox.spec import Destination, Sentinel
from tests.support.egress import LOOPBACK, World, spec

TOKEN = Sentinel("TOKEN", "ghp_SENTINEL0000", b"ghp_the-real-token", ("api.test",))


@pytest.fixture
def world():
    one = World()
    yield one
    one.close()


@pytest.fixture
def gates():
    made: list[EgressGate] = []

    def make(*arguments, **options) -> EgressGate:
        made.append(EgressGate.prepare(*arguments, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def events(gate: EgressGate, kind: str, timeout_s: float = 60.0) -> dict:
    """Wait for the first event of `kind`."""
    until = time.monotonic() + timeout_s
    seen = []
    while time.monotonic() < until:
        if select.select([gate.events_fd], [], [], 0.5)[0]:
            seen += gate.read_events()
            found = [event for event in seen if event["kind"] == kind]
            if found:
                return found[0]
    raise AssertionError(seen)


def gone(pid: int, timeout_s: float = 60.0) -> bool:
    """Whether the process ends in time (a zombie has ended)."""
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                if file.read().rpartition(b")")[2].split()[0] == b"Z":
                    return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.01)
    return False


def ask(gate: EgressGate, port: int, request: bytes) -> bytes:
    """A request through the loopback listener, while the gate's events are read."""
    with socket.create_connection((LOOPBACK, port), 60) as one:
        one.sendall(request)
        answer = b""
        until = time.monotonic() + 60
        while time.monotonic() < until:
            ready = select.select([one, gate.events_fd], [], [], 0.5)[0]
            if gate.events_fd in ready:
                gate.read_events()
            if one in ready:
                data = one.recv(65536)
                answer += data
                if not data:
                    return answer
    raise AssertionError(answer)


def credentials(gate: EgressGate) -> bytes:
    import base64

    user = gate.environment["HTTP_PROXY"].partition("//")[2].rpartition("@")[0]
    return b"Proxy-Authorization: Basic " + base64.b64encode(user.encode()) + b"\r\n"


def test_what_is_prepared(gates):
    gate = gates(spec([("b.test", 443), ("a.test", 80), ("*.wild.test", 443), ("203.0.113.5", 443)]))
    assert gate.hosts_file == (b"127.0.0.1 localhost\n::1 localhost\n127.77.0.1 a.test\n127.77.0.2 b.test\n")
    assert gate.ca_files == {}
    found = gate.environment
    assert found["HTTPS_PROXY"] == found["http_proxy"] == "http://127.0.0.1:3128"
    assert not set(CA_VARIABLES) & set(found)


def test_with_sentinels_there_is_a_bundle(gates):
    gate = gates(spec([("api.test", 443)], [TOKEN]))
    content = gate.ca_files[CA_PATH]
    assert content.count(b"BEGIN CERTIFICATE") > 20
    assert all(gate.environment[name] == CA_PATH for name in CA_VARIABLES)
    own = gates(spec([("api.test", 443)], [TOKEN]), ca_path="/somewhere/ca.pem")
    assert list(own.ca_files) == ["/somewhere/ca.pem"]
    assert own.ca_files["/somewhere/ca.pem"] != content, "each session has its own authority"
    for one in (gate, own):
        assert TOKEN.value not in b"".join(one.ca_files.values()) + repr(one.environment).encode() + one.hosts_file


def test_the_proxy_leaves_listed_ports_alone(gates):
    assert gates(spec([("a.test", 3128), ("b.test", 3129)])).environment["HTTP_PROXY"] == "http://127.0.0.1:3130"


@pytest.mark.parametrize(
    "bad",
    [
        Sentinel("S", "short", b"v", ("a.test",)),
        Sentinel("S", "with space in", b"v", ("a.test",)),
        Sentinel("S", "not-äscii-at-all", b"v", ("a.test",)),
        Sentinel("S", "placeholder", b"", ("a.test",)),
        Sentinel("S", "placeholder", b"v", ("*",)),
        Sentinel("S", "placeholder", b"v", ("a.test\0.b.test",)),
    ],
)
def test_sentinels_that_cannot_be_kept(bad):
    with pytest.raises(SandboxError):
        EgressGate.prepare(spec([("a.test", 443)], [bad]))


@pytest.mark.parametrize("host", ["a_b.test", "localhost", "db.localhost", "*.localhost", "127.1"])
def test_a_network_list_that_cannot_be_kept(host):
    with pytest.raises(SandboxError):
        EgressGate.prepare(spec([(host, 443)]))


def test_without_a_lab_nothing_leads_to_loopback(gates):
    """The real resolver and the real rules, for a name that leads here."""
    gate = gates(spec([("*", 80), ("127.0.0.1", 80), ("169.254.169.254", 80)]))
    port, _ = gate.listen_loopback()
    for host, why in (("localhost", b"loopback"), ("127.0.0.1", b"loopback"), ("169.254.169.254", b"metadata")):
        line = f"GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n".encode()
        answer = ask(gate, port, line + credentials(gate) + b"\r\n")
        assert answer.startswith(b"HTTP/1.1 403 Forbidden")
        assert b"not public" in answer
        assert why in answer


@pytest.mark.parametrize(
    "line", [b"garbage", b"[]", b"{}", b'{"kind":1}', b'{"kind":"x","y":"' + b"z" * 20000 + b'"}', b"\xff"]
)
def test_what_is_no_event_is_told_as_that(line):
    assert event_of(line) == {
        "kind": "egress-gate",
        "outcome": "failed",
        "reason": "an event could not be read",
    }


def test_an_event_is_kept_small_and_visible():
    line = json.dumps(
        {"kind": "egress", "host": "\x1b[2J" + "h" * 1000, "deep": {"a": 1}, "secrets": ["s"] * 99}
    ).encode()
    event = event_of(line)
    assert event["host"].startswith("\\x1b")
    assert len(event["host"]) < 400
    assert "deep" not in event
    assert len(event["secrets"]) == 32


def test_settings_survive_the_crossing():
    settings = Settings(
        network=(Destination("a.test", 443), Destination("*", 80)),
        listeners=("proxy", "transparent"),
        names={"127.77.0.1": "a.test"},
        token="t",
        sentinels=(Sentinel("N", "placeholder", bytes(range(256)), ("a.test", "*.b.test")),),
        authority="A",
        authority_key="K",
        trust="/x",
        lab=Lab({"a.test": ["127.0.0.1"]}, {"a.test:443": 1}, ("127.0.0.1",), "PEM", 1.0, 2.0, 3),
    )
    assert decode(encode(settings).rstrip(b"\n")) == settings
    assert TOKEN.value.decode() not in repr(Settings((), (), {}, sentinels=(TOKEN,), authority_key="K"))


def test_no_connection_no_process(gates):
    gate = gates(spec([("a.test", 443)]))
    gate.listen_loopback()
    assert gate.read_events() == []
    assert gate._pid == 0


def test_the_first_connection_starts_it_and_close_ends_it(gates, world):
    host = world.add("a.test", 80, tls=False)
    gate = gates(spec([("a.test", 80)]), lab=world.lab())
    port, token = gate.listen_loopback()
    request = b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n"
    assert ask(gate, port, request + b"\r\n").startswith(b"HTTP/1.1 407")
    assert not host.seen
    assert ask(gate, port, request + credentials(gate) + b"\r\n").startswith(b"HTTP/1.1 200")
    assert len(host.seen) == 1
    assert token in gate.environment["HTTPS_PROXY"]
    with open(f"/proc/{gate._pid}/cmdline", "rb") as file:
        assert token.encode() not in file.read()
    pid = gate._pid
    gate.close()
    gate.close()
    assert gone(pid)
    with pytest.raises(OSError):
        socket.create_connection((LOOPBACK, port), 60)


def test_what_an_open_connection_did_is_told_at_the_end(gates, world):
    world.add("a.test", 80, tls=False)
    gate = gates(spec([("a.test", 80)]), lab=world.lab())
    port, _ = gate.listen_loopback()
    with socket.create_connection((LOOPBACK, port), 60) as one:
        one.sendall(b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n" + credentials(gate) + b"\r\n")
        assert events(gate, "egress-gate")["outcome"] == "started"
        assert b"200" in one.recv(100)
        gate.close()
    (last,) = [event for event in gate.read_events() if event["kind"] == "egress"]
    assert (last["host"], last["outcome"]) == ("a.test", "allowed")


def test_when_the_process_dies_there_is_no_way_out(gates, world):
    host = world.add("a.test", 80, tls=False)
    gate = gates(spec([("a.test", 80)]), lab=world.lab())
    port, _ = gate.listen_loopback()
    ask(gate, port, b"GET / HTTP/1.1\r\n\r\n")
    os.kill(gate._pid, signal.SIGKILL)
    ended = events(gate, "egress-gate")
    assert (ended["outcome"], ended["reason"]) == ("ended", "its process died")
    with pytest.raises(OSError):
        socket.create_connection((LOOPBACK, port), 60)
    assert not select.select([gate.events_fd], [], [], 0.2)[0]
    assert gate.read_events() == []
    gate.replace_secrets([])
    assert not host.seen


def test_secrets_are_renewed_in_a_running_gate(gates, world):
    host = world.add("api.test")
    gate = gates(spec([("api.test", 443)], [TOKEN]), lab=world.lab())
    port, _ = gate.listen_loopback()
    import ssl

    context = ssl.create_default_context(cadata=gate.ca_files[CA_PATH].decode())

    def call() -> None:
        with socket.create_connection((LOOPBACK, port), 60) as raw:
            raw.sendall(b"CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\n" + credentials(gate) + b"\r\n")
            until = time.monotonic() + 60
            while not select.select([raw], [], [], 0.02)[0]:
                gate.read_events()
                assert time.monotonic() < until
            assert b" 200 " in raw.recv(200)
            with context.wrap_socket(raw, server_hostname="api.test") as one:
                one.sendall(b"GET / HTTP/1.1\r\nHost: api.test\r\nX-K: ghp_SENTINEL0000\r\nConnection: close\r\n\r\n")
                while one.recv(65536):
                    pass

    call()
    gate.replace_secrets([Sentinel("TOKEN", TOKEN.placeholder, b"second-value", TOKEN.hosts)])
    until = time.monotonic() + 60
    while len(host.seen) < 2 or host.seen[-1]["headers"]["X-K"] != "second-value":
        call()
        assert time.monotonic() < until
    assert host.seen[0]["headers"]["X-K"] == "ghp_the-real-token"
    with pytest.raises(SandboxError, match="did not have"):
        gate.replace_secrets([Sentinel("TOKEN", TOKEN.placeholder, b"x", ("evil.test",))])


def test_a_renewal_waits_while_the_process_is_started(gates, world, monkeypatch):
    """It comes from another thread; told before the settings, it would end the process or be lost."""
    import threading

    host = world.add("api.test")
    gate = gates(spec([("api.test", 443)], [TOKEN]), lab=world.lab())
    port, _ = gate.listen_loopback()
    renewed = [Sentinel("TOKEN", TOKEN.placeholder, b"second-value", TOKEN.hosts)]
    thread = threading.Thread(target=gate.replace_secrets, args=(renewed,))
    spawn = os.posix_spawn
    waited = []

    def slow(*args, **named):
        thread.start()
        thread.join(0.3)
        waited.append(thread.is_alive())
        return spawn(*args, **named)

    monkeypatch.setattr(os, "posix_spawn", slow)
    with socket.create_connection((LOOPBACK, port), 60):
        select.select([gate.events_fd], [], [], 60)
        assert gate.read_events()[0]["outcome"] == "started"
    thread.join(60)
    assert waited == [True] and not thread.is_alive()
    assert not host.seen


PARENT = """
import select, socket, sys
from callgate.sandbox.egress.gate import EgressGate
from callgate.sandbox.spec import Destination, SandboxSpec
gate = EgressGate.prepare(SandboxSpec(name="x", network=(Destination("a.test"),)))
port, _ = gate.listen_loopback()
one = socket.create_connection(("127.0.0.1", port))
select.select([gate.events_fd], [], [])
pid = gate.read_events()[0]["pid"]
one.sendall(b"GET / HTTP/1.1\\r\\n\\r\\n")
one.recv(10)
print(pid, port, flush=True)
sys.stdin.read()
"""


def test_nothing_outlives_a_killed_callgate():
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    pid, port = map(int, parent.stdout.readline().split())
    assert not gone(pid, 0.0)
    parent.kill()
    parent.wait()
    parent.stdin.close()
    parent.stdout.close()
    assert gone(pid)
    with pytest.raises(OSError):
        socket.create_connection((LOOPBACK, port), 60)


def test_a_busy_loop_does_not_keep_it_alive(gates, world):
    """SIGSTOP stands for a loop that never comes round: the kernel still ends it when it may run again."""
    world.add("a.test", 80, tls=False)
    gate = gates(spec([("a.test", 80)]), lab=world.lab())
    port, _ = gate.listen_loopback()
    ask(gate, port, b"GET / HTTP/1.1\r\n\r\n")
    pid = gate._pid
    os.kill(pid, signal.SIGSTOP)
    gate.close()
    assert gone(pid)


def test_it_gives_away_what_it_does_not_need(gates):
    gate = gates(spec([("a.test", 443)]))
    port, _ = gate.listen_loopback()
    ask(gate, port, b"GET / HTTP/1.1\r\n\r\n")
    with open(f"/proc/{gate._pid}/status") as file:
        status = dict(line.split(":\t", 1) for line in file.read().splitlines() if ":\t" in line)
    assert status["NoNewPrivs"] == "1"
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
    with open(f"/proc/{gate._pid}/cmdline", "rb") as file:
        assert file.read().split(b"\0")[1:-1] == [b"-I", b"-m", b"callgate.sandbox.egress.process"]
    if os.geteuid() == 0:
        with open(f"/proc/{gate._pid}/environ", "rb") as file:
            assert set(file.read().split(b"\0")) <= {b"LANG=C.UTF-8", b"LC_CTYPE=C.UTF-8", b""}
        assert os.readlink(f"/proc/{gate._pid}/cwd") == "/"
    else:  # its memory holds the secrets: others of the same user cannot look
        for name in ("environ", "mem", "maps"):
            with pytest.raises(PermissionError), open(f"/proc/{gate._pid}/{name}", "rb"):
                pass


def test_the_launch_path_imports_next_to_nothing():
    code = (
        "import sys; before = set(sys.modules); import callgate.sandbox.egress.gate; "
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    heavy = {
        "socket",
        "asyncio",
        "ssl",
        "json",
        "orjson",
        "ipaddress",
        "cryptography",
        "h11",
        "re",
        "subprocess",
        "dataclasses",
    }
    assert not heavy & set(done.stdout.split())
