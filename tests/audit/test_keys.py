"""The signing key: made once, private, and refused when it is not."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from callgate.audit.keys import PRIVATE_NAME, PUBLIC_NAME, key_id, public_keys, signing_key
from callgate.audit.verify import verify
from callgate.errors import AuditError
from tests.audit.evidence import closed_log, codes, report_of


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


def test_a_key_that_is_made_anew_is_published_and_the_old_one_stays_known(tmp_path: Path) -> None:
    first = closed_log(tmp_path)
    old = set(public_keys(tmp_path))
    (tmp_path / "keys" / PRIVATE_NAME).unlink()
    second = closed_log(tmp_path)
    report = verify(tmp_path)
    assert report.verified, codes(report)
    assert {log.chain: log.found.keys == old for log in report.logs} == {first.name: True, second.name: False}
    closed_log(tmp_path)
    assert len(public_keys(tmp_path)) == 2


@pytest.mark.parametrize("what", ["a file for the directory", "an encrypted key", "a pipe"])
def test_a_gate_ends_in_good_order_whatever_stands_in_the_place_of_its_key(tmp_path: Path, what: str) -> None:
    keys = tmp_path / "keys"
    if what == "a file for the directory":
        keys.write_text("x")
    else:
        keys.mkdir()
        if what == "a pipe":
            os.mkfifo(keys / PRIVATE_NAME, 0o600)
        else:
            key = Ed25519PrivateKey.generate()
            pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"word"))
            (keys / PRIVATE_NAME).write_bytes(pem)
            (keys / PRIVATE_NAME).chmod(0o600)
    closed_log(tmp_path)
    log = report_of(tmp_path)
    assert log.verified and log.found.closed and not log.found.signed_through


def test_a_pipe_for_the_public_key_is_refused_at_once(tmp_path: Path) -> None:
    signing_key(tmp_path)
    (tmp_path / "keys" / PUBLIC_NAME).unlink()
    os.mkfifo(tmp_path / "keys" / PUBLIC_NAME)
    with pytest.raises(AuditError, match="not a public key"):
        public_keys(tmp_path)
