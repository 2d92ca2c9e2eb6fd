"""What the gate's process is told, through its control socket: never argv, never the environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from callgate.sandbox.spec import Destination, Private, Sentinel

MAX_SETTINGS = 8 * 1024 * 1024
"""Bytes of the settings in JSON."""


@dataclass(frozen=True, slots=True)
class Lab:
    """A network that exists only in tests and measurements: names, ports and authorities of their own.

    There is no way to set this but by constructing it in code: no option, variable or file leads here.
    """

    addresses: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Asked instead of the resolver for these names; what it answers is judged like any other address."""
    ports: Mapping[str, int] = field(default_factory=dict)
    """The port really dialled for `host:port`."""
    permitted: tuple[str, ...] = ()
    """Addresses that may be dialled though they are not public."""
    authorities: str = ""
    """PEM: trusted for upstream certificates beside the system's."""
    first_byte_s: float | None = None
    idle_s: float | None = None
    connections: int | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """One server's gate. `listeners` are in the order in which the descriptors came."""

    network: tuple[Destination, ...]
    listeners: tuple[str, ...]
    names: Mapping[str, str]
    """Stand-in address in the sandbox → the name it stands for."""
    token: str = field(default="", repr=False)
    """Proxy credentials that must be shown; empty: none, the listeners are nobody else's."""
    sentinels: tuple[Sentinel, ...] = field(default=(), repr=False)
    authority: str = ""
    """The session CA's certificate, PEM."""
    authority_key: str = field(default="", repr=False)
    """The session CA's private key, PEM."""
    private: Private = Private()  # noqa: RUF009  it cannot be changed
    proxy: Destination | None = None
    trust: str = ""
    """The file with the system's CA certificates."""
    lab: Lab | None = None


def encode_sentinels(sentinels: Sequence[Sentinel]) -> list[dict[str, object]]:
    """For JSON: bytes as latin-1 text."""
    return [
        {
            "name": one.name,
            "placeholder": one.placeholder,
            "value": one.value.decode("latin-1"),
            "hosts": list(one.hosts),
        }
        for one in sentinels
    ]


def encode(settings: Settings) -> bytes:
    """One line of JSON."""
    import orjson

    lab = settings.lab
    return (
        orjson.dumps(
            {
                "network": [[one.host, one.port] for one in settings.network],
                "listeners": settings.listeners,
                "names": dict(settings.names),
                "token": settings.token,
                "sentinels": encode_sentinels(settings.sentinels),
                "authority": settings.authority,
                "authority_key": settings.authority_key,
                "private": [settings.private.networks, [[one.host, one.port] for one in settings.private.hosts]],
                "proxy": settings.proxy and [settings.proxy.host, settings.proxy.port],
                "trust": settings.trust,
                "lab": lab
                and {
                    "addresses": {name: list(found) for name, found in lab.addresses.items()},
                    "ports": dict(lab.ports),
                    "permitted": lab.permitted,
                    "authorities": lab.authorities,
                    "first_byte_s": lab.first_byte_s,
                    "idle_s": lab.idle_s,
                    "connections": lab.connections,
                },
            }
        )
        + b"\n"
    )


def decode_sentinels(found: Sequence[Mapping[str, object]]) -> tuple[Sentinel, ...]:
    """The other way round."""
    return tuple(
        Sentinel(
            str(one["name"]),
            str(one["placeholder"]),
            str(one["value"]).encode("latin-1"),
            tuple(str(host) for host in one["hosts"]),  # type: ignore[attr-defined] # written by encode_sentinels
        )
        for one in found
    )


def decode(line: bytes) -> Settings:
    """What `encode` wrote. The writer is callgate itself: a malformed line is a bug and raises."""
    import jiter

    found = jiter.from_json(line)
    lab = found["lab"]
    networks, hosts = found["private"]
    return Settings(
        network=tuple(Destination(host, port) for host, port in found["network"]),
        listeners=tuple(found["listeners"]),
        names=found["names"],
        token=found["token"],
        sentinels=decode_sentinels(found["sentinels"]),
        authority=found["authority"],
        authority_key=found["authority_key"],
        private=Private(tuple(networks), tuple(Destination(host, port) for host, port in hosts)),
        proxy=Destination(*found["proxy"]) if found["proxy"] else None,
        trust=found["trust"],
        lab=Lab(**{**lab, "permitted": tuple(lab["permitted"])}) if lab else None,
    )
