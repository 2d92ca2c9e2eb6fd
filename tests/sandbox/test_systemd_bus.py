"""The wire format, against a library that reads and writes it; and what a hostile manager may send."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jeepney import DBusAddress, new_method_call  # type: ignore[import-untyped]
from jeepney.low_level import (  # type: ignore[import-untyped]
    Header,
    HeaderFields,
    Message,
    MessageFlag,
    MessageType,
    Parser,
)

from callgate.errors import SandboxError
from callgate.sandbox import systemd_bus
from callgate.sandbox.systemd_bus import Block, Connection, method_call

MANAGER = DBusAddress("/org/freedesktop/systemd1", "org.freedesktop.systemd1", "org.freedesktop.systemd1.Manager")
PROPERTIES: list[systemd_bus.Property] = [
    ("Description", "s", "a server"),
    ("PIDs", "au", [7, 8]),
    ("Delegate", "b", True),
    ("MemoryMax", "t", 1 << 40),
    ("MemorySwapMax", "t", 0),
]


def scope_call(name: str, properties: list[systemd_bus.Property]) -> bytes:
    body = Block()
    body.string(name)
    body.string("fail")
    body.properties(properties)
    body.number(0)
    body.align(8)
    return method_call(1, "StartTransientUnit", "ssa(sv)a(sa(sv))", body)


def parsed(data: bytes) -> Message:
    (found,) = Parser().feed(data)
    return found


def answer(kind: MessageType, fields: dict[HeaderFields, object], body: tuple[object, ...] = ()) -> bytes:
    sent = Message(Header(None, kind, 0, 1, 0, 9, fields), body)
    sent.header.endianness = new_method_call(MANAGER, "x").header.endianness
    return bytes(sent.serialise(serial=9))


def job_removed(name: str, result: str) -> bytes:
    fields: dict[HeaderFields, object] = {
        HeaderFields.path: MANAGER.object_path,
        HeaderFields.interface: MANAGER.interface,
        HeaderFields.member: "JobRemoved",
        HeaderFields.signature: "uoss",
    }
    return answer(MessageType.signal, fields, (17, "/org/freedesktop/systemd1/job/17", name, result))


@given(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40),
    st.lists(st.integers(0, 2**32 - 1), max_size=4),
)
def test_what_is_asked_is_what_a_library_reads(name: str, description: str, pids: list[int]) -> None:
    found = parsed(scope_call(name, [("Description", "s", description), ("PIDs", "au", pids), *PROPERTIES]))
    assert found.header.fields[HeaderFields.member] == "StartTransientUnit"
    assert found.header.fields[HeaderFields.path] == MANAGER.object_path
    wanted: list[tuple[str, tuple[str, object]]] = [("Description", ("s", description)), ("PIDs", ("au", pids))]
    wanted += [(one, (kind, value)) for one, kind, value in PROPERTIES]
    assert found.body == (name, "fail", wanted, [])


def test_without_properties_too() -> None:
    assert parsed(scope_call("a", [])).body == ("a", "fail", [], [])


def test_what_a_library_writes_is_read() -> None:
    found = systemd_bus.message(job_removed("x.scope", "done"))
    assert (found.kind, found.member) == (systemd_bus.SIGNAL, "JobRemoved")
    assert found.words == ["/org/freedesktop/systemd1/job/17", "x.scope", "done"]
    fields: dict[HeaderFields, object] = {
        HeaderFields.reply_serial: 5,
        HeaderFields.error_name: "org.freedesktop.DBus.Error.AccessDenied",
        HeaderFields.signature: "s",
    }
    found = systemd_bus.message(answer(MessageType.error, fields, ("no",)))
    assert (found.kind, found.reply_to, found.words) == (systemd_bus.ERROR, 5, ["no"])


@given(st.binary(max_size=300), st.integers(0, 300))
@example(job_removed("x", "done")[:40], 0)
def test_rubbish_is_refused_and_never_more(rubbish: bytes, at: int) -> None:
    good = job_removed("x.scope", "done")
    for data in (good[:16] + rubbish, good[:at] + rubbish + good[at + len(rubbish) :], good[:at]):
        with suppress(SandboxError):
            if len(data) >= 16 and systemd_bus.size_of(data) <= len(data):
                systemd_bus.message(data[: systemd_bus.size_of(data)])


@pytest.mark.parametrize("at", [4, 12])
def test_a_message_that_is_too_long_is_refused_before_it_is_read(at: int) -> None:
    data = bytearray(job_removed("x", "done"))
    data[at : at + 4] = (systemd_bus.MAX_BYTES + 1).to_bytes(4, "little")
    with pytest.raises(SandboxError, match="too long"):
        systemd_bus.size_of(bytes(data))


def test_the_other_byte_order_is_refused() -> None:
    with pytest.raises(SandboxError, match="D-Bus"):
        systemd_bus.size_of(b"B" + job_removed("x", "done")[1:])


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Callable[[bytes], Connection]]:
    """A manager that says what it is told to, then closes, or waits where that is empty."""
    path = str(tmp_path / "private")
    opened: list[socket.socket | Connection] = []

    def said(content: bytes) -> Connection:
        server = socket.socket(socket.AF_UNIX)
        server.bind(path)
        server.listen()
        connection = Connection(path, os.getuid(), 2.0 if content else 0.05)
        accepted, _ = server.accept()
        opened.extend((server, accepted, connection))
        greeting = b""
        while not greeting.endswith(b"BEGIN\r\n"):
            greeting += accepted.recv(4096)
        assert greeting == b"\0AUTH EXTERNAL " + str(os.getuid()).encode().hex().encode() + b"\r\nBEGIN\r\n"
        if content:
            accepted.sendall(content)  # less than a socket holds
            accepted.shutdown(socket.SHUT_WR)
        return connection

    yield said
    for one in opened:
        one.close()


OK = b"OK 00112233445566778899aabbccddeeff\r\n"


def test_messages_are_read_in_their_order(manager: Callable[[bytes], Connection]) -> None:
    connection = manager(OK + job_removed("a", "done") + job_removed("b", "failed"))
    assert connection.peer() == (os.getpid(), os.getuid())
    assert [connection.read().words[1:] for _ in "ab"] == [["a", "done"], ["b", "failed"]]
    with pytest.raises(SandboxError, match="closed the connection"):
        connection.read()


def test_an_error_is_raised_with_its_words_made_visible(manager: Callable[[bytes], Connection]) -> None:
    fields: dict[HeaderFields, object] = {
        HeaderFields.reply_serial: 1,
        HeaderFields.error_name: "org.freedesktop.DBus.Error.AccessDenied",
        HeaderFields.signature: "s",
    }
    connection = manager(OK + answer(MessageType.error, fields, ("not \x1b[31myou",)))
    with pytest.raises(SandboxError, match=r"systemd refused: not \\x1b\[31myou"):
        connection.read()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"REJECTED EXTERNAL\r\n", "does not let us in"),
        (b"x" * 4096, "does not speak D-Bus"),
        (b"", "does not answer in time"),
        (b"OK 0", "closed the connection"),
        (OK + b"garbage, and more than sixteen bytes of it", "does not speak D-Bus"),
    ],
)
def test_a_strange_manager_is_an_error(manager: Callable[[bytes], Connection], content: bytes, said: str) -> None:
    connection = manager(content)
    with pytest.raises(SandboxError, match=said):
        connection.read()


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="does not answer"):
        Connection(str(tmp_path / "nothing"), 0, 1)


def test_the_flags_ask_for_an_answer() -> None:
    assert not parsed(scope_call("a", [])).header.flags & MessageFlag.no_reply_expected
