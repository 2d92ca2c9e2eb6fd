"""The few lines of D-Bus that asking systemd for a scope takes (D-Bus specification: message protocol, EXTERNAL).

A launch waits for them, and importing a library for it (jeepney) takes longer than all the asking: 15 ms. The
connection goes to the manager's own socket, so there is no bus, no name and no subscription between. What comes
back is read with limits, and believed only where the kernel's own files say the same.
"""

from __future__ import annotations

import sys
import time
from _socket import AF_UNIX, SO_PEERCRED, SOCK_CLOEXEC, SOCK_STREAM, SOL_SOCKET, socket

from callgate.errors import SandboxError
from callgate.text import visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypeAlias

    Value: TypeAlias = str | bool | int | list[int]
    Property: TypeAlias = tuple[str, str, Value]
    """Name, signature (`s`, `b`, `t` or `au`), value."""

MAX_BYTES = 64 * 1024
"""Of one message. Those of the manager have some hundred bytes."""
RETURN, ERROR, SIGNAL = 2, 3, 4
_CALL = 1
_PATH = "/org/freedesktop/systemd1"
_SERVICE = "org.freedesktop.systemd1"
_ORDER = b"l" if sys.byteorder == "little" else b"B"
_FIXED = 16
_REPLY_TO, _MEMBER, _SIGNATURE = 5, 3, 8
_CLOSED = "closed the connection"
_DOES_NOT_SPEAK = "systemd's manager does not speak D-Bus as we know it"


class Message:
    """One that the manager sent. `words`: the strings of its body, in their order."""

    __slots__ = ("kind", "member", "reply_to", "words")

    def __init__(self, kind: int, reply_to: int, member: str, words: list[str]) -> None:
        self.kind = kind
        self.reply_to = reply_to
        self.member = member
        self.words = words


class Block:
    """Values in the wire format, each at its own alignment."""

    __slots__ = ("data",)

    def __init__(self) -> None:
        self.data = bytearray()

    def align(self, size: int) -> None:
        self.data += bytes(-len(self.data) % size)

    def number(self, value: int, size: int = 4) -> None:
        self.align(size)
        self.data += value.to_bytes(size, sys.byteorder)

    def string(self, value: str) -> None:
        content = value.encode()
        self.number(len(content))
        self.data += content + b"\0"

    def signature(self, value: str) -> None:
        self.data += bytes((len(value),)) + value.encode() + b"\0"

    def numbers(self, values: Iterable[int]) -> None:
        content = list(values)
        self.number(4 * len(content))
        for one in content:
            self.number(one)

    def properties(self, values: Iterable[Property]) -> None:
        """`a(sv)`. Its length leaves out what aligns the first element."""
        self.number(0)
        at = len(self.data)
        self.align(8)
        begin = len(self.data)
        for name, signature, value in values:
            self.align(8)
            self.string(name)
            self.signature(signature)
            if isinstance(value, str):
                self.string(value)
            elif isinstance(value, list):
                self.numbers(value)
            else:
                self.number(int(value), 8 if signature == "t" else 4)
        self.data[at - 4 : at] = (len(self.data) - begin).to_bytes(4, sys.byteorder)


def method_call(serial: int, member: str, signature: str, body: Block) -> bytes:
    """A call of the manager's method `member`."""
    head = Block()
    head.data += _ORDER + bytes((_CALL, 0, 1))
    head.number(len(body.data))
    head.number(serial)
    head.number(0)
    fields = ((1, "o", _PATH), (2, "s", _SERVICE + ".Manager"), (3, "s", member), (6, "s", _SERVICE))
    for code, kind, value in fields:
        head.align(8)
        head.data.append(code)
        head.signature(kind)
        head.string(value)
    head.align(8)
    head.data.append(_SIGNATURE)
    head.signature("g")
    head.signature(signature)
    head.data[_FIXED - 4 : _FIXED] = (len(head.data) - _FIXED).to_bytes(4, sys.byteorder)
    head.align(8)
    return bytes(head.data + body.data)


def size_of(data: bytes) -> int:
    """How long the message is whose first 16 bytes `data` begins with. Raises SandboxError for one we do not read."""
    if data[:1] != _ORDER or data[3] != 1:
        raise SandboxError(_DOES_NOT_SPEAK)
    fields = _number(data, 12)
    size = _FIXED + fields + -fields % 8 + _number(data, 4)
    if size > MAX_BYTES:
        raise SandboxError("systemd's manager sent a message that is too long")
    return size


def message(data: bytes) -> Message:
    """A whole message. Raises SandboxError for what is not one."""
    try:
        return _message(data)
    except (IndexError, ValueError) as error:
        raise SandboxError(_DOES_NOT_SPEAK) from error


def _message(data: bytes) -> Message:
    end = _FIXED + _number(data, 12)
    at, reply_to, member, signature = _FIXED, 0, "", ""
    while at < end:
        at += -at % 8
        code = data[at]
        kind, at = _short(data, at + 1)
        if kind == "u":
            at += -at % 4
            if code == _REPLY_TO:
                reply_to = _number(data, at)
            at += 4
        elif kind == "g":
            text, at = _short(data, at)
            signature = text if code == _SIGNATURE else signature
        elif kind in {"s", "o"}:
            text, at = _long(data, at)
            member = text if code == _MEMBER else member
        else:
            raise ValueError(kind)
    return Message(data[1], reply_to, member, _words(data, end + -end % 8, signature))


def _words(data: bytes, at: int, signature: str) -> list[str]:
    """The strings at the beginning of a body; what comes after another kind of value is not for us."""
    found: list[str] = []
    for kind in signature:
        if kind == "u":
            at += -at % 4 + 4
        elif kind in "so":
            text, at = _long(data, at)
            found.append(text)
        else:
            break
    return found


def _number(data: bytes, at: int) -> int:
    if at + 4 > len(data):
        raise ValueError("the end came too early")
    return int.from_bytes(data[at : at + 4], sys.byteorder)


def _long(data: bytes, at: int) -> tuple[str, int]:
    at += -at % 4
    return _text(data, at + 4, _number(data, at))


def _short(data: bytes, at: int) -> tuple[str, int]:
    return _text(data, at + 1, data[at])


def _text(data: bytes, at: int, size: int) -> tuple[str, int]:
    if at + size >= len(data) or data[at + size]:
        raise ValueError("a string without its end")
    return data[at : at + size].decode("utf-8", "replace"), at + size + 1


class Connection:
    """To one systemd manager. Every method but `close` raises SandboxError."""

    __slots__ = ("_buffer", "_greeted", "_serial", "_socket", "_until")

    def __init__(self, path: str, user: int, seconds: float) -> None:
        """`path` of its socket. `seconds`: for everything that is read, until `more_time`."""
        self._until = time.monotonic() + seconds
        self._buffer = b""
        self._greeted = False
        self._serial = 0
        self._socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
        try:
            self._socket.settimeout(seconds)
            self._socket.connect(path)
            # Nothing depends on its answer: one that does not let us in closes the connection.
            self._socket.sendall(b"\0AUTH EXTERNAL " + str(user).encode().hex().encode() + b"\r\nBEGIN\r\n")
        except OSError as error:
            self._socket.close()
            raise SandboxError(f"systemd's manager does not answer: {error.strerror or error}") from error

    def peer(self) -> tuple[int, int]:
        """The manager's process id, as this process sees it, 0 where it is not among those; and its user."""
        found = self._socket.getsockopt(SOL_SOCKET, SO_PEERCRED, 12)
        return int.from_bytes(found[:4], sys.byteorder), int.from_bytes(found[4:8], sys.byteorder)

    def more_time(self, seconds: float) -> None:
        """For what is read from now on."""
        self._until = time.monotonic() + seconds

    def start_scope(self, name: str, properties: Iterable[Property]) -> int:
        """StartTransientUnit. The serial of the call; `read` brings the answer."""
        body = Block()
        body.string(name)
        body.string("fail")
        body.properties(properties)
        body.number(0)  # no other units beside it; where the first of none would stand is aligned all the same
        body.align(8)
        return self._send("StartTransientUnit", "ssa(sv)a(sa(sv))", body)

    def attach(self, name: str, pids: Iterable[int]) -> None:
        """AttachProcessesToUnit: move processes into a delegated unit. They are there when this returns."""
        body = Block()
        body.string(name)
        body.string("")
        body.numbers(pids)
        serial = self._send("AttachProcessesToUnit", "ssau", body)
        while self.read().reply_to != serial:
            pass

    def read(self) -> Message:
        """The next message. An error that answers a call of ours is raised."""
        while not self._greeted:
            line, end, rest = self._buffer.partition(b"\r\n")
            if end:
                if not line.startswith(b"OK "):
                    raise SandboxError("systemd's manager does not let us in")
                self._greeted, self._buffer = True, rest
            elif len(line) > _FIXED * 8:
                raise SandboxError(_DOES_NOT_SPEAK)
            else:
                self._receive()
        while len(self._buffer) < _FIXED or len(self._buffer) < size_of(self._buffer):
            self._receive()
        size = size_of(self._buffer)
        found, self._buffer = message(self._buffer[:size]), self._buffer[size:]
        if found.kind == ERROR:
            raise SandboxError(f"systemd refused: {visible(found.words[0] if found.words else 'no reason', 200)}")
        return found

    def _receive(self) -> None:
        left = self._until - time.monotonic()
        try:
            self._socket.settimeout(max(left, 0.001))
            found = self._socket.recv(MAX_BYTES) if left > 0 else None
        except TimeoutError:
            found = None
        except OSError:
            found = b""
        if not found:
            raise SandboxError("systemd's manager " + ("does not answer in time" if found is None else _CLOSED))
        self._buffer += found

    def _send(self, member: str, signature: str, body: Block) -> int:
        self._serial += 1
        try:
            self._socket.sendall(method_call(self._serial, member, signature, body))
        except OSError as error:
            raise SandboxError(f"systemd's manager {_CLOSED}") from error
        return self._serial

    def close(self) -> None:
        self._socket.close()
