"""The floor for a stdio gateway in Python that inspects: `stdio_relay.py`, and the least that inspecting takes.

    stdio_inspecting_relay.py inspect|record COMMAND ARGS…

`inspect`: each message is parsed, proved to be the only spelling of itself, and scanned for four patterns. `record`:
its id is matched, too, and a line of evidence with two digests goes into a chain in memory. No controls, no limits,
no errors, no file: the libraries are those callgate uses. Not a relay to use: see stdio_relay.py.
"""

import os
import select
import sys
import time
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import hyperscan
import orjson

STDIN, STDOUT = 0, 1
PATTERNS = (rb"\\u0000", rb"\xe2\x80[\x8b-\x8f\xa8-\xae]", rb"\\u00[01]", rb"[:\[,]-?[0-9]{16}")
HEAD = orjson.Fragment(b'"chain","content":"' + b"c" * 60 + b'","decision":"' + b"d" * 120 + b'"')
SCOPE = orjson.Fragment(b'{"scope":"' + b"s" * 80 + b'"}')
Judge = Callable[[bytes, bool], Any]


def inspecting() -> Judge:
    """Parse, prove, scan."""
    database = hyperscan.Database()
    database.compile(
        expressions=PATTERNS, ids=range(len(PATTERNS)), elements=len(PATTERNS),
        flags=[hyperscan.HS_FLAG_SINGLEMATCH] * len(PATTERNS),
    )  # fmt: skip
    scan, loads, dumps = database.scan, orjson.loads, orjson.dumps
    hits: list[int] = []

    def found(pattern: int, *_: object) -> None:
        hits.append(pattern)

    def judge(raw: bytes, _up: bool) -> Any:
        body = loads(raw)
        if dumps(body) != raw:
            sys.exit("a message with two spellings")
        scan(raw, match_event_handler=found)
        if hits:
            sys.exit("a pattern was found")
        return body

    return judge


def recording() -> Judge:
    """The same, and what evidence takes."""
    inspect, dumps = inspecting(), orjson.dumps
    pending: dict[int, str] = {}
    record: dict[str, Any] = {
        "about": 0,
        "chain": HEAD,
        "prev": "",
        "rpc_id": 0,
        "scope": SCOPE,
        "seq": 0,
        "sha256": "",
        "time": 0,
    }
    log = bytearray(64 * 1024)
    place = 0

    def judge(raw: bytes, up: bool) -> Any:
        nonlocal place
        body = inspect(raw, up)
        number = body.get("id", 0)
        if up:
            pending[number] = body["method"]
        else:
            pending.pop(number, None)
        record["sha256"] = sha256(raw).hexdigest()
        record["rpc_id"] = number
        record["seq"] += 1
        record["time"] = time.time_ns() // 1000
        line = dumps(record, None, orjson.OPT_APPEND_NEWLINE)
        record["prev"] = sha256(line).hexdigest()
        if place + len(line) > len(log):
            place = 0
        log[place : place + len(line)] = line
        place += len(line)
        return body

    return judge


def main(what: str, command: list[str]) -> None:
    judge = inspecting() if what == "inspect" else recording()
    child_in, to_child = os.pipe()
    from_child, child_out = os.pipe()
    actions = [(os.POSIX_SPAWN_DUP2, child_in, STDIN), (os.POSIX_SPAWN_DUP2, child_out, STDOUT)]
    os.posix_spawnp(command[0], command, os.environ, file_actions=actions)
    os.close(child_in)
    os.close(child_out)
    onward = {STDIN: to_child, from_child: STDOUT}
    poller = select.epoll()
    for source in onward:
        poller.register(source, select.EPOLLIN)
    read, write, poll = os.read, os.write, poller.poll
    parts: dict[int, bytes] = {STDIN: b"", from_child: b""}
    while True:
        for source, _ in poll():
            chunk = read(source, 65536)
            if not chunk:
                return
            if parts[source] or not chunk.endswith(b"\n"):
                chunk = parts[source] + chunk
                end = chunk.rfind(b"\n") + 1
                chunk, parts[source] = chunk[:end], chunk[end:]
            up = source == STDIN
            for line in chunk.split(b"\n")[:-1]:
                judge(line, up)
            if chunk:
                write(onward[source], chunk)


main(sys.argv[1], sys.argv[2:])
