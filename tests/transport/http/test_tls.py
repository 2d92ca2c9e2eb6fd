"""TLS on both sides, with certificates made for the test."""

from __future__ import annotations

import datetime as dt
import ipaddress
import socket
import ssl
import warnings
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from callgate.config import ListenConfig
from callgate.errors import ConfigError
from callgate.transport.http import tls
from tests.transport.http.harness import Client, Upstream, call, echo, gateway, post


def certificate(directory: Path, name: str = "localhost", *, password: bytes | None = None) -> ListenConfig:
    """A self-signed certificate for localhost and 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    names = x509.SubjectAlternativeName([x509.DNSName(name), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    kind = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    (directory / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (directory / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, kind)
    )
    return ListenConfig(tls_certificate=str(directory / "cert.pem"), tls_key=str(directory / "key.pem"))


def trusting(listen: ListenConfig) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=listen.tls_certificate)


def _agreed_with_tls_1_1(port: int) -> str | None:
    """The version agreed on with a client that offers TLS 1.1 at most; None when the gateway refuses."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.minimum_version = ssl.TLSVersion.TLSv1
    try:
        with Client(port, context) as client:
            assert isinstance(client.socket, ssl.SSLSocket)
            return client.socket.version()
    except OSError:
        return None


def test_clients_over_tls(tmp_path: Path) -> None:
    listen = certificate(tmp_path)
    upstream = Upstream(echo)
    with gateway(f"http://127.0.0.1:{upstream.port}/mcp", tmp_path, tls=tls.server_context(listen)) as serving:
        with Client(serving.port, trusting(listen)) as client:
            assert isinstance(client.socket, ssl.SSLSocket)
            assert client.socket.version() in ("TLSv1.2", "TLSv1.3")
            for number in range(3):
                client.send(post(call(number), host="localhost"))
                assert client.answer().json()["id"] == number
            client.send(post(call(), host="evil.example"))
            assert client.answer().status == 421
        assert _agreed_with_tls_1_1(serving.port) is None
        with pytest.raises((OSError, EOFError)), Client(serving.port) as plain:
            plain.send(post(call()))
            plain.answer()
    upstream.close()


@pytest.mark.parametrize("trusted", [True, False])
def test_upstreams_over_tls_are_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trusted: bool) -> None:
    listen = certificate(tmp_path)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", listen.tls_certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(listen.tls_certificate, listen.tls_key)
    upstream = Upstream(echo, tls=context)
    with gateway(f"https://localhost:{upstream.port}/mcp", tmp_path) as serving:
        answer = serving.ask(post(call(1)))
        if trusted:
            assert answer.status == 200
            assert upstream.requests[0].header("host") == f"localhost:{upstream.port}"
        else:
            assert answer.status == 502
            assert "certificate does not verify" in answer.json()["error"]["message"]
            assert upstream.requests == []
    upstream.close()


def test_a_certificate_for_another_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listen = certificate(tmp_path, "other.example")
    monkeypatch.setenv("SSL_CERT_FILE", listen.tls_certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(listen.tls_certificate, listen.tls_key)
    upstream = Upstream(echo, tls=context)
    with gateway(f"https://localhost:{upstream.port}/mcp", tmp_path) as serving:
        assert serving.ask(post(call(1))).status == 502
    upstream.close()


def test_configuration_errors(tmp_path: Path) -> None:
    good = certificate(tmp_path)
    (tmp_path / "junk.pem").write_text("junk")
    other = tmp_path / "other"
    other.mkdir()
    foreign = certificate(other)
    locked = tmp_path / "locked"
    locked.mkdir()
    encrypted = certificate(locked, password=b"secret")
    assert tls.server_context(ListenConfig()) is None
    for listen in (
        ListenConfig(tls_certificate=good.tls_certificate),
        ListenConfig(tls_key=good.tls_key),
        ListenConfig(tls_certificate=str(tmp_path / "no.pem"), tls_key=good.tls_key),
        ListenConfig(tls_certificate=str(tmp_path / "junk.pem"), tls_key=good.tls_key),
        ListenConfig(tls_certificate=good.tls_certificate, tls_key=foreign.tls_key),
        encrypted,
    ):
        with pytest.raises(ConfigError) as error:
            tls.server_context(listen)
        assert error.value.next_step


def renew(context: ssl.SSLContext, listen: ListenConfig) -> None:
    fresh = tls.server_context(listen)
    assert fresh is not None
    tls.renew(context, fresh)


@pytest.mark.parametrize("broken", ["another key", "no key", "junk"])
def test_what_cannot_be_used_at_a_reload_leaves_the_old_in_use(tmp_path: Path, broken: str) -> None:
    """A certificate renewed by halves: the new certificate is there and its key is not."""
    (tmp_path / "new").mkdir()
    listen, new = certificate(tmp_path), certificate(tmp_path / "new")
    context = tls.server_context(listen)
    assert context is not None
    key = {"another key": listen.tls_key, "no key": str(tmp_path / "none"), "junk": new.tls_certificate}[broken]
    with gateway("http://127.0.0.1:1/mcp", tmp_path, tls=context) as serving:
        with pytest.raises(ConfigError):
            renew(context, ListenConfig(tls_certificate=new.tls_certificate, tls_key=key))
        with Client(serving.port, trusting(listen)) as client:
            client.send(b"GET /s/mcp HTTP/1.1\r\nHost: evil.example\r\n\r\n")
            assert client.answer().status == 421
        renew(context, new)
        with Client(serving.port, trusting(new)) as client:
            client.send(b"GET /s/mcp HTTP/1.1\r\nHost: evil.example\r\n\r\n")
            assert client.answer().status == 421
        with pytest.raises(ssl.SSLError):
            Client(serving.port, trusting(listen))


def test_a_certificate_renewed_twice_serves_all_kinds_of_clients(tmp_path: Path) -> None:
    """Also those that name no server, and those of TLS 1.2; of the files only what was read matters."""
    places = [tmp_path / name for name in ("first", "second", "third")]
    for place in places:
        place.mkdir()
    first, second, third = map(certificate, places)
    context = tls.server_context(first)
    assert context is not None
    with gateway("http://127.0.0.1:1/mcp", tmp_path, tls=context) as serving:
        for listen in (second, third):
            fresh = tls.server_context(listen)
            assert fresh is not None
            Path(listen.tls_key).unlink()
            tls.renew(context, fresh)
            for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
                for name in (None, "localhost"):
                    trust = trusting(listen)
                    trust.minimum_version = trust.maximum_version = version
                    trust.check_hostname = name is not None
                    with (
                        socket.create_connection(("127.0.0.1", serving.port), 30) as sock,
                        trust.wrap_socket(sock, server_hostname=name) as client,
                    ):
                        client.sendall(b"GET /s/mcp HTTP/1.1\r\nHost: evil.example\r\n\r\n")
                        assert client.recv(12) == b"HTTP/1.1 421"
            for old in {first, second, third} - {listen}:
                with pytest.raises(ssl.SSLError):
                    Client(serving.port, trusting(old))
        assert _agreed_with_tls_1_1(serving.port) is None


def test_a_stalled_handshake_is_dropped(tmp_path: Path) -> None:
    listen = certificate(tmp_path)
    quick = ListenConfig(header_timeout_s=0.5)
    with (
        gateway("http://127.0.0.1:1/mcp", tmp_path, tls=tls.server_context(listen), listen=quick) as serving,
        socket.create_connection(("127.0.0.1", serving.port), 30) as sock,
    ):
        sock.sendall(b"\x16\x03\x01")
        sock.settimeout(30)
        while sock.recv(100):
            pass  # an alert may come before the end
