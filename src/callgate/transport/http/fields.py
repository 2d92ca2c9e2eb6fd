"""Header fields and status lines: what is hop-by-hop, what is private, what is rendered once."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

HOP_BY_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade")
)
"""RFC 9110 section 7.6.1: meant for one connection, never forwarded."""

PRIVATE = frozenset(
    (
        b"authorization",
        b"cookie",
        b"cookie2",
        b"dpop",
        b"forwarded",
        b"via",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-prefix",
        b"x-forwarded-proto",
        b"x-forwarded-server",
        b"x-real-ip",
        b"x-http-method",
        b"x-http-method-override",
        b"x-method-override",
        b"x-original-url",
        b"x-rewrite-url",
    )
)
"""What a client says to the gate, or of itself, that no upstream may see or believe; and what lets some servers take a
request for one of another method or to another path."""

PROXY = frozenset(
    (
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"proxy-features",
        b"proxy-instruction",
        b"proxy-status",
    )
)
"""Between a client and its proxy (the registered names)."""

SHADOW = b"_"
"""In place of a name that some servers, which make CGI variables of names, take for one with a meaning here."""

NOT_FORWARDED = (
    HOP_BY_HOP
    | PRIVATE
    | {SHADOW, b"host", b"content-length", b"expect", b"origin", b"accept-encoding", b"upgrade-insecure-requests"}
)
"""Dropped from a request before a route sees it. `accept-encoding` goes because a compressed answer could
not be inspected; PROXY and what `connection` names go as well."""

ANSWER_DROPPED = HOP_BY_HOP | {
    b"content-length",
    b"date",
    b"server",
    b"via",
    b"alt-svc",
    b"set-cookie",
    b"set-cookie2",
    b"location",
    b"refresh",
    b"strict-transport-security",
    b"clear-site-data",
    b"proxy-authenticate",
    b"proxy-authentication-info",
    b"x-powered-by",
    b"access-control-allow-origin",
    b"access-control-allow-credentials",
    b"x-accel-redirect",
    b"x-accel-charset",
    b"x-sendfile",
    b"x-lighttpd-send-file",
    b"x-lighttpd-send-tempfile",
    b"x-reproxy-url",
}
"""Dropped from an upstream's answer: framing is written anew, and an upstream sets no cookie, redirect,
alternative address, transport or cross-origin policy for the gate's own origin, nor tells a proxy before it to send
another body, or in another charset, than was inspected."""

JSON: tuple[bytes, bytes] = (b"content-type", b"application/json")
TEXT: tuple[bytes, bytes] = (b"content-type", b"text/plain; charset=utf-8")
NO_STORE: tuple[bytes, bytes] = (b"cache-control", b"no-store")

BODYLESS = frozenset((204, 304))
"""Answers that never have a body (RFC 9110 section 6.4.1)."""

_PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}
STATUS_LINES = {status: b"HTTP/1.1 %d %b" % (status, phrase) for status, phrase in _PHRASES.items()}


_LOWER: dict[bytes, bytes] = {}
_KNOWN = (
    *NOT_FORWARDED, *PROXY, b"accept", b"accept-language", b"content-type", b"last-event-id", b"mcp-method",
    b"mcp-name", b"mcp-protocol-version", b"mcp-session-id", b"traceparent", b"tracestate", b"user-agent",
    b"cache-control",
    b"content-encoding", b"date", b"server", b"x-accel-buffering", b"www-authenticate", b"retry-after", b"allow",
)  # fmt: skip
for _name in _KNOWN:
    for _spelling in (_name, _name.title(), _name.replace(b"mcp", b"MCP").title().replace(b"Mcp", b"MCP")):
        _LOWER[_spelling] = _name


lowered: Callable[[bytes], bytes | None] = _LOWER.get
"""The lower case of a name that everybody sends, None for others: one object each, whose hash is known."""


def unknown(name: bytes) -> bytes:
    """A lower-case name that not everybody sends, or SHADOW."""
    if b"_" in name:
        meant = dashed(name)
        if meant in _LOWER or meant.startswith(b"mcp-"):
            return SHADOW
    return name


def dashed(name: bytes) -> bytes:
    """A name as servers know it that make CGI variables of names."""
    return name.replace(b"_", b"-")


def status_line(status: int) -> bytes:
    """The status line of an answer; an unknown status gets an empty phrase, never the upstream's words."""
    return STATUS_LINES.get(status) or b"HTTP/1.1 %d " % status


def media_type(value: bytes) -> bytes:
    """A Content-Type without its parameters, in lower case."""
    return value.partition(b";")[0].strip().lower()


def in_utf8(value: bytes) -> bool:
    """Whether a Content-Type says nothing more of its body than that it is UTF-8."""
    parameters = value.lower().partition(b";")[2].replace(b" ", b"").replace(b'"', b"")
    return parameters in (b"", b"charset=utf-8", b"charset=utf8")
