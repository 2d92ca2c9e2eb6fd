"""`clock-signed.mcpb` was signed by the reference tool (@anthropic-ai/mcpb 2.1.2) with a certificate made for it;
the other signatures are made here with `cryptography`."""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from callgate.errors import TrustError
from callgate.supply import publisher
from callgate.supply.mcpb import read_bundle
from callgate.supply.mcpb_signature import END, MAGIC, split, verify
from callgate.supply.provenance import Wanted
from tests.supply.test_mcpb import CLOCK, packed

REAL = Path(__file__).parent.parent / "fixtures/supply/clock-signed.mcpb"
REAL_CERTIFICATE = "7b8a5ecc342b1172eed2a3c1bb0c701766df90a806ff7f9d91e3377a45e39b3d"
KEY = rsa.generate_private_key(65537, 2048)
NOW = datetime.now(UTC)


def certificate(key, name="Publisher", issuer=None, issuer_key=None, *, ca=False, days=30, since=1):
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=since))
        .not_valid_after(NOW + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca, None), critical=True)
        .sign(issuer_key or key, hashes.SHA256())
    )


def block(content: bytes, key, leaf, *chain) -> bytes:
    builder = pkcs7.PKCS7SignatureBuilder().set_data(content).add_signer(leaf, key, hashes.SHA256())
    for one in chain:
        builder = builder.add_certificate(one)
    options = [pkcs7.PKCS7Options.DetachedSignature, pkcs7.PKCS7Options.Binary]
    der = builder.sign(Encoding.DER, options)
    return MAGIC + struct.pack("<I", len(der)) + der + END


def signed(key=KEY, leaf=None, *chain) -> bytes:
    content = packed(CLOCK)
    return content + block(content, key, leaf or certificate(key), *chain)


def fingerprint(one) -> str:
    return one.fingerprint(hashes.SHA256()).hex()


def test_a_bundle_of_the_reference_tool() -> None:
    free = verify(REAL)
    assert not free.trusted and free.issuer == "self" and free.subject == "CN=Example Publisher"
    assert "not that it is safe" in free.describe()
    assert free.key == f"sha256:{REAL_CERTIFICATE}"
    assert verify(REAL, [REAL_CERTIFICATE.upper()]).trusted
    assert verify(REAL, [REAL_CERTIFICATE]).key == ""
    assert read_bundle(REAL).signed and read_bundle(REAL).manifest.name == "clock"


@settings(max_examples=120, deadline=None)
@given(at=st.integers(0), flip=st.integers(1, 255))
def test_no_changed_byte_of_the_zip_passes(at: int, flip: int) -> None:
    data = bytearray(REAL.read_bytes())
    at %= data.rindex(MAGIC)
    data[at] ^= flip
    with pytest.raises(TrustError):
        verify(bytes(data))


@settings(max_examples=120, deadline=None)
@given(at=st.integers(0), flip=st.integers(1, 255))
def test_a_changed_signature_block_never_signs_something_else(at: int, flip: int) -> None:
    real = REAL.read_bytes()
    start = real.rindex(MAGIC)
    data = bytearray(real)
    at = start + at % (len(real) - start)
    data[at] ^= flip
    try:
        found = verify(bytes(data), [REAL_CERTIFICATE])
    except TrustError:
        return
    assert found.digest == verify(REAL).digest  # parts of the block that nobody signs, such as the version


@pytest.mark.parametrize("key", [KEY, ec.generate_private_key(ec.SECP256R1())], ids=["rsa", "ec"])
def test_signatures_of_others(key) -> None:
    leaf = certificate(key)
    assert verify(signed(key, leaf), [fingerprint(leaf)]).trusted


def test_a_chain_to_a_pinned_authority() -> None:
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca = certificate(ca_key, "Authority", ca=True)
    leaf = certificate(KEY, "Publisher", ca, ca_key)
    found = verify(signed(KEY, leaf, ca), [fingerprint(ca)])
    assert found.trusted and found.issuer == "CN=Authority"
    assert Wanted(subject="CN=Publisher").check(found) is found
    with pytest.raises(TrustError, match="subject is CN=Publisher, not CN=Someone"):
        Wanted(subject="CN=Someone").check(found)
    stranger = certificate(ca_key, "Stranger")
    assert not verify(signed(KEY, leaf, stranger), [fingerprint(stranger)]).trusted, "it did not issue the signer"
    no_ca = certificate(ca_key, "Authority")
    assert not verify(signed(KEY, certificate(KEY, "P", no_ca, ca_key), no_ca), [fingerprint(no_ca)]).trusted


def test_the_end_record_changed_after_signing() -> None:
    content = packed(CLOCK)
    tail = block(content, KEY, certificate(KEY))
    bumped = content[:-2] + struct.pack("<H", len(tail)) + tail
    assert verify(bumped).digest == verify(content + tail).digest
    assert read_bundle(bumped).manifest.name == "clock"
    with pytest.raises(TrustError, match="changed after it was signed"):
        verify(content[:-2] + struct.pack("<H", 7) + tail)


def test_another_certificate_of_the_same_name_is_another_publisher(tmp_path: Path) -> None:
    """Nobody vouches for a self-signed certificate: its name is what its maker wrote into it."""
    paths = [tmp_path / name for name in ("a.mcpb", "b.mcpb")]
    other = rsa.generate_private_key(65537, 2048)
    for path, key in zip(paths, (KEY, other), strict=True):
        path.write_bytes(signed(key, certificate(key)))
    before, again, after = ({"mcpb": verify(path).as_record()} for path in (paths[0], paths[0], paths[1]))
    assert before["mcpb"]["subject"] == after["mcpb"]["subject"]
    assert publisher.change(before, again) == ""
    assert "and is now made by" in publisher.change(before, after)


def test_what_does_not_hold() -> None:
    content = packed(CLOCK)
    with pytest.raises(TrustError, match="not signed"):
        verify(content)
    other = packed({**CLOCK, "version": "2.0.0"})
    with pytest.raises(TrustError, match="changed after"):
        verify(other + signed()[len(content) :])
    with pytest.raises(TrustError, match="not made with the certificate's key"):
        other_key = rsa.generate_private_key(65537, 2048)
        verify(content + block_with(certificate(KEY), other_key, content))
    with pytest.raises(TrustError, match="valid from"):
        verify(signed(), now=NOW + timedelta(days=400))
    with pytest.raises(TrustError, match="valid from"):
        verify(signed(), now=NOW - timedelta(days=400))
    with pytest.raises(TrustError, match="malformed"):
        verify(content + MAGIC + struct.pack("<I", 3) + END)
    with pytest.raises(TrustError, match="cannot be read"):
        verify(content + MAGIC + struct.pack("<I", 3) + b"abc" + END)
    with pytest.raises(TrustError, match="does not end"):
        verify(signed()[:-1])


def block_with(leaf, key, content: bytes) -> bytes:
    """A block that names `leaf` and was made with another key."""
    forged = certificate(key)
    made = block(content, key, forged)
    return rebuilt(made, leaf)


def rebuilt(made: bytes, leaf) -> bytes:
    from asn1crypto import cms
    from asn1crypto.x509 import Certificate

    info = cms.ContentInfo.load(made[len(MAGIC) + 4 : -len(END)])
    data = info["content"]
    replaced = Certificate.load(leaf.public_bytes(Encoding.DER))
    data["certificates"] = [replaced]
    signer = data["signer_infos"][0]
    signer["sid"] = cms.SignerIdentifier(
        "issuer_and_serial_number", {"issuer": replaced.issuer, "serial_number": replaced.serial_number}
    )
    der = info.dump(force=True)
    return MAGIC + struct.pack("<I", len(der)) + der + END


def test_the_magic_inside_a_member_is_no_signature() -> None:
    data = packed(CLOCK, {"server/index.js": MAGIC + b" is how signatures start"})
    assert split(data).signature == b""
    assert not read_bundle(data).signed
