"""What a server's specification asks of its gate, checked before anything is opened."""

from __future__ import annotations

from collections.abc import Sequence

from callgate.errors import SandboxError
from callgate.sandbox.egress.names import NameRefused, Rules, address, host_name, stand_in_addresses
from callgate.sandbox.spec import Destination, Sentinel

SHORTEST_PLACEHOLDER = 8


def stand_ins(network: Sequence[Destination]) -> dict[str, str]:
    """Each name of the list → its loopback address in the sandbox. Raises SandboxError for one that cannot be kept."""
    try:
        rules = Rules.of(network)
    except NameRefused as error:
        raise SandboxError(
            f"the network list of the server cannot be kept: {error}", next_step="write host, host:port or *.domain"
        ) from error
    if any(host == "localhost" or host.endswith(".localhost") for host, _port in (*rules.exact, *rules.below)):
        raise SandboxError(
            "localhost is the sandbox itself: services of this machine cannot be reached from it",
            next_step="remove it from the server's network list",
        )
    return dict(stand_in_addresses(host for host, _port in rules.exact if address(host) is None))


def check_sentinels(sentinels: Sequence[Sentinel]) -> None:
    """Raises SandboxError for a stand-in that could be found by chance, or a secret without hosts of its own."""
    for one in sentinels:
        name = f"the secret {one.name!r}"
        text = one.placeholder
        if len(text) < SHORTEST_PLACEHOLDER or not (text.isascii() and text.isprintable() and " " not in text):
            raise SandboxError(f"{name} has a stand-in that is not {SHORTEST_PLACEHOLDER} visible ASCII characters")
        if not one.value:
            raise SandboxError(f"{name} is empty", next_step="store a value, or remove the reference")
        try:
            for host in one.hosts:
                host_name(host.removeprefix("*."))
        except NameRefused as error:
            raise SandboxError(
                f"{name} is bound to a host that cannot be kept: {error}", next_step="name hosts as host or *.domain"
            ) from error
