"""`vault://mount/path#key`: HashiCorp Vault and OpenBao, through hvac.

KV 1 and 2 are told apart by asking the server; every other engine is read as it is, and what it issues with a lease
is renewed while it is needed and revoked at the end. See `vault_login` for address and login.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast
from urllib.parse import quote

from callgate.errors import SecretError
from callgate.vault.deadline import NETWORK_S, within
from callgate.vault.fields import NothingStored
from callgate.vault.providers.base import Document, Lease, load
from callgate.vault.providers.vault_login import connect, login
from callgate.vault.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")
_LOGIN_WORDS: Final = ("role", "secret id", "jwt", "validating token")
_KEPT_TOKENS: Final = 4
_FIELD: Final = "value"
"""The member a secret is written to when the reference names none."""


class VaultProvider:
    """See the module. One login for all references, made when the first is read."""

    def __init__(self) -> None:
        self._client: Any = None
        self._login_s = 0.0
        self._login_renewable = False
        self._old_tokens: list[str] = []
        self.logins = 0
        """How often callgate signed in. What an earlier login leased ends with that login."""
        self._mounts: dict[str, tuple[str, str]] = {}

    # -- reading

    def read(self, reference: Reference) -> Document:
        """The members at the path; of KV 2 the newest version, or the one that is named."""
        return self._call(reference, lambda: self._read(reference))

    def _read(self, reference: Reference) -> Document:
        mount, engine = self._mount(reference)
        path = _url(reference.parts)
        version = reference.options.get("version")
        if engine == "kv2":
            inner = path.removeprefix(mount)
            asked = {"version": version} if version else {}
            answer = self._get(f"{mount}data/{inner}", params=asked)
            data = answer.get("data")
            members = data.get("data") if isinstance(data, dict) else None
        else:
            if version:
                raise SecretError(
                    f"{reference.text}: this mount keeps no versions", next_step="leave ?version out, or use KV 2"
                )
            answer = self._get(path)
            members = answer.get("data")
        if not isinstance(members, dict):
            raise NothingStored(
                f"{reference.text}: there is nothing, or it was deleted", next_step="check path and version"
            )
        return Document(cast("Mapping[str, Any]", members), _lease(answer))

    def _mount(self, reference: Reference) -> tuple[str, str]:
        """The mount's path with a slash at its end, and `kv2`, `kv1` or `other`."""
        path = _url(reference.parts)
        known = self._mounts.get(path)
        if known is None:
            data = self._get(f"sys/internal/ui/mounts/{path}").get("data") or {}
            options = data.get("options") or {}
            engine = "other"
            if data.get("type") in ("kv", "generic"):
                engine = "kv2" if str(options.get("version", "1")) == "2" else "kv1"
            mount = _url(tuple(str(data.get("path", "")).strip("/").split("/"))) + "/"
            if engine != "other" and not path.startswith(mount):
                engine = "other"
            known = self._mounts[path] = mount, engine
        return known

    # -- leases

    def renew(self, lease: Lease) -> Lease:
        """Ask for the lease to go on."""
        shown = parse_shown("a leased credential")
        answer = self._call(shown, lambda: self._put("sys/leases/renew", {"lease_id": lease.id}))
        renewed = _lease(answer)
        return renewed if renewed is not None else Lease(lease.id, 0.0, renewable=False)

    def revoke(self, lease: Lease) -> None:
        """End the credential now."""
        shown = parse_shown("a leased credential")
        self._call(shown, lambda: self._put("sys/leases/revoke", {"lease_id": lease.id}))

    def renew_login(self) -> float:
        """Renew callgate's own login, or sign in again; seconds it lasts, 0 where the token is someone else's."""
        if self._client is None or not self._login_s:
            return 0.0

        def renew() -> float:
            lasts = self._renewed() if self._login_renewable else 0.0
            if lasts > self._login_s / 2:
                self._login_s = lasts
            else:
                self._sign_in(self._client)
            return self._login_s

        return self._call(parse_shown("the login to Vault"), renew)

    def _renewed(self) -> float:
        """Seconds that the renewed token lasts; 0 where it is at its end (servers answer that in several ways)."""
        try:
            auth = self._put("auth/token/renew-self", {}).get("auth") or {}
        except _hvac().VaultError:
            return 0.0
        return float(auth.get("lease_duration") or 0)

    @property
    def login_s(self) -> float:
        """Seconds that callgate's own login lasted when it was made; 0 where it made none."""
        return self._login_s

    # -- writing

    def write(self, reference: Reference, value: bytes) -> None:
        """Create or replace one member; the others stay. A reference without key writes the member `value`."""
        try:
            text = value.decode()
        except UnicodeDecodeError:
            text = ""
        if not text:
            raise SecretError("Vault keeps text only, and this value is none", next_step="keep it in age:// instead")
        self._change(reference, lambda members: members | {_member(reference): text})

    def remove(self, reference: Reference) -> bool:
        """Delete one member; with the last one, the entry with all its versions."""
        found = False

        def without(members: dict[str, Any]) -> dict[str, Any]:
            nonlocal found
            found = _member(reference) in members
            return {name: value for name, value in members.items() if name != _member(reference)}

        self._change(reference, without)
        return found

    def _change(self, reference: Reference, edit: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        def run() -> None:
            mount, engine = self._mount(reference)
            if engine == "other" or reference.options or len(reference.key) > 1:
                raise SecretError(
                    f"{reference.text} is not a place callgate can write to", next_step="name a member of a KV entry"
                )
            path = _url(reference.parts)
            inner = path.removeprefix(mount)
            where = f"{mount}data/{inner}" if engine == "kv2" else path
            old, version = self._present(where, engine)
            new = edit(dict(old))
            if new == old:
                return
            if not new:
                self._delete(f"{mount}metadata/{inner}" if engine == "kv2" else path)
            elif engine == "kv2":
                self._put(where, {"options": {"cas": version}, "data": new})
            else:
                self._put(where, new)

        self._call(reference, run)

    def _present(self, where: str, engine: str) -> tuple[dict[str, Any], int]:
        """The members there are and their version; none and 0 where there is nothing."""
        try:
            answer = self._get(where)
        except _hvac().InvalidPath as error:
            # A deleted version answers 404 with its metadata, and check-and-set wants that version.
            body = getattr(error, "json", None)
            answer = body if isinstance(body, dict) else {}
        data = answer.get("data") or {}
        if engine != "kv2":
            return dict(data), 0
        return dict(data.get("data") or {}), int((data.get("metadata") or {}).get("version") or 0)

    # -- the wire

    def close(self) -> None:
        """Revoke callgate's own login, and with it everything it leased; a token given to it stays valid."""
        client, self._client = self._client, None
        if client is None:
            return
        try:
            if self._login_s:
                within(NETWORK_S, "Vault", lambda: self._sign_out(client), _no_logout)
        finally:
            self._login_s = 0.0
            self._old_tokens = []
            client.token = ""
            client.adapter.close()

    def _sign_out(self, client: Any) -> None:
        current = client.token
        for token in self._old_tokens:
            client.token = token
            try:
                client.adapter.post(url="/v1/auth/token/revoke-self")
            except _hvac().VaultError:
                continue  # it has ended, as earlier logins do
        client.token = current
        client.adapter.post(url="/v1/auth/token/revoke-self")

    def _call(self, reference: Reference, work: Callable[[], _T]) -> _T:
        def run() -> _T:
            if self._client is None:
                client = connect()
                self._sign_in(client)
                self._client = client
                return work()
            try:
                return work()
            except _hvac().Forbidden:
                if not self._login_s or self._login_holds():
                    raise
                self._sign_in(self._client)  # ours has ended meanwhile
                return work()

        return within(NETWORK_S, f"Vault ({reference.text})", run, lambda error: _problem(reference, error))

    def _sign_in(self, client: Any) -> None:
        old = client.token
        self._login_s, self._login_renewable = login(client)
        self.logins += 1
        if old:
            self._old_tokens = [*self._old_tokens, old][-_KEPT_TOKENS:]

    def _login_holds(self) -> bool:
        """Whether our token is good, so that what was forbidden is so for a policy."""
        try:
            self._get("auth/token/lookup-self")
        except _hvac().Forbidden:
            return False
        return True

    def _get(self, path: str, params: Mapping[str, str] | None = None) -> dict[str, Any]:
        return _answer(self._client.adapter.get(url=f"/v1/{path}", params=params or {}))

    def _put(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return _answer(self._client.adapter.put(url=f"/v1/{path}", json=body))

    def _delete(self, path: str) -> None:
        self._client.adapter.delete(url=f"/v1/{path}")


def _answer(answer: Any) -> dict[str, Any]:
    """The JSON object of an answer. A client gives back whatever is not 200 as it is: 204 has no body."""
    if isinstance(answer, dict):
        return answer
    if getattr(answer, "status_code", 0) == 204:
        return {}
    raise SecretError(
        "what answers at VAULT_ADDR is not Vault, or only redirects",
        next_step="name the active server itself in VAULT_ADDR",
    )


def parse_shown(text: str) -> Reference:
    """Something without a reference of its own, under the name that errors give it."""
    return Reference("vault", (), (), {}, text)


def _hvac() -> Any:
    return load("hvac.exceptions", "vault")


def _url(parts: tuple[str, ...]) -> str:
    return "/".join(quote(part, safe="") for part in parts)


def _member(reference: Reference) -> str:
    return reference.key[0] if reference.key else _FIELD


def _lease(answer: Mapping[str, Any]) -> Lease | None:
    lease_id = answer.get("lease_id")
    seconds = answer.get("lease_duration")
    if not isinstance(lease_id, str) or not lease_id or not isinstance(seconds, int | float):
        return None
    return Lease(lease_id, float(seconds), bool(answer.get("renewable")))


def _no_logout(error: Exception) -> SecretError:
    return SecretError(
        f"callgate's login to Vault could not be revoked ({type(error).__name__}); it ends by itself",
        next_step="revoke it by its accessor if that cannot wait",
    )


def _problem(reference: Reference, error: Exception) -> SecretError:
    kind = type(error).__name__
    said = " ".join(str(one) for one in getattr(error, "errors", None) or ()).lower()
    what, next_step = f"Vault refused ({kind})", "see the server's own audit log"
    if kind == "Forbidden":
        if "invalid token" in said or "bad token" in said:
            what, next_step = "the token is not valid (any more)", "sign in again, or set VAULT_TOKEN anew"
        else:
            what = "permission denied: the token is not valid, or no policy allows it"
            next_step = "sign in again, or ask for a policy that allows reading this path"
    elif kind == "InvalidPath":
        return NothingStored(
            f"{reference.text}: there is nothing at this path",
            next_step="check mount, path, version and VAULT_NAMESPACE",
        )
    elif kind == "VaultDown":
        what, next_step = "Vault is sealed or in maintenance", "unseal it: vault operator unseal, bao operator unseal"
    elif kind == "VaultNotInitialized":
        what, next_step = "Vault is not initialised", "initialise it: vault operator init"
    elif kind == "InvalidRequest" and "check-and-set" in said:
        what, next_step = "somebody else changed the entry at the same time", "try again"
    elif kind == "InvalidRequest" and any(word in said for word in _LOGIN_WORDS):
        what, next_step = "the login was refused", "check role, secret id and VAULT_AUTH_MOUNT"
    elif kind == "RateLimitExceeded":
        what, next_step = "Vault is asked too often", "wait, then try again"
    elif kind == "SSLError":
        what, next_step = "Vault's certificate is not trusted", "name its certificate authority in VAULT_CACERT"
    elif kind in ("ConnectionError", "ConnectTimeout", "ReadTimeout", "Timeout", "ProxyError"):
        what, next_step = f"Vault cannot be reached ({kind})", "check VAULT_ADDR, and that the server runs"
    return SecretError(f"{reference.text}: {what}", next_step=next_step)
