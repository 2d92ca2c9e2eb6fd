"""`callgate serve` when servers or clients misbehave: the real command, from outside."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from callgate.audit.query import Filter, all_records
from tests.support import legacy, modern
from tests.support.gateway import Gateway, get_status, serve
from tests.support.processes import FIXTURES, alive, free_port, peak_rss_bytes, running, wait_until

pytestmark = pytest.mark.timeout(120)

MIB = 1 << 20
SERVERS = FIXTURES / "servers"
STDIO = [sys.executable, "-S", "-E", str(SERVERS / "faulty_server.py")]
HTTP, PIPE = "/http/mcp", "/stdio/mcp"
BOTH = pytest.mark.parametrize("path", [HTTP, PIPE], ids=["http", "stdio"])


@pytest.fixture(scope="module")
def upstream() -> Iterator[str]:
    port = free_port()
    with running([sys.executable, str(SERVERS / "faulty_http_server.py"), str(port)], port):
        yield f"http://127.0.0.1:{port}/mcp"


@pytest.fixture(scope="module")
def shared(upstream: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One gateway for the tests that leave it as it was."""
    servers: dict[str, dict[str, Any]] = {"http": {"url": upstream}, "stdio": {"command": STDIO}}
    with serve(tmp_path_factory.mktemp("gate"), servers) as gateway:
        yield gateway


@pytest.fixture
def own(upstream: str, tmp_path: Path) -> Iterator[Gateway]:
    """A gateway for one test."""
    with serve(tmp_path, {"http": {"url": upstream}, "stdio": {"command": STDIO}}) as gateway:
        yield gateway


def still_answers(gateway: Gateway, path: str) -> bool:
    return modern.post(gateway.port, path, modern.call("after", "echo", text="still here")).text() == "still here"


# --- servers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    ["close", "half-a-head", "half-a-body", "not-http", "not-json", "duplicate-keys", "redirect", "html"],
)
def test_what_is_not_http_or_mcp_becomes_an_error(fault: str, shared: Gateway) -> None:
    answer = modern.post(shared.port, HTTP, modern.call("x1", fault))
    assert answer.status >= 400 or "error" in answer.message() or answer.message()["result"]["isError"]
    assert b"elsewhere" not in answer.body
    assert still_answers(shared, HTTP)


def test_half_an_event_is_not_forwarded(shared: Gateway) -> None:
    answer = modern.post(shared.port, HTTP, modern.call("x2", "half-an-event"))
    assert b'"resu' not in answer.body.replace(b'"result"', b"")
    assert still_answers(shared, HTTP)


@BOTH
def test_a_hanging_server_is_given_up_after_its_time(path: str, upstream: str, tmp_path: Path) -> None:
    def answered() -> bool:
        answer = modern.post(gateway.port, path, modern.call("after", "echo", text="still here"))
        return answer.status == 200 and answer.text() == "still here"

    impatient = {"request_timeout_s": 2.0}
    with serve(tmp_path, {"http": {"url": upstream, **impatient}, "stdio": {"command": STDIO, **impatient}}) as gateway:
        began = time.monotonic()
        answer = modern.post(gateway.port, path, modern.call("x3", "hang"))
        assert 1.5 < time.monotonic() - began < 30
        assert answer.status >= 500 or "error" in answer.message()
        wait_until(answered, what="an answer")  # two seconds may be too few for any call where the machine stands still


def test_a_stdio_server_that_dies_is_reported_and_started_again(shared: Gateway) -> None:
    before = modern.post(shared.port, PIPE, modern.call("x4", "pid")).text()
    answer = modern.post(shared.port, PIPE, modern.call("x5", "die"))
    assert answer.status >= 500 or "error" in answer.message()
    after = modern.post(shared.port, PIPE, modern.call("x6", "pid")).text()
    assert before != after


def test_garbage_and_stray_answers_on_stdout_reach_no_client(shared: Gateway) -> None:
    assert modern.post(shared.port, PIPE, modern.call("x7", "garbage")).text() == "after garbage"
    assert modern.post(shared.port, PIPE, modern.call("x8", "answer-nobody-asked")).text() == "asked"
    assert modern.post(shared.port, PIPE, modern.call("x9", "answer-twice")).text() == "first"
    assert still_answers(shared, PIPE)


@pytest.mark.parametrize(
    ("path", "fault"), [(HTTP, "one-big-event"), (HTTP, "one-big-body"), (PIPE, "big")], ids=["sse", "json", "stdio"]
)
def test_a_message_past_the_limit_is_refused_in_bounded_memory(path: str, fault: str, own: Gateway) -> None:
    answer = modern.post(own.port, path, modern.call("b1", fault, bytes=96 * MIB))
    assert len(answer.body) < MIB
    assert answer.status >= 400 or "error" in answer.message()
    assert peak_rss_bytes(own.pid) < 160 * MIB
    assert still_answers(own, path)


EVENTS, EVENT_BYTES = 4096, 64 * 1024


def all_events(response: http.client.HTTPResponse) -> list[Any]:
    """Read a stream of progress notifications to its end: their numbers, then the text of the result."""
    seen: list[Any] = []
    for line in response:
        if line.startswith(b"data:") and line[5:].strip():
            message = json.loads(line[5:])
            if "method" in message:
                assert len(message["params"]["message"]) == EVENT_BYTES
                seen.append(message["params"]["progress"])
            else:
                seen.append(message["result"]["content"][0]["text"])
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("route", ["http", "stdio", "stdio-session"])
def test_256_mib_of_events_pass_a_slow_client_in_bounded_memory(route: str, upstream: str, tmp_path: Path) -> None:
    with serve(tmp_path, {"http": {"url": upstream}, "stdio": {"command": STDIO}}) as gateway:
        if route == "http":
            message = modern.call("s1", "stream", bytes=EVENT_BYTES, events=EVENTS)
            opened = modern.open_stream(gateway.port, HTTP, message)
        elif route == "stdio":
            message = modern.call("s1", "flood", bytes=EVENT_BYTES, messages=EVENTS)
            opened = modern.open_stream(gateway.port, PIPE, message)
        else:
            message = legacy.call("s1", "flood", bytes=EVENT_BYTES, messages=EVENTS)
            opened = legacy.Session(gateway.port, PIPE).open_stream(message)
        with opened as response:
            time.sleep(1.0)  # the client does not read; the gate must not either
            assert peak_rss_bytes(gateway.pid) < 128 * MIB
            assert all_events(response) == [*range(EVENTS), "done"]
            assert peak_rss_bytes(gateway.pid) < 128 * MIB


@pytest.mark.slow
def test_a_client_that_does_not_read_holds_up_others_of_a_process_for_seconds_only(shared: Gateway) -> None:
    message = modern.call("s3", "flood", bytes=EVENT_BYTES, messages=EVENTS)
    with modern.open_stream(shared.port, PIPE, message):
        assert still_answers(shared, PIPE)
        assert peak_rss_bytes(shared.pid) < 128 * MIB


# --- clients -----------------------------------------------------------------------------------------


def test_a_modern_client_that_leaves_cancels_at_an_http_server(shared: Gateway) -> None:
    with modern.open_stream(shared.port, HTTP, modern.call("d1", "wait-for-disconnect")) as response:
        assert b"waiting" in response.readline() + response.readline()
    assert modern.post(shared.port, HTTP, modern.call("d2", "was-disconnected")).text() == "True"


def test_a_modern_client_that_leaves_cancels_at_a_stdio_server(own: Gateway) -> None:
    message = modern.call("d3", "wait-for-cancel", seconds=30)
    with socket.create_connection(("127.0.0.1", own.port)) as client:
        client.sendall(raw_post(PIPE, message))
        wait_until(
            lambda: modern.post(own.port, PIPE, modern.call("d5", "is-waiting")).text() == "True",
            what="the call",
        )
    wait_until(
        lambda: modern.post(own.port, PIPE, modern.call("d4", "was-cancelled")).text() == "True",
        what="the cancellation",
    )


def raw_post(path: str, message: dict[str, Any], **extra: str) -> bytes:
    content = json.dumps(message).encode()
    fields = {"Host": "127.0.0.1", **modern.headers(message), "Content-Length": str(len(content)), **extra}
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode() + content


@BOTH
def test_two_clients_with_the_same_ids_never_see_each_others_answers(path: str, shared: Gateway) -> None:
    """Both clients use the ids 0..99 at the same time; delays make answers overtake each other."""

    def client(name: str) -> dict[int, str]:
        def ask(number: int) -> tuple[int, str]:
            seconds = 0.02 + (number * 7 % 10) / 100
            message = modern.call(number, "echo", text=f"{name} {number}", seconds=seconds)
            answer = modern.post(shared.port, path, message)
            assert answer.message()["id"] == number
            return number, answer.text()

        with ThreadPoolExecutor(10) as pool:
            return dict(pool.map(ask, range(100)))

    with ThreadPoolExecutor(2) as pool:
        ada, grace = pool.map(client, ("ada", "grace"))
    assert ada == {number: f"ada {number}" for number in range(100)}
    assert grace == {number: f"grace {number}" for number in range(100)}


@pytest.mark.slow
@BOTH
async def test_ten_thousand_requests_on_a_thousand_connections(path: str, shared: Gateway) -> None:
    """Each is answered once, with its own text. HTTP/1.1 carries one at a time a connection."""
    connections, each = 1000, 10
    gate = asyncio.Semaphore(connections)

    async def client(number: int) -> int:
        async with gate:
            reader, writer = await asyncio.open_connection("127.0.0.1", shared.port)
            right = 0
            for turn in range(each):
                text = f"{number}/{turn}"
                writer.write(raw_post(path, modern.call(turn, "echo", text=text)))
                head = await reader.readuntil(b"\r\n\r\n")
                found = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
                assert found, head
                content = json.loads(await reader.readexactly(int(found[1])))
                right += content["id"] == turn and content["result"]["content"][0]["text"] == text
            writer.close()
            await writer.wait_closed()
            return right

    counts = await asyncio.gather(*(client(number) for number in range(connections)))
    assert sum(counts) == connections * each


def test_a_client_that_sends_half_a_request_holds_up_nobody(shared: Gateway) -> None:
    with socket.create_connection(("127.0.0.1", shared.port)) as slow:
        slow.sendall(raw_post(HTTP, modern.call(1, "echo", text="x"))[:-10])
        assert still_answers(shared, HTTP)


def test_requests_after_each_other_without_waiting_are_answered_in_order(shared: Gateway) -> None:
    with socket.create_connection(("127.0.0.1", shared.port)) as client:
        client.settimeout(60)
        client.sendall(b"".join(raw_post(HTTP, modern.call(n, "echo", text=f"piped {n}")) for n in range(5)))
        received = b""
        while received.count(b"piped") < 5:
            data = client.recv(65536)
            assert data, received
            received += data
    assert re.findall(rb"piped (\d)", received) == [b"0", b"1", b"2", b"3", b"4"]


@pytest.mark.parametrize(
    ("extra", "status"),
    [
        ({"Host": "evil.example.com"}, {403, 421}),
        ({"Origin": "http://evil.example.com"}, {403}),
        ({"Mcp-Method": "tools/list"}, {400}),
        ({"Mcp-Name": "other"}, {400}),
        ({"Content-Type": "text/plain"}, {400, 415}),
    ],
)
def test_what_a_browser_page_or_a_liar_would_send_is_refused(
    extra: dict[str, str], status: set[int], shared: Gateway
) -> None:
    answer = modern.post(shared.port, HTTP, modern.call(1, "echo", text="x"), extra)
    assert answer.status in status


def test_a_body_past_the_limit_is_refused(shared: Gateway) -> None:
    answer = modern.post(shared.port, HTTP, modern.call(1, "echo", text="x" * (5 * MIB)))
    assert answer.status == 413


def test_headers_past_the_limit_are_refused(shared: Gateway) -> None:
    answer = modern.post(shared.port, HTTP, modern.call(1, "echo", text="x"), {"X-Long": "y" * 60_000})
    assert answer.status == 431


# --- the gateway -------------------------------------------------------------------------------------


def test_sigterm_lets_calls_in_flight_finish_and_leaves_no_process(upstream: str, tmp_path: Path) -> None:
    with serve(tmp_path, {"http": {"url": upstream}, "stdio": {"command": STDIO}}) as gateway:
        pid = int(modern.post(gateway.port, PIPE, modern.call(1, "pid")).text())
        with ThreadPoolExecutor(2) as pool:
            calls = [
                pool.submit(modern.post, gateway.port, path, modern.call(2, "echo", text="drained", seconds=1.0))
                for path in (HTTP, PIPE)
            ]
            wait_until(lambda: in_flight(gateway) == 2, what="both calls")
            gateway.signal(signal.SIGTERM)
            assert [call.result().text() for call in calls] == ["drained", "drained"]
        assert gateway.wait() == 0
        assert not alive(pid)


def in_flight(gateway: Gateway) -> int:
    """How many calls of `echo` the gate has let through, by its evidence."""
    records = (record for _, record in all_records(gateway.state / "audit", Filter()))
    return sum((one.get("direction"), one.get("name")) == ("client", "echo") for one in records)


@pytest.mark.skipif(not Path("/usr/bin/setpriv").exists(), reason="needs setpriv (util-linux) to end with the gate")
def test_no_server_outlives_a_gateway_that_was_killed(own: Gateway) -> None:
    pid = int(modern.post(own.port, PIPE, modern.call(1, "pid")).text())
    own.signal(signal.SIGKILL)
    own.wait()
    wait_until(lambda: not alive(pid), what="the end of the server")


def test_sighup_reads_the_configuration_again_without_dropping_calls(upstream: str, tmp_path: Path) -> None:
    with serve(tmp_path, {"http": {"url": upstream}}) as gateway:
        assert modern.post(gateway.port, PIPE, modern.call(1, "pid")).status == 404
        slow = threading.Thread(target=lambda: texts.append(post_slowly(gateway)))
        texts: list[str] = []
        slow.start()
        time.sleep(0.3)
        gateway.rewrite({"http": {"url": upstream}, "stdio": {"command": STDIO}})
        gateway.signal(signal.SIGHUP)
        wait_until(lambda: modern.post(gateway.port, PIPE, modern.call(1, "pid")).status == 200, what="the new route")
        slow.join()
        assert texts == ["slow"]


def post_slowly(gateway: Gateway) -> str:
    return modern.post(gateway.port, HTTP, modern.call(1, "echo", text="slow", seconds=1.5)).text()


def test_it_refuses_to_listen_beyond_loopback_without_authentication(tmp_path: Path) -> None:
    with (
        pytest.raises(AssertionError, match="token_file"),
        serve(tmp_path, {"stdio": {"command": STDIO}}, listen={"address": f"0.0.0.0:{free_port()}"}),
    ):
        pytest.fail("it listens on all addresses")


def test_health_and_readiness_answer(shared: Gateway) -> None:
    for path in ("/healthz", "/readyz"):
        assert get_status(shared.port, path) == 200
