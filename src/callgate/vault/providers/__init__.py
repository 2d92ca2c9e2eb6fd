"""One file for each place where secrets are kept. `open_provider` loads the one that a reference needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from callgate.errors import SecretError

if TYPE_CHECKING:
    from pathlib import Path

    from callgate.vault.providers.base import Provider


def open_provider(scheme: str, state: Path) -> Provider:
    """The provider of a scheme; `state` is callgate's state directory. Nothing is contacted yet. Raises SecretError."""
    if scheme == "vault":
        from callgate.vault.providers.vault import VaultProvider

        return VaultProvider()
    if scheme == "awssm":
        from callgate.vault.providers.aws import AwsProvider

        return AwsProvider()
    if scheme == "keyring":
        from callgate.vault.providers.keyring_store import KeyringProvider

        return KeyringProvider()
    if scheme == "age":
        from callgate.vault.providers.age_store import AgeProvider

        return AgeProvider(state / "secrets")
    if scheme == "op":
        from callgate.vault.providers.onepassword import OnePasswordProvider

        return OnePasswordProvider()
    if scheme == "env":
        from callgate.vault.providers.env import EnvProvider

        return EnvProvider()
    if scheme == "file":
        from callgate.vault.providers.file import FileProvider

        return FileProvider()
    raise SecretError(f"there is no store {scheme!a}", next_step="see docs/secrets.md for the forms of a reference")
