"""A response on its way back: what a host repeats of a secret becomes the sentinel again."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from callgate.sandbox.egress.requests import Headers, Refused
from callgate.sandbox.egress.swap import Exchange

WHOLE_BYTES = 1024 * 1024
"""A body up to this length is read whole, so that it keeps a Content-Length; a longer one may become chunked."""
INFLATED_BYTES = 256 * 1024
"""Of a compressed body at a time: a bomb meets back-pressure instead of memory."""
_INFLATE = {b"gzip": 31, b"x-gzip": 31, b"deflate": 47}


class Answer:
    """One response's fields and body. Raises Refused for a body in which nothing can be seen."""

    __slots__ = ("_inflate", "_replacer", "_same_length", "headers", "whole")

    def __init__(self, headers: Headers, exchange: Exchange, *, bodyless: bool) -> None:
        self.headers = self.fields(headers, exchange)
        self._replacer = exchange.answer() if exchange.own else None
        self._inflate = None
        self.whole = False
        if any(name.lower() == b"transfer-encoding" for name, _ in headers):
            self._drop(b"content-length")  # RFC 9112 §6.3: it does not count, so nobody is to read it
        if self._replacer is None or bodyless:
            return
        named = {name.lower(): value.strip().lower() for name, value in headers}
        coding = named.get(b"content-encoding", b"identity")
        if coding not in {b"identity", b""}:
            if coding not in _INFLATE:
                raise Refused(502, "the host answers in an encoding that cannot be read here")
            self._inflate = zlib.decompressobj(_INFLATE[coding])
            self._drop(b"content-encoding", b"content-length")
            if b"transfer-encoding" not in named:
                self.headers.append((b"Transfer-Encoding", b"chunked"))
        elif b"transfer-encoding" not in named and b"content-length" in named:
            if int(named[b"content-length"]) <= WHOLE_BYTES:
                self.whole = True
            else:
                self._drop(b"content-length")
                self.headers.append((b"Transfer-Encoding", b"chunked"))

    @staticmethod
    def fields(headers: Headers, exchange: Exchange) -> Headers:
        """A response's fields without secrets."""
        if not exchange.own:
            return list(headers)
        replacer = exchange.answer()
        return [(name, replacer.whole(value)) for name, value in headers]

    def text(self, value: bytes) -> bytes:
        """Any other text of the response: its reason phrase."""
        return self._replacer.whole(value) if self._replacer is not None else value

    def settle_length(self, size: int) -> None:
        """The body was read whole and has this many bytes."""
        self._drop(b"content-length")
        self.headers.append((b"Content-Length", b"%d" % size))

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What can be passed on of the next bytes."""
        if self._replacer is None:
            yield data
            return
        for part in self._plain(data):
            passed = self._replacer.feed(part)
            if passed:
                yield passed

    def end(self) -> Iterator[bytes]:
        """What was held back."""
        if self._replacer is None:
            return
        rest = self._inflate.flush() if self._inflate is not None else b""
        if rest := self._replacer.whole(rest):
            yield rest

    def _plain(self, data: bytes) -> Iterator[bytes]:
        if self._inflate is None:
            yield data
            return
        while data:
            try:
                yield self._inflate.decompress(data, INFLATED_BYTES)
            except zlib.error:
                raise Refused(502, "the host's compressed answer is malformed") from None
            data = self._inflate.unconsumed_tail

    def _drop(self, *names: bytes) -> None:
        self.headers = [(name, value) for name, value in self.headers if name.lower() not in names]
