from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from callgate.errors import TrustError
from callgate.supply import keys


def never(_prompt: str) -> bytes:
    raise AssertionError("nobody is asked")


def test_a_pair_is_made_and_read(tmp_path: Path) -> None:
    name = keys.generate(tmp_path / "release.pem")
    assert stat.S_IMODE((tmp_path / "release.pem").stat().st_mode) == 0o600
    private = keys.load_private(tmp_path / "release.pem", never)
    public = keys.load_public(tmp_path / "release.pub.pem")
    assert private.public_key() == public
    assert keys.key_id(public.public_bytes_raw()) == name
    assert sorted(os.listdir(tmp_path)) == ["release.pem", "release.pub.pem"]


def test_a_passphrase(tmp_path: Path) -> None:
    path = tmp_path / "k.pem"
    keys.generate(path, b"correct horse")
    assert b"ENCRYPTED" in path.read_bytes()
    assert keys.load_private(path, lambda prompt: b"correct horse")
    with pytest.raises(TrustError, match="or the passphrase is wrong") as caught:
        keys.load_private(path, lambda prompt: b"battery staple")
    assert "battery" not in caught.value.diagnostics()
    with pytest.raises(TrustError, match="no terminal to ask"):
        keys.load_private(path)  # pytest's standard input is none


def test_no_key_is_replaced(tmp_path: Path) -> None:
    keys.generate(tmp_path / "k.pem")
    before = (tmp_path / "k.pem").read_bytes()
    with pytest.raises(TrustError, match="already there"):
        keys.generate(tmp_path / "k.pem")
    (tmp_path / "k.pem").unlink()
    with pytest.raises(TrustError, match="already there"):
        keys.generate(tmp_path / "k.pem")  # its public half would be replaced
    assert before


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_others_can_read(mode: int, tmp_path: Path) -> None:
    keys.generate(tmp_path / "k.pem")
    (tmp_path / "k.pem").chmod(mode)
    with pytest.raises(TrustError, match="can be read by others") as caught:
        keys.load_private(tmp_path / "k.pem", never)
    assert "chmod 600" in caught.value.next_step


def test_what_is_no_ed25519_key(tmp_path: Path) -> None:
    path = tmp_path / "k.pem"
    path.write_bytes(b"no key")
    path.chmod(0o600)
    with pytest.raises(TrustError, match="not a private key"):
        keys.load_private(path, never)
    with pytest.raises(TrustError, match="not a public key"):
        keys.load_public(path)
    other = ec.generate_private_key(ec.SECP256R1())
    path.write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(TrustError, match="not an Ed25519 key"):
        keys.load_private(path, never)
    path.write_bytes(other.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(TrustError, match="not an Ed25519 key"):
        keys.load_public(path)
    with pytest.raises(TrustError, match="there is no key"):
        keys.load_private(tmp_path / "gone", never)
    with pytest.raises(TrustError, match="larger than"):
        path.write_bytes(b"x" * (keys.KEY_BYTES + 1))
        keys.load_public(path)


def test_one_key_in_two_files_is_one_key(tmp_path: Path) -> None:
    keys.generate(tmp_path / "k.pem")
    twin = tmp_path / "twin.pub.pem"
    twin.write_bytes((tmp_path / "k.pub.pem").read_bytes())
    paths = [tmp_path / "k.pub.pem", twin]
    assert len(keys.load_public_keys(paths, 1)) == 1
    with pytest.raises(TrustError, match="there are 1 different keys"):
        keys.load_public_keys(paths, 2)
    with pytest.raises(TrustError, match="0 signatures"):
        keys.load_public_keys(paths, 0)
