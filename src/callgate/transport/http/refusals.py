"""Requests that the gate refuses before there is a message to decide, as evidence.

A wrong Host, Origin or token, a malformed or oversized head or body, an unknown path or session: each is a note
`http-refused` that says why and who asked. Nobody may fill the disk with them: of each reason and route, BURST notes
are written at once and one every REFILL_S; the others are counted, and one note every SUMMARY_S says how many
there were and names some of the peers. Reasons and routes are the gate's own, so their number is bounded.

What is told: status, rule, route, method, peer's address, Host and Origin (made visible), the path where nothing
is served at it, whether credentials were sent; never the credentials themselves, a query or a body.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from callgate.audit.shapes import name_is_plain
from callgate.detect.credentials import judge
from callgate.text import visible
from callgate.transport.http.exchange import Exchange

Note: TypeAlias = Callable[[str, dict[str, object]], object]
"""Where slow events go: `journal.note`."""

KIND: Final = "http-refused"
BURST: Final = 10
REFILL_S: Final = 10.0
SUMMARY_S: Final = 10.0
TOLD: Final[Mapping[bytes, bool]] = {b"host": True, b"origin": True, b"authorization": False}
"""Header fields that are told of a refused request; False: only that it was there."""
_PEERS: Final = 5
_CHARACTERS: Final = 200


class _Bucket:
    """Refusals for one reason on one route."""

    __slots__ = ("at", "counted", "peers", "since", "tokens")

    def __init__(self, now: float) -> None:
        self.tokens = float(BURST)
        self.at = now
        self.counted = 0
        self.since = now
        self.peers: dict[str, None] = {}

    def take(self, now: float) -> bool:
        """Whether one more note may be written."""
        self.tokens = min(float(BURST), self.tokens + (now - self.at) / REFILL_S)
        self.at = now
        if self.tokens < 1.0:
            return False
        self.tokens -= 1.0
        return True


class Refusals:
    """Of one listening side. `now` is any clock in seconds, the same one in all calls."""

    def __init__(self, note: Note) -> None:
        self._note = note
        self._buckets: dict[tuple[int, str, str], _Bucket] = {}

    def add(self, status: int, rule: str, exchange: Exchange, peer: object, now: float) -> None:
        """Put a refused request on record, or count it."""
        key = (status, rule, exchange.route)
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = _Bucket(now)
        if bucket.take(now):
            self._note(KIND, _facts(status, rule, exchange, peer))
            return
        if not bucket.counted:
            bucket.since = now
        bucket.counted += 1
        if len(bucket.peers) < _PEERS and (address := _address(peer)[0]):
            bucket.peers[address] = None

    def summarise(self, now: float) -> None:
        """Put on record what was only counted, where SUMMARY_S are over."""
        for (status, rule, route), bucket in self._buckets.items():
            if bucket.counted and now - bucket.since >= SUMMARY_S:
                fields = {"status": status, "rule": rule, "route": route, "peers": list(bucket.peers)}
                count, bucket.counted = bucket.counted, 0
                bucket.peers = {}
                self._note(KIND, {**fields, "count": count})


def _facts(status: int, rule: str, exchange: Exchange, peer: object) -> dict[str, object]:
    address, port = _address(peer)
    fields: dict[str, Any] = {
        "route": exchange.route,
        "method": exchange.method.decode("latin-1"),
        "path": "" if exchange.route else _shown_path(exchange.path),
        "peer": address,
        "port": port,
        "principal": exchange.principal,
    }
    told = dict(exchange.headers)
    for name in (b"host", b"origin"):
        if name in told:
            fields[name.decode()] = visible(_anonymous(told[name].decode("utf-8", "backslashreplace")), _CHARACTERS)
    if b"authorization" in told:
        fields["authorization"] = "sent"
    return {"status": status, "rule": rule, "count": 1, **{name: value for name, value in fields.items() if value}}


def _address(peer: object) -> tuple[str, int]:
    """Address and port of a TCP peer; nothing for a unix socket."""
    if isinstance(peer, tuple) and len(peer) >= 2:
        return str(peer[0]), int(peer[1])
    return "", 0


def _anonymous(authority: str) -> str:
    """A Host or Origin without the user and password that some programs leave in it."""
    scheme, slashes, rest = authority.rpartition("://")
    _, at, host = rest.rpartition("@")
    return f"{scheme}{slashes}…@{host}" if at else authority


def _shown_path(path: str) -> str:
    """A path at which nothing is served. A part of it that does not look like a name may be a credential."""
    parts = path[: 4 * _CHARACTERS].split("/")
    kept = [part if not part or (name_is_plain(part) and not judge(part, "token")) else "…" for part in parts]
    return "/".join(kept)[:_CHARACTERS]
