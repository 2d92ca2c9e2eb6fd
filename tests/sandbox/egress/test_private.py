"""Private networks that the user opened: for the names that were named, and for no other way into them."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence

import pytest

from callgate.errors import SandboxError
from callgate.sandbox.destinations import private_network
from callgate.sandbox.egress import addresses
from callgate.sandbox.egress.dial import Dialler, Unreachable
from callgate.sandbox.egress.report import Visit
from callgate.sandbox.egress.settings import Settings, decode, encode
from callgate.sandbox.spec import Destination, Private

NETWORKS = [ipaddress.ip_network(one) for one in ("10.20.0.0/16", "100.64.0.0/10", "fd00::/8")]
GITLAB = ("gitlab.example.internal", 443)


@pytest.mark.parametrize(
    "text",
    [
        "10.20.0.0/16",
        "10.0.0.0/8",
        "10.20.0.5/32",
        "172.16.0.0/12",
        "192.168.1.0/24",
        "100.64.0.0/10",
        "fd12:3456::/32",
    ],
)
def test_networks_that_may_be_opened(text: str) -> None:
    assert private_network(text) == text


def test_the_case_of_an_address_does_not_matter() -> None:
    assert private_network("FD12::/32") == "fd12::/32"


@pytest.mark.parametrize(
    "text",
    [
        "0.0.0.0/0",
        "::/0",
        "10.0.0.0/7",
        "8.0.0.0/6",
        "172.0.0.0/11",
        "192.168.0.0/15",
        "192.0.0.0/8",
        "100.0.0.0/8",
        "fc00::/6",
        "2000::/3",
        "8.8.8.0/24",
        "127.0.0.0/8",
        "127.0.0.1/32",
        "::1/128",
        "169.254.0.0/16",
        "169.254.169.254/32",
        "168.63.129.16/32",
        "fe80::/10",
        "224.0.0.0/4",
        "ff02::/16",
        "198.18.0.0/15",
        "::ffff:a14:0/112",
        "64:ff9b::a14:0/112",
        "2002:a14::/32",
    ],
)
def test_networks_that_are_too_wide_or_not_private(text: str) -> None:
    with pytest.raises(SandboxError, match="not within"):
        private_network(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10.20.0.0",
        "10.20.0.5",
        "10.20.0.1/16",
        "10.20/16",
        "10.20.0.0/255.255.0.0",
        "10.20.0.0/0.0.255.255",
        "10.20.0.0/016",
        "10.20.0.0/+16",
        "10.20.0.0/33",
        "10.20.0.0/-1",
        "10.20.0.0/",
        "/16",
        "169082880/16",
        "0xa140000/16",
        "0xa.0x14.0.0/16",
        "012.024.0.0/16",
        "010.20.0.0/16",
        " 10.20.0.0/16",
        "10.20.0.0/16\n",
        "10.20.0.0/16,127.0.0.0/8",
        "10.20.0.0/16\0",
        "\uff11\uff10.20.0.0/16",
        "fd00:0:0::/32",
        "fd00::%lo/32",
        "::ffff:10.20.0.0/112",
        "gitlab.example.internal",
        "10.*",
    ],
)
def test_spellings_that_are_not_read(text: str) -> None:
    with pytest.raises(SandboxError):
        private_network(text)


class Resolver:
    """Answers one after the other; the last one for ever."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers = list(answers)

    def __call__(self, name: str) -> Sequence[str]:
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Where connections were opened to, in place of opening them."""
    found: list[tuple[str, int]] = []

    async def connect(_self: Dialler, address: str, port: int) -> socket.socket:
        found.append((address, port))
        return socket.socket()

    monkeypatch.setattr(Dialler, "_open", connect)
    monkeypatch.setattr(addresses, "is_own", lambda text: text == "10.20.0.99")
    return found


def dialler(*answers: Sequence[str]) -> Dialler:
    return Dialler(frozenset(), resolve=Resolver(*answers), private=NETWORKS, inside=frozenset([GITLAB]))


@pytest.mark.parametrize(
    ("address", "network"), [("10.20.0.5", "10.20.0.0/16"), ("100.64.1.1", "100.64.0.0/10"), ("fd12::5", "fd00::/8")]
)
async def test_the_named_host_in_its_network(address: str, network: str, dialled: list[tuple[str, int]]) -> None:
    visit = Visit(*GITLAB)
    (await dialler([address]).connect(*GITLAB, visit)).close()
    assert dialled == [(address, 443)]
    assert visit.event()["network"] == f"private, allowed by {network}"


async def test_a_public_address_of_the_same_name(dialled: list[tuple[str, int]]) -> None:
    visit = Visit(*GITLAB)
    (await dialler(["8.8.8.8"]).connect(*GITLAB, visit)).close()
    assert dialled == [("8.8.8.8", 443)] and "network" not in visit.event()


@pytest.mark.parametrize(
    "address",
    [
        "10.21.0.5",
        "192.168.1.1",
        "127.0.0.1",
        "127.20.0.5",
        "0.0.0.0",
        "169.254.169.254",
        "168.63.129.16",
        "100.100.100.200",
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",
        "fd00:42::42",
        "::1",
        "::",
        "fe80::a9fe:a9fe",
        "fe80::1%lo",
        "::ffff:10.20.0.5",
        "::ffff:a14:5",
        "::ffff:169.254.169.254",
        "64:ff9b::a14:5",
        "64:ff9b:1::a14:5",
        "2002:a14:5::",
        "::10.20.0.5",
        "224.0.0.1",
        "ff02::1",
        "10.20.0.99",
        "169082885",
        "0xa140005",
        "012.024.0.5",
        "10.20.5",
    ],
)
async def test_where_the_named_host_may_not_lead_all_the_same(address: str, dialled: list[tuple[str, int]]) -> None:
    with pytest.raises(Unreachable, match="not public") as caught:
        await dialler([address]).connect(*GITLAB)
    assert caught.value.refused and not dialled


@pytest.mark.parametrize("later", ["169.254.169.254", "127.0.0.1", "::ffff:10.20.0.5", "10.21.0.5"])
async def test_rebinding(later: str, dialled: list[tuple[str, int]]) -> None:
    """Every connection is judged by its own look-up, and nothing is looked up between judging and dialling."""
    one = dialler(["10.20.0.5"], [later])
    (await one.connect(*GITLAB)).close()
    with pytest.raises(Unreachable, match="not public"):
        await one.connect(*GITLAB)
    assert dialled == [("10.20.0.5", 443)]


async def test_of_several_addresses_only_those_that_may_be(dialled: list[tuple[str, int]]) -> None:
    (await dialler(["169.254.169.254", "127.0.0.1", "10.20.0.6", "10.21.0.1"]).connect(*GITLAB)).close()
    assert dialled == [("10.20.0.6", 443)]


@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("gitlab.example.internal", 22),
        ("other.example.internal", 443),
        ("evil.gitlab.example.internal", 443),
        ("example.internal", 443),
        ("10.20.0.5", 443),
        ("fd12::5", 443),
    ],
)
async def test_any_other_name_port_or_address(host: str, port: int, dialled: list[tuple[str, int]]) -> None:
    with pytest.raises(Unreachable, match="not public"):
        await dialler(["10.20.0.5"]).connect(host, port)
    assert not dialled


def test_the_process_is_told() -> None:
    private = Private(("10.20.0.0/16",), (Destination(*GITLAB),))
    assert decode(encode(Settings((), (), {}, private=private))).private == private
    assert decode(encode(Settings((), (), {}))).private == Private()
