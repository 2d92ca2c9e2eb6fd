"""Which addresses a server may reach: public ones, and no form that hides another.

Sources: the IANA special-purpose address registries (RFC 6890 and later), and the addresses under which clouds
serve metadata outside of those ranges.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Sequence
from typing import TypeAlias

_REFUSED_V4 = tuple(
    (ipaddress.IPv4Network(network), why)
    for network, why in (
        ("0.0.0.0/8", "this host"),
        ("10.0.0.0/8", "private"),
        ("100.100.100.200/32", "cloud metadata"),
        ("100.64.0.0/10", "carrier-grade NAT"),
        ("127.0.0.0/8", "loopback"),
        ("168.63.129.16/32", "cloud metadata"),
        ("169.254.0.0/16", "link-local or metadata"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "protocol assignments"),
        ("192.0.2.0/24", "documentation"),
        ("192.88.99.0/24", "6to4 relay"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "benchmarking"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved or broadcast"),
    )
)
_GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")
_REFUSED_V6 = tuple(
    (ipaddress.IPv6Network(network), why)
    for network, why in (
        ("::1/128", "loopback"),
        ("::ffff:0:0/96", "IPv4-mapped"),
        ("64:ff9b::/96", "NAT64"),
        ("64:ff9b:1::/48", "NAT64"),
        ("fe80::/10", "link-local"),
        ("fd00:42::42/128", "cloud metadata"),
        ("fd00:ec2::/32", "cloud metadata"),
        ("fd20:ce::254/128", "cloud metadata"),
        ("fc00::/7", "private"),
        ("ff00::/8", "multicast"),
        ("2001::/23", "Teredo or protocol assignments"),
        ("2001:db8::/32", "documentation"),
        ("2002::/16", "6to4"),
        ("3fff::/20", "documentation"),
    )
)
UNLOCKABLE = frozenset({"private", "carrier-grade NAT"})
"""What an address listed by itself opens, and a private network for the names it was opened for; a name never does."""

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


def refused(text: str) -> str:
    """Why the address `text` is not public; empty when it is. What is no address is refused as that."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return "not an address"
    if isinstance(address, ipaddress.IPv4Address):
        return next((why for network, why in _REFUSED_V4 if address in network), "")
    if address.scope_id is not None:
        return "scoped"
    why = next((why for network, why in _REFUSED_V6 if address in network), "")
    if why or address in _GLOBAL_V6:
        return why
    return "not a global address"


def is_own(text: str) -> bool:
    """Whether this machine itself has the address: the kernel then talks to it from that very address.

    Nothing is sent: a datagram socket is connected and asked for its own side.
    """
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((text, 9))
            return bool(probe.getsockname()[0] == text)
    except OSError:
        return False  # no route there: nobody can be reached


def within(text: str, networks: Iterable[Network]) -> str:
    """The first of the networks that holds the address; empty: none."""
    address = ipaddress.ip_address(text)
    return next((str(one) for one in networks if address in one), "")


def acceptable(found: Iterable[str], listed: frozenset[str], private: Sequence[Network] = ()) -> tuple[list[str], str]:
    """Those of the addresses `found` that may be dialled, in their order, and why the first other one may not.

    `listed`: addresses that stand in the server's network list themselves. `private`: networks that are open for what
    is looked for; nothing but private addresses is open in them, whatever they hold.
    """
    good: list[str] = []
    first = ""
    for text in found:
        why = refused(text)
        if why in UNLOCKABLE and (text in listed or within(text, private)):
            why = ""
        if not why and is_own(text):
            why = "an address of this machine"
        if not why:
            good.append(text)
        elif not first:
            first = why
    return good, first
