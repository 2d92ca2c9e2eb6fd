"""Signing with a key that never leaves Vault or OpenBao: the transit secrets engine, keys of type ed25519."""

from __future__ import annotations

import binascii
import os
from base64 import b64decode, b64encode
from typing import Any

from callgate.errors import TrustError
from callgate.text import visible

TIMEOUT_S = 10


class TransitSigner:
    """A key of the transit engine. `client` is an `hvac.Client` that may read and use the key."""

    __slots__ = ("_client", "_key", "_mount", "_public", "_version")

    def __init__(self, client: Any, mount: str, key: str) -> None:
        self._client = client
        self._mount = mount
        self._key = key
        answer = self._ask("read", lambda transit: transit.read_key(name=key, mount_point=mount))
        data = answer.get("data", {})
        if data.get("type") != "ed25519":
            raise TrustError(
                f"the transit key {self._shown} is of type {visible(str(data.get('type')), 40)}",
                effect="nothing was signed",
                next_step="make one of type ed25519",
            )
        self._version = int(data["latest_version"])
        self._public = _decoded(data["keys"][str(self._version)]["public_key"])

    @property
    def _shown(self) -> str:
        return visible(f"{self._mount}/{self._key}", 200)

    def public(self) -> bytes:
        """The raw public key of the latest version."""
        return self._public

    def sign(self, data: bytes) -> bytes:
        """The signature, made by the server. Raises TrustError."""
        answer = self._ask(
            "sign",
            lambda transit: transit.sign_data(
                name=self._key,
                mount_point=self._mount,
                hash_input=b64encode(data).decode(),
                key_version=self._version,
            ),
        )
        signature = str(answer.get("data", {}).get("signature", ""))
        prefix = f"vault:v{self._version}:"
        if not signature.startswith(prefix):
            raise TrustError(f"the transit key {self._shown} gave no signature", next_step="ask who runs the server")
        return _decoded(signature.removeprefix(prefix))

    def _ask(self, what: str, call: Any) -> dict[str, Any]:
        try:
            answer = call(self._client.secrets.transit)
        except Exception as error:  # hvac's own errors, and those of the HTTP library below
            # The text of the error may repeat what was sent: only its kind is told.
            raise TrustError(
                f"the transit key {self._shown} cannot be used to {what} ({type(error).__name__})",
                effect="nothing was signed",
                next_step="check $VAULT_ADDR, the token's policy and that the key exists",
            ) from error
        return answer if isinstance(answer, dict) else {}


def _decoded(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise TrustError("the transit engine answered something that is no base64", next_step="ask who runs it") from (
            error
        )


def from_environment(path: str) -> TransitSigner:
    """`MOUNT/KEY` at $VAULT_ADDR (or $BAO_ADDR) with $VAULT_TOKEN (or $BAO_TOKEN). Raises TrustError."""
    address = os.environ.get("BAO_ADDR") or os.environ.get("VAULT_ADDR", "")
    token = os.environ.get("BAO_TOKEN") or os.environ.get("VAULT_TOKEN", "")
    mount, _, key = path.rpartition("/")
    if not key or not address or not token:
        raise TrustError(
            "a transit key needs MOUNT/KEY, an address and a token",
            effect="nothing was signed",
            next_step="set VAULT_ADDR and VAULT_TOKEN, and write transit:transit/NAME",
        )
    try:
        import hvac  # type: ignore[import-untyped]
    except ImportError as error:
        raise TrustError(
            "a transit key needs hvac, which is not installed", next_step="install callgate[vault]"
        ) from error
    return TransitSigner(hvac.Client(url=address, token=token, timeout=TIMEOUT_S), mount or "transit", key)
