"""Vault's protocol for real: an OpenBao server on loopback, policies, logins, leases and what can go wrong."""

from __future__ import annotations

import base64
import importlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from callgate.config import SecretConfig
from callgate.errors import SecretError
from callgate.vault.delivery import deliver
from callgate.vault.fields import NothingStored
from callgate.vault.session import Secret, Session
from callgate.vault.stores import open_store
from tests.support.openbao import ROOT_TOKEN, Bao, running_bao
from tests.support.rabbit import Rabbit, introduce, running_rabbit

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("openbao")]

CANARY = "bao-Canary-0123456789"


@pytest.fixture(scope="module")
def bao() -> Iterator[Bao]:
    with running_bao() as server:
        client = server.client()
        client.secrets.kv.v2.create_or_update_secret("mcp/github", {"token": CANARY, "port": 5432})
        client.sys.enable_secrets_engine("kv", "old", options={"version": "1"})
        client.write_data("old/mcp", data={"token": CANARY})
        client.sys.enable_secrets_engine("kv", "team/kv", options={"version": "2"})
        client.secrets.kv.v2.create_or_update_secret("a b#c", {"x": CANARY}, mount_point="team/kv")
        yield server


@pytest.fixture(scope="module")
def rabbit(bao: Bao) -> Iterator[Rabbit]:
    with running_rabbit() as found:
        introduce(bao.client(), found)
        yield found


@pytest.fixture(autouse=True)
def _settings(bao: Bao, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("TOKEN", "ADDR", "ROLE_ID", "SECRET_ID", "ROLE", "NAMESPACE", "CACERT", "AUTH_METHOD"):
        monkeypatch.delenv(f"VAULT_{name}", raising=False)
        monkeypatch.delenv(f"BAO_{name}", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("VAULT_ADDR", bao.address)
    monkeypatch.setenv("VAULT_TOKEN", ROOT_TOKEN)


def read(text: str, state: Path) -> bytes:
    with Session(state) as session:
        return session.resolve(text).value


def refused(text: str, state: Path) -> SecretError:
    with pytest.raises(SecretError) as error:
        read(text, state)
    assert CANARY not in repr(error.value) + error.value.diagnostics()
    assert error.value.__cause__ is None and error.value.__context__ is None
    return error.value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("vault://secret/mcp/github#token", CANARY),
        ("vault://secret/mcp/github#port", "5432"),
        ("vault://secret/mcp/github#token?version=1", CANARY),
        ("vault://old/mcp#token", CANARY),
        ("vault://old/mcp", CANARY),
        ("vault://team/kv/a b%23c#x", CANARY),
    ],
)
def test_kv_of_both_versions(text: str, value: str, tmp_path: Path) -> None:
    assert read(text, tmp_path) == value.encode()


def test_versions(bao: Bao, tmp_path: Path) -> None:
    for value in ("one-Value", "two-Value", "three-Value"):
        bao.client().secrets.kv.v2.create_or_update_secret("versions", {"v": value})
    bao.client().secrets.kv.v2.delete_secret_versions("versions", [2])
    assert read("vault://secret/versions#v", tmp_path) == b"three-Value"
    assert read("vault://secret/versions#v?version=1", tmp_path) == b"one-Value"
    assert isinstance(refused("vault://secret/versions#v?version=2", tmp_path), NothingStored)
    assert isinstance(refused("vault://secret/versions#v?version=9", tmp_path), NothingStored)
    assert "no versions" in refused("vault://old/mcp?version=1", tmp_path).what


def test_what_is_not_there(tmp_path: Path) -> None:
    assert isinstance(refused("vault://secret/none#x", tmp_path), NothingStored)
    assert isinstance(refused("vault://secret/mcp/github#none", tmp_path), NothingStored)
    assert "2 members" in refused("vault://secret/mcp/github", tmp_path).what


def test_a_policy_denies(bao: Bao, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAULT_TOKEN", bao.token("secret/data/mcp/*:read"))
    assert read("vault://secret/mcp/github#token", tmp_path) == CANARY.encode()
    assert "policy" in refused("vault://old/mcp#token", tmp_path).next_step


def test_a_wrong_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAULT_TOKEN", "wrong-Token-" + CANARY)
    assert "sign in again" in refused("vault://secret/mcp/github#token", tmp_path).next_step


def test_a_token_that_was_revoked_meanwhile(bao: Bao, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = bao.token("secret/data/*:read")
    monkeypatch.setenv("VAULT_TOKEN", token)
    with Session(tmp_path) as session:
        assert session.resolve("vault://secret/mcp/github#token").value == CANARY.encode()
        bao.client().auth.token.revoke(token)
        with pytest.raises(SecretError) as error:
            session.resolve("vault://secret/versions#v")
    assert "token" in error.value.what


def test_the_token_file_of_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VAULT_TOKEN")
    assert "no login" in refused("vault://secret/mcp/github#token", tmp_path).what
    (tmp_path / ".vault-token").write_text(ROOT_TOKEN + "\n")
    (tmp_path / ".vault-token").chmod(0o644)
    assert "chmod 600" in refused("vault://secret/mcp/github#token", tmp_path).next_step
    (tmp_path / ".vault-token").chmod(0o600)
    assert read("vault://secret/mcp/github#token", tmp_path) == CANARY.encode()


def test_openbaos_own_variables_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAO_TOKEN", ROOT_TOKEN)
    monkeypatch.setenv("VAULT_TOKEN", "wrong")
    assert read("vault://secret/mcp/github#token", tmp_path) == CANARY.encode()


# -- logins


def enable(bao: Bao, method: str, path: str) -> Any:
    client = bao.client()
    if f"{path}/" not in client.sys.list_auth_methods()["data"]:
        client.sys.enable_auth_method(method, path=path)
    client.sys.create_or_update_policy("mcp", 'path "secret/data/mcp/*" { capabilities = ["read"] }')
    return client


def test_approle_signs_in_and_out(bao: Bao, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = enable(bao, "approle", "approle")
    client.write_data("auth/approle/role/mcp", data={"token_policies": "mcp", "token_ttl": "60s"})
    role = client.read("auth/approle/role/mcp/role-id")["data"]["role_id"]
    secret = client.write_data("auth/approle/role/mcp/secret-id", data={})["data"]["secret_id"]
    monkeypatch.delenv("VAULT_TOKEN")
    monkeypatch.setenv("VAULT_ROLE_ID", role)
    monkeypatch.setenv("VAULT_SECRET_ID", secret)
    before = accessors(client)
    with Session(tmp_path) as session:
        assert session.resolve("vault://secret/mcp/github#token").value == CANARY.encode()
        assert len(accessors(client) - before) == 1
    assert accessors(client) == before
    monkeypatch.setenv("VAULT_SECRET_ID", "wrong-" + CANARY)
    assert "login was refused" in refused("vault://secret/mcp/github#token", tmp_path).what
    path = tmp_path / "secret-id"
    path.write_text(secret + "\n")
    path.chmod(0o600)
    monkeypatch.delenv("VAULT_SECRET_ID")
    monkeypatch.setenv("VAULT_SECRET_ID_FILE", str(path))
    assert read("vault://secret/mcp/github#token", tmp_path) == CANARY.encode()


def accessors(client: Any) -> set[str]:
    return set(client.list("auth/token/accessors")["data"]["keys"])


def test_a_login_is_kept_alive(bao: Bao, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = enable(bao, "approle", "approle")
    client.write_data(
        "auth/approle/role/brief", data={"token_policies": "mcp", "token_ttl": "2s", "token_max_ttl": "4s"}
    )
    monkeypatch.delenv("VAULT_TOKEN")
    monkeypatch.setenv("VAULT_ROLE_ID", client.read("auth/approle/role/brief/role-id")["data"]["role_id"])
    monkeypatch.setenv(
        "VAULT_SECRET_ID", client.write_data("auth/approle/role/brief/secret-id", data={})["data"]["secret_id"]
    )
    problems: list[SecretError] = []
    with Session(tmp_path, on_problem=problems.append) as session:
        session.resolve("vault://secret/mcp/github#token")
        until = time.monotonic() + 6  # longer than one login can last at all
        while time.monotonic() < until:
            assert not session.refresh()
            time.sleep(0.5)
    assert [problem.what for problem in problems] == []


def segment(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode().rstrip("=")


@pytest.mark.parametrize("mount", ["jwt", "ci/jwt"])
def test_jwt(mount: str, bao: Bao, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = rsa.generate_private_key(65537, 2048)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    client = enable(bao, "jwt", mount)
    client.write_data(f"auth/{mount}/config", data={"jwt_validation_pubkeys": [public.decode()]})
    role = {"role_type": "jwt", "user_claim": "sub", "bound_audiences": ["callgate"], "token_policies": "mcp"}
    client.write_data(f"auth/{mount}/role/mcp", data=role)
    now = int(time.time())
    claims = {"sub": "builder", "aud": "callgate", "iat": now - 10, "nbf": now - 10, "exp": now + 300}
    signed = segment(b'{"alg":"RS256","typ":"JWT"}') + "." + segment(json.dumps(claims).encode())
    token = signed + "." + segment(key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))
    path = tmp_path / "jwt"
    path.write_text(token + "\n")
    monkeypatch.delenv("VAULT_TOKEN")
    monkeypatch.setenv("VAULT_ROLE", "mcp")
    monkeypatch.setenv("VAULT_JWT_FILE", str(path))
    monkeypatch.setenv("VAULT_AUTH_MOUNT", mount)
    assert read("vault://secret/mcp/github#token", tmp_path) == CANARY.encode()
    path.write_text(token[:-8] + "AAAAAAAA")
    error = refused("vault://secret/mcp/github#token", tmp_path)
    assert "login was refused" in error.what and token[:30] not in error.diagnostics()
    path.unlink()
    assert "VAULT_JWT_FILE" in refused("vault://secret/mcp/github#token", tmp_path).next_step


def authority() -> str:
    """A certificate, which the login's settings must name although this cluster speaks plain HTTP."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "cluster")])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(1))
    return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


class Reviews(BaseHTTPRequestHandler):
    """The one question that Vault's Kubernetes login asks a cluster: is this pod's token good?"""

    def log_message(self, *_args: object) -> None:
        return

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        good = asked["spec"]["token"].endswith(".good")
        user = {"username": "system:serviceaccount:agents:callgate", "uid": "1", "groups": []}
        status = {"authenticated": good, **({"user": user} if good else {})}
        body = json.dumps({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "status": status}).encode()
        self.send_response(201)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def test_kubernetes(bao: Bao, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = ThreadingHTTPServer(("127.0.0.1", 0), Reviews)
    cluster.daemon_threads = True
    threading.Thread(target=cluster.serve_forever, daemon=True).start()
    client = enable(bao, "kubernetes", "kubernetes")
    host = f"http://127.0.0.1:{cluster.server_address[1]}"
    settings = {"kubernetes_host": host, "token_reviewer_jwt": "x", "kubernetes_ca_cert": authority()}
    client.write_data("auth/kubernetes/config", data=settings)
    role = {
        "bound_service_account_names": "callgate",
        "bound_service_account_namespaces": "agents",
        "token_policies": "mcp",
    }
    client.write_data("auth/kubernetes/role/mcp", data=role)
    account = {"namespace": "agents", "serviceaccount": {"name": "callgate", "uid": "1"}}
    now = int(time.time())
    claims = {"iss": "x", "iat": now - 10, "nbf": now - 10, "exp": now + 300, "kubernetes.io": account}
    claims["sub"] = "system:serviceaccount:agents:callgate"
    token = segment(b'{"alg":"RS256","typ":"JWT"}') + "." + segment(json.dumps(claims).encode())
    path = tmp_path / "token"
    monkeypatch.delenv("VAULT_TOKEN")
    monkeypatch.setenv("VAULT_ROLE", "mcp")
    monkeypatch.setenv("VAULT_AUTH_METHOD", "kubernetes")
    monkeypatch.setenv("VAULT_JWT_FILE", str(path))
    try:
        path.write_text(f"{token}.good")
        assert read("vault://secret/mcp/github#token", tmp_path) == CANARY.encode()
        path.write_text(f"{token}.nope")
        assert token[:30] not in refused("vault://secret/mcp/github#token", tmp_path).diagnostics()
    finally:
        cluster.shutdown()
        cluster.server_close()


def test_two_ways_to_sign_in_are_one_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAULT_ROLE_ID", "r")
    assert "VAULT_AUTH_METHOD" in refused("vault://secret/mcp/github#token", tmp_path).next_step
    monkeypatch.setenv("VAULT_AUTH_METHOD", "token")
    assert read("vault://secret/mcp/github#token", tmp_path) == CANARY.encode()
    monkeypatch.setenv("VAULT_AUTH_METHOD", "magic")
    assert "approle" in refused("vault://secret/mcp/github#token", tmp_path).next_step


# -- leases


def leases(bao: Bao) -> int:
    found = bao.client().list("sys/leases/lookup/rabbitmq/creds/short")
    return len(found["data"]["keys"]) if found else 0


def lease_time(bao: Bao, ttl: int, longest: int) -> None:
    bao.client().write_data("rabbitmq/config/lease", data={"ttl": ttl, "max_ttl": longest})


def test_a_lease_is_one_for_all_its_members_and_revoked_at_the_end(bao: Bao, rabbit: Rabbit, tmp_path: Path) -> None:
    lease_time(bao, 3600, 7200)
    with Session(tmp_path) as session:
        user = session.resolve("vault://rabbitmq/creds/short#username")
        password = session.resolve("vault://rabbitmq/creds/short#password")
        assert (user.lease_s, user.renewable) == (3600.0, True)
        assert rabbit.users == {user.value.decode()}
        assert password.value != user.value
        assert leases(bao) == 1
    assert rabbit.wait_for(0)
    assert leases(bao) == 0
    assert session.close() == ()


def test_a_lease_is_renewed_and_then_exchanged(bao: Bao, rabbit: Rabbit, tmp_path: Path) -> None:
    lease_time(bao, 2, 6)
    for _ in range(5):  # where the machine stood still, the two seconds were over before they were renewed
        if (lived := exchanged_after(rabbit, tmp_path)) > 2.5:
            break
    assert lived > 2.5, "longer than one lease: it was renewed before it was exchanged"


def exchanged_after(rabbit: Rabbit, state: Path) -> float:
    """The seconds after which a leased credential was exchanged for another."""
    news: list[tuple[Secret, ...]] = []
    changed = threading.Event()

    def on_change(secrets: tuple[Secret, ...]) -> None:
        news.append(secrets)
        changed.set()

    with Session(state, on_change) as session:
        first = session.resolve("vault://rabbitmq/creds/short#username").value
        password = session.resolve("vault://rabbitmq/creds/short#password").value
        started = time.monotonic()
        assert changed.wait(60)
        lived = time.monotonic() - started
        values = {secret.reference: secret.value for secret in news[0]}
        second = values["vault://rabbitmq/creds/short#username"]
        assert second != first
        assert values["vault://rabbitmq/creds/short#password"] != password
        assert session.resolve("vault://rabbitmq/creds/short#username").value in (
            second,
            *(secret.value for one in news for secret in one),
        )
        assert first.decode() not in repr(news) and second.decode() not in repr(news)
    assert rabbit.wait_for(0)
    return lived


def test_a_session_that_ends_with_its_login_takes_the_leases_along(
    bao: Bao, rabbit: Rabbit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease_time(bao, 3600, 7200)
    # No policy lets it revoke a lease by its id; revoking its own login does.
    client = enable(bao, "approle", "approle")
    client.sys.create_or_update_policy("rabbit", 'path "rabbitmq/creds/*" { capabilities = ["read"] }')
    client.write_data("auth/approle/role/rabbit", data={"token_policies": "rabbit"})
    monkeypatch.delenv("VAULT_TOKEN")
    monkeypatch.setenv("VAULT_ROLE_ID", client.read("auth/approle/role/rabbit/role-id")["data"]["role_id"])
    secret = client.write_data("auth/approle/role/rabbit/secret-id", data={})["data"]["secret_id"]
    monkeypatch.setenv("VAULT_SECRET_ID", secret)
    session = Session(tmp_path)
    session.resolve("vault://rabbitmq/creds/short#username")
    assert rabbit.wait_for(1)
    assert session.close() == ()
    assert rabbit.wait_for(0)


def test_what_cannot_be_revoked_is_said(
    bao: Bao, rabbit: Rabbit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease_time(bao, 3600, 7200)
    token = bao.token("rabbitmq/creds/*:read")
    monkeypatch.setenv("VAULT_TOKEN", token)
    session = Session(tmp_path)
    session.resolve("vault://rabbitmq/creds/short#username")
    (problem,) = session.close()
    assert "leased credential" in problem.what
    assert session.close() == ()
    bao.client().auth.token.revoke(token)
    assert rabbit.wait_for(0)


def test_without_a_lease_there_is_no_thread(tmp_path: Path) -> None:
    before = {thread.name for thread in threading.enumerate()}
    with Session(tmp_path) as session:
        session.resolve("vault://secret/mcp/github#token")
        assert "callgate-leases" not in {thread.name for thread in threading.enumerate()} - before


def test_a_rotated_value_is_noticed(bao: Bao, tmp_path: Path) -> None:
    write: Callable[..., Any] = bao.client().secrets.kv.v2.create_or_update_secret
    write("mcp/rotated", {"token": "old-Value-123"})
    with Session(tmp_path) as session:
        config = SecretConfig("vault://secret/mcp/rotated#token", hosts=("api.example.com",))
        delivery = deliver({}, {"TOKEN": config}, session, gated=True)
        assert session.refresh() == ()
        write("mcp/rotated", {"token": "new-Value-456"})
        assert session.resolve("vault://secret/mcp/rotated#token").value == b"old-Value-123"
        (secret,) = session.refresh()
        assert secret.value == b"new-Value-456"
        assert delivery.renewed(session).sentinels[0].value == b"new-Value-456"
        assert session.resolve("vault://secret/mcp/rotated#token").value == b"new-Value-456"


def test_a_new_login_exchanges_what_the_old_one_leased(
    bao: Bao, rabbit: Rabbit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease_time(bao, 3600, 7200)
    client = enable(bao, "approle", "approle")
    client.sys.create_or_update_policy("rabbit", 'path "rabbitmq/creds/*" { capabilities = ["read"] }')
    role = {"token_policies": "rabbit", "token_ttl": "2s", "token_max_ttl": "3s"}
    client.write_data("auth/approle/role/passing", data=role)
    monkeypatch.delenv("VAULT_TOKEN")
    monkeypatch.setenv("VAULT_ROLE_ID", client.read("auth/approle/role/passing/role-id")["data"]["role_id"])
    secret = client.write_data("auth/approle/role/passing/secret-id", data={})["data"]["secret_id"]
    monkeypatch.setenv("VAULT_SECRET_ID", secret)
    changed = threading.Event()
    with Session(tmp_path, lambda _: changed.set()) as session:
        first = session.resolve("vault://rabbitmq/creds/short#username").value.decode()
        assert changed.wait(60)
        second = session.resolve("vault://rabbitmq/creds/short#username").value.decode()
        assert second != first
        with rabbit.changed:
            assert rabbit.changed.wait_for(lambda: first not in rabbit.users, 30)
    assert rabbit.wait_for(0)


# -- writing


@pytest.mark.parametrize("place", ["", "old/callgate"])
def test_a_store_to_write_to(place: str, bao: Bao, tmp_path: Path) -> None:
    store = open_store("vault", tmp_path, place=place)
    text = store.put("github/TOKEN", CANARY.encode())
    assert text == f"vault://{place or 'secret/callgate'}/github%2FTOKEN#value"
    assert store.get("github/TOKEN") == read(text, tmp_path) == CANARY.encode()
    with pytest.raises(SecretError):
        store.put("github/TOKEN", b"another-Value")
    store.put("github/TOKEN", b"another-Value", replace=True)
    assert store.get("github/TOKEN") == b"another-Value"
    assert store.delete("github/TOKEN") and not store.delete("github/TOKEN")
    with pytest.raises(NothingStored):
        store.get("github/TOKEN")
    store.put("github/TOKEN", CANARY.encode())
    assert store.get("github/TOKEN") == CANARY.encode()
    with pytest.raises(SecretError):
        store.put("binary", b"\xff\xfe")
    store.close()


def test_other_members_of_an_entry_stay(bao: Bao, tmp_path: Path) -> None:
    from callgate.vault.providers.vault import VaultProvider
    from callgate.vault.reference import parse

    client = bao.client().secrets.kv.v2
    client.create_or_update_secret("mcp/shared", {"a": "1", "b": "2"})
    provider = VaultProvider()
    provider.write(parse("vault://secret/mcp/shared#b"), b"3")
    provider.write(parse("vault://secret/mcp/shared#c"), b"4")
    assert provider.remove(parse("vault://secret/mcp/shared#a"))
    assert client.read_secret_version("mcp/shared", raise_on_deleted_version=True)["data"]["data"] == {
        "b": "3",
        "c": "4",
    }
    client.delete_latest_version_of_secret("mcp/shared")
    provider.write(parse("vault://secret/mcp/shared#d"), b"5")
    assert client.read_secret_version("mcp/shared", raise_on_deleted_version=True)["data"]["data"] == {"d": "5"}
    with pytest.raises(SecretError):
        provider.write(parse("vault://rabbitmq/creds/short#x"), b"6")
    provider.close()


# -- the server itself


def test_a_server_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        monkeypatch.setenv("VAULT_ADDR", f"http://127.0.0.1:{probe.getsockname()[1]}")
    assert "cannot be reached" in refused("vault://secret/mcp/github#token", tmp_path).what


def test_a_server_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callgate.vault.providers.vault.NETWORK_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv("VAULT_ADDR", f"http://127.0.0.1:{listener.getsockname()[1]}")
        started = time.monotonic()
        assert "did not answer within 1 s" in refused("vault://secret/mcp/github#token", tmp_path).what
        assert time.monotonic() - started < 25


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("VAULT_ADDR", "", "VAULT_ADDR"),
        ("VAULT_ADDR", "http://vault.example:8200", "https"),
        ("VAULT_ADDR", "https://user:pw@vault.example", "https"),
        ("VAULT_ADDR", "unix:///run/x", "https"),
        ("VAULT_SKIP_VERIFY", "true", "VAULT_CACERT"),
        ("VAULT_TOKEN", "two\nlines", "VAULT_TOKEN"),
    ],
)
def test_unsafe_settings_are_refused(
    name: str, value: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    error = refused("vault://secret/mcp/github#token", tmp_path)
    assert hint in error.what + error.next_step
    assert not value or value not in error.diagnostics() or value == "true"


def test_a_proxy_never_gets_the_token_for_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        proxy.settimeout(0.1)
        assert read("vault://secret/mcp/github#token", tmp_path) == CANARY.encode()
        with pytest.raises(TimeoutError):
            proxy.accept()


def test_a_redirect_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as elsewhere, socket.create_server(("127.0.0.1", 0)) as listener:
        target = elsewhere.getsockname()[1]

        def answer() -> None:
            connection, _ = listener.accept()
            asked.append(connection.recv(65_536))
            reply = (
                f"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:{target}/\r\nContent-Length: 0\r\n\r\n"
            )
            connection.sendall(reply.encode())
            connection.close()

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        monkeypatch.setenv("VAULT_ADDR", f"http://127.0.0.1:{listener.getsockname()[1]}")
        assert "redirects" in refused("vault://secret/mcp/github#token", tmp_path).what
        thread.join(60)
        elsewhere.settimeout(0.1)
        with pytest.raises(TimeoutError):
            elsewhere.accept()
    assert asked


def test_namespaces(bao: Bao, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bao.client().write_data("sys/namespaces/division", data={})
    client = importlib.import_module("hvac").Client(url=bao.address, token=ROOT_TOKEN, namespace="division")
    client.sys.enable_secrets_engine("kv", "secret", options={"version": "2"})
    client.secrets.kv.v2.create_or_update_secret("mcp/github", {"token": "division-Value-1"})
    assert read("vault://secret/mcp/github#token", tmp_path) == CANARY.encode()
    monkeypatch.setenv("VAULT_NAMESPACE", "division")
    assert read("vault://secret/mcp/github#token", tmp_path) == b"division-Value-1"
    monkeypatch.setenv("VAULT_NAMESPACE", "nobody")
    refused("vault://secret/mcp/github#token", tmp_path)


def test_a_certificate_must_be_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_bao(str(tmp_path)) as own:
        own.client().secrets.kv.v2.create_or_update_secret("mcp/github", {"token": CANARY})
        monkeypatch.setenv("VAULT_ADDR", own.address)
        assert "VAULT_CACERT" in refused("vault://secret/mcp/github#token", tmp_path).next_step
        monkeypatch.setenv("VAULT_CACERT", own.authority)
        assert read("vault://secret/mcp/github#token", tmp_path) == CANARY.encode()
        monkeypatch.setenv("VAULT_CACERT", str(tmp_path / "none.pem"))
        assert refused("vault://secret/mcp/github#token", tmp_path).next_step


def test_a_sealed_server() -> None:
    with running_bao() as own, pytest.MonkeyPatch.context() as patch:
        own.client().secrets.kv.v2.create_or_update_secret("mcp/github", {"token": CANARY})
        own.client().sys.seal()
        patch.setenv("VAULT_ADDR", own.address)
        assert "sealed" in refused("vault://secret/mcp/github#token", Path("/nonexistent")).what
