"""What a configuration file says, as it was parsed at an earlier start: the TOML parser and what it imports take 12 ms.

Kept under the state directory, one small file for each configuration. It counts only for the text it was parsed from,
known by a digest. Whoever may write it may as well write locks and pins: it is taken only from a regular file of this
user that nobody else can read or write. Anything else counts as absent, and what cannot be kept is parsed again.

No secret is copied: what names a server's command, address, headers or variables, or has an address with credentials,
is not kept. `callgate run` is given its server on its command line, so its configuration is seldom one of these.
"""

from __future__ import annotations

import marshal  # noqa: TID251  our own data, from a private file of our own
import os
import stat
import sys

from callgate import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MOST_BYTES = 1 << 20
"""Largest configuration that is kept."""
_NAME = 100
_HEAD = f"callgate-parsed-2 {__version__} {sys.implementation.cache_tag}\n".encode()
_MAY_HOLD_SECRETS = frozenset({"command", "environment", "headers", "url", "variables"})


def read(directory: str, path: str, content: bytes) -> dict[str, Any] | None:
    """The document that `content`, the file at `path`, is; None where it was not kept."""
    try:
        fd = os.open(_place(directory, path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with open(fd, "rb") as file:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            return None
        kept = file.read(4 * MOST_BYTES)
    head = _HEAD + _digest(content)
    if not kept.startswith(head):
        return None
    try:
        document = marshal.loads(kept[len(head) :])  # noqa: S302  see above
    except (ValueError, EOFError, TypeError):
        return None
    return document if isinstance(document, dict) else None


def write(directory: str, path: str, content: bytes, document: dict[str, Any]) -> None:
    """Keep it for the next start, in one step. Where that is not possible, nothing happens."""
    if len(content) > MOST_BYTES or _may_hold_a_secret(document):
        return
    place = _place(directory, path)
    beside = f"{place}.{os.getpid()}"
    try:
        data = _HEAD + _digest(content) + marshal.dumps(document)  # ValueError: a date, which marshal does not know
        os.makedirs(os.path.dirname(place), mode=0o700, exist_ok=True)
        fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(data)
        os.replace(beside, place)
    except (OSError, ValueError):
        try:
            os.unlink(beside)  # half written, or left by a process that had our number
        except OSError:
            return


def _may_hold_a_secret(value: Any) -> bool:
    if isinstance(value, dict):
        return any(key in _MAY_HOLD_SECRETS or _may_hold_a_secret(inner) for key, inner in value.items())
    if isinstance(value, list):
        return any(_may_hold_a_secret(inner) for inner in value)
    return isinstance(value, str) and "://" in value and "@" in value


def _digest(content: bytes) -> bytes:
    try:
        from _blake2 import blake2b  # what hashlib hands on: hashlib itself loads OpenSSL, 2.5 ms
    except ImportError:
        from hashlib import blake2b
    return blake2b(content).digest()


def _place(directory: str, path: str) -> str:
    """Two paths may share a name: the text decides."""
    name = os.path.abspath(path).replace("%", "%25").replace("/", "%2F")
    return os.path.join(directory, "cache", f"settings-{name[-_NAME:]}")
