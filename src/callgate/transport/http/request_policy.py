"""What a request must satisfy before anything looks at its body, on every method.

Rules, in order:

1. exactly one `Host`, naming this gate (421): a page that rebinds its DNS name to 127.0.0.1 still sends its own name;
2. `Origin`, where present, a loopback origin or a configured one (403);
3. the bearer token, where one is configured (401);
4. for POST, a JSON `Content-Type` (415);
5. no `Content-Encoding` (415).

Header values are compared, never interpreted further; refusals name the setting that admits a value.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from callgate.config import ListenConfig
from callgate.errors import ConfigError
from callgate.transport.http.fields import in_utf8, media_type
from callgate.transport.http.request_head import RequestHead

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
TOKEN_BYTES = (16, 4096)
"""A token shorter than 16 characters can be guessed; one longer than 4096 does not fit a header."""
_REMEMBERED = 64


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer the gate gives itself: HTTP status, stable rule id, words for a person."""

    status: int
    rule: str
    message: str
    headers: tuple[tuple[bytes, bytes], ...] = ()
    code: int = -32600
    """Of the JSON-RPC error."""


def is_loopback(host: str) -> bool:
    """Whether an address to listen on can only be reached from this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def read_tokens(path: str) -> dict[bytes, str]:
    """SHA-256 of each token in the file → the principal it stands for.

    One token a line (several while one is being replaced), `#` starts a comment line. Raises ConfigError.
    """
    try:
        text = Path(path).read_text("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"listen.token_file: cannot read {path}: {getattr(error, 'strerror', None) or 'not ASCII text'}",
            next_step="make one: openssl rand -hex 32 > token && chmod 600 token",
        ) from error
    tokens: dict[bytes, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        token = line.strip()
        if not token or token.startswith("#"):
            continue
        if not TOKEN_BYTES[0] <= len(token) <= TOKEN_BYTES[1] or any(c <= " " for c in token):
            raise ConfigError(
                f"listen.token_file: line {number} of {path} is not {TOKEN_BYTES[0]} to {TOKEN_BYTES[1]} characters",
                next_step="make one: openssl rand -hex 32 > token && chmod 600 token",
            )
        digest = hashlib.sha256(token.encode())
        tokens[digest.digest()] = f"token:{digest.hexdigest()[:12]}"
    if not tokens:
        raise ConfigError(f"listen.token_file: {path} holds no token", next_step="put one token on a line of its own")
    return tokens


class RequestPolicy:
    """The checks of one listening side. Raises ConfigError when it would be open to the network."""

    __slots__ = ("_good_hosts", "_good_origins", "_hosts", "_origins", "_tokens", "principal")

    def __init__(self, listen: ListenConfig) -> None:
        self._tokens = read_tokens(listen.token_file) if listen.token_file else {}
        if not self._tokens and not is_loopback(listen.host):
            raise ConfigError(
                f"{listen.host} can be reached from other machines and no token is configured",
                next_step="set listen.token_file, or listen on 127.0.0.1",
            )
        names = {*LOOPBACK_NAMES, bracketed(listen.host), *listen.allowed_hosts}
        names -= {"0.0.0.0", "[::]"}  # noqa: S104 - compared with, not bound
        self._hosts = frozenset(name.lower().encode() for name in names)
        self._origins = frozenset(origin.lower().rstrip("/").encode() for origin in listen.allowed_origins)
        self._good_hosts: set[bytes] = set()
        self._good_origins: set[bytes] = set()
        self.principal = "local"

    def check(self, head: RequestHead) -> Refusal | str:
        """The principal, or the refusal."""
        host = head.host
        if host is None:
            return Refusal(400, "http-host", "no Host header")
        origin = head.origin
        if host not in self._good_hosts and not self._host_allowed(host):
            return Refusal(
                421, "http-host", "this Host is not served here; if it is yours, add it to listen.allowed_hosts"
            )
        if origin is not None and origin not in self._good_origins and not self._origin_allowed(origin):
            return Refusal(
                403, "http-origin", "this Origin may not call; if it is yours, add it to listen.allowed_origins"
            )
        principal: str | None = self.principal
        if self._tokens:
            authorization = head.authorization
            principal = self._authenticate(authorization)
            if principal is None:
                challenge = b'Bearer realm="callgate"'
                if authorization is not None:
                    challenge += b', error="invalid_token"'
                return Refusal(
                    401,
                    "http-token",
                    "send the token of listen.token_file as `Authorization: Bearer TOKEN`",
                    ((b"www-authenticate", challenge),),
                )
        content_type = head.content_type
        if content_type != b"application/json" and head.method == b"POST" and not _is_json(content_type):
            return Refusal(415, "http-content-type", "a POST must have Content-Type: application/json")
        if head.encoding is not None and head.encoding.lower() != b"identity":
            # What was inspected as it stands, a server would read as something compressed.
            return Refusal(
                415,
                "http-content-encoding",
                "a body must not be compressed: send no Content-Encoding",
                ((b"accept-encoding", b"identity"),),
            )
        return principal or self.principal

    def _host_allowed(self, value: bytes) -> bool:
        host = value.lower()
        if host not in self._hosts:
            name, colon, port = host.rpartition(b":")
            if not colon or not port.isdigit() or name not in self._hosts:
                return False
        if len(self._good_hosts) < _REMEMBERED:
            self._good_hosts.add(value)
        return True

    def _origin_allowed(self, value: bytes) -> bool:
        origin = value.lower()
        if origin not in self._origins and not _is_loopback_origin(origin):
            return False
        if len(self._good_origins) < _REMEMBERED:
            self._good_origins.add(value)
        return True

    def _authenticate(self, authorization: bytes | None) -> str | None:
        if authorization is None or authorization[:7].lower() != b"bearer ":
            return None
        presented = hashlib.sha256(authorization[7:].strip()).digest()
        found = None
        for digest, principal in self._tokens.items():  # all of them: the time says nothing of which one matched
            if hmac.compare_digest(digest, presented):
                found = principal
        return found


def bracketed(host: str) -> str:
    """An address as it stands in a Host header."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _is_loopback_origin(origin: bytes) -> bool:
    scheme, _, rest = origin.partition(b"://")
    if scheme not in (b"http", b"https") or not rest:
        return False
    names = [name.encode() for name in LOOPBACK_NAMES]
    if rest in names:
        return True
    name, colon, port = rest.rpartition(b":")
    return bool(colon) and port.isdigit() and name in names


def _is_json(value: bytes | None) -> bool:
    return value is not None and media_type(value) == b"application/json" and in_utf8(value)
