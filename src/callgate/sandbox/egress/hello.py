"""Reading the server name out of a TLS ClientHello (RFC 8446 §4.1.2, RFC 6066 §3), and nothing else.

Sans-IO and strict: what is not exactly one well-formed host_name is refused, so that what was read here is what
every TLS library reads.
"""

from __future__ import annotations

MAX_HELLO = 16 * 1024
"""Bytes of a ClientHello with its record headers; with post-quantum key shares it has about 2 KiB."""
_HANDSHAKE, _CLIENT_HELLO = 22, 1
_SERVER_NAME = 0


class NotTls(ValueError):
    """These bytes do not begin a TLS connection that could be read; the message holds nothing of them."""


class _Reader:
    """A cursor over bytes; reading past the end raises NotTls."""

    __slots__ = ("_at", "_data", "_end")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._end = len(data)

    def take(self, size: int) -> bytes:
        at = self._at
        if at + size > self._end:
            raise NotTls("the ClientHello is malformed")
        self._at = at + size
        return self._data[at : self._at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int) -> _Reader:
        """A block that is preceded by its length in `size` bytes."""
        return _Reader(self.take(self.number(size)))

    def __bool__(self) -> bool:
        return self._at < self._end

    @property
    def rest(self) -> bytes:
        return self._data[self._at :]


def handshake(data: bytes) -> bytes | None:
    """The ClientHello's body out of the records in `data`; None while more bytes are needed. Raises NotTls."""
    body = b""
    at = 0
    while True:
        head = data[at : at + 5]
        if (head and head[0] != _HANDSHAKE) or (len(head) > 1 and head[1] != 3):
            raise NotTls("this is not a TLS handshake")
        if len(head) < 5:
            break
        size = int.from_bytes(head[3:5], "big")
        if not 0 < size <= 16384:
            raise NotTls("a TLS record has an impossible length")
        fragment = data[at + 5 : at + 5 + size]
        body += fragment
        if body[0] != _CLIENT_HELLO if body else False:
            raise NotTls("this is not a ClientHello")
        if len(body) >= 4 and len(body) - 4 >= int.from_bytes(body[1:4], "big"):
            return body[4 : 4 + int.from_bytes(body[1:4], "big")]
        if len(fragment) < size:
            break
        at += 5 + size
    if len(data) >= MAX_HELLO:
        raise NotTls("the ClientHello is too long")
    return None


def server_name(body: bytes) -> str | None:
    """The one host_name of a ClientHello's body, as it stands there; None when it names none. Raises NotTls."""
    hello = _Reader(body)
    hello.take(2 + 32)
    hello.vector(1)  # session id
    hello.vector(2)  # cipher suites
    hello.vector(1)  # compression methods
    if not hello:
        return None
    extensions = hello.vector(2)
    if hello:
        raise NotTls("the ClientHello is malformed")
    found: str | None = None
    seen: set[int] = set()
    while extensions:
        kind = extensions.number(2)
        content = extensions.vector(2)
        if kind in seen:
            raise NotTls("an extension of the ClientHello stands there twice")
        seen.add(kind)
        if kind == _SERVER_NAME:
            found = _host_name(content)
    return found


def _host_name(content: _Reader) -> str:
    names = content.vector(2)
    if content or names.number(1) != 0:
        raise NotTls("the server name is malformed")
    name = names.vector(2).rest
    if names:
        raise NotTls("there is more than one server name")
    try:
        return name.decode("ascii")
    except UnicodeDecodeError:
        raise NotTls("the server name is not ASCII") from None
