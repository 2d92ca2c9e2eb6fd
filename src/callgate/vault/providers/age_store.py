"""`age://name` and `age:///path`: secrets in files encrypted with age.

callgate's own store is `secrets/` in the state directory: one file a secret, encrypted to `identity.txt` beside
them, which is made on first use. Directory 0700, files 0600. It keeps secrets out of configurations, commits and
searches; whoever can read all files of this user can read it too.

Other age files are decrypted with `?identity=FILE` (an age identity, or an SSH key without passphrase), else with
`SOPS_AGE_KEY_FILE`, else with the store's own identity.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from callgate.errors import SecretError
from callgate.vault.deadline import NETWORK_S, within
from callgate.vault.fields import NothingStored
from callgate.vault.providers.base import Document
from callgate.vault.providers.file import check_private, read_private, without_line_end
from callgate.vault.reference import Reference

NAME_BYTES: Final = 200
IDENTITY: Final = "identity.txt"


class AgeProvider:
    """See the module. `directory` is made, with mode 0700, at the first write."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def read(self, reference: Reference) -> Document:
        """Decrypt the file."""
        own = not reference.is_file
        path = self._file(reference) if own else Path(reference.path)
        try:
            sealed = path.read_bytes()
        except OSError as error:
            reason = error.strerror or "it cannot be read"
            sealed, missing = b"", isinstance(error, FileNotFoundError)
        else:
            reason, missing = "it is empty", False
        if missing and own:
            raise NothingStored(
                f"{reference.text}: there is no such entry",
                next_step=f"store it: callgate secrets set {reference.text}",
            )
        if not sealed:
            raise SecretError(f"{reference.text} cannot be read: {reason}", next_step="check the path")
        chosen = reference.options.get("identity", "") or ("" if own else os.environ.get("SOPS_AGE_KEY_FILE", ""))
        identity = Path(chosen).expanduser() if chosen else self._directory / IDENTITY
        key = read_private(str(identity), f"the identity of {reference.text}")

        def decrypt() -> bytes:
            found: bytes = _pyrage().decrypt(sealed, _identities(key))
            return found

        data = within(NETWORK_S, reference.text, decrypt, lambda error: _problem(reference, error))
        return Document(data if reference.key or own else without_line_end(data))

    def write(self, reference: Reference, value: bytes) -> None:
        """Encrypt `value` into the store: a new file in the place of the old one, whole or not at all."""
        if reference.is_file or reference.key or reference.options:
            raise SecretError(
                f"{reference.text} is not an entry of callgate's own store",
                next_step="change other age files with the program that made them, or write age://NAME",
            )
        path = self._file(reference)
        self._make_directory()

        def encrypt() -> None:
            recipients = [identity.to_public() for identity in _own_identities(self._identity())]
            _replace(path, _pyrage().encrypt(value, recipients))

        within(NETWORK_S, reference.text, encrypt, lambda error: _problem(reference, error))

    def remove(self, reference: Reference) -> bool:
        """Delete the file."""
        if reference.is_file:
            raise SecretError(f"{reference.text} is not an entry of callgate's own store", next_step="delete the file")
        try:
            self._file(reference).unlink()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise SecretError(
                f"{reference.text} cannot be deleted: {error.strerror}", next_step="check the store's owner and mode"
            ) from None
        return True

    def close(self) -> None:
        """Nothing is held."""

    def _file(self, reference: Reference) -> Path:
        name = quote(reference.parts[0], safe="")
        if len(name) > NAME_BYTES:
            raise SecretError(f"{reference.text[:80]}… has too long a name", next_step="choose a shorter one")
        return self._directory / f"{name}.age"

    def _make_directory(self) -> None:
        problem = ""
        try:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            status = self._directory.stat()
            if status.st_mode & 0o077:
                self._directory.chmod(0o700)
        except OSError as error:
            problem = error.strerror or "it cannot be made"
        if problem:
            raise SecretError(f"{self._directory} cannot be used: {problem}", next_step="check the state directory")

    def _identity(self) -> bytes:
        """The store's identity, made when it is first needed; two processes agree on one."""
        path = self._directory / IDENTITY
        if not path.exists():
            made = _pyrage().x25519.Identity.generate()
            text = f"# callgate's own secrets are encrypted to this key\n# public key: {made.to_public()}\n{made}\n"
            _create(path, text.encode())
        return read_private(str(path), "the identity of callgate's store")


def _pyrage() -> Any:
    return importlib.import_module("pyrage")


def _own_identities(key: bytes) -> list[Any]:
    found = [identity for identity in _identities(key) if hasattr(identity, "to_public")]
    if not found:
        raise SecretError("the store's identity is no age identity", next_step="restore identity.txt from a backup")
    return found


def _identities(key: bytes) -> list[Any]:
    pyrage = _pyrage()
    if b"PRIVATE KEY-----" in key:
        return [pyrage.ssh.Identity.from_buffer(key)]
    lines = (line.strip() for line in key.decode("ascii", "replace").splitlines())
    return [pyrage.x25519.Identity.from_str(line) for line in lines if line.startswith("AGE-SECRET-KEY-1")]


def _create(path: Path, data: bytes) -> None:
    """A new file, complete from the first moment it has its name; another process's file stays."""
    temporary = _temporary(path, data)
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        os.unlink(temporary)
    _sync_directory(path.parent)


def _replace(path: Path, data: bytes) -> None:
    if path.exists():
        check_private(path.stat(), str(path), path.name)
    os.replace(_temporary(path, data), path)
    _sync_directory(path.parent)


def _temporary(path: Path, data: bytes) -> str:
    temporary = f"{path}.{os.getpid()}.{os.urandom(6).hex()}.new"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        os.unlink(temporary)
        raise
    return temporary


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _problem(reference: Reference, error: Exception) -> SecretError:
    kind = type(error).__name__
    if kind == "DecryptError":
        return SecretError(
            f"{reference.text} cannot be decrypted with this identity, or is not an age file",
            next_step="name the identity it was encrypted to: ?identity=/path (an SSH key must have no passphrase)",
        )
    if isinstance(error, OSError):
        return SecretError(
            f"{reference.text} cannot be written: {error.strerror}", next_step="check the state directory and its disk"
        )
    return SecretError(
        f"{reference.text}: the identity cannot be used ({kind})",
        next_step="name a file with an age identity, or an SSH key without passphrase",
    )
