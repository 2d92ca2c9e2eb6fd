"""Ed25519 keys (RFC 8032) that sign `callgate.lock`: PEM files, and their public halves.

A private key file is PKCS#8, mode 0600, encrypted where a passphrase was given; the public key lies beside it as
`NAME.pub.pem`. A key's id is `ed25519:` and the first 32 hexadecimal digits of the SHA-256 of the raw public key.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from callgate.errors import TrustError
from callgate.supply.place import read
from callgate.text import visible

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

KEY_BYTES = 64 * 1024
Passphrase: TypeAlias = Callable[[str], bytes]
"""Asks for a passphrase; gets the prompt. Raises TrustError where nobody can be asked."""


def key_id(public: bytes) -> str:
    """The id of a raw public key (32 bytes)."""
    return f"ed25519:{hashlib.sha256(public).hexdigest()[:32]}"


def ask(prompt: str) -> bytes:
    """A passphrase from the terminal, without echo. Raises TrustError where there is none."""
    import getpass

    if not sys.stdin.isatty():
        raise TrustError(
            "the key is encrypted, and there is no terminal to ask for its passphrase",
            effect="nothing was signed",
            next_step="sign at a terminal, or use a key in a keyring or in Vault transit",
        )
    return getpass.getpass(prompt).encode()


def generate(path: Path, passphrase: bytes = b"") -> str:
    """Make a key pair: `path` (0600) and `path` with `.pub.pem`. Returns the key's id. Never replaces a file."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    key = Ed25519PrivateKey.generate()
    encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    public = public_path(path)
    for one in (path, public):
        if os.path.lexists(one):
            raise TrustError(
                f"{visible(str(one), 300)} is already there", effect="no key was made", next_step="name another file"
            )
    _new(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption), 0o600)
    _new(public, public_pem(key.public_key().public_bytes_raw()), 0o644)
    return key_id(key.public_key().public_bytes_raw())


def public_path(path: Path) -> Path:
    """Where the public half of a private key file lies: `release.pem` has `release.pub.pem`."""
    return path.with_name(path.name.removesuffix(".pem") + ".pub.pem")


def public_pem(public: bytes) -> bytes:
    """A raw public key as PEM (SubjectPublicKeyInfo)."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = Ed25519PublicKey.from_public_bytes(public)
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _new(path: Path, data: bytes, mode: int) -> None:
    beside = path.with_name(f".{path.name}.{os.urandom(6).hex()}.tmp")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            with open(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(descriptor)
            os.link(beside, path)  # as a rename that never replaces
        finally:
            os.unlink(beside)
    except OSError as error:
        raise TrustError(
            f"cannot write {visible(str(path), 300)}: {error.strerror}",
            effect="no key was made",
            next_step="check the directory",
        ) from error


def load_private(path: Path, passphrase: Passphrase = ask) -> Ed25519PrivateKey:
    """A private key from its file. Raises TrustError: others can read it, the passphrase is wrong, not Ed25519."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    data = read(path, KEY_BYTES, "key")
    shown = visible(str(path), 300)
    if os.stat(path).st_mode & 0o077:
        raise TrustError(
            f"the key {shown} can be read by others",
            effect="nothing was signed",
            next_step=f"chmod 600 {shown}, and make a new key if it leaked",
        )
    try:
        try:
            key = load_pem_private_key(data, None)
        except TypeError:  # it is encrypted
            key = load_pem_private_key(data, passphrase(f"passphrase of {shown}: "))
    except ValueError as error:
        raise TrustError(
            f"{shown} is not a private key, or the passphrase is wrong",
            effect="nothing was signed",
            next_step="try again, or name another key",
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise TrustError(f"{shown} is not an Ed25519 key", next_step="make one: callgate trust keygen FILE")
    return key


def load_public(path: Path) -> Ed25519PublicKey:
    """A public key from a PEM file. Raises TrustError."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    shown = visible(str(path), 300)
    try:
        key = load_pem_public_key(read(path, KEY_BYTES, "public key"))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise TrustError(f"{shown} is not a public key", next_step="name a PEM file with an Ed25519 key") from error
    if not isinstance(key, Ed25519PublicKey):
        raise TrustError(f"{shown} is not an Ed25519 key", next_step="name a PEM file with an Ed25519 key")
    return key


def load_public_keys(paths: Sequence[Path], threshold: int) -> dict[str, tuple[Ed25519PublicKey, Path]]:
    """Public keys by id, each key once however many files hold it. Raises TrustError for too few."""
    keys: dict[str, tuple[Ed25519PublicKey, Path]] = {}
    for path in paths:
        key = load_public(path)
        keys.setdefault(key_id(key.public_bytes_raw()), (key, path))
    if not 1 <= threshold <= len(keys):
        raise TrustError(
            f"{threshold} signatures are asked for, and there are {len(keys)} different keys",
            next_step="correct launch.signers and launch.threshold",
        )
    return keys
