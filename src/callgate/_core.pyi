# The native lane (core/): see `callgate.native`, the only one that imports it.

from mmap import mmap
from typing import Any

INTERFACE: int

class Place:
    offset: int
    limit: int
    seq: int
    prev: str
    tail: mmap
    segment: int
    segment_number: int
    position: int
    segment_bytes: int

    def let_go(self) -> None: ...

class Marks:
    modern: bool
    replayable: bool

class Pending:
    method: str
    modern: bool
    name: str
    seq: int
    started_ns: int

    def __init__(self, method: str, name: str, seq: int, started_ns: int, modern: bool) -> None: ...

class Forms:
    def __init__(self, limits: Any) -> None: ...
    def __len__(self) -> int: ...
    def clear(self) -> None: ...
    def reads_call(self, raw: bytes) -> bool: ...
    def reads_answer(self, raw: bytes) -> bool: ...
    def learn_call(
        self, server: str, raw: bytes, method: str, name: str, head: bytes, revision: str | None
    ) -> bool: ...
    def learn_answer(self, raw: bytes, method: str, name: str, head: bytes) -> bool: ...

class Express:
    def __init__(
        self,
        forms: Forms,
        pending: dict[Any, Any],
        withheld: dict[Any, Any],
        scope: Any,
        journal: Any,
        clears: Any,
        stamp: Any,
        scan: Any,
        server: str,
        in_flight: int,
        *,
        ascii_is_clear: bool,
    ) -> None: ...
    def call(self, channel: Any, raw: bytes) -> bool: ...
    def call_mirrored(
        self, channel: Any, raw: bytes, version: str | None, method: str | None, name: str | None
    ) -> int | None: ...
    def request(
        self,
        channel: Any,
        data: bytes,
        before: bytes,
        after: bytes,
        lines: bytes,
        version: str | None,
        method: str | None,
        name: str | None,
    ) -> tuple[int, bytes] | None: ...
    def reply(
        self, channel: Any, data: bytes, before: bytes, after: bytes, lines: bytes, date: bytes
    ) -> bytes | None: ...
    def answer(self, channel: Any, raw: bytes) -> bool: ...

class Pump:
    def __init__(
        self,
        poller: int,
        express: Express,
        channel: Any,
        up: tuple[int, int, int],
        down: tuple[int, int, int],
        active_ms: int,
    ) -> None: ...
    def turn(
        self, timeout_ms: int, up: bool, down: bool, alone: bool
    ) -> list[tuple[int, int, bytes | None]] | None: ...
    def take_passed(self) -> tuple[bool, bool]: ...
