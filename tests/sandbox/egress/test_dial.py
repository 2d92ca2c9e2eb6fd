"""One look-up, judged, and dialled as it was judged."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest

from callgate.sandbox.egress import dial
from callgate.sandbox.egress.dial import Dialler, Unreachable
from callgate.sandbox.egress.settings import Lab


class Rebinding:
    """A resolver that answers with a public address first and with a private one ever after."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked = 0

    def __call__(self, name: str) -> list[str]:
        self.asked += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


async def test_rebinding_finds_no_second_look_up(monkeypatch):
    resolver = Rebinding(["8.8.8.8"], ["127.0.0.1"])
    dialled = []

    async def connect(_self, found, port):
        dialled.append((found, port))
        return socket.socket()

    monkeypatch.setattr(Dialler, "_open", connect)
    dialler = Dialler(frozenset(), resolve=resolver)
    (await dialler.connect("rebind.test", 443)).close()
    assert dialled == [("8.8.8.8", 443)]
    assert resolver.asked == 1
    with pytest.raises(Unreachable, match="loopback") as caught:
        await dialler.connect("rebind.test", 443)
    assert caught.value.refused
    assert dialled == [("8.8.8.8", 443)]


@pytest.mark.parametrize(
    "found", ["127.0.0.1", "169.254.169.254", "10.1.2.3", "::1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe"]
)
async def test_a_listed_name_that_leads_inside_is_refused(found):
    with pytest.raises(Unreachable, match="not public") as caught:
        await Dialler(frozenset(), resolve=lambda _: [found]).connect("inside.test", 80)
    assert caught.value.refused


async def test_of_several_addresses_only_public_ones_are_tried(monkeypatch):
    dialled = []

    async def fail(_self, found, port):
        dialled.append(found)
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(Dialler, "_open", fail)
    answers = ["10.0.0.1", "8.8.8.8", "127.0.0.1", "1.1.1.1"]
    with pytest.raises(Unreachable, match="Connection refused") as caught:
        await Dialler(frozenset(), resolve=lambda _: answers).connect("mixed.test", 80)
    assert dialled == ["8.8.8.8", "1.1.1.1"]
    assert not caught.value.refused


async def test_an_address_of_this_machine_is_refused(monkeypatch):
    monkeypatch.setattr("callgate.sandbox.egress.addresses.is_own", lambda text: text == "8.8.8.8")
    with pytest.raises(Unreachable, match="this machine"):
        await Dialler(frozenset(), resolve=lambda _: ["8.8.8.8"]).connect("me.test", 80)


async def test_a_resolver_that_hangs_is_given_up(monkeypatch):
    monkeypatch.setattr(dial, "RESOLVE_S", 0.05)
    release = threading.Event()

    def hang(_name):
        release.wait(60)
        return ["8.8.8.8"]

    with pytest.raises(Unreachable, match="in time"):
        await Dialler(frozenset(), resolve=hang).connect("slow.test", 80)
    release.set()


async def test_a_name_that_does_not_exist():
    def unknown(_name):
        raise socket.gaierror(-2, "Name or service not known")

    with pytest.raises(Unreachable, match="resolved"):
        await Dialler(frozenset(), resolve=unknown).connect("nowhere.test", 80)


async def test_loopback_needs_the_lab():
    server = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        lab = Lab(addresses={"a.test": ["127.0.0.1"]}, ports={"a.test:443": port}, permitted=("127.0.0.1",))
        (await Dialler(frozenset(), lab).connect("a.test", 443)).close()
        strict = Lab(addresses={"a.test": ["127.0.0.1"]}, ports={"a.test:443": port})
        with pytest.raises(Unreachable, match="loopback"):
            await Dialler(frozenset(), strict).connect("a.test", 443)


async def test_the_systems_resolver_is_asked_for_valid_names_only_once():
    assert "127.0.0.1" in dial.system_resolver("localhost")
    with pytest.raises(Unreachable, match="loopback"):
        await Dialler(frozenset()).connect("localhost", 80)
