"""From bytes to requests: HTTP/1.1 as llhttp reads it in its strict mode, and the limits it does not know.

Conflicting or repeated framing headers, bare line feeds, folded lines and stray control characters are errors, and an
error closes the connection, so that nobody can smuggle a second request past a reader that frames differently. A
request is judged when its head is there, before its body is read; and again when its body is, where the rules have
changed since.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import httptools

from callgate.protocol.headers import HEADER_MISMATCH
from callgate.transport.http.body import joined
from callgate.transport.http.exchange import Exchange, Headers, Route, Sink
from callgate.transport.http.fields import lowered, unknown
from callgate.transport.http.known_request import KnownRequest
from callgate.transport.http.refusals import TOLD
from callgate.transport.http.request_head import RequestHead, without_upgrade
from callgate.transport.http.request_policy import Refusal

if TYPE_CHECKING:
    from callgate.transport.http.server import HttpServer

MAX_TARGET: Final = 8 * 1024
"""Bytes of a request target (414)."""
MAX_FIELDS: Final = 128
"""Header fields of one request (431)."""
NOT_FOUND: Final = Refusal(404, "http-path", "nothing is served at this path")

IDLE, HEAD, BODY = 0, 1, 2
"""What is being read: nothing, a head, a body with its trailer."""


class Asked(Sink, Protocol):
    """Who hears of requests."""

    stopped: bool
    """Nothing more is read as HTTP."""

    def asked(self, exchange: Exchange, target: Route | Refusal, close: bool, http10: bool) -> None:
        """A whole request, and what answers it. `close`: it is the last one."""

    def wanted(self) -> None:
        """The client waits to be told that its body is wanted."""

    def stop(self, refusal: Refusal) -> None:
        """This is no request, or one too large: refuse it and read nothing more."""

    def tunnel(self) -> None:
        """CONNECT was asked; what follows it is no HTTP."""


class _Stop(Exception):
    """Ends parsing from inside a parser callback."""


class RequestReader:
    """See the module. `fed` counts bytes in a row that are no body; `size` the bytes of the body so far."""

    __slots__ = (
        "_behind", "_body", "_close", "_endpoint", "_ignored", "_is_http10", "_owner", "_parser", "_principal",
        "_refusal", "_sent", "_server", "_site", "_target", "fed", "head", "plain", "size", "stage",
    )  # fmt: skip

    def __init__(self, server: HttpServer, owner: Asked) -> None:
        self._server = server
        self._owner = owner
        self._parser = httptools.HttpRequestParser(self)
        self._ignored = False
        self._behind = False
        self._target = b""
        self._body: bytes | bytearray = b""
        self._principal = ""
        self.fed = 0
        self.stage = IDLE
        self.plain: KnownRequest | None = None
        """What the last head came to, where there was nothing unusual about it."""

    def feed(self, data: bytes) -> bool:
        """Read on. Whether there may be more to read."""
        self.fed += len(data)
        if self.stage == IDLE:
            self._behind = False
        try:
            self._parse(data)
        except httptools.HttpParserUpgrade:
            if not self._owner.stopped:
                self._owner.tunnel()
            return False
        except httptools.HttpParserError as error:
            if not self._owner.stopped:
                self._owner.stop(self._refusal_of(error))
            return False
        if self.stage != IDLE and self.fed > self._server.site.listen.header_bytes:
            what = "header" if self.stage == HEAD else "trailer or a chunk's extension"
            self._owner.stop(Refusal(431, "http-header-size", f"the {what} is larger than listen.header_bytes"))
        return not self._owner.stopped

    def _parse(self, data: bytes) -> None:
        """Feed llhttp. A request that asks for another protocol is read again as if it did not (RFC 9110 section 7.8).

        For llhttp nothing behind such a head is HTTP any more. So a new parser gets the head that llhttp has read, but
        for the wish, and judges its framing once more.
        """
        while True:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as wish:
                if not self._ignored:
                    raise
                data = data[wish.args[0] :]
                head = without_upgrade(self._parser.get_method(), self._target, self._version.encode(), self._sent)
                self._ignored = False
                self._parser = httptools.HttpRequestParser(self)
                self._parser.feed_data(head)
            else:
                return

    @property
    def _version(self) -> str:
        version: str = self._parser.get_http_version()
        return version

    def _refusal_of(self, error: httptools.HttpParserError) -> Refusal:
        cause = error.__context__
        if isinstance(error, httptools.HttpParserCallbackError) and cause is not None:
            self._server.defect(cause)
            return Refusal(500, "internal", "callgate failed; the message did not pass")
        if isinstance(error, httptools.HttpParserInvalidMethodError):
            return Refusal(405, "http-method", "this method is not known", ((b"allow", b"GET, POST, DELETE"),))
        return Refusal(400, "http-malformed", "the request is not well-formed HTTP/1.1")

    def abandon(self) -> Exchange:
        """Leave the request that was being read: as far as it was, for a refusal."""
        if self.stage == IDLE:
            exchange = Exchange(self._owner, b"", "", "", [], b"", "", "")
        else:
            exchange = self._as_asked(self._parser.get_method() if self.stage == BODY else b"")
        self.stage = IDLE
        self._body = b""
        return exchange

    def _as_asked(self, method: bytes) -> Exchange:
        """The request as far as it was read: what evidence tells of it, and nothing else."""
        told = [(name, value if TOLD[name] else b"") for name, value in self._sent if name in TOLD]
        path = self._target.partition(b"?")[0]
        endpoint = self._server.site.endpoints.get(path)
        name = endpoint.name if endpoint else ""
        return Exchange(self._owner, method, path.decode("latin-1"), "", told, b"", self._principal, name)

    def _give_up(self, refusal: Refusal) -> None:
        self._owner.stop(refusal)
        raise _Stop

    # -- httptools -------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._owner.stopped:
            raise _Stop
        self.stage = HEAD
        self._is_http10 = False
        self._sent: Headers = []
        self._target = b""
        self.size = 0
        self._refusal: Refusal | None = None
        self._principal = ""

    def on_url(self, url: bytes) -> None:
        self._target = self._target + url if self._target else url
        if len(self._target) > MAX_TARGET:
            self._give_up(Refusal(414, "http-target-size", f"the request target is longer than {MAX_TARGET} bytes"))

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.stage == HEAD:  # not so for a trailer, which is never merged into the header
            self._sent.append((lowered(name) or unknown(name.lower()), value))

    def on_headers_complete(self) -> None:
        parser = self._parser
        if parser.should_upgrade() and parser.get_method() != b"CONNECT":
            self._ignored = True
            return
        self.stage = BODY
        limit = self._server.site.listen.header_bytes
        sent = self._sent
        if self.fed > limit or self._behind or len(sent) > MAX_FIELDS:
            size = sum(len(name) + len(value) + 4 for name, value in sent)
            if size > limit or len(sent) > MAX_FIELDS:
                self._give_up(Refusal(431, "http-header-size", "the header is larger than listen.header_bytes"))
        self.fed = 0  # from here on it counts what is no body
        self.head = head = RequestHead(parser.get_method(), sent)
        self._close = not parser.should_keep_alive()
        self._is_http10 = False
        if self._close or head.connection is not None:
            # Only then can it be anything but HTTP/1.1.
            version = self._version
            if version == "1.0":
                self._close = self._is_http10 = True
            elif version != "1.1":
                self._give_up(Refusal(505, "http-version", "only HTTP/1.1 and HTTP/1.0 are spoken here"))
        self._judge(head, head.length)
        if head.expect is not None:
            self._expected(head.expect)

    def _judge(self, head: RequestHead, length: int) -> None:
        """Who asks, and for what; or why not."""
        server = self._server
        self._site = site = server.site
        endpoints = site.endpoints
        target = self._target
        self._endpoint = endpoint = endpoints.get(target) or endpoints.get(target.partition(b"?")[0])
        principal = server.admission(head, endpoint)
        if type(principal) is Refusal:
            self._refusal = principal
        else:
            self._principal = principal  # type: ignore[assignment]  # type() narrows no union for mypy
            if head.ambiguous:
                self._refusal = _repeated(head.ambiguous)
            if length > site.limits.request_bytes:
                self._give_up(_too_large(site.limits.request_bytes))

    def _expected(self, expect: bytes) -> None:
        """`Expect`: say 100 when the body is wanted; refuse before it is sent."""
        if expect.lower() != b"100-continue":
            self._give_up(Refusal(417, "http-expect", "the only Expect understood is 100-continue"))
        if self._refusal is not None:
            self._give_up(self._refusal)
        if not self._is_http10:
            self._owner.wanted()

    def on_body(self, body: bytes) -> None:
        self.fed = 0
        self.size += len(body)
        if self.size > self._server.site.limits.request_bytes:
            self._give_up(_too_large(self._server.site.limits.request_bytes))
        if self._refusal is None:
            self._body = joined(self._body, body)

    def on_message_complete(self) -> None:
        if self._ignored:
            return
        if self._site is not self._server.site and self._refusal is None:
            # Other rules came with the body, and the route may be closed by now. They judge what was sent, not what
            # the rules of before have left of it: who asks stands there, where another worker passed the request on.
            self.head = RequestHead(self.head.method, self._sent)
            self._judge(self.head, self.size)
        head = self.head
        self.stage = IDLE
        self.fed = 0
        self._behind = True  # what comes in the same piece is not counted in `fed`
        body = bytes(self._body)
        self._body = b""
        endpoint = self._endpoint
        target: Route | Refusal
        if self._refusal is not None or endpoint is None:
            exchange = self._as_asked(head.method)
            target = self._refusal or NOT_FOUND
        else:
            query = self._target.partition(b"?")[2].decode("latin-1") if b"?" in self._target else ""
            name, principal = endpoint.name, self._principal
            exchange = Exchange(self._owner, head.method, endpoint.path, query, head.kept, body, principal, name)
            target = endpoint.route
            if head.ordinary and not self._close:
                self.plain = KnownRequest(self._server.site, head.kept, head.method, endpoint, principal, query)
        self._owner.asked(exchange, target, self._close, self._is_http10)


def _repeated(name: str) -> Refusal:
    return Refusal(400, "header-repeated", f"the header {name} appears more than once", code=HEADER_MISMATCH)


def _too_large(limit: int) -> Refusal:
    return Refusal(413, "http-body-size", f"the body is larger than limits.request_bytes ({limit})")
