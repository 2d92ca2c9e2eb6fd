"""The session's CA: what libraries and programs make of it."""

from __future__ import annotations

import ssl
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from callgate.sandbox.egress import authority
from callgate.sandbox.egress.leaves import Leaves
from tests.support.egress import program

PEM, KEY = authority.issue(["api.test", "*.inner.test"])


def handshake(authority_pem: bytes, context: ssl.SSLContext, host: str) -> ssl.SSLObject:
    trusting = ssl.create_default_context(cadata=authority_pem.decode())
    trusting.set_alpn_protocols(["h2", "http/1.1"])
    a, b = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting.wrap_bio(a, b, server_hostname=host)
    server = context.wrap_bio(b, a, server_side=True)
    pending = [client, server]
    for _ in range(10):
        for one in list(pending):
            try:
                one.do_handshake()
                pending.remove(one)
            except ssl.SSLWantReadError:
                pass
        if not pending:
            return client
    raise AssertionError("the handshake does not end")


def test_it_is_a_constrained_authority():
    found = x509.load_pem_x509_certificate(PEM)
    constraints = found.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert constraints.value == x509.BasicConstraints(ca=True, path_length=0)
    usage = found.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.key_cert_sign
    assert usage.crl_sign
    assert not usage.digital_signature
    permitted = found.extensions.get_extension_for_class(x509.NameConstraints)
    assert permitted.critical
    assert set(permitted.value.permitted_subtrees or ()) == {x509.DNSName("inner.test"), x509.DNSName("api.test")}
    key = load_pem_private_key(KEY, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert key.public_key() == found.public_key()
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    assert found.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value == identifier
    found.verify_directly_issued_by(found)
    assert (found.not_valid_after_utc - found.not_valid_before_utc).days == authority.DAYS


def test_every_session_has_another():
    assert authority.issue(["api.test"])[1] != KEY


@pytest.mark.parametrize("host", ["api.test", "x.inner.test"])
def test_leaves_for_its_hosts_are_trusted(host):
    leaves = Leaves(PEM.decode(), KEY.decode())
    client = handshake(PEM, leaves.context(host), host)
    assert client.selected_alpn_protocol() == "http/1.1"
    assert leaves.context(host) is leaves.context(host)


def test_a_leaf_for_a_host_it_may_not_speak_for_is_refused():
    leaves = Leaves(PEM.decode(), KEY.decode())
    with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree"):
        handshake(PEM, leaves.context("evil.test"), "evil.test")
    with pytest.raises(ssl.SSLCertVerificationError, match="match"):
        handshake(PEM, leaves.context("api.test"), "x.inner.test")


def test_a_name_that_is_too_long_for_a_common_name():
    host = "a" * 60 + ".inner.test"
    leaves = Leaves(PEM.decode(), KEY.decode())
    assert handshake(PEM, leaves.context(host), host)


def test_openssl_reads_it(tmp_path):
    (tmp_path / "ca.pem").write_bytes(PEM)
    line = [program("openssl"), "verify", "-x509_strict", "-CAfile", str(tmp_path / "ca.pem"), str(tmp_path / "ca.pem")]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_dates_after_2049_are_written_as_the_rfc_asks():
    assert authority._time(0) == b"\x17\x0d700101000000Z"
    assert authority._time(2524608000) == b"\x18\x0f20500101000000Z"
