"""What signs: anything with a public key that signs bytes with Ed25519. The private key stays where it is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from callgate.errors import TrustError
from callgate.supply.keys import Passphrase, ask, key_id, load_private, public_pem
from callgate.text import visible

KEYRING_SERVICE = "callgate-signing"


class Signer(Protocol):
    """A signing key. Both methods raise TrustError when the key cannot be used."""

    def public(self) -> bytes:
        """The raw Ed25519 public key, 32 bytes."""

    def sign(self, data: bytes) -> bytes:
        """The Ed25519 signature of `data`, 64 bytes."""


class FileSigner:
    """A key in a PEM file, loaded and decrypted once."""

    __slots__ = ("_key",)

    def __init__(self, path: Path, passphrase: Passphrase = ask) -> None:
        self._key = load_private(path, passphrase)

    def public(self) -> bytes:
        """The raw public key."""
        return self._key.public_key().public_bytes_raw()

    def sign(self, data: bytes) -> bytes:
        """The signature."""
        return self._key.sign(data)


class KeyringSigner:
    """A key in the keyring of the operating system, as PEM under the service `callgate-signing` and a name."""

    __slots__ = ("_key",)

    def __init__(self, name: str) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        stored = _keyring_value(name)
        if stored is None:
            raise TrustError(
                f"the keyring holds no signing key '{visible(name, 100)}'",
                effect="nothing was signed",
                next_step=f"make one: callgate trust keygen keyring:{visible(name, 100)}",
            )
        try:
            key = load_pem_private_key(stored.encode(), None)
        except (ValueError, TypeError) as error:
            raise TrustError(
                f"what the keyring holds as '{visible(name, 100)}' is not a key", next_step="use another name"
            ) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise TrustError(f"the key '{visible(name, 100)}' is not an Ed25519 key", next_step="use another name")
        self._key = key

    @staticmethod
    def generate(name: str) -> tuple[str, bytes]:
        """Make a key in the keyring; its id, and the public key as PEM. Never replaces one. Raises TrustError."""
        import keyring
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

        if _keyring_value(name) is not None:
            raise TrustError(
                f"the keyring already holds a key '{visible(name, 100)}'",
                effect="no key was made",
                next_step="use another name",
            )
        key = Ed25519PrivateKey.generate()
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        try:
            keyring.set_password(KEYRING_SERVICE, name, pem)
        except Exception as error:  # each backend raises errors of its own
            raise _no_keyring(error) from error
        public = key.public_key().public_bytes_raw()
        return key_id(public), public_pem(public)

    def public(self) -> bytes:
        """The raw public key."""
        return self._key.public_key().public_bytes_raw()

    def sign(self, data: bytes) -> bytes:
        """The signature."""
        return self._key.sign(data)


def _keyring_value(name: str) -> str | None:
    import keyring

    try:
        return keyring.get_password(KEYRING_SERVICE, name)
    except Exception as error:  # each backend raises errors of its own
        raise _no_keyring(error) from error


def _no_keyring(error: Exception) -> TrustError:
    return TrustError(
        f"the keyring cannot be used ({type(error).__name__})",
        effect="nothing was signed",
        next_step="unlock it, or use a key file: callgate trust keygen FILE",
    )


def signer_for(name: str, passphrase: Passphrase = ask) -> Signer:
    """`FILE`, `keyring:NAME` or `transit:MOUNT/KEY` (Vault or OpenBao, from $VAULT_ADDR and $VAULT_TOKEN)."""
    if name.startswith("keyring:"):
        return KeyringSigner(name.removeprefix("keyring:"))
    if name.startswith("transit:"):
        from callgate.supply.transit import from_environment

        return from_environment(name.removeprefix("transit:"))
    return FileSigner(Path(name).expanduser(), passphrase)
