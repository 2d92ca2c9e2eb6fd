"""`keyring://service/user`: Secret Service (GNOME, KWallet), the macOS keychain, the Windows credential locker.

Settings are those of the `keyring` library itself (`PYTHON_KEYRING_BACKEND`, keyringrc.cfg), but for `keyring-path`: an
entry's variables may say where keyringrc.cfg is looked for, so it names no code. Backends that keep secrets in plain
text or nowhere are refused.
"""

from __future__ import annotations

import os
import stat
import sys
from typing import TYPE_CHECKING, Any, TypeVar

from callgate.errors import SecretError
from callgate.text import visible
from callgate.vault.deadline import PROMPT_S, within
from callgate.vault.fields import NothingStored
from callgate.vault.providers.base import Document
from callgate.vault.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")
_NOT_SAFE = ("keyring.backends.fail", "keyring.backends.null", "keyrings.alt.")


class KeyringProvider:
    """See the module. A person may be asked to unlock the keyring: up to a minute is given for that."""

    def __init__(self) -> None:
        self._backend: Any = None

    def read(self, reference: Reference) -> Document:
        """The password of `user` for `service`."""
        service, user = reference.parts
        value = self._ask(reference, lambda backend: backend.get_password(service, user))
        if value is None:
            raise NothingStored(
                f"{reference.text}: the keyring has no such entry",
                next_step=f"store it: callgate secrets set {reference.text}",
            )
        return Document(str(value).encode("utf-8", "surrogatepass"))

    def write(self, reference: Reference, value: bytes) -> None:
        """Create or replace the entry. The value must be text."""
        service, user = reference.parts
        text = _as_text(value)
        self._ask(reference, lambda backend: backend.set_password(service, user, text))

    def remove(self, reference: Reference) -> bool:
        """Delete the entry."""
        service, user = reference.parts

        def delete(backend: Any) -> bool:
            if backend.get_password(service, user) is None:
                return False
            backend.delete_password(service, user)
            return True

        return self._ask(reference, delete)

    def works(self) -> bool:
        """Whether there is a keyring that can be used now. A locked one may ask its owner, who has 20 seconds."""
        from callgate.vault.reference import parse

        try:
            self._ask(
                parse("keyring://callgate/probe"), lambda backend: backend.get_password("callgate", "probe"), 20.0
            )
        except SecretError:
            return False
        return True

    def close(self) -> None:
        """Nothing is held."""

    def _ask(self, reference: Reference, work: Callable[[Any], _T], seconds: float = PROMPT_S) -> _T:
        def run() -> _T:
            if self._backend is None:
                self._backend = _backend()
            return work(self._backend)

        return within(seconds, f"the keyring ({reference.text})", run, lambda error: _problem(reference, error))


def _backend() -> Any:
    import keyring

    _find_bus()
    _check_settings()
    chosen: Any = keyring.get_keyring()
    for backend in getattr(chosen, "backends", [chosen]):  # the chainer has several, or none
        kind = type(backend)
        name = f"{kind.__module__}.{kind.__qualname__}"
        if not name.startswith(_NOT_SAFE):
            return backend
    raise SecretError(
        "there is no keyring to use here",
        next_step="start one (gnome-keyring, KWallet) in this session, or keep secrets in age:// or vault://",
    )


def _check_settings() -> None:
    """Refuse settings that would load code from a directory: it would run outside of every sandbox."""
    import configparser

    from keyring.util.platform_ import config_root

    path = config_root() / "keyringrc.cfg"
    settings = configparser.RawConfigParser()
    try:
        settings.read(path, encoding="utf-8")
        named = settings.has_option("backend", "keyring-path")
    except (configparser.Error, UnicodeDecodeError, OSError):
        named = True
    if named:
        raise SecretError(
            f"{visible(str(path), 300)} has a keyring-path, from which callgate loads no code, or cannot be read",
            next_step="install that backend beside callgate (pipx inject, uv tool install --with), and name it alone",
        )


def _find_bus() -> None:
    """Where no variable says where the session's bus is, take the socket that systemd and its like make for a user.

    Some clients hand what they start a few variables only, and not this one.
    """
    if not sys.platform.startswith("linux") or os.environ.get("DBUS_SESSION_BUS_ADDRESS"):
        return
    path = f"{os.environ.get('XDG_RUNTIME_DIR') or f'/run/user/{os.geteuid()}'}/bus"
    try:
        status = os.lstat(path)
    except OSError:
        return
    if stat.S_ISSOCK(status.st_mode) and status.st_uid == os.geteuid():
        os.environ["DBUS_SESSION_BUS_ADDRESS"] = f"unix:path={path}"


def _as_text(value: bytes) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise SecretError("a keyring keeps text only, and this value is none", next_step="keep it in age:// instead")
    return text


def _problem(reference: Reference, error: Exception) -> SecretError:
    kind = type(error).__name__
    next_step = {
        "KeyringLocked": "unlock the keyring, then try again",
        "InitError": "unlock or create the keyring (its first use asks for a password), then try again",
        "NoKeyringError": "start a keyring in this session, or keep secrets in age:// or vault://",
    }.get(kind, "check that the keyring of this session runs and is unlocked")
    return SecretError(f"{reference.text}: the keyring cannot be used ({kind})", next_step=next_step)
