"""Signed locks: what holds, and every way in which it must not."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from base64 import b64decode, b64encode
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from callgate.errors import TrustError
from callgate.supply import dsse, keys, seen, statement
from callgate.supply.lock_signature import sign_lock, signature_path, verify_at_launch, verify_lock
from callgate.supply.signers import FileSigner

HEX = "ab" * 32
LOCK = {
    "version": 1,
    "servers": {
        "files": {
            "purl": "pkg:npm/files@1.2.3",
            "artefacts": [
                {"purl": "pkg:npm/files@1.2.3", "integrity": "sha512-" + b64encode(b"\1" * 64).decode()},
                {"purl": "pkg:npm/dep@0.1.0", "sha256": HEX},
            ],
            "tree": f"sha256:{HEX}",
        }
    },
}


class Place:
    """A lock, a state directory and three people's keys."""

    def __init__(self, path: Path) -> None:
        self.state = path / "state"
        self.state.mkdir()
        self.lock = path / "callgate.lock"
        self.lock.write_bytes(orjson.dumps(LOCK))
        self.path = path
        for name in "abc":
            keys.generate(path / f"{name}.pem")

    def sign(self, name: str, now: datetime | None = None):
        return sign_lock(self.lock, FileSigner(self.path / f"{name}.pem"), self.state, now)

    def public(self, names: str) -> list[Path]:
        return [self.path / f"{name}.pub.pem" for name in names]

    def verify(self, names: str, threshold: int = 1):
        return verify_lock(self.lock, self.public(names), threshold, self.state)

    def launch(self, names: str, threshold: int = 1) -> None:
        verify_at_launch(self.lock, self.public(names), threshold, self.state)

    def refused(self, because: str, names: str = "ab", threshold: int = 1) -> None:
        for check in (self.verify, self.launch):
            with pytest.raises(TrustError, match=because) as caught:
                check(names, threshold)
            assert caught.value.next_step

    def change(self) -> None:
        document = orjson.loads(self.lock.read_bytes())
        document["servers"]["files"]["artefacts"][1]["sha256"] = "cd" * 32
        self.lock.write_bytes(orjson.dumps(document))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_signed_and_verified(place: Place) -> None:
    made = place.sign("a")
    found = place.verify("ab")
    assert [name for name, _ in found.signers] == [made.signers[0][0]]
    assert found.signers[0][1].endswith("a.pub.pem")
    assert (found.lock, found.counter) == (made.lock, made.counter)
    place.launch("ab")
    place.launch("ab")


def test_the_statement_names_every_artefact(place: Place) -> None:
    place.sign("a")
    document = orjson.loads(dsse.parse(signature_path(place.lock).read_bytes()).payload)
    assert document["_type"] == "https://in-toto.io/Statement/v1"
    assert [(one["name"], *one["digest"]) for one in document["subject"]] == [
        ("callgate.lock", "sha256"),
        ("pkg:npm/files@1.2.3", "sha256"),
        ("pkg:npm/files@1.2.3", "sha512"),
        ("pkg:npm/dep@0.1.0", "sha256"),
    ]
    assert document["subject"][2]["digest"]["sha512"] == "01" * 64
    assert set(document["predicate"]["servers"]) == {"files"}


def test_the_order_of_a_teams_signatures_does_not_matter(place: Place) -> None:
    place.sign("a")
    place.refused("1 of the 2 signatures", "abc", 2)
    place.sign("b")
    place.sign("a")  # again: it does not count twice
    found = place.verify("abc", 2)
    assert len(found.signers) == 2
    place.launch("abc", 2)
    place.refused("2 of the 3 signatures", "abc", 3)


def test_not_signed(place: Place) -> None:
    place.refused("is not signed")
    place.lock.unlink()
    place.refused("there is no lock")


def test_signed_by_a_stranger(place: Place) -> None:
    place.sign("c")
    place.refused("0 of the 1 signatures", "ab")


def test_a_key_that_is_asked_for_twice_counts_once(place: Place) -> None:
    place.sign("a")
    place.refused("different keys", "aa", 2)
    envelope = orjson.loads(signature_path(place.lock).read_bytes())
    envelope["signatures"] *= 2
    signature_path(place.lock).write_bytes(orjson.dumps(envelope))
    place.refused("there twice", "ab", 2)
    envelope["signatures"][1] = {**envelope["signatures"][0], "keyid": keys.key_id(b"\0" * 32)}
    signature_path(place.lock).write_bytes(orjson.dumps(envelope))
    place.refused("1 of the 2", "ab", 2)


def test_changed_after_signing(place: Place) -> None:
    place.sign("a")
    place.launch("ab")
    place.change()
    place.refused("changed after it was signed")
    place.lock.write_bytes(place.lock.read_bytes() + b"\n")
    place.refused("changed after it was signed")


def test_a_signature_under_anothers_name(place: Place) -> None:
    """The envelope says key a; key c made the signature."""
    place.sign("c")
    envelope = orjson.loads(signature_path(place.lock).read_bytes())
    public = keys.load_public(place.path / "a.pub.pem").public_bytes_raw()
    envelope["signatures"][0]["keyid"] = keys.key_id(public)
    signature_path(place.lock).write_bytes(orjson.dumps(envelope))
    place.refused("0 of the 1")


def test_a_well_signed_statement_about_something_else(place: Place) -> None:
    signer = FileSigner(place.path / "a.pem")
    honest = statement.make(place.lock.read_bytes(), "0" * 32, 5, datetime.now(UTC))
    for lie in (
        {"_type": "https://in-toto.io/Statement/v0.1"},
        {"predicateType": "https://slsa.dev/provenance/v1"},
        {"predicate": []},
        {"predicate": {"lock": "x", "counter": 1, "issued": ""}},
        {"predicate": {**orjson.loads(honest)["predicate"], "counter": True}},
        {"predicate": {**orjson.loads(honest)["predicate"], "entries": HEX}},
        {"subject": []},
        {"subject": orjson.loads(honest)["subject"][:1]},
    ):
        payload = orjson.dumps({**orjson.loads(honest), **lie})
        made = dsse.sign(dsse.Envelope(payload, dsse.IN_TOTO, {}), signer)
        signature_path(place.lock).write_bytes(made.to_json())
        place.refused("does not hold|changed after")
    made = dsse.sign(dsse.Envelope(b"hello", "text/plain", {}), signer)
    signature_path(place.lock).write_bytes(made.to_json())
    place.refused("payload is not")


def test_an_older_lock_does_not_come_back(place: Place) -> None:
    now = datetime.now(UTC)
    place.sign("a", now - timedelta(days=9))
    old = place.lock.read_bytes(), signature_path(place.lock).read_bytes()
    place.verify("ab")
    place.launch("ab")
    place.change()
    place.sign("a")
    place.launch("ab")
    place.lock.write_bytes(old[0])
    signature_path(place.lock).write_bytes(old[1])
    place.refused("is older than the one used before")
    with pytest.raises(TrustError, match="is older"):
        place.sign("b")  # nor is it co-signed by mistake
    assert seen.forget(place.state, place.lock) and not seen.forget(place.state, place.lock)
    assert place.verify("ab").signers


def test_another_lock_of_the_same_signers_does_not_take_its_place(place: Place, tmp_path: Path) -> None:
    place.sign("a")
    place.verify("a")
    (tmp_path / "other").mkdir()
    other = Place(tmp_path / "other")
    sign_lock(other.lock, FileSigner(place.path / "a.pem"), other.state)
    place.lock.write_bytes(other.lock.read_bytes())
    signature_path(place.lock).write_bytes(signature_path(other.lock).read_bytes())
    place.refused("not the lock that was here before")


def test_signatures_of_another_lock_are_not_added_to(place: Place) -> None:
    """The same content, signed as a lock of its own: whichever id comes first in the alphabet."""
    for number in ("0" * 32, "f" * 32):
        seen.forget(place.state, place.lock)
        signature_path(place.lock).unlink(missing_ok=True)
        place.sign("a")
        ahead = statement.make(place.lock.read_bytes(), number, int(time.time() * 1000) + 3_600_000, datetime.now(UTC))
        other = dsse.sign(dsse.Envelope(ahead, dsse.IN_TOTO, {}), FileSigner(place.path / "a.pem")).to_json()
        signature_path(place.lock).write_bytes(other)
        with pytest.raises(TrustError, match="or of another lock"):
            place.sign("b")
        assert signature_path(place.lock).read_bytes() == other, "nothing was written"


def test_two_versions_with_one_number(place: Place) -> None:
    now = datetime.now(UTC)
    place.sign("a", now)
    place.verify("a")
    place.change()
    counter = seen.last_seen(place.state, place.lock)
    fork = statement.make(place.lock.read_bytes(), counter.lock, counter.counter, now)
    made = dsse.sign(dsse.Envelope(fork, dsse.IN_TOTO, {}), FileSigner(place.path / "a.pem"))
    signature_path(place.lock).write_bytes(made.to_json())
    place.refused("the number of another version")


def test_the_counter_grows_even_when_the_clock_goes_back(place: Place) -> None:
    first = place.sign("a")
    place.change()
    second = place.sign("a", datetime.now(UTC) - timedelta(hours=3))
    assert second.counter == first.counter + 1 and second.lock == first.lock
    assert place.verify("a").counter == second.counter


def test_signed_in_the_future(place: Place) -> None:
    ahead = statement.make(place.lock.read_bytes(), "0" * 32, 2**52, datetime.now(UTC))
    made = dsse.sign(dsse.Envelope(ahead, dsse.IN_TOTO, {}), FileSigner(place.path / "a.pem"))
    signature_path(place.lock).write_bytes(made.to_json())
    place.refused("signed in the future")


def test_what_is_remembered(place: Place) -> None:
    place.sign("a")
    place.launch("ab")
    remembered = place.state / "trust/verified-locks"
    before = remembered.stat().st_mtime_ns
    place.launch("ab")
    assert remembered.stat().st_mtime_ns == before
    place.launch("a")  # other signers are another question
    assert remembered.stat().st_mtime_ns != before
    with pytest.raises(TrustError, match="0 of the 1"):
        place.launch("bc")
    text = remembered.read_text()
    place.change()
    remembered.write_text(text)
    with pytest.raises(TrustError, match="changed after"):
        place.launch("a")
    remembered.chmod(0o666)
    place.lock.write_bytes(orjson.dumps(LOCK))
    remembered.write_text(text)
    signature_path(place.lock).unlink()
    with pytest.raises(TrustError, match="not signed"):
        place.launch("a")


def test_it_tells_which_lock_it_verified(place: Place) -> None:
    place.sign("a")
    expected = hashlib.sha256(place.lock.read_bytes()).hexdigest()
    for _ in range(2):  # checked, then remembered
        assert verify_at_launch(place.lock, place.public("a"), 1, place.state) == expected
    assert place.verify("a").sha256 == expected


def test_a_launch_with_remembered_answer_imports_no_cryptography(place: Place) -> None:
    place.sign("a")
    place.launch("a")
    program = (
        "import sys; from pathlib import Path; from callgate.supply.lock_signature import verify_at_launch\n"
        "verify_at_launch(Path(sys.argv[1]), [Path(sys.argv[2])], 1, Path(sys.argv[3]))\n"
        "print([m for m in ('cryptography', 'securesystemslib', 'jiter', 'asyncio') if m in sys.modules])"
    )
    words = [place.lock, place.path / "a.pub.pem", place.state]
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


KEY = Ed25519PrivateKey.generate()


class Bare:
    def public(self) -> bytes:
        return KEY.public_key().public_bytes_raw()

    def sign(self, data: bytes) -> bytes:
        return KEY.sign(data)


PUBLIC = {keys.key_id(KEY.public_key().public_bytes_raw()): KEY.public_key()}
ENVELOPE = dsse.sign(dsse.Envelope(b'{"a":1}', dsse.IN_TOTO, {}), Bare()).to_json()


@settings(max_examples=300, deadline=None)
@given(at=st.integers(0, len(ENVELOPE) - 1), value=st.integers(0, 255))
def test_no_changed_envelope_says_something_else(at: int, value: int) -> None:
    data = bytearray(ENVELOPE)
    data[at] = value
    results = []
    for check in (dsse.verify, dsse.verify_quickly):
        try:
            envelope = dsse.parse(bytes(data))
            check(envelope, PUBLIC, 1)
        except TrustError:
            results.append(None)
        else:
            results.append((envelope.payload, envelope.payload_type, dict(envelope.signatures)))
    original = dsse.parse(ENVELOPE)
    assert results[0] == results[1]
    assert results[0] in (None, (original.payload, original.payload_type, dict(original.signatures)))


@settings(max_examples=100, deadline=None)
@given(payload=st.binary(max_size=200), flip=st.none() | st.integers(0, 511))
def test_both_verifiers_agree(payload: bytes, flip: int | None) -> None:
    envelope = dsse.sign(dsse.Envelope(payload, dsse.IN_TOTO, {}), Bare())
    ((name, signature),) = envelope.signatures.items()
    if flip is not None:
        changed = bytearray(signature)
        changed[flip // 8] ^= 1 << flip % 8
        envelope = dsse.Envelope(payload, dsse.IN_TOTO, {name: bytes(changed)})
    for check in (dsse.verify, dsse.verify_quickly):
        if flip is None:
            assert check(envelope, PUBLIC, 1) == (name,)
        else:
            with pytest.raises(TrustError):
                check(envelope, PUBLIC, 1)


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"payload": "e30=", "payloadType": dsse.IN_TOTO, "signatures": []},
        {"payload": "e30=", "payloadType": dsse.IN_TOTO, "signatures": [{}]},
        {"payload": "e30=", "payloadType": dsse.IN_TOTO, "signatures": "x"},
        {"payload": "e30=", "payloadType": dsse.IN_TOTO, "signatures": [{"keyid": 1, "sig": ""}]},
        {"payload": "e31=", "payloadType": dsse.IN_TOTO, "signatures": [{"keyid": "a", "sig": ""}]},
        {"payload": "e30=\n", "payloadType": dsse.IN_TOTO, "signatures": [{"keyid": "a", "sig": ""}]},
        {"payload": 7, "payloadType": dsse.IN_TOTO, "signatures": [{"keyid": "a", "sig": ""}]},
        {
            "payload": "e30=",
            "payloadType": dsse.IN_TOTO,
            "signatures": [{"keyid": str(n), "sig": ""} for n in range(65)],
        },
    ],
)
def test_what_is_no_envelope(document) -> None:
    with pytest.raises(TrustError, match="not a DSSE envelope"):
        dsse.parse(orjson.dumps(document))


def test_an_unreadable_signature_file_is_replaced_by_signing(place: Place) -> None:
    signature_path(place.lock).write_bytes(b"{")
    place.refused("not strict JSON")
    place.sign("a")
    assert place.verify("a")


def test_a_lock_that_is_none(place: Place) -> None:
    for data in (b"", b"[]", b"{}", b'{"servers": 1}', b'{"servers": {}, "servers": {}}'):
        place.lock.write_bytes(data)
        with pytest.raises(TrustError, match=r"callgate\.lock"):
            place.sign("a")
    assert not signature_path(place.lock).exists()


SIGN = """
import sys
from pathlib import Path
from callgate.supply.lock_signature import sign_lock
from callgate.supply.signers import FileSigner
signer = FileSigner(Path(sys.argv[2]))
print("ready", flush=True)
while True:
    sign_lock(Path(sys.argv[1]), signer, Path(sys.argv[3]))
"""


@pytest.mark.slow
def test_killed_while_signing(place: Place) -> None:
    """Each time a process that signs without pause is killed at another moment."""
    place.sign("a")
    for turn in range(12):
        words = [place.lock, place.path / "b.pem", place.state]
        child = subprocess.Popen([sys.executable, "-c", SIGN, *words], stdout=subprocess.PIPE, text=True)
        assert child.stdout.readline() == "ready\n"
        time.sleep(0.001 * turn**2)  # not a wait for something: any moment is good
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        assert place.verify("ab").signers, "the old signatures or the new ones"
        assert b64decode(orjson.loads(signature_path(place.lock).read_bytes())["payload"])
    left = [name for name in os.listdir(place.path) if name.endswith(".tmp")]
    assert len(left) <= 12  # a killed write leaves its temporary file, never a broken one
