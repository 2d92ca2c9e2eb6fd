"""Judging one HTTP request: where it goes, whether that is what was meant, and what is left out on the way."""

from __future__ import annotations

import base64
import binascii
import hmac
from dataclasses import dataclass

import h11

from callgate.sandbox.egress.names import NameRefused, authority
from callgate.sandbox.egress.swap import Exchange

Headers = list[tuple[bytes, bytes]]
HEAD_BYTES = 64 * 1024
"""Bytes of a request's or response's line and fields."""
MAX_FIELDS = 256
_NOT_FORWARDED = frozenset({b"proxy-authorization", b"proxy-connection", b"http2-settings", b"expect"})
_CONNECTION = frozenset({b"close", b"keep-alive"})
"""Options of Connection that are passed on; any other could make the host drop a field."""
_DEFAULT_PORT = {"http": 80, "https": 443}


class Refused(Exception):
    """A request that is not forwarded: the status the client gets, and why, safe to show."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes, and its target in origin form (RFC 9112 §3.2.1)."""

    host: str
    port: int
    path: bytes


def text(value: bytes) -> str:
    """Latin-1, as HTTP fields are; the strict rules for names come afterwards."""
    return value.decode("latin-1")


def fields_of(message: h11.Request | h11.Response | h11.InformationalResponse) -> Headers:
    """Fields as they were written, names in their own case. Raises Refused for too many or too long ones."""
    found = list(message.headers.raw_items())
    if len(found) > MAX_FIELDS or sum(len(name) + len(value) for name, value in found) > HEAD_BYTES:
        raise Refused(431, "too many or too long header fields")
    return found


def target_of(request: h11.Request, scheme: str, meant: tuple[str, int] | None) -> Target:
    """Where `request` goes. `meant`: the connection's own destination; None on the explicit proxy. Raises Refused.

    Origin form and Host must name what is meant; absolute form must agree with both.
    """
    if request.http_version not in {b"1.1", b"1.0"}:
        raise Refused(505, "only HTTP/1.1 is spoken here")
    if {b"content-length", b"transfer-encoding"} <= {name for name, _ in request.headers}:
        raise Refused(400, "a request has both a Content-Length and a Transfer-Encoding")
    if request.method in {b"CONNECT", b"TRACE"}:
        raise Refused(405, f"{text(request.method)} is not forwarded")
    raw = request.target
    path, named = raw, None
    if not raw.startswith(b"/") and raw != b"*":
        prefix = scheme.encode() + b"://"
        if raw[: len(prefix)].lower() != prefix:
            raise Refused(400, f"the request target is neither a path nor an {scheme} URL")
        path, named = _split(raw[len(prefix) :])
    elif meant is None:
        raise Refused(400, "a request to the proxy names no host")
    port = _DEFAULT_PORT[scheme]
    try:
        wanted = authority(text(named), port) if named is not None else meant
        given = [value for name, value in request.headers if name == b"host"]
        if len(given) > 1:
            raise Refused(400, "there is more than one Host")
        said = authority(text(given[0]), port) if given else wanted
    except NameRefused as error:
        raise Refused(400, str(error)) from None
    if wanted is None or said != wanted or (meant is not None and wanted != meant):
        raise Refused(403, "the request is for another host than its connection")
    return Target(wanted[0], wanted[1], path)


def _split(rest: bytes) -> tuple[bytes, bytes]:
    """Path and authority of what follows `http://`."""
    end = min((at for at in (rest.find(mark) for mark in (b"/", b"?", b"#")) if at >= 0), default=len(rest))
    path = rest[end:]
    if b"#" in path:
        raise Refused(400, "a request target has no fragment")
    return (path if path.startswith(b"/") else b"/" + path), rest[:end]


def forwarded(headers: Headers, host: bytes, exchange: Exchange) -> Headers:
    """A request's fields as the host gets them: secrets put in, and nothing that would hide an answer from us.

    `host` is put in where an HTTP/1.0 client sent none. Raises Refused.
    """
    allowed = _CONNECTION
    websocket = any(name.lower() == b"upgrade" and value.lower() == b"websocket" for name, value in headers)
    if websocket:
        allowed |= {b"upgrade"}
    out: Headers = []
    for name, value in headers:
        lower = name.lower()
        if lower in _NOT_FORWARDED or (lower == b"upgrade" and not websocket):
            continue
        if lower == b"connection":
            options = [one.strip() for one in value.split(b",")]
            kept = [one for one in options if one.lower() in allowed]
            if not kept:
                continue
            value = b", ".join(kept)  # noqa: PLW2901
        elif exchange.own and lower in {b"accept-encoding", b"sec-websocket-extensions"}:
            continue
        try:
            out.append((name, exchange.header(lower, value)))
        except ValueError as error:
            raise Refused(403, str(error)) from None
    if exchange.own:
        out.append((b"Accept-Encoding", b"identity"))
        if exchange.used:  # an answer in pieces would show a secret in pieces
            out = [(name, value) for name, value in out if name.lower() not in {b"range", b"if-range"}]
    if not any(name.lower() == b"host" for name, _ in out):
        out.insert(0, (b"Host", host))
    return out


def shows_token(headers: Headers, token: str) -> bool:
    """Whether a request to the proxy carries the credentials; compared in constant time."""
    for name, value in headers:
        if name.lower() == b"proxy-authorization" and value[:6].lower() == b"basic ":
            try:
                given = base64.b64decode(value[6:].strip(), validate=True)
            except binascii.Error:
                return False
            return hmac.compare_digest(given, b"callgate:" + token.encode())
    return False
