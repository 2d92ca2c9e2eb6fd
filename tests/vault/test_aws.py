"""AWS Secrets Manager, against moto's server on loopback."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from callgate.errors import SecretError
from callgate.vault.fields import NothingStored
from callgate.vault.session import Session
from callgate.vault.stores import open_store
from tests.support.processes import free_port, running

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("aws")]

CANARY = "aws-Canary-0123456789"
SETTINGS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_REGION": "eu-central-1",
    "AWS_DEFAULT_REGION": "eu-central-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    pytest.importorskip("moto")
    port = free_port()
    program = Path(sys.executable).parent / "moto_server"
    with running([str(program), "-H", "127.0.0.1", "-p", str(port)], port):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def client(endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    import boto3

    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", endpoint)
    made = boto3.session.Session().client("secretsmanager")
    yield made
    made.close()


def read(text: str, state: Path) -> bytes:
    with Session(state) as session:
        return session.resolve(text).value


def refused(text: str, state: Path) -> SecretError:
    with pytest.raises(SecretError) as error:
        read(text, state)
    assert CANARY not in repr(error.value) + error.value.diagnostics()
    assert error.value.__cause__ is None and error.value.__context__ is None
    return error.value


def test_whole_secrets_members_and_binaries(client: Any, tmp_path: Path) -> None:
    client.create_secret(Name="prod/mcp", SecretString=f'{{"gh": {{"token": "{CANARY}"}}, "port": 1}}')
    arn = client.create_secret(Name="plain", SecretString=CANARY)["ARN"]
    client.create_secret(Name="binary", SecretBinary=b"\x00\xff")
    assert read("awssm://prod/mcp#gh.token", tmp_path) == CANARY.encode()
    assert read("awssm://plain", tmp_path) == read(f"awssm://{arn}", tmp_path) == CANARY.encode()
    assert read("awssm://binary", tmp_path) == b"\x00\xff"
    assert isinstance(refused("awssm://prod/mcp#gl.token", tmp_path), NothingStored)


def test_stages_and_versions(client: Any, tmp_path: Path) -> None:
    first = client.create_secret(Name="rotated", SecretString="old-Value-123")["VersionId"]
    with Session(tmp_path) as session:
        assert session.resolve("awssm://rotated").value == b"old-Value-123"
        client.put_secret_value(SecretId="rotated", SecretString=CANARY)
        (secret,) = session.refresh()
        assert secret.value == CANARY.encode()
    assert read("awssm://rotated?stage=AWSPREVIOUS", tmp_path) == b"old-Value-123"
    assert read("awssm://rotated?stage=AWSCURRENT", tmp_path) == CANARY.encode()
    assert read(f"awssm://rotated?version={first}", tmp_path) == b"old-Value-123"
    assert refused("awssm://rotated?stage=AWSPENDING", tmp_path).next_step


def test_what_goes_wrong_is_said(client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = refused("awssm://nothing", tmp_path)
    assert isinstance(missing, NothingStored) and "region" in missing.next_step
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert "AWS_PROFILE" in refused("awssm://plain", tmp_path).next_step
    monkeypatch.delenv("AWS_PROFILE")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", f"http://127.0.0.1:{probe.getsockname()[1]}")
        assert "network" in refused("awssm://plain", tmp_path).next_step
    for name in SETTINGS:
        if name != "AWS_EC2_METADATA_DISABLED":
            monkeypatch.delenv(name)
    assert "AWS_REGION" in refused("awssm://plain", tmp_path).next_step
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    assert "sign in" in refused("awssm://plain", tmp_path).next_step


def test_a_store_to_write_to(client: Any, tmp_path: Path) -> None:
    store = open_store("awssm", tmp_path)
    text = store.put("github-TOKEN", CANARY.encode())
    assert text == "awssm://callgate/github-TOKEN"
    assert client.get_secret_value(SecretId="callgate/github-TOKEN")["SecretString"] == CANARY
    assert store.get("github-TOKEN") == CANARY.encode()
    with pytest.raises(SecretError):
        store.put("github-TOKEN", b"another-Value")
    store.put("github-TOKEN", b"another-Value", replace=True)
    assert store.get("github-TOKEN") == b"another-Value"
    assert store.delete("github-TOKEN") and not store.delete("github-TOKEN")
    with pytest.raises(NothingStored):
        store.get("github-TOKEN")
    store.put("github-TOKEN", CANARY.encode())  # within the week in which it can be restored
    assert store.get("github-TOKEN") == CANARY.encode()
    store.put("binary", b"\xff\x00")
    assert store.get("binary") == b"\xff\x00"
    store.close()
