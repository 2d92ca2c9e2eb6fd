"""Sealed session ids."""

from __future__ import annotations

import pytest

from callgate.transport.http.affinity import SessionSeal

KEY = b"k" * 32


def test_round_trip() -> None:
    seal = SessionSeal(KEY, 3)
    sealed = seal.seal(b"abc.def", "alice")
    assert sealed.isascii()
    assert SessionSeal(KEY, 0).open(sealed, "alice") == (b"abc.def", 3)


def test_what_was_not_handed_out_to_this_principal_does_not_open() -> None:
    seal = SessionSeal(KEY, 1)
    sealed = seal.seal(b"abc", "alice")
    assert seal.open(sealed, "bob") is None
    assert SessionSeal(b"x" * 32, 1).open(sealed, "alice") is None
    for index in range(len(sealed)):
        changed = bytearray(sealed)
        changed[index] ^= 1
        assert seal.open(bytes(changed), "alice") is None


@pytest.mark.parametrize("text", [b"", b".", b"..", b"abc", b"abc.1", b"abc.1.", b"a.x.y", b"\xff.1.00"])
def test_nonsense_does_not_open(text: bytes) -> None:
    assert SessionSeal(KEY, 1).open(text, "p") is None


def test_principal_and_id_cannot_be_shifted_into_each_other() -> None:
    seal = SessionSeal(KEY, 1)
    assert seal.seal(b"a\nb", "c") != seal.seal(b"a", "b\nc")
