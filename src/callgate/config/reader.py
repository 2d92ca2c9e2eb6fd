"""Reads a `callgate.toml`. A start takes what an earlier one kept of it: TOML's parser and what it imports take 12 ms.

Kept under the state directory, one small file for each configuration. It counts only for the text it was parsed from,
known by a digest. Whoever may write it may as well write locks and pins: it is taken only from a regular file of this
user that nobody else can read or write. Anything else counts as absent, and what cannot be kept is parsed again.

No secret is copied: of a server's command, address, headers and variables, and of an address with credentials, only
the place in the configuration is kept, and what stands there is read from it.
"""

from __future__ import annotations

import marshal  # noqa: TID251  our own data, from a private file of our own
import os
import stat
import sys

from callgate import __version__
from callgate.config import Config
from callgate.config.document import parse
from callgate.config.places import state_path, state_place, user_config_file
from callgate.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MOST_BYTES = 16 << 20
"""Largest configuration that is read."""
_MOST_KEPT = 1 << 20
"""Largest configuration of which something is kept."""
_NAME = 100
_HEAD = f"callgate-parsed-3 {__version__} {sys.implementation.cache_tag}\n".encode()
_MAY_HOLD_SECRETS = frozenset({"command", "environment", "headers", "url", "variables"})


def load(path: str | os.PathLike[str], *, kept: bool = False, state: str = "") -> Config:
    """Read a configuration file. Raises ConfigError with the place and what to do.

    `kept`: for a start, which must be quick: what was parsed is kept in the state directory (`state`, else the usual
    one), unless the file names another.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except FileNotFoundError as error:
        raise ConfigError(
            f"no configuration at {path}", next_step="name a file that exists, or leave --config out"
        ) from error
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", next_step="check the file's permissions") from error
    if len(content) > _MOST_BYTES:
        raise ConfigError(f"{path} is larger than {_MOST_BYTES} bytes", next_step="name a callgate.toml")
    document = _parsed(os.fspath(path), content, state) if kept else _from_toml(path, content)
    return parse(document, source=str(path))


def configured(named: str = "") -> Config:
    """What a command of the user's works with: the file that was named, else the user's own, else the defaults."""
    path = named or user_config_file()
    return load(path) if path else Config()


def _parsed(path: str, content: bytes, state: str) -> dict[str, Any]:
    """As `_from_toml`, from what an earlier start kept where that is the same text."""
    at = Config(state_dir=state) if state else None
    document = _kept(state_place(at), path, content)
    if document is None or "state_dir" in document:
        document = _from_toml(path, content)
        if "state_dir" not in document:
            _keep(state_path(at), path, content, document)
    return document


def _from_toml(path: str | os.PathLike[str], content: bytes) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(content.decode())
    except ValueError as error:  # TOML's, those of characters, and numbers of thousands of digits
        raise ConfigError(f"{path} is not valid TOML: {error}", next_step="correct the line named above") from error
    except RecursionError as error:
        raise ConfigError(f"{path} is nested too deeply", next_step="correct its lists and tables") from error


def _kept(directory: str, path: str, content: bytes) -> dict[str, Any] | None:
    """The document that `content`, the file at `path`, is; None where it was not kept."""
    try:
        fd = os.open(_place(directory, path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with open(fd, "rb") as file:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            return None
        kept = file.read(4 * _MOST_KEPT)
    head = _HEAD + _digest(content)
    if not kept.startswith(head):
        return None
    try:
        document = _with_secrets(marshal.loads(kept[len(head) :]), content)  # noqa: S302  see above
    except (ValueError, EOFError, TypeError):
        return None
    return document if isinstance(document, dict) else None


def _keep(directory: str, path: str, content: bytes, document: dict[str, Any]) -> None:
    """Keep it for the next start, in one step. Where that is not possible, nothing happens."""
    if len(content) > _MOST_KEPT:
        return
    place = _place(directory, path)
    beside = f"{place}.{os.getpid()}"
    try:
        # ValueError: a date, which marshal does not know, or a secret that is written with escapes
        data = _HEAD + _digest(content) + marshal.dumps(_without_secrets(document, content))
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


def _without_secrets(value: Any, content: bytes, *, secret: bool = False) -> Any:
    """`value` with places in `content`, as (from, to), for all that may be a secret. ValueError: it is not there."""
    if isinstance(value, dict):
        return {
            key: _without_secrets(inner, content, secret=secret or key in _MAY_HOLD_SECRETS)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [_without_secrets(inner, content, secret=secret) for inner in value]
    if secret or (isinstance(value, str) and "://" in value and "@" in value):
        if not isinstance(value, str):
            raise ValueError("a number where only a text is right")
        written = value.encode()
        at = content.index(written)
        return at, at + len(written)
    return value


def _with_secrets(value: Any, content: bytes) -> Any:
    """What `_without_secrets` was given."""
    if isinstance(value, dict):
        return {key: _with_secrets(inner, content) for key, inner in value.items()}
    if isinstance(value, list):
        return [_with_secrets(inner, content) for inner in value]
    if isinstance(value, tuple):
        start, end = value
        return content[start:end].decode()
    return value


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
