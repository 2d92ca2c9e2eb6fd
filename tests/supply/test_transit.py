"""Signing with keys that are kept elsewhere: a real OpenBao server, a real gnome-keyring."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from callgate.errors import TrustError
from callgate.supply.keys import key_id, public_pem
from callgate.supply.lock_signature import sign_lock, verify_lock
from callgate.supply.signers import signer_for
from callgate.supply.transit import TransitSigner, from_environment
from tests.support.openbao import Bao, running_bao
from tests.support.programs import REQUIRED

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bao():
    with running_bao() as server:
        client = server.client()
        client.sys.enable_secrets_engine("transit")
        client.secrets.transit.create_key("team", key_type="ed25519")
        client.secrets.transit.create_key("other", key_type="ecdsa-p256")
        yield server


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "callgate.lock"
    path.write_bytes(orjson.dumps({"servers": {}}))
    (tmp_path / "state").mkdir()
    return path


def test_a_lock_signed_in_transit(bao: Bao, lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = bao.token("transit/keys/team:read", "transit/sign/team:update")
    monkeypatch.setenv("VAULT_ADDR", bao.address)
    monkeypatch.setenv("VAULT_TOKEN", token)
    monkeypatch.delenv("BAO_ADDR", raising=False)
    signer = signer_for("transit:transit/team")
    public = lock.with_name("team.pub.pem")
    public.write_bytes(public_pem(signer.public()))
    sign_lock(lock, signer, lock.parent / "state")
    assert verify_lock(lock, [public], 1, lock.parent / "state").signers[0][0] == key_id(signer.public())
    bao.client().secrets.transit.rotate_key("team")
    assert signer_for("transit:team").public() != signer.public(), "the mount is transit unless told"
    sign_lock(lock, signer, lock.parent / "state")  # a signer keeps to the version it began with
    assert verify_lock(lock, [public], 1, lock.parent / "state")


def test_transit_keys_that_cannot_be_used(bao: Bao, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TrustError, match="is of type ecdsa-p256"):
        TransitSigner(bao.client(), "transit", "other")
    with pytest.raises(TrustError, match="cannot be used to read") as caught:
        TransitSigner(bao.client(bao.token("transit/sign/team:update")), "transit", "team")
    assert "policy" in caught.value.next_step
    reader = TransitSigner(bao.client(bao.token("transit/keys/team:read")), "transit", "team")
    with pytest.raises(TrustError, match="cannot be used to sign"):
        reader.sign(b"x")
    for name in ("VAULT_ADDR", "VAULT_TOKEN", "BAO_ADDR", "BAO_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(TrustError, match="an address and a token"):
        from_environment("transit/team")


KEYRING = """
import sys
from pathlib import Path
from callgate.errors import TrustError
from callgate.supply.keys import public_pem
from callgate.supply.lock_signature import sign_lock, verify_lock
from callgate.supply.signers import KeyringSigner, signer_for
place = Path(sys.argv[1])
name, pem = KeyringSigner.generate("release")
signer = signer_for("keyring:release")
assert public_pem(signer.public()) == pem
(place / "k.pub.pem").write_bytes(pem)
sign_lock(place / "callgate.lock", signer, place / "state")
assert verify_lock(place / "callgate.lock", [place / "k.pub.pem"], 1, place / "state").signers[0][0] == name
for wrong in (lambda: KeyringSigner.generate("release"), lambda: signer_for("keyring:none")):
    try:
        wrong()
    except TrustError as error:
        print(error.what)
"""


def test_a_lock_signed_with_a_key_in_the_keyring(lock: Path) -> None:
    if not (shutil.which("dbus-run-session") and shutil.which("gnome-keyring-daemon")):
        reason = "dbus-run-session and gnome-keyring-daemon are not installed"
        pytest.fail(reason) if REQUIRED else pytest.skip(reason)
    script = lock.with_name("sign.py")
    script.write_text(KEYRING)
    start = 'printf pw | gnome-keyring-daemon --unlock --components=secrets >/dev/null; exec "$@"'
    words = ["dbus-run-session", "--", "sh", "-c", start, "sh", sys.executable, str(script), str(lock.parent)]
    home = {**os.environ, "HOME": str(lock.parent), "XDG_RUNTIME_DIR": str(lock.parent)}
    home["XDG_DATA_HOME"] = str(lock.parent / "data")
    done = subprocess.run(words, env=home, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "the keyring already holds a key 'release'",
        "the keyring holds no signing key 'none'",
    ]


def test_no_keyring(lock: Path) -> None:
    program = "from callgate.supply.signers import KeyringSigner; KeyringSigner('release')"
    bare = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    bare["PYTHON_KEYRING_BACKEND"] = "keyring.backends.fail.Keyring"
    done = subprocess.run([sys.executable, "-c", program], env=bare, capture_output=True, text=True, check=False)
    assert "the keyring cannot be used (NoKeyringError)" in done.stderr
