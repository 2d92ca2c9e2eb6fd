"""What a route makes of a request's header: the head for the server, the session, the mirrored headers.

It depends on the header alone, so it is made once for a header that comes again and again.
"""

from __future__ import annotations

from collections.abc import Mapping

from callgate.protocol.headers import METHOD_HEADER, NAME_HEADER, VERSION_HEADER
from callgate.protocol.message import Kind, Message
from callgate.protocol.methods import MIRRORED_NAMES
from callgate.protocol.revisions import HANDSHAKE_VERSIONS
from callgate.transport.http.exchange import Headers
from callgate.transport.http.fields import dashed

SESSION_HEADER = b"mcp-session-id"
HANDSHAKE: Mapping[bytes, str] = {version.encode(): version for version in HANDSHAKE_VERSIONS}
_SENTINEL = b"=?"
_UNREADABLE = "\n"
"""In place of a version that is not plain: no body names it, and it is not none, which the handshake era may send."""
_REQUEST = Kind.REQUEST


class RequestPlan:
    """See the module.

    No header it goes by comes twice: the reader refuses that before. `handshake`: the header does not ask for the
    modern era. `revision` is the handshake-era revision it names, or ''.
    """

    __slots__ = (
        "_method",
        "_name",
        "_version",
        "handshake",
        "headerless",
        "lines",
        "mirrored",
        "revision",
        "session_id",
        "start",
    )

    def __init__(self, start: bytes, headers: Headers, own: frozenset[bytes]) -> None:
        found = dict(headers)
        self.start = start
        self.lines = b"\r\n".join(
            [start, *(name + b": " + value for name, value in headers if dashed(name) not in own)]
        )
        """The head for the server, without its Content-Length and its end."""
        self.session_id = found.get(SESSION_HEADER)
        version = found.get(VERSION_HEADER)
        self.headerless = version is None
        self.revision = HANDSHAKE.get(version, "") if version is not None else ""
        self.handshake = version is None or version in HANDSHAKE
        self._version = _plain(version)
        self._method = _plain(found.get(METHOD_HEADER))
        self._name = _plain(found.get(NAME_HEADER))
        self.mirrored: tuple[str | None, str | None, str | None] = (None, None, None)
        """Version, method and name, as far as they are plain; nothing of the handshake era."""
        if not self.handshake:
            version_said = _UNREADABLE if self._version is None else self._version
            self.mirrored = (version_said, self._method, self._name)

    def mirrors(self, message: Message, claimed: object) -> bool:
        """Whether the headers plainly repeat what the body says; if not, `check_request_headers` says why not."""
        if self._version is None or claimed != self._version:
            return False
        if message.kind is not _REQUEST or message.method != self._method:
            return False
        member = MIRRORED_NAMES.get(message.method)  # type: ignore[arg-type]  # a request has a method
        return member is None or (self._name is not None and message.body["params"].get(member) == self._name)


def _plain(value: bytes | None) -> str | None:
    """A value that means what it spells; None for one that is absent or encoded."""
    if value is None or not value.isascii() or value.startswith(_SENTINEL) or value != value.strip():
        return None
    return value.decode("ascii")
