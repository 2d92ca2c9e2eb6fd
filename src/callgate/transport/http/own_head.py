"""What stands at the head of every request to a server: the first line, and the headers of the gate's own."""

from __future__ import annotations

from callgate.config import ServerConfig
from callgate.errors import ConfigError
from callgate.transport.http.exchange import Headers
from callgate.transport.http.fields import HOP_BY_HOP, dashed
from callgate.transport.http.origin import Origin
from callgate.transport.http.request_plan import RequestPlan


class OwnHead:
    """See the module. `start` is, by method, all that no client has a say in."""

    __slots__ = ("_names", "start")

    def __init__(self, origin: Origin, headers: Headers) -> None:
        self._names = frozenset(dashed(name) for name, _ in headers)
        tail = b" " + origin.target + b" HTTP/1.1\r\nhost: " + origin.host_header
        tail += b"".join(b"\r\n" + name + b": " + value for name, value in headers)
        tail += b"\r\naccept-encoding: identity"
        self.start = {method: method + tail for method in (b"POST", b"GET", b"DELETE")}

    def plan(self, method: bytes, headers: Headers) -> RequestPlan:
        """The head for a request with these headers of its client's; the gate's own win."""
        return RequestPlan(self.start[method], headers, self._names)


def configured_headers(config: ServerConfig) -> Headers:
    """The headers of `[servers.NAME.headers]`, checked: one line each, and none that frames the message."""
    headers: Headers = []
    for name, value in config.headers.items():
        key = name.lower()
        token = key.isascii() and key.replace("-", "").replace("_", "").isalnum()
        if not token or key.encode() in HOP_BY_HOP or key in ("host", "content-length", "accept-encoding"):
            raise ConfigError(
                f"servers.{config.name}.headers: {name!r} cannot be set", next_step="set headers such as Authorization"
            )
        if not value.isascii() or any(c < " " or c == "\x7f" for c in value):
            raise ConfigError(
                f"servers.{config.name}.headers.{name}: the value must be one line of ASCII",
                next_step="remove line breaks and other control characters",
            )
        headers.append((key.encode(), value.strip().encode()))
    return headers
