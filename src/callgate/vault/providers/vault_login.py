"""How callgate reaches and signs in to Vault or OpenBao: the variables their own programs use.

| variable (`BAO_…` is read before `VAULT_…`) | what |
|---|---|
| VAULT_ADDR | where; https, or http on this machine |
| VAULT_NAMESPACE, VAULT_CACERT, VAULT_CAPATH, VAULT_CLIENT_CERT, VAULT_CLIENT_KEY | as for `vault` |
| VAULT_TOKEN, else ~/.vault-token | a token that somebody else keeps alive |
| VAULT_ROLE_ID with VAULT_SECRET_ID or VAULT_SECRET_ID_FILE | AppRole |
| VAULT_ROLE with VAULT_JWT_FILE | JWT; without the file, Kubernetes with the pod's own token |
| VAULT_AUTH_METHOD | token, approle, jwt or kubernetes, where several are set |
| VAULT_AUTH_MOUNT | the method's mount, where it is not its name |
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

from callgate.errors import SecretError
from callgate.vault.providers.base import load
from callgate.vault.providers.file import read_private

_POD_TOKEN: Final = "/var/run/secrets/kubernetes.io/serviceaccount/token"  # noqa: S105 - a path
_METHODS: Final = ("token", "approle", "jwt", "kubernetes")
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


def setting(name: str) -> str:
    """A variable of OpenBao's or Vault's own, or ''."""
    return os.environ.get(f"BAO_{name}", "") or os.environ.get(f"VAULT_{name}", "")


def connect() -> Any:
    """A client without a token. Raises SecretError."""
    hvac, requests = load("hvac", "vault"), load("requests", "vault")
    address = setting("ADDR")
    if not address:
        raise SecretError("VAULT_ADDR is not set, so it is not known where Vault is", next_step="set VAULT_ADDR")
    url = urlsplit(address)
    local = url.hostname in _LOOPBACK
    if url.username or url.password or not (url.scheme == "https" or (url.scheme == "http" and local)):
        raise SecretError(
            "VAULT_ADDR is not an https address (http is for this machine only: it would show the token on the way)",
            next_step='write it as "https://vault.example.org:8200"',
        )
    if setting("SKIP_VERIFY").lower() in ("1", "t", "true"):
        raise SecretError(
            "VAULT_SKIP_VERIFY is set: anybody on the way could read the secrets",
            next_step="unset it, and name the server's certificate authority in VAULT_CACERT",
        )
    session = requests.Session()
    session.trust_env = url.scheme == "https"  # a proxy must not get what is meant for this machine
    session.auth = _as_it_is  # or requests would add a password from ~/.netrc
    certificate, key = setting("CLIENT_CERT"), setting("CLIENT_KEY")
    authority = setting("CACERT") or setting("CAPATH")
    session.verify = authority or True
    return hvac.Client(
        url=address.rstrip("/"),
        token="",
        cert=(certificate, key) if certificate and key else None,
        verify=authority or True,
        timeout=(3, 8),
        allow_redirects=False,  # a redirect would carry the token to wherever it points
        session=session,
        namespace=setting("NAMESPACE") or None,
    )


def _as_it_is(request: Any) -> Any:
    return request


def login(client: Any) -> tuple[float, bool]:
    """Give `client` a token. Returns how many seconds callgate's own login lasts and whether it can be renewed.

    (0, False) for a token that callgate did not get by itself, and so neither renews nor revokes.
    """
    method = _method()
    if method == "token":
        client.token = _given_token()
        return 0.0, False
    mount = "/".join(quote(part, safe="") for part in (setting("AUTH_MOUNT") or method).strip("/").split("/"))
    answer = client.adapter.post(url=f"/v1/auth/{mount}/login", json=_credentials(method))
    auth = answer.get("auth") if isinstance(answer, dict) else None
    if not isinstance(auth, dict) or not isinstance(auth.get("client_token"), str):
        raise SecretError(
            f"the login to Vault by {method} gave no token", next_step="check the role and VAULT_AUTH_MOUNT"
        )
    client.token = auth["client_token"]
    return float(auth.get("lease_duration") or 0), bool(auth.get("renewable"))


def _method() -> str:
    chosen = setting("AUTH_METHOD")
    if chosen:
        if chosen not in _METHODS:
            raise SecretError("VAULT_AUTH_METHOD is not known", next_step=f"use one of {', '.join(_METHODS)}")
        return chosen
    found: list[str] = []
    if setting("TOKEN"):
        found.append("token")
    if setting("ROLE_ID"):
        found.append("approle")
    if setting("ROLE"):
        found.append("jwt" if setting("JWT_FILE") else "kubernetes")
    if len(found) > 1:
        raise SecretError(
            f"more than one way to sign in to Vault is set ({', '.join(found)})",
            next_step="say which one: VAULT_AUTH_METHOD",
        )
    return found[0] if found else "token"


def _given_token() -> str:
    token = setting("TOKEN")
    path = Path.home() / ".vault-token"
    if not token and path.is_file():
        token = read_private(str(path), "~/.vault-token").decode("utf-8", "replace").strip()
    if not token:
        raise SecretError(
            "there is no login for Vault",
            next_step="sign in (vault login, bao login), or set VAULT_TOKEN, VAULT_ROLE_ID or VAULT_ROLE",
        )
    if not (token.isascii() and token.isprintable()):
        raise SecretError("the token for Vault is not one line of ASCII", next_step="set VAULT_TOKEN anew")
    return token


def _credentials(method: str) -> dict[str, str]:
    if method == "approle":
        secret = setting("SECRET_ID")
        path = setting("SECRET_ID_FILE")
        if not secret and path:
            secret = read_private(path, "VAULT_SECRET_ID_FILE").decode("utf-8", "replace").strip()
        return {"role_id": setting("ROLE_ID"), **({"secret_id": secret} if secret else {})}
    path = setting("JWT_FILE") or (_POD_TOKEN if method == "kubernetes" else "")
    token = b""
    if path:
        try:
            token = Path(path).read_bytes()[:65_536]  # a pod's own token is readable by all of the pod
        except OSError:
            token = b""
    if not token:
        raise SecretError(
            f"the token for Vault's {method} login cannot be read", next_step="name its file in VAULT_JWT_FILE"
        )
    return {"role": setting("ROLE"), "jwt": token.decode("utf-8", "replace").strip()}
