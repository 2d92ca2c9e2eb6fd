"""The server name out of real ClientHellos, and out of none that two readers could read differently."""

from __future__ import annotations

import ssl
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callgate.sandbox.egress import hello
from callgate.sandbox.egress.hello import NotTls


def real(host: str | None) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    out = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=host)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return out.read()


def made(extensions: bytes) -> bytes:
    body = b"\3\3" + b"r" * 32 + b"\0" + b"\0\2\x13\1" + b"\1\0" + struct.pack(">H", len(extensions)) + extensions
    return b"\1" + len(body).to_bytes(3, "big") + body


def record(handshake: bytes, size: int = 16384) -> bytes:
    parts = [handshake[at : at + size] for at in range(0, len(handshake), size)]
    return b"".join(b"\x16\3\1" + struct.pack(">H", len(part)) + part for part in parts)


def sni(*names: bytes) -> bytes:
    entries = b"".join(b"\0" + struct.pack(">H", len(name)) + name for name in names)
    content = struct.pack(">H", len(entries)) + entries
    return b"\0\0" + struct.pack(">H", len(content)) + content


def read(data: bytes) -> str | None:
    body = hello.handshake(data)
    assert body is not None
    return hello.server_name(body)


def test_a_real_hello():
    assert read(real("api.example.com")) == "api.example.com"
    assert read(real(None)) is None


def test_it_waits_for_all_of_it():
    data = real("api.example.com")
    assert all(hello.handshake(data[:size]) is None for size in range(len(data)))


def test_fragments_in_several_records():
    assert read(record(made(sni(b"a.example")), 5)) == "a.example"


@pytest.mark.parametrize(
    "extensions",
    [
        sni(b"a.example", b"b.example"),
        sni(b"a.example") + sni(b"b.example"),
        sni("ä.example".encode()),
        b"\0\0\0\3\0\1\1",
        b"\0\0\0\2\0\0",
        sni(b"a.example")[:-1],
        b"\0\0\0\5\0\3\1\0\0",
    ],
)
def test_ambiguous_names_are_refused(extensions):
    with pytest.raises(NotTls):
        read(record(made(extensions)))


def test_a_nul_in_a_name_is_left_to_the_strict_rules_for_names():
    assert read(record(made(sni(b"evil.test\0.a.example")))) == "evil.test\0.a.example"


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x16\2\0\0\1x",
        b"\x16\3\1\0\0",
        b"\x16\3\1\xff\xff",
        b"\x15\3\1\0\2\1\0",
        b"\x16\3\3\0\4\2\0\0\0",
    ],
)
def test_what_is_no_client_hello(data):
    with pytest.raises(NotTls):
        hello.handshake(data)


def test_an_endless_hello_is_refused():
    with pytest.raises(NotTls):
        hello.handshake(record(b"\1\xff\xff\xff" + b"x" * hello.MAX_HELLO))


@given(st.binary(max_size=200), st.integers(0, 250), st.binary(max_size=4))
def test_damage_never_raises_anything_else(data, at, change):
    whole = record(made(sni(b"a.example") + data))
    damaged = whole[:at] + change + whole[at + len(change) :]
    for candidate in (data, b"\x16\3\1" + data, damaged):
        try:
            body = hello.handshake(candidate)
            if body is not None:
                hello.server_name(body)
        except NotTls:
            pass
