"""Host names and what a server may reach, decided before anything is resolved or matched.

A name is taken only as letters, digits and hyphens (RFC 1123), lower-cased, with IDNA as `xn--`: no NUL, no
trailing dot, no underscore, no percent sign, nothing that another reader could cut or fold into another name.
A last label that is a number is refused as a name (WHATWG URL: such a host is an IPv4 address in disguise).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from callgate.sandbox.spec import Destination

MAX_NAME = 253
MAX_LABEL = 63
_LABEL = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")
_DIGITS = frozenset("0123456789")
_HEX = frozenset("0123456789abcdef")


class NameRefused(ValueError):
    """What is wrong with a host or port, in words that hold nothing of it."""


def host_name(text: str) -> str:
    """`text` as a lower-case DNS name. Raises NameRefused."""
    if not text or len(text) > MAX_NAME:
        raise NameRefused("the name is empty or longer than 253 characters")
    if not text.isascii():
        raise NameRefused("the name is not ASCII: write international names as xn--")
    name = text.lower()
    labels = name.split(".")
    for label in labels:
        if not label or len(label) > MAX_LABEL:
            raise NameRefused("the name has an empty label or one longer than 63 characters")
        if not _LABEL.issuperset(label) or label[0] == "-" or label[-1] == "-":
            raise NameRefused("the name is not letters, digits and hyphens")
    last = labels[-1]
    if _DIGITS.issuperset(last) or (last.startswith("0x") and _HEX.issuperset(last[2:])):
        raise NameRefused("the name ends in a number, as only an address does")
    return name


def address(text: str) -> str | None:
    """`text` as an IP address in its one usual spelling, or None. IPv6 with or without brackets, never scoped."""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if len(bare) > 45 or "%" in bare or not bare.isascii() or not (":" in bare or bare[-1:] in _DIGITS):
        return None
    import ipaddress  # on the path of a launch only where an address is listed

    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        return None


def host(text: str) -> str:
    """A name or an address, in one spelling. Raises NameRefused."""
    return address(text) or host_name(text)


def port_number(text: str) -> int:
    """1 to 65535 in decimal digits. Raises NameRefused."""
    if not text or len(text) > 5 or not _DIGITS.issuperset(text) or not 0 < int(text) < 65536:
        raise NameRefused("the port is not a number from 1 to 65535")
    return int(text)


def authority(text: str, default_port: int | None = None) -> tuple[str, int]:
    """`host`, `host:port` or `[v6]:port`. Raises NameRefused; without a port where there is no default, too."""
    if text.startswith("["):
        bare, bracket, rest = text.partition("]")
        bare += bracket
        if not bracket or (rest and not rest.startswith(":")):
            raise NameRefused("the address is not in brackets")
        port = rest[1:] if rest else None
    else:
        bare, colon, after = text.partition(":")
        port = after if colon else None
    if port is None:
        if default_port is None:
            raise NameRefused("there is no port")
        return host(bare), default_port
    return host(bare), port_number(port)


@dataclass(frozen=True, slots=True)
class Rules:
    """The destinations of one server. `explain` gives why not; an empty string means: allowed."""

    exact: frozenset[tuple[str, int]]
    below: frozenset[tuple[str, int]]
    """`*.NAME`: every name below NAME, not NAME itself."""
    everywhere: frozenset[int]
    """Ports that are open to every public host (`*`)."""

    @classmethod
    def of(cls, network: Iterable[Destination]) -> Rules:
        """Raises NameRefused for a destination that is not a name, a wildcard or an address."""
        exact: set[tuple[str, int]] = set()
        below: set[tuple[str, int]] = set()
        everywhere: set[int] = set()
        for one in network:
            port = port_number(str(one.port))
            if one.host == "*":
                everywhere.add(port)
            elif one.host.startswith("*."):
                below.add((host_name(one.host[2:]), port))
            else:
                exact.add((host(one.host), port))
        return cls(frozenset(exact), frozenset(below), frozenset(everywhere))

    def explain(self, host: str, port: int) -> str:
        """Why `host` (already in its one spelling) may not be reached at `port`; empty when it may."""
        if (host, port) in self.exact:
            return ""
        if address(host) is not None:
            return "an address is reached only where it is listed itself"
        if port in self.everywhere or any((parent, port) in self.below for parent in parents(host)):
            return ""
        return "not in the server's network list"

    def is_exact(self, host: str, port: int) -> bool:
        """Whether `host` is listed by its own name."""
        return (host, port) in self.exact

    @property
    def ports(self) -> list[int]:
        """Ports of the destinations listed by name: those a transparent listener can stand for."""
        return sorted({port for _, port in self.exact})


def parents(name: str) -> Iterable[str]:
    """The names above `name`, nearest first."""
    rest = name
    while "." in rest:
        rest = rest.partition(".")[2]
        yield rest


def covers(patterns: Iterable[str], host: str) -> bool:
    """Whether a list of names and `*.NAME` holds `host`; a bare `*` holds nothing (a secret has named hosts)."""
    above: frozenset[str] | None = None
    for pattern in patterns:
        if pattern == host:
            return True
        if pattern.startswith("*."):
            if above is None:
                above = frozenset(parents(host))
            if pattern[2:] in above:
                return True
    return False


def stand_in_addresses(names: Iterable[str]) -> Mapping[str, str]:
    """Each name's loopback address in the sandbox: 127.77.0.1 to 127.77.255.254, in the order of the names."""
    table: dict[str, str] = {}
    for number, name in enumerate(sorted(set(names)), start=1):
        high, low = divmod(number - 1, 254)
        table[name] = f"127.77.{high}.{low + 1}"
    return table
