"""Where a server may connect to, read strictly from text: a name is proved harmless before it is compared.

A host is letters, digits and hyphens in labels (RFC 952, RFC 1123: "LDH"), so nothing that one reader cuts at a
NUL, a slash or an `@` and another does not can pass. Names of other scripts are written in their `xn--` form.
"""

from __future__ import annotations

from callgate.errors import SandboxError
from callgate.sandbox.spec import Destination
from callgate.text import visible

HOST_BYTES = 253
LABEL_BYTES = 63
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")
_NEXT = "write it as host, host:port, *.domain or * ; the port is 443 where none is given"


def valid_host(host: str) -> bool:
    """Whether `host` is a lower-case DNS name and nothing else: no address, no trailing dot, no underscore.

    A name whose last label is a number is refused: readers of the inet_aton kind take it for an address.
    """
    if not host or len(host) > HOST_BYTES:
        return False
    labels = host.split(".")
    for label in labels:
        if not label or len(label) > LABEL_BYTES or not _LETTERS.issuperset(label):
            return False
        if label[0] == "-" or label[-1] == "-":
            return False
    last = labels[-1]
    return not (last.isdigit() or last.startswith("0x"))


def parse_destination(text: str) -> Destination:
    """`host`, `host:port`, `*.domain` or `*`, each with an optional port of 1 to 65535; case does not matter.

    Raises SandboxError. `*.com`, a wildcard over one label, is refused: it is nearly `*`.
    """
    host, colon, digits = text.partition(":")
    port = 443
    if colon:
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 5 and 0 < int(digits) <= 65535):
            raise _error(text, "its port is not a number from 1 to 65535")
        port = int(digits)
    if not host.isascii():
        raise _error(text, "a name of another script must be in its xn-- form")
    host = host.lower()
    if host == "*":
        return Destination(host, port)
    name = host.removeprefix("*.")
    if not valid_host(name):
        raise _error(text, "its host is not a DNS name")
    if host != name and "." not in name:
        raise _error(text, "a wildcard needs a domain of two labels or more")
    return Destination(host, port)


_PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
"""RFC 1918, RFC 6598, RFC 4193."""


def private_network(text: str) -> str:
    """A network such as `10.20.0.0/16`, in the one usual spelling. Raises SandboxError.

    All of it must lie in RFC 1918, RFC 6598 or RFC 4193 space. Other spellings of numbers are refused, not read.
    """
    import ipaddress  # five milliseconds, for those who have such a network

    shown = f"'{visible(text, 80)}' cannot be a private network"
    spelling = "write it as 10.20.0.0/16: the network's address, without bits of a host, and a prefix length"
    try:
        found = ipaddress.ip_network(text)
    except ValueError:
        raise SandboxError(f"{shown}: it is no network", next_step=spelling) from None
    if str(found) != text.lower() or "%" in text:  # a scope is part of no network
        raise SandboxError(f"{shown}: it is not in its usual spelling", next_step=spelling)
    spaces = [space for space in map(ipaddress.ip_network, _PRIVATE) if space.version == found.version]
    if not any(found.subnet_of(space) for space in spaces):  # type: ignore[arg-type]  # of one version
        raise SandboxError(
            f"{shown}: it is not within {', '.join(_PRIVATE)}",
            next_step="name a network of your own; loopback, link-local, metadata and public addresses are not opened",
        )
    return str(found)


def proxy_address(text: str) -> Destination:
    """`http://host:port` of a proxy, whose host is a DNS name or an address. Raises SandboxError."""
    scheme, _, rest = text.partition("://")
    if scheme.lower() != "http" or "@" in rest:
        why = "credentials cannot be given to it" if "@" in rest else "it must begin with http://"
        raise _no_proxy(why)
    host, colon, digits = rest.removesuffix("/").rpartition(":")
    host = host.lower()
    if not colon or not (digits.isascii() and digits.isdigit() and len(digits) <= 5 and 0 < int(digits) <= 65535):
        raise _no_proxy("it has no port from 1 to 65535")
    if not valid_host(host):
        import ipaddress

        try:
            bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
            found = ipaddress.ip_address(bare)
        except ValueError:
            raise _no_proxy("its host is neither a DNS name nor an address") from None
        if str(found) != bare or "%" in bare or (":" in bare) != host.startswith("["):
            raise _no_proxy("its address is not in its usual spelling")
        host = bare
    return Destination(host, int(digits))


def _no_proxy(why: str) -> SandboxError:
    # Not shown: it may hold a password.
    return SandboxError(
        f"egress_proxy cannot be used: {why}", next_step='write it as egress_proxy = "http://proxy.example.com:3128"'
    )


def matches(destination: Destination, host: str, port: int) -> bool:
    """Whether a connection to `host` (already lower case and proved by `valid_host`) and `port` is allowed by it.

    `*.example.org` covers every name below example.org, not example.org itself.
    """
    if destination.port != port or not valid_host(host):
        return False
    if destination.host == "*":
        return True
    if destination.host.startswith("*."):
        return host.endswith(destination.host[1:])
    return host == destination.host


def _error(text: str, why: str) -> SandboxError:
    return SandboxError(f"'{visible(text, 80)}' is not a destination: {why}", next_step=_NEXT)
