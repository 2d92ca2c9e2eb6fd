"""`callgate run --url`: a stdio face to HTTP servers, real ones and odd ones."""

import asyncio
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from callgate.config import Limits
from callgate.errors import AuditError, ConfigError
from callgate.gate.verdicts import Deny, Finding
from callgate.launching.headers import LiveHeaders
from callgate.transport.remote_server import SIDE_BY_SIDE
from callgate.transport.remote_stdio import RemoteStdio
from tests.gate.fakes import FakeJournal, control, gate_of
from tests.support.processes import CALLGATE, free_port, running
from tests.transport.exchanges import MODERN

SERVERS = Path(__file__).parent / "servers"


class Pair:
    """A client's ends of the relay's pipes."""

    def __init__(self, relay: RemoteStdio, stdin: int, stdout: int, journal: FakeJournal) -> None:
        self.relay = relay
        self.journal = journal
        self.stdin = stdin
        self.stdout = stdout
        self.data = b""
        self.read: list[dict[str, Any]] = []
        self.paused = False
        asyncio.get_running_loop().add_reader(stdout, self._readable)
        self.news = asyncio.Event()

    def _readable(self) -> None:
        chunk = os.read(self.stdout, 65536)
        if not chunk:
            asyncio.get_running_loop().remove_reader(self.stdout)
        *lines, self.data = (self.data + chunk).split(b"\n")
        self.read += [json.loads(line) for line in lines]
        self.news.set()

    def send(self, *messages: Any) -> None:
        for message in messages:
            data = message if isinstance(message, bytes) else json.dumps({"jsonrpc": "2.0", **message}).encode()
            os.write(self.stdin, data + b"\n")

    def modern(self, id: Any, method: str, **params: Any) -> None:
        self.send({"id": id, "method": method, "params": {**params, "_meta": MODERN}})

    def initialize(self, version: str = "2025-11-25") -> None:
        params = {"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}}
        self.send({"id": "i", "method": "initialize", "params": params}, {"method": "notifications/initialized"})

    async def until(self, condition: Callable[[dict[str, Any]], object], timeout_s: float = 60) -> dict[str, Any]:
        async with asyncio.timeout(timeout_s):
            while True:
                for message in self.read:
                    if condition(message):
                        return message
                self.news.clear()
                await self.news.wait()

    async def answer(self, id: Any) -> dict[str, Any]:
        return await self.until(lambda message: message.get("id") == id)


def live(headers: dict[str, str]) -> LiveHeaders:
    return LiveHeaders(headers, Path("/nowhere"), "remote")


@asynccontextmanager
async def relay_to(
    url: str, *controls: Any, headers: dict[str, str] | LiveHeaders | None = None, **config: Any
) -> AsyncIterator[Pair]:
    loop = asyncio.get_running_loop()
    gate, journal = gate_of(*controls, **config)
    (stdin, to_relay), (from_relay, stdout) = os.pipe(), os.pipe()
    os.set_blocking(stdin, False)
    os.set_blocking(stdout, False)
    shown = headers if isinstance(headers, LiveHeaders) else live(headers or {})
    relay = RemoteStdio(url, gate, journal, "remote", shown, stdin, stdout)  # type: ignore[arg-type]
    task = loop.create_task(relay.run(loop))
    await asyncio.sleep(0)
    pair = Pair(relay, to_relay, from_relay, journal)
    try:
        yield pair
        os.close(to_relay)
        async with asyncio.timeout(60):
            assert await task == 0
    finally:
        task.cancel()
        loop.remove_reader(from_relay)
        gate.close()
        for fd in (stdin, stdout, from_relay):
            os.close(fd)


@asynccontextmanager
async def odd(behaviour: str, tmp_path: Path, *controls: Any, **options: Any) -> AsyncIterator[Pair]:
    port = free_port()
    with running([sys.executable, str(SERVERS / "http_raw.py"), behaviour, str(port), str(tmp_path / "deleted")], port):
        async with relay_to(f"http://127.0.0.1:{port}/mcp?key=1", *controls, **options) as pair:
            yield pair


async def log_of(pair: Pair) -> list[dict[str, Any]]:
    pair.send({"id": "log", "method": "log"})
    log: list[dict[str, Any]] = (await pair.answer("log"))["result"]["log"]
    return log


async def test_a_handshake_session_in_order_and_ended(tmp_path: Path) -> None:
    async with odd("plain", tmp_path, headers={"X-Key": "k"}) as pair:
        pair.initialize()
        pair.send({"id": 1, "method": "x", "params": {"a": "é"}})
        assert (await pair.answer(1))["result"]["echo"] == {"a": "é"}
        log = await log_of(pair)
        seen = [entry.get("method") or entry.get("accepted") for entry in log if "get" not in entry]
        assert seen[:4] == ["initialize", "notifications/initialized", "notifications/initialized", "x"]
        first, request = (next(entry for entry in log if entry.get("method") == name) for name in ("initialize", "x"))
        assert "mcp-session-id" not in first["headers"]
        assert request["headers"]["mcp-session-id"] == "s-1"
        assert request["headers"]["mcp-protocol-version"] == "2025-11-25"
        assert "text/event-stream" in request["headers"]["accept"]
        assert request["headers"]["x-key"] == "k"
        assert {"get": "", "session": "s-1"} in log
    assert (tmp_path / "deleted").read_text() == "s-1"


class Ending(LiveHeaders):
    """Headers whose credential ends when a test says so."""

    over = ""

    @property
    def ended(self) -> str:
        return self.over


async def test_nothing_is_sent_with_a_credential_that_has_ended(tmp_path: Path) -> None:
    headers = Ending({"X-Key": "k"}, tmp_path, "remote")
    async with odd("plain", tmp_path, headers=headers) as pair:
        pair.initialize()
        pair.send({"id": 1, "method": "x", "params": {}})
        await pair.answer(1)
        headers.over = "the credential for remote has ended"
        for number in (2, 3):
            pair.send({"id": number, "method": "y", "params": {}}, {"method": "notifications/z"})
            error = (await pair.answer(number))["error"]
            assert "no message can be sent to this server: the credential for remote has ended" in error["message"]
        headers.over = ""
        pair.send({"id": 4, "method": "x", "params": {}})
        assert "result" in await pair.answer(4)
        assert not {"y", "notifications/z"} & {entry.get("method") for entry in await log_of(pair)}


async def test_the_get_stream_comes_out_as_lines(tmp_path: Path) -> None:
    async with odd("speaks", tmp_path) as pair:
        pair.initialize()
        await pair.until(lambda message: message.get("method") == "notifications/message")


async def test_a_new_session_has_a_stream_of_its_own(tmp_path: Path) -> None:
    async with odd("plain", tmp_path) as pair:
        for session in ("s-1", "s-2"):
            pair.read.clear()
            pair.initialize()
            async with asyncio.timeout(60):
                while {"get": "", "session": session} not in await log_of(pair):
                    pair.read.clear()
                    await asyncio.sleep(0.02)
    assert (tmp_path / "deleted").read_text() == "s-2"


async def test_modern_requests_carry_their_headers_side_by_side(tmp_path: Path) -> None:
    async with odd("plain", tmp_path) as pair:
        for number in range(20):
            pair.modern(number, "tools/call", name="tööl", arguments={"n": number})
        for number in range(20):
            assert (await pair.answer(number))["result"]["echo"]["arguments"] == {"n": number}
        entry = next(entry for entry in await log_of(pair) if entry["method"] == "tools/call")
        assert entry["headers"]["mcp-method"] == "tools/call"
        assert entry["headers"]["mcp-name"] == "=?base64?dMO2w7Zs?="
        assert entry["headers"]["mcp-protocol-version"] == "2026-07-28"
        assert "mcp-session-id" not in entry["headers"]


async def test_mirrored_arguments(tmp_path: Path) -> None:
    async with odd("mirrored", tmp_path) as pair:
        pair.modern(1, "tools/list")
        await pair.answer(1)
        pair.modern(2, "tools/call", name="t", arguments={"region": "eu"})
        await pair.answer(2)
        entry = next(entry for entry in await log_of(pair) if entry["method"] == "tools/call")
        assert entry["headers"]["mcp-param-region"] == "eu"


async def test_events_and_pretty_json_come_out_one_line_each(tmp_path: Path) -> None:
    async with odd("events", tmp_path) as pair:
        pair.modern(1, "x")
        await pair.answer(1)
        assert [message.get("method") for message in pair.read] == ["notifications/progress", None]
    async with odd("pretty", tmp_path, mode="observe") as pair:
        pair.modern(1, "x")
        assert (await pair.answer(1))["result"]["text"] == "a\nb"


async def test_polling_goes_on_after_the_last_event(tmp_path: Path) -> None:
    async with odd("polling", tmp_path) as pair:
        pair.initialize()
        await pair.answer("i")
        pair.send({"id": 5, "method": "x"})
        assert (await pair.answer(5))["result"] == {"polled": True}


async def test_a_stream_that_is_cut_is_an_error(tmp_path: Path) -> None:
    async with odd("cut", tmp_path) as pair:
        pair.modern(1, "x")
        error = (await pair.answer(1))["error"]
        assert error["data"]["rule"] == "server-gone"
        assert "early" in error["message"]


async def test_a_modern_cancellation_closes_the_connection(tmp_path: Path) -> None:
    async with odd("slow", tmp_path) as pair:
        pair.modern(7, "hang")
        async with asyncio.timeout(60):
            while not any(entry.get("method") == "hang" for entry in await log_of(pair)):
                pair.read.clear()
                await asyncio.sleep(0.02)
        pair.send({"method": "notifications/cancelled", "params": {"requestId": 7}})
        async with asyncio.timeout(60):
            while {"closed": 7} not in await log_of(pair):
                pair.read.clear()
                await asyncio.sleep(0.1)
        assert not any(entry.get("method") == "notifications/cancelled" for entry in await log_of(pair))


async def test_streams_that_are_left_open_after_their_answers_take_no_room_and_are_closed(tmp_path: Path) -> None:
    count = 2 * SIDE_BY_SIDE + 10
    async with odd("lingers", tmp_path) as pair:
        for number in range(count):
            pair.modern(number, "x")
            assert "result" in await pair.answer(number)
        async with asyncio.timeout(60):
            while {"closed": count - SIDE_BY_SIDE - 1} not in await log_of(pair):
                pair.read.clear()
                await asyncio.sleep(0.1)
        assert {"closed": count - SIDE_BY_SIDE} not in await log_of(pair)


class FullJournal(FakeJournal):
    """The disk is full, and then it is not."""

    tick_s = 0.0
    ticks = 0

    def __init__(self) -> None:
        super().__init__()
        self.often = asyncio.Event()

    def tick(self) -> bool:
        self.ticks += 1
        if self.ticks == 6:
            self.often.set()
        if self.ticks < 4:
            raise AuditError("no room for evidence")
        return False


async def test_housekeeping_outlives_a_full_disk_and_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(RemoteStdio, "say", staticmethod(said.append))
    gate, _ = gate_of()
    journal = FullJournal()
    relay = RemoteStdio("http://127.0.0.1:1/", gate, journal, "remote", live({}))  # type: ignore[arg-type]
    task = asyncio.get_running_loop().create_task(relay._tick())
    async with asyncio.timeout(60):
        await journal.often.wait()
    task.cancel()
    gate.close()
    assert said == ["no room for evidence"]


@contextmanager
def program(behaviour: str, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The command itself, for what its own descriptors and signals do."""
    port = free_port()
    server = [sys.executable, str(SERVERS / "http_raw.py"), behaviour, str(port), str(tmp_path / "deleted")]
    command = [CALLGATE, "run", "--url", f"http://127.0.0.1:{port}/mcp"]
    with (
        running(server, port),
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as gate,
    ):
        try:
            yield gate
        finally:
            gate.kill()


def request(id: int, method: str, **params: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": id, "method": method, "params": {**params, "_meta": MODERN}}).encode()


def test_the_last_line_needs_no_newline(tmp_path: Path) -> None:
    with program("plain", tmp_path) as gate:
        out, _ = gate.communicate(request(1, "x"), timeout=60)
        assert json.loads(out)["id"] == 1
        assert gate.returncode == 0


def test_who_still_waits_at_the_end_is_told(tmp_path: Path) -> None:
    with program("slow", tmp_path) as gate:
        out, _ = gate.communicate(request(1, "hang") + b"\n", timeout=60)
        assert json.loads(out)["error"]["data"]["rule"] == "server-gone"
        assert gate.returncode == 0


def test_a_client_that_reads_nothing_can_end_it(tmp_path: Path) -> None:
    with program("big", tmp_path) as gate:
        assert gate.stdin is not None and gate.stdout is not None
        gate.stdin.write(request(1, "x", size=3 << 20) + b"\n")
        gate.stdin.flush()
        assert select.select([gate.stdout], [], [], 60)[0]
        gate.terminate()
        assert gate.wait(60) == 128 + signal.SIGTERM


async def test_a_cancellation_of_nothing_breaks_nothing(tmp_path: Path) -> None:
    async with odd("slow", tmp_path) as pair:
        for params in (None, {}, {"requestId": None}):
            pair.send({"method": "notifications/cancelled", "params": params})
        assert await log_of(pair)


@pytest.mark.parametrize(("status", "words"), [(401, "credentials"), (404, "ended the session"), (500, "HTTP 500")])
async def test_http_errors_in_words(tmp_path: Path, status: int, words: str) -> None:
    async with odd("status", tmp_path) as pair:
        pair.initialize()
        pair.send({"id": 1, "method": "x", "params": {"status": status}})
        assert words in (await pair.answer(1))["error"]["message"]


async def test_an_error_in_the_body_of_an_http_error_is_the_answer(tmp_path: Path) -> None:
    async with odd("status", tmp_path) as pair:
        pair.modern(1, "x", status=400, json=True)
        assert (await pair.answer(1))["error"] == {"code": -32020, "message": "mismatch"}


async def test_refusals_stay_here(tmp_path: Path) -> None:
    def call(event: Any) -> Deny:
        return Deny("not this", (Finding("c/r", "tool-poisoning", "no"),))

    async with odd("plain", tmp_path, control("c", pattern=b"forbidden", call=call)) as pair:
        pair.modern(1, "tools/call", name="forbidden")
        assert (await pair.answer(1))["result"]["isError"] is True
        pair.send(b'{"jsonrpc":"2.0","id":2,"id":3,"method":"x"}', b"", b"not json")
        await pair.until(lambda message: message.get("error", {}).get("data", {}).get("rule") == "json-duplicate-key")
        await pair.until(lambda message: message.get("error", {}).get("data", {}).get("rule") == "json-syntax")
        assert [entry.get("method") for entry in await log_of(pair)] == ["log"]


async def test_limits_both_ways(tmp_path: Path) -> None:
    async with odd("big", tmp_path, limits=Limits(request_bytes=2000, response_bytes=50_000)) as pair:
        pair.send(b'{"jsonrpc":"2.0","id":1,"method":"x","params":{"t":"%s"}}' % (b"x" * 5000))
        await pair.until(lambda message: message.get("error", {}).get("data", {}).get("rule") == "limit-request-bytes")
        pair.modern(2, "x", size=100_000)
        assert "response_bytes" in (await pair.answer(2))["error"]["message"]
        pair.modern(3, "x", size=10)
        assert (await pair.answer(3))["result"]["text"] == "x" * 10


async def test_an_answer_with_two_ids_is_refused(tmp_path: Path) -> None:
    async with odd("garbage", tmp_path) as pair:
        pair.modern(2, "x")
        assert "error" in await pair.answer(2)


async def test_nobody_listens() -> None:
    async with relay_to(f"http://127.0.0.1:{free_port()}/mcp") as pair:
        pair.initialize()
        assert "cannot reach the server" in (await pair.answer("i"))["error"]["message"]


@pytest.mark.parametrize("url", ["ftp://x/", "http://user:pass@x/", "http://x:0/", "http://"])
async def test_urls_that_cannot_be_used(url: str) -> None:
    gate, journal = gate_of()
    loop = asyncio.get_running_loop()
    with pytest.raises(ConfigError):
        await RemoteStdio(url, gate, journal, "r", live({}), -1, -1).run(loop)  # type: ignore[arg-type]
    gate.close()


@pytest.mark.parametrize("transport", ["sse", "streamable-http"])
async def test_the_official_server_by_both_transports(transport: str) -> None:
    port = free_port()
    with running([sys.executable, str(SERVERS / "sdk.py"), transport, str(port)], port):
        path = "sse" if transport == "sse" else "mcp"
        async with relay_to(f"http://127.0.0.1:{port}/{path}") as pair:
            pair.initialize()
            await pair.answer("i")
            for number in range(30):
                params = {"name": "add", "arguments": {"a": number, "b": 1}}
                pair.send({"id": number, "method": "tools/call", "params": params})
            for number in range(30):
                assert (await pair.answer(number))["result"]["content"][0]["text"] == str(number + 1)
            meta = {"progressToken": "p"}
            pair.send(
                {"id": "c", "method": "tools/call", "params": {"name": "count", "arguments": {"to": 3}, "_meta": meta}}
            )
            await pair.answer("c")
            assert sum(message.get("method") == "notifications/progress" for message in pair.read) == 3
            if transport != "sse":
                pair.modern("m", "server/discover")
                assert "2026-07-28" in (await pair.answer("m"))["result"]["supportedVersions"]
