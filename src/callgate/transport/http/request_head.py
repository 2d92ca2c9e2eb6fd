"""What the header of a request says, sorted once: for the gate itself, and for the route."""

from __future__ import annotations

from callgate.transport.http.exchange import Headers
from callgate.transport.http.fields import HOP_BY_HOP, NOT_FORWARDED, PROXY

_ORDINARY = frozenset((b"host", b"content-length", b"accept-encoding", b"connection"))
_UNUSUAL = (NOT_FORWARDED | HOP_BY_HOP | PROXY | {b"content-encoding"}) - _ORDINARY


class RequestHead:
    """The fields the gate judges, and `kept`: the fields a route may see, in the order they came.

    `ordinary`: nothing repeated, nothing unusual. `repeated` names a field of HTTP that came twice where only one
    makes sense, `ambiguous` one of MCP that did: whichever a route took, a server may take the other. `length` is the
    Content-Length (llhttp has checked that it is one decimal number), 0 when absent.
    """

    # Values of the class, not set for each request: most requests have none of these.
    authorization: bytes | None = None
    connection: bytes | None = None
    encoding: bytes | None = None
    expect: bytes | None = None
    origin: bytes | None = None
    ordinary = False
    repeated = ""
    ambiguous = ""
    length = 0

    def __init__(self, method: bytes, sent: Headers) -> None:
        self.method = method
        found = dict(sent)
        connection = found.get(b"connection")
        if (
            len(found) != len(sent)
            or not found.keys().isdisjoint(_UNUSUAL)
            or (connection is not None and connection.lower() not in (b"keep-alive", b"close"))
        ):
            self._sort(sent)
            return
        self.host = found.pop(b"host", None)
        length = found.pop(b"content-length", None)
        if length is not None:
            self.length = int(length)
        found.pop(b"accept-encoding", None)
        if connection is not None:
            self.connection = found.pop(b"connection")
        self.content_type = found.get(b"content-type")
        self.kept: Headers = list(found.items())
        self.ordinary = True

    def _sort(self, sent: Headers) -> None:
        """The same field by field, for a header with repeated or unusual fields."""
        single: dict[bytes, bytes] = {}
        seen: set[bytes] = set()
        connection: list[bytes] = []
        self.kept = []
        for name, value in sent:
            if name == b"connection":
                connection.append(value)
            elif name in _JUDGED:
                if name in single:
                    self.repeated = name.decode()
                single[name] = value
            elif name in _OF_MCP:
                if name in seen:
                    self.ambiguous = _OF_MCP[name]
                seen.add(name)
            if name not in NOT_FORWARDED and name not in PROXY:
                self.kept.append((name, value))
        self.host = single.get(b"host")
        self.origin = single.get(b"origin")
        self.authorization = single.get(b"authorization")
        self.content_type = single.get(b"content-type")
        self.encoding = single.get(b"content-encoding")
        self.expect = single.get(b"expect")
        self.length = int(single.get(b"content-length", b"0"))
        if connection:
            self.connection = b",".join(connection)
            self._drop_named(self.connection)

    def _drop_named(self, value: bytes) -> None:
        """Remove what `Connection` declares to be for this hop only (RFC 9110 section 7.6.1)."""
        names = {token.strip().lower() for token in value.split(b",")}
        # A client must not be able to take away what is checked against the body.
        names = {name for name in names if not name.startswith(b"mcp-") and name != b"content-type"}
        self.kept = [field for field in self.kept if field[0] not in names]


_JUDGED = frozenset(
    (b"host", b"origin", b"authorization", b"content-encoding", b"content-type", b"expect", b"content-length")
)
_OF_MCP = {
    b"last-event-id": "Last-Event-ID",
    b"mcp-method": "Mcp-Method",
    b"mcp-name": "Mcp-Name",
    b"mcp-protocol-version": "MCP-Protocol-Version",
    b"mcp-session-id": "Mcp-Session-Id",
}
"""What routes and servers go by. `Mcp-Param-*` are checked against the body, which says what they mirror."""


def without_upgrade(method: bytes, target: bytes, version: bytes, sent: Headers) -> bytes:
    """The bytes of a head that was read, without the wish for another protocol."""
    lines = [b"%b %b HTTP/%b" % (method, target, version)]
    for name, value in sent:
        kept = _without_token(value, b"upgrade") if name == b"connection" else value
        if name != b"upgrade" and (kept or name != b"connection"):
            lines.append(name + b": " + kept)
    return b"\r\n".join(lines) + b"\r\n\r\n"


def _without_token(value: bytes, token: bytes) -> bytes:
    parts = [part.strip() for part in value.split(b",")]
    return b", ".join(part for part in parts if part and part.lower() != token)
