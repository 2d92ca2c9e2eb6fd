"""Only public addresses are dialled, in whatever form another one is written."""

from __future__ import annotations

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callgate.sandbox.egress import addresses


@pytest.mark.parametrize(
    "text", ["8.8.8.8", "1.1.1.1", "172.15.255.255", "172.32.0.1", "100.63.0.1", "100.128.0.1", "2606:4700::1"]
)
def test_public_addresses(text):
    assert addresses.refused(text) == ""


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("127.0.0.1", "loopback"),
        ("127.255.255.254", "loopback"),
        ("10.0.0.1", "private"),
        ("172.16.0.1", "private"),
        ("172.31.255.255", "private"),
        ("192.168.1.1", "private"),
        ("169.254.169.254", "link-local or metadata"),
        ("100.64.0.1", "carrier-grade NAT"),
        ("100.100.100.200", "cloud metadata"),
        ("168.63.129.16", "cloud metadata"),
        ("192.0.0.192", "protocol assignments"),
        ("0.0.0.0", "this host"),
        ("224.0.0.1", "multicast"),
        ("255.255.255.255", "reserved or broadcast"),
        ("198.18.0.1", "benchmarking"),
        ("::1", "loopback"),
        ("::", "not a global address"),
        ("::127.0.0.1", "not a global address"),
        ("::ffff:127.0.0.1", "IPv4-mapped"),
        ("::ffff:8.8.8.8", "IPv4-mapped"),
        ("64:ff9b::7f00:1", "NAT64"),
        ("64:ff9b:1::a00:1", "NAT64"),
        ("2002:7f00:1::", "6to4"),
        ("2001:0:53aa::1", "Teredo or protocol assignments"),
        ("fe80::1", "link-local"),
        ("fe80::1%lo", "scoped"),
        ("fd00::1", "private"),
        ("fd00:ec2::254", "cloud metadata"),
        ("fd20:ce::254", "cloud metadata"),
        ("ff02::1", "multicast"),
        ("2001:db8::1", "documentation"),
        ("nonsense", "not an address"),
        ("0x7f.1", "not an address"),
    ],
)
def test_refused_addresses(text, why):
    assert addresses.refused(text) == why


@given(st.ip_addresses())
def test_nothing_passes_that_the_standard_library_calls_not_global(address):
    if addresses.refused(str(address)) == "":
        assert address.is_global or address in ipaddress.ip_network("2000::/3")
        assert not address.is_private
        assert not address.is_multicast


def test_an_address_of_this_machine_is_its_own():
    assert addresses.is_own("127.0.0.1")
    assert not addresses.is_own("192.0.2.1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return  # a machine without a network has no other address
        assert addresses.is_own(probe.getsockname()[0])


def test_names_unlock_nothing_and_listed_private_addresses_do():
    found = ["10.0.0.5", "169.254.169.254", "127.0.0.1", "192.0.2.7"]
    assert addresses.acceptable(found, frozenset()) == ([], "private")
    assert addresses.acceptable(found, frozenset(found))[0] == ["10.0.0.5"]
    assert addresses.acceptable(["8.8.8.8", "10.0.0.5"], frozenset()) == (["8.8.8.8"], "private")
