"""`callgate run` when the server or the client misbehaves: the real command, from outside."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway import run_command
from tests.support.processes import FIXTURES, Pipe, alive, peak_rss_bytes, wait_until

pytestmark = pytest.mark.timeout(120)

MIB = 1 << 20
SERVER = [sys.executable, "-S", "-E", str(FIXTURES / "servers" / "faulty_server.py")]
HELLO = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}


def request(request_id: Any, method: str, params: dict[str, Any]) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}).encode()


def call(request_id: Any, tool: str, **arguments: Any) -> bytes:
    meta = {"progressToken": f"token-{request_id}"}
    return request(request_id, "tools/call", {"name": tool, "arguments": arguments, "_meta": meta})


def text_of(message: dict[str, Any]) -> str:
    text: str = message["result"]["content"][0]["text"]
    return text


class Guarded(Pipe):
    """`callgate run` in front of the faulty server, after the handshake."""

    def __init__(self, directory: Path) -> None:
        self.log = directory / "stderr.log"
        super().__init__(run_command(SERVER, "--name", "faulty"), stderr=self.log)
        try:
            self.send(request("hello", "initialize", HELLO))
            assert self.message()["id"] == "hello"
            self.send(b'{"jsonrpc": "2.0", "method": "notifications/initialized"}')
        except BaseException:
            self.close()
            raise

    def message(self, seconds: float = 60.0) -> dict[str, Any]:
        line = self.read(seconds)
        assert line, f"the output ended; stderr: {self.said()}"
        value: dict[str, Any] = json.loads(line)
        return value

    def answer_to(self, request_id: Any, seconds: float = 60.0) -> dict[str, Any]:
        """The answer to one request; notifications on the way are skipped, other answers are a failure."""
        deadline = time.monotonic() + seconds
        while True:
            message = self.message(max(0.1, deadline - time.monotonic()))
            if "method" not in message:
                assert message["id"] == request_id
                return message

    def said(self) -> str:
        return self.log.read_text(errors="surrogateescape")


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Guarded]:
    inherited = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # it is ignored where the tests run under nohup
    try:
        with Guarded(tmp_path) as pipe:
            yield pipe
    finally:
        signal.signal(signal.SIGHUP, inherited)


def server_pid(guarded: Guarded) -> int:
    guarded.send(call("pid", "pid"))
    return int(text_of(guarded.answer_to("pid")))


# --- the server --------------------------------------------------------------------------------------


def test_a_server_that_dies_in_a_call_is_reported_and_its_exit_code_passes(guarded: Guarded) -> None:
    guarded.send(call(1, "echo", text="waits", seconds=30))
    guarded.send(call(2, "die", code=7))
    errors = [guarded.message(), guarded.message()]
    assert {error["id"] for error in errors} == {1, 2}
    assert all("ended" in error["error"]["message"] for error in errors)
    assert guarded.read() == b""
    assert guarded.wait() == 7
    assert "exit code 7" in guarded.said()


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL])
def test_a_server_ended_by_a_signal_gives_128_and_its_number(guarded: Guarded, number: int) -> None:
    guarded.send(call(1, "die-by-signal", signal=number))
    assert "ended" in guarded.message()["error"]["message"]
    assert guarded.wait() == 128 + number


@pytest.mark.parametrize("code", [0, 3])
def test_the_exit_code_of_a_server_that_just_ends_passes(guarded: Guarded, code: int) -> None:
    guarded.send(call(1, "die", code=code))
    guarded.message()
    assert guarded.wait() == code


def test_a_server_that_hangs_in_a_call_does_not_hold_up_others(guarded: Guarded) -> None:
    guarded.send(call(1, "hang"))
    guarded.send(call(2, "echo", text="still here"))
    assert text_of(guarded.answer_to(2)) == "still here"


@pytest.mark.slow
def test_a_server_that_ignores_the_end_is_killed(guarded: Guarded) -> None:
    guarded.send(call(1, "ignore-the-end"))
    pid = int(text_of(guarded.answer_to(1)))
    guarded.close_input()
    assert guarded.wait() == 128 + signal.SIGKILL
    assert not alive(pid)


def test_what_the_server_started_ends_with_it(guarded: Guarded) -> None:
    guarded.send(call(1, "leave-a-child"))
    child = int(text_of(guarded.answer_to(1)))
    assert alive(child)
    guarded.close_input()
    guarded.wait()
    wait_until(lambda: not alive(child), what="the end of the server's child")


@pytest.mark.skipif(not Path("/usr/bin/setpriv").exists(), reason="needs setpriv (util-linux) to end with the gate")
def test_a_server_does_not_outlive_a_gate_that_was_killed(guarded: Guarded) -> None:
    guarded.send(call(1, "ignore-the-end"))
    pid = int(text_of(guarded.answer_to(1)))
    guarded.process.kill()
    guarded.wait()
    wait_until(lambda: not alive(pid), what="the end of the server")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_gate_reaches_the_server(guarded: Guarded, number: signal.Signals) -> None:
    pid = server_pid(guarded)
    guarded.process.send_signal(number)
    code = guarded.wait()
    # Python servers turn SIGINT into an exception and an exit code of their own.
    assert code == 128 + number or number is signal.SIGINT
    assert not alive(pid)


def test_garbage_on_stdout_never_reaches_the_client(guarded: Guarded) -> None:
    guarded.send(call(1, "garbage"))
    assert text_of(guarded.answer_to(1)) == "after garbage"
    guarded.send(call(2, "echo", text="and on it goes"))
    assert text_of(guarded.answer_to(2)) == "and on it goes"


def test_half_a_line_is_not_forwarded(guarded: Guarded) -> None:
    guarded.send(call(1, "half-a-line"))
    message = guarded.message()
    assert message["id"] == 1
    assert "ended" in message["error"]["message"]
    assert guarded.read() == b""
    assert guarded.wait() == 0


def test_an_answer_nobody_asked_for_is_dropped(guarded: Guarded) -> None:
    guarded.send(call(1, "answer-nobody-asked"))
    assert text_of(guarded.answer_to(1)) == "asked"


def test_a_second_answer_is_dropped(guarded: Guarded) -> None:
    guarded.send(call(1, "answer-twice"))
    assert text_of(guarded.answer_to(1)) == "first"
    assert guarded.message()["params"]["data"] == "after both"


def test_stderr_is_relayed_without_terminal_sequences(guarded: Guarded) -> None:
    guarded.send(call(1, "talk"))
    guarded.answer_to(1)
    wait_until(lambda: "the terminal" in guarded.said(), what="the server's words")
    assert "\x1b" not in guarded.said()
    assert "\x07" not in guarded.said()


def test_a_message_past_the_limit_is_refused_in_bounded_memory(guarded: Guarded) -> None:
    guarded.send(call(1, "big", bytes=128 * MIB))
    guarded.send(call(2, "echo", text="after it"))
    answers = [guarded.message(60), guarded.message(60)]
    by_id = {answer["id"]: answer for answer in answers}
    assert text_of(by_id[2]) == "after it"
    assert "limits.response_bytes" in json.dumps(by_id[1]["error"])
    assert peak_rss_bytes(guarded.process.pid) < 128 * MIB


@pytest.mark.slow
def test_256_mib_of_notifications_pass_a_slow_client_in_bounded_memory(guarded: Guarded) -> None:
    messages, size = 4096, 64 * 1024
    guarded.send(call(1, "flood", messages=messages, bytes=size))
    time.sleep(1.0)  # the client does not read; the gate must not either
    assert peak_rss_bytes(guarded.process.pid) < 96 * MIB
    received = 0
    while True:
        message = guarded.message()
        if "method" not in message:
            break
        assert message["params"]["progress"] == received
        assert len(message["params"]["message"]) == size
        received += 1
    assert received == messages
    assert text_of(message) == "done"
    assert peak_rss_bytes(guarded.process.pid) < 96 * MIB


# --- the client --------------------------------------------------------------------------------------


def test_a_client_that_leaves_ends_the_server(guarded: Guarded) -> None:
    pid = server_pid(guarded)
    guarded.send(call(1, "hang"))
    guarded.close_input()
    assert guarded.wait() == 0
    assert not alive(pid)


def test_a_client_that_stops_listening_ends_the_server(guarded: Guarded) -> None:
    pid = server_pid(guarded)
    guarded.close_output()
    guarded.send(call(1, "echo", text="to nobody"))
    guarded.close_input()
    guarded.wait()
    assert not alive(pid)


def test_an_id_in_flight_cannot_be_used_again(guarded: Guarded) -> None:
    guarded.send(call(1, "echo", text="first", seconds=0.3))
    guarded.send(call(1, "echo", text="second"))
    refusal = guarded.message()
    assert refusal["id"] == 1
    assert refusal["error"]["code"] == -32600
    assert text_of(guarded.message()) == "first"
    guarded.send(call(1, "echo", text="third"))
    assert text_of(guarded.message()) == "third"


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b'{"jsonrpc": "2.0", "id": 9, "method": "ping", "method": "tools/call"}', -32700),
        (b'{"jsonrpc": "2.0", "id": 9, "method": "ping", "params": {"x": NaN}}', -32700),
        (b'{"jsonrpc": "2.0", "id": 9, "method": "ping"', -32700),
        (b'{"jsonrpc": "2.0", "id": true, "method": "ping"}', -32600),
        (b'\xef\xbb\xbf{"jsonrpc": "2.0", "id": 9, "method": "ping"}', -32700),
        (b"[" * 300 + b"]" * 300, -32600),
    ],
)
def test_a_malformed_request_is_answered_and_the_session_goes_on(guarded: Guarded, line: bytes, code: int) -> None:
    guarded.send(line)
    assert guarded.message()["error"]["code"] == code
    guarded.send(call(1, "echo", text="fine"))
    assert text_of(guarded.message()) == "fine"


@pytest.mark.slow
def test_ten_thousand_requests_at_once_are_each_answered_once(guarded: Guarded) -> None:
    total = 10_000
    lines = b"".join(call(number, "echo", text=f"echo {number}") + b"\n" for number in range(total))
    sender = threading.Thread(target=guarded.send, args=(lines,))
    sender.start()
    answers = {}
    for _ in range(total):
        message = guarded.message()
        assert message["id"] not in answers
        answers[message["id"]] = text_of(message)
    sender.join()
    assert answers == {number: f"echo {number}" for number in range(total)}


def test_more_requests_in_flight_than_allowed_are_refused(tmp_path: Path) -> None:
    config = tmp_path / "callgate.toml"
    config.write_text("[limits]\nin_flight = 10\n")
    with Pipe(run_command(SERVER, "--config", str(config))) as pipe:
        pipe.send(request("hello", "initialize", HELLO))
        pipe.read()
        for number in range(10):
            pipe.send(call(number, "hang"))
        pipe.send(call(10, "echo", text="one too many"))
        message = json.loads(pipe.read())
        assert message["id"] == 10
        assert "in_flight" in json.dumps(message["error"])


# --- starting ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("program", "said"), [("missing", "no program"), ("text", "not executable")])
def test_a_server_that_cannot_be_started_is_a_clear_error(program: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no program\n")
    (tmp_path / "text").chmod(0o644)
    with Pipe(run_command([str(tmp_path / program)]), stderr=tmp_path / "log") as pipe:
        assert pipe.read() == b""
        assert pipe.wait() not in (0, 1)
    log = (tmp_path / "log").read_text()
    assert said in log
    assert "next:" in log
    assert "Traceback" not in log


def test_a_server_that_ends_at_once_is_reported(tmp_path: Path) -> None:
    with Pipe(run_command([sys.executable, "-c", "raise SystemExit(5)"]), stderr=tmp_path / "log") as pipe:
        pipe.send(request(1, "initialize", HELLO))
        line = pipe.read()
        assert not line or "ended" in json.loads(line)["error"]["message"]
        assert pipe.wait() == 5
    assert "exit code 5" in (tmp_path / "log").read_text()
