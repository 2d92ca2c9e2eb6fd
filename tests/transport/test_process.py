"""Child servers: framing, back-pressure, ends and orphans, with real processes."""

import asyncio
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from callgate.config import ServerConfig
from callgate.errors import AuditError, CallgateError, LaunchError
from callgate.gate.engine import Gate
from callgate.launching.launch import Launch
from callgate.sandbox.backend import Prepared
from callgate.transport.aside import Aside
from callgate.transport.bridge import Connect
from callgate.transport.launcher import Launcher
from callgate.transport.process import HIGH_WATER, ServerProcess, describe_exit, server_environment, spawn
from tests.gate.fakes import gate_of
from tests.support.processes import alive, wait_until
from tests.transport.exchanges import RAW, exists, until

PING = b'{"jsonrpc":"2.0","id":1,"method":"x","params":{}}'


def raw(behaviour: str) -> list[str]:
    return [sys.executable, "-I", "-S", str(RAW), behaviour]


class Recorder:
    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.long: list[bool] = []
        self.how = ""
        self.drains = 0
        self.news = asyncio.Event()

    def line(self, data: bytes) -> None:
        self.lines.append(data)
        self.news.set()

    def too_long(self, edges: list[bytes], *, endless: bool) -> None:
        self.long.append(endless)
        self.news.set()

    def drained(self) -> None:
        self.drains += 1
        self.news.set()

    def exited(self, how: str) -> None:
        self.how = how
        self.news.set()

    async def until(self, condition: Callable[[], object], timeout_s: float = 60) -> None:
        async with asyncio.timeout(timeout_s):
            while not condition():
                self.news.clear()
                await self.news.wait()


def start(behaviour: str, recorder: Recorder, limit: int = 1 << 20) -> ServerProcess:
    loop = asyncio.get_running_loop()
    return ServerProcess(loop, "raw", raw(behaviour), server_environment({}), "", limit, recorder)


async def test_lines_go_both_ways_and_a_clean_end_is_told() -> None:
    recorder = Recorder()
    server = start("echo", recorder)
    for _ in range(100):
        server.send(PING)
    await recorder.until(lambda: len(recorder.lines) == 100)
    server.stop(5)
    await recorder.until(lambda: recorder.how)
    assert recorder.how == "exited with code 0"
    assert await server.closed == 0


async def test_a_big_line_arrives_whole() -> None:
    recorder = Recorder()
    server = start("echo", recorder, limit=8 << 20)
    big = b'{"jsonrpc":"2.0","id":1,"method":"x","params":{"t":"%s"}}' % (b"y" * (4 << 20))
    assert server.send(big) is False
    await recorder.until(lambda: recorder.lines)
    assert len(recorder.lines[0]) > 4 << 20
    assert recorder.drains == 1
    server.kill()
    await server.closed


async def test_a_death_is_told_with_its_code_after_the_last_line(capfd: pytest.CaptureFixture[str]) -> None:
    recorder = Recorder()
    server = start("dies", recorder)
    server.send(PING)
    await recorder.until(lambda: recorder.how)
    assert recorder.how == "exited with code 3"
    assert await server.closed == 3
    assert "[raw] out of luck" in capfd.readouterr().err
    assert server.send(PING) is True  # too late, and no error


async def test_half_a_line_waits_for_its_other_half() -> None:
    recorder = Recorder()
    server = start("half", recorder)
    server.send(PING)
    await recorder.until(lambda: recorder.lines)
    assert len(recorder.lines[0]) > 200
    assert recorder.lines[0].endswith(b"}")
    server.send(PING.replace(b'"x"', b'"die"'))
    await recorder.until(lambda: recorder.how)
    assert len(recorder.lines) == 2
    assert not recorder.lines[1].endswith(b"}")
    await server.closed


async def test_an_endless_line_stops_the_server_in_bounded_memory() -> None:
    recorder = Recorder()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    server = start("endless", recorder, limit=4 << 20)
    server.send(PING)
    await recorder.until(lambda: recorder.how)
    assert recorder.long == [False, True]
    assert recorder.lines == []
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 * 1024  # KiB
    await server.closed


async def test_a_paused_flood_blocks_in_its_pipe() -> None:
    recorder = Recorder()
    server = start("flood", recorder)
    server.send(PING)
    await recorder.until(lambda: len(recorder.lines) > 100)
    server.pause()
    seen = len(recorder.lines)
    await asyncio.sleep(0.3)
    assert len(recorder.lines) == seen
    server.resume()
    await recorder.until(lambda: len(recorder.lines) > seen)
    server.stop(0.0)
    await server.closed
    assert not alive(server.pid)


async def test_a_deaf_server_is_noticed_by_the_sender() -> None:
    recorder = Recorder()
    server = start("deaf", recorder)
    block = b"z" * 65536
    sent = 0
    while server.send(block) and sent < 100:
        sent += 1
    assert sent < 40
    assert server.queued > HIGH_WATER
    server.kill()
    assert await server.closed == -9
    await recorder.until(lambda: recorder.how)
    assert recorder.how == "was ended by SIGKILL"


async def test_a_stubborn_server_is_killed_after_the_grace() -> None:
    recorder = Recorder()
    server = start("stubborn", recorder)
    await recorder.until(lambda: recorder.lines)
    started = time.monotonic()
    server.stop(0.1)
    assert await server.closed == -9
    assert 0.5 < time.monotonic() - started < 20


@pytest.mark.parametrize("how", ["stop", "kill", "leader"])
async def test_no_grandchild_survives(how: str) -> None:
    recorder = Recorder()
    server = start("family", recorder)
    server.send(PING)
    await recorder.until(lambda: any(b"child" in line for line in recorder.lines))
    child = int(recorder.lines[-1].partition(b'"child":')[2].partition(b",")[0])
    assert alive(child)
    if how == "stop":
        server.stop(0.2)
    elif how == "kill":
        server.kill()
    else:
        os.kill(server.pid, 9)
    await server.closed
    await until(lambda: not alive(child) and not alive(server.pid))
    await recorder.until(lambda: recorder.how)


def test_no_server_survives_a_killed_gateway() -> None:
    program = f"""
import asyncio, sys
sys.path[:0] = {sys.path!r}
from callgate.transport.process import ServerProcess, server_environment
class Events:
    def line(self, data): print(data.decode(), flush=True)
    def too_long(self, edges, *, endless): pass
    def drained(self): pass
    def exited(self, how): pass
async def main():
    make = lambda what: ServerProcess(
        asyncio.get_running_loop(), "x", [{sys.executable!r}, "-I", "-S", {str(RAW)!r}, what],
        server_environment({{}}), "", 1 << 20, Events())
    make("family").send(b'{PING.decode()}')
    print("pid", make("stubborn").pid, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""
    gateway = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert gateway.stdout is not None
    text = b""
    while b"child" not in text or b"pid " not in text or b"ready" not in text:
        line = gateway.stdout.readline()
        assert line, text
        text += line
    pids = [int(text.partition(mark)[2].split(b",")[0].split(b"}")[0].split()[0]) for mark in (b'"child":', b"pid ")]
    assert all(alive(pid) for pid in pids)
    gateway.kill()
    gateway.wait()
    gateway.stdout.close()
    wait_until(lambda: not any(alive(pid) for pid in pids), 60, "the end of the servers")


async def test_the_server_gets_a_session_and_an_environment_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SOME_TOKEN", "secret")
    recorder = Recorder()
    loop = asyncio.get_running_loop()
    env = server_environment({"EXTRA": "1"})
    server = ServerProcess(loop, "raw", raw("environment"), env, str(tmp_path), 1 << 20, recorder)
    server.send(PING)
    await recorder.until(lambda: recorder.lines)
    line = recorder.lines[0]
    assert b"secret" not in line
    assert b'"EXTRA":"1"' in line
    assert b'"PATH"' in line
    assert str(tmp_path).encode() in line
    assert b'"sid":%d,' % server.pid in line
    server.kill()
    await server.closed


def test_what_does_not_start_says_why(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("no program")
    script = tmp_path / "script"
    script.write_text("no shebang")
    script.chmod(0o755)
    for command, cwd, words in (
        (["no-such-program-here"], "", "no such program"),
        ([str(plain)], "", "not executable"),
        ([str(script)], "", "not a program"),
        ([sys.executable], str(tmp_path / "missing"), "directory"),
        ([sys.executable, "nul\0"], "", "null"),
    ):
        with pytest.raises(LaunchError, match=words) as caught:
            spawn(command, server_environment({}), cwd)
        assert caught.value.next_step


def test_shell_syntax_is_only_an_argument() -> None:
    child = spawn([sys.executable, "-c", "import sys; print(sys.argv[1])", "$(id); echo hi"], server_environment({}))
    out, _ = child.communicate()
    assert out == b"$(id); echo hi\n"


def test_exits_in_words() -> None:
    assert describe_exit(0) == "exited with code 0"
    assert describe_exit(-15) == "was ended by SIGTERM"
    assert describe_exit(-99) == "was ended by signal 99"


async def test_a_server_whose_start_cannot_be_recorded_is_ended() -> None:
    gate, journal = gate_of()
    started: list[int] = []

    def full(kind: str, fields: dict[str, Any]) -> int:
        started.append(fields["pid"])
        raise AuditError("disk full")

    journal.note = full  # type: ignore[method-assign]
    server = ServerConfig("s", command=(sys.executable, "-c", "import time; time.sleep(60)"))
    with pytest.raises(AuditError):
        await started_by(server, gate)
    await until(lambda: not exists(started[0]))


async def started_by(server: ServerConfig, gate: Gate) -> ServerProcess:
    """What a start comes to, once all that it did beside the loop is over."""
    loop = asyncio.get_running_loop()
    aside = Aside(loop)
    told: asyncio.Future[Connect | CallgateError] = loop.create_future()
    Launcher(server, gate, loop, aside).begin(told.set_result)
    async with asyncio.timeout(60):
        result = await told
    if isinstance(result, CallgateError):
        assert await aside.idle(60)
        raise result
    return result(Recorder())  # type: ignore[return-value]  # that is what a launcher starts


@pytest.mark.parametrize("place", ["callgate.transport.launcher.plan", "callgate.transport.process._take"])
async def test_what_the_system_refuses_on_the_way_is_one_server_s_error(
    monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    gate, _ = gate_of()
    command = (sys.executable, "-c", "import time; time.sleep(60)")
    monkeypatch.setattr("callgate.transport.launcher.plan", lambda *_: Launch(command, {}))

    def used_up(*_: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(place, used_up)
    before = children()
    with pytest.raises(LaunchError, match="Too many open files"):
        await started_by(ServerConfig("s", command=command), gate)
    assert children() <= before


def children() -> set[str]:
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


async def test_a_server_whose_sandbox_cannot_be_started_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever fails after the spawn, descriptors that are used up for example: one server is refused, no more."""
    gate, _ = gate_of()
    started: list[int] = []
    abandoned: list[bool] = []

    def fails(pid: int) -> Any:
        started.append(pid)
        raise OSError(24, "Too many open files")

    command = (sys.executable, "-c", "import time; time.sleep(60)")
    prepared = Prepared(command, {}, started=fails, abandon=lambda: abandoned.append(True))
    planned = Launch(command, {}, prepared=prepared)
    monkeypatch.setattr("callgate.transport.launcher.plan", lambda *_: planned)
    with pytest.raises(LaunchError, match="Too many open files"):
        await started_by(ServerConfig("s", command=command), gate)
    assert abandoned
    await until(lambda: not exists(started[0]))
