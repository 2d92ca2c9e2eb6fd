"""The Ed25519 key (RFC 8032) that signs checkpoints of the evidence log.

Made on first use in `<state>/keys/`: `audit-ed25519.pem` (PKCS#8, mode 0600) and `audit-ed25519.pub.pem`.
Several processes may come first at once: the key is written beside its name and linked into place, so
exactly one wins and the others use it. `cryptography` is imported only when something is signed or verified.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from callgate.audit.files import private_directory, read
from callgate.errors import AuditError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PRIVATE_NAME = "audit-ed25519.pem"
PUBLIC_NAME = "audit-ed25519.pub.pem"
_PEM_BYTES: Final = 64 * 1024
"""No key is longer."""


def key_directory(state_dir: Path) -> Path:
    """`<state>/keys`, made with mode 0700."""
    directory = state_dir / "keys"
    private_directory(directory)
    return directory


def signing_key(state_dir: Path) -> Ed25519PrivateKey:
    """The key of this installation, made when there is none. Raises AuditError."""
    path = state_dir / "keys" / PRIVATE_NAME
    try:
        key_directory(state_dir)
        if not path.exists():
            _make(path)
        key = _load(path)
        _publish(path, key)
        return key
    except OSError as error:
        raise AuditError(
            f"the signing key {path} cannot be used: {error.strerror}",
            next_step="make the directory writable for the user that runs callgate",
        ) from error


def _load(path: Path) -> Ed25519PrivateKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    if path.stat().st_mode & 0o077:
        raise AuditError(
            f"the signing key {path} can be read by others",
            next_step=f"chmod 600 {path}, and make a new key if it leaked",
        )
    try:
        key = load_pem_private_key(read(path, _PEM_BYTES), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # TypeError: it is encrypted
        raise AuditError(f"{path} is not a private key", next_step="move it away for a new one") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise AuditError(f"{path} is not an Ed25519 key", next_step="move it away for a new one")
    return key


def _make(path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    private = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    _place(path, private, 0o600)


def _publish(path: Path, key: Ed25519PrivateKey) -> None:
    """The public half beside it. One that is there already stays: older logs are signed by it, and need it."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    first = path.with_name(PUBLIC_NAME)
    if not first.exists():
        _place(first, public, 0o644)
    with suppress(OSError):  # something else stands there: verification says so
        if read(first, _PEM_BYTES) == public:
            return
    later = path.with_name(f"{path.stem}-{key_id(key.public_key()).partition(':')[2]}.pub.pem")
    if not later.exists():
        _place(later, public, 0o644)


def _place(path: Path, content: bytes, mode: int) -> None:
    """Write a whole file under its name, or leave the one that is there."""
    temporary = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        os.write(descriptor, content)
        os.fsync(descriptor)
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        os.close(descriptor)
        temporary.unlink()


def key_id(key: Ed25519PublicKey) -> str:
    """`ed25519:` and the first 32 hex digits of the SHA-256 of the raw public key."""
    return "ed25519:" + hashlib.sha256(key.public_bytes_raw()).hexdigest()[:32]


def public_keys(state_dir: Path, extra: Path | None = None) -> dict[str, Ed25519PublicKey]:
    """Public keys by id: of this installation, and of `extra` (a PEM file) alone when given."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    keys: dict[str, Ed25519PublicKey] = {}
    for path in [extra] if extra else sorted((state_dir / "keys").glob("audit-ed25519*.pub.pem")):
        try:
            key = load_pem_public_key(read(path, _PEM_BYTES))
        except (OSError, ValueError, UnsupportedAlgorithm) as error:
            raise AuditError(f"{path} is not a public key", next_step="name a PEM file with an Ed25519 key") from error
        if isinstance(key, Ed25519PublicKey):
            keys[key_id(key)] = key
    return keys
