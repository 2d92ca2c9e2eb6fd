"""The signing key: made once, private, and refused when it is not."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from callgate.audit.keys import PRIVATE_NAME, PUBLIC_NAME, key_id, public_keys, signing_key
from callgate.errors import AuditError


def test_the_first_use_makes_a_private_key_and_its_public_half(tmp_path: Path) -> None:
    key = signing_key(tmp_path)
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "keys" / PRIVATE_NAME).stat().st_mode) == 0o600
    name = key_id(key.public_key())
    assert list(public_keys(tmp_path)) == [name]
    assert name.startswith("ed25519:")
    assert len(name) == len("ed25519:") + 32


def test_later_uses_take_the_same_key(tmp_path: Path) -> None:
    assert key_id(signing_key(tmp_path).public_key()) == key_id(signing_key(tmp_path).public_key())


def test_a_lost_public_half_is_written_again(tmp_path: Path) -> None:
    signing_key(tmp_path)
    (tmp_path / "keys" / PUBLIC_NAME).unlink()
    signing_key(tmp_path)
    assert (tmp_path / "keys" / PUBLIC_NAME).exists()


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    signing_key(tmp_path)
    (tmp_path / "keys" / PRIVATE_NAME).chmod(0o644)
    with pytest.raises(AuditError, match="read by others"):
        signing_key(tmp_path)


def test_what_is_no_ed25519_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    path = tmp_path / "keys" / PRIVATE_NAME
    for content, what in (
        (b"", "not a private key"),
        (generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), "Ed25519"),
    ):
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(AuditError, match=what):
            signing_key(tmp_path)


def test_a_public_key_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "k.pem").write_text("nothing")
    with pytest.raises(AuditError, match="not a public key"):
        public_keys(tmp_path, tmp_path / "k.pem")
    assert public_keys(tmp_path) == {}
