"""`callgate run` as a client sees it: the real command in front of small real servers."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from callgate.audit.verify import verify
from callgate.cli.run import _home_of, _name_of, _name_of_url, parse
from callgate.config import valid_server_name
from callgate.errors import ConfigError

ECHO = """
import json, sys
for line in sys.stdin:
    m = json.loads(line)
    if m.get("method") == "tools/call" and "id" in m:
        text = m["params"].get("arguments", {}).get("text", "")
        print(json.dumps({"jsonrpc": "2.0", "id": m["id"], "result": {"content": [{"type": "text", "text": text}]}}),
              flush=True)
    elif "id" in m and "method" in m:
        print(json.dumps({"jsonrpc": "2.0", "id": m["id"], "result": {}}), flush=True)
"""


UNCONFINED = "callgate: test: not sandboxed: the server has all the rights of this user\n"


class Guarded:
    """A guarded server with pipes; reads with a deadline."""

    def __init__(self, state: Path, script: str, *options: str, stderr: int = subprocess.PIPE, **popen: Any) -> None:
        server = [sys.executable, "-c", textwrap.dedent(script)]
        self.process: subprocess.Popen[bytes] = subprocess.Popen(
            [sys.executable, "-m", "callgate.cli.main", "run", "--name", "test", *options, "--", *server],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "CALLGATE_STATE_DIR": str(state)},
            stderr=stderr,
            **popen,
        )
        self.buffer = b""

    def send(self, *messages: Any) -> None:
        assert self.process.stdin
        for message in messages:
            data = message if isinstance(message, bytes) else json.dumps(message).encode()
            self.process.stdin.write(data + b"\n")
        self.process.stdin.flush()

    def read(self, seconds: float = 60.0) -> Any:
        assert self.process.stdout
        deadline = time.monotonic() + seconds
        while b"\n" not in self.buffer:
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self.process.stdout], [], [], max(0, left))
            assert ready, f"nothing to read; stderr: {self.stderr()!r}"
            chunk = os.read(self.process.stdout.fileno(), 1 << 16)
            assert chunk, f"end of output; stderr: {self.stderr()!r}"
            self.buffer += chunk
        line, _, self.buffer = self.buffer.partition(b"\n")
        return json.loads(line)

    def stderr(self) -> str:
        self.process.kill()
        return self.process.communicate()[1].decode()

    def finish(self) -> tuple[int, str]:
        _, stderr = self.process.communicate(timeout=60)
        return self.process.returncode, stderr.decode().replace(UNCONFINED, "")


def call(id: Any = 1, text: str = "hi") -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": "echo", "arguments": {"text": text}}}


def alive(pattern: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if pattern.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def gone(pattern: str, seconds: float = 60.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not alive(pattern):
            return True
        time.sleep(0.05)
    return False


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def test_a_call_goes_through_and_the_end_of_input_ends_both(state: Path) -> None:
    guarded = Guarded(state, ECHO)
    guarded.send(call(1), call("b", "zwei"))
    assert guarded.read()["id"] == 1
    assert guarded.read()["result"]["content"][0]["text"] == "zwei"
    code, stderr = guarded.finish()
    assert (code, stderr) == (0, "")


def test_the_state_directory_can_be_named(state: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    guarded = Guarded(state, ECHO, "--state", str(elsewhere))
    guarded.send(call())
    assert guarded.read()["result"]["content"][0]["text"] == "hi"
    assert guarded.finish() == (0, "")
    assert list((elsewhere / "audit").iterdir())
    assert not state.exists()


def test_the_last_line_needs_no_newline(state: Path) -> None:
    guarded = Guarded(state, ECHO)
    out, _ = guarded.process.communicate(json.dumps(call()).encode(), timeout=30)
    assert json.loads(out)["id"] == 1


def test_a_refused_message_is_answered_by_the_gate_and_never_reaches_the_server(state: Path) -> None:
    guarded = Guarded(state, ECHO)
    guarded.send(b'{"jsonrpc":"2.0","id":1,"method":"tools/call","method":"ping"}', call(2))
    assert guarded.read()["error"]["data"]["rule"] == "json-duplicate-key"
    assert guarded.read()["id"] == 2
    guarded.finish()


def test_crlf_and_empty_lines_are_tolerated(state: Path) -> None:
    guarded = Guarded(state, ECHO)
    guarded.send(b"", b"\r", json.dumps(call()).encode() + b"\r")
    assert guarded.read()["id"] == 1
    guarded.finish()


@pytest.mark.parametrize(
    ("script", "expected"), [("raise SystemExit(7)", 7), ("import os; os.kill(os.getpid(), 9)", 137)]
)
def test_exit_codes_and_signals_of_the_server_pass(state: Path, script: str, expected: int) -> None:
    guarded = Guarded(state, "import sys; sys.stdin.readline()\n" + script)
    guarded.send(call())
    answer = guarded.read()
    assert answer["id"] == 1
    assert answer["error"]["data"]["rule"] == "server-gone"
    code, stderr = guarded.finish()
    assert code == expected
    assert "the server ended" in stderr


def test_a_missing_program_is_explained(state: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "callgate.cli.main", "run", "--", "no-such-program-here"],
        capture_output=True,
        check=False,
        timeout=30,
        env={**os.environ, "CALLGATE_STATE_DIR": str(state)},
    )
    assert done.returncode == 3
    assert b"no-such-program-here" in done.stderr
    assert b"next:" in done.stderr
    assert b"Traceback" not in done.stderr


def test_sigterm_reaches_the_server_and_the_code_says_so(state: Path) -> None:
    script = """
    import signal, sys, time
    def stop(*_):
        sys.stderr.write("stopping\\n"); sys.stderr.flush(); raise SystemExit(5)
    signal.signal(signal.SIGTERM, stop)
    print('{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"up"}}', flush=True)
    time.sleep(60)
    """
    guarded = Guarded(state, script)
    assert guarded.read()["method"] == "notifications/message"
    guarded.process.send_signal(signal.SIGTERM)
    code, stderr = guarded.finish()
    assert code == 5
    assert "stopping" in stderr


def test_a_server_that_ignores_everything_is_killed_with_its_children(state: Path, tmp_path: Path) -> None:
    mark = f"callgate-test-orphan-{os.getpid()}"
    script = f"""
    import signal, subprocess, sys, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(90)", "{mark}"])
    print('{{"jsonrpc":"2.0","method":"notifications/message","params":{{"level":"info","data":"up"}}}}', flush=True)
    time.sleep(90)
    """
    guarded = Guarded(state, script)
    guarded.read()
    assert alive(mark)
    started = time.monotonic()
    guarded.process.stdin.close()  # type: ignore[union-attr]
    guarded.process.stdin = None
    code, stderr = guarded.finish()
    assert code == 137
    assert "killed" in stderr
    assert time.monotonic() - started < 20
    assert gone(mark)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel tells the server only on Linux")
def test_killing_the_gate_leaves_no_server(state: Path) -> None:
    mark = f"callgate-test-killed-{os.getpid()}"
    script = f"""
    import time
    print('{{"jsonrpc":"2.0","method":"notifications/message","params":{{"level":"info","data":"{mark}"}}}}', flush=True)
    time.sleep(90)
    """
    guarded = Guarded(state, script)
    guarded.read()
    guarded.process.kill()
    guarded.finish()
    assert gone(mark)


def test_garbage_on_stdout_is_dropped_and_the_rest_passes(state: Path) -> None:
    script = ECHO.replace(
        "for line", "print('Server listening…', flush=True); print('\\x1b[2J', flush=True)\nfor line", 1
    )
    guarded = Guarded(state, script)
    guarded.send(call())
    assert guarded.read()["id"] == 1
    guarded.finish()


def test_a_server_that_writes_nothing_but_garbage_is_stopped(state: Path) -> None:
    script = """
    import time
    for _ in range(3000):
        print("not MCP", flush=True)
    time.sleep(60)
    """
    guarded = Guarded(state, script)
    guarded.process.wait(60)
    code, stderr = guarded.finish()
    assert code != 0
    assert "not MCP, and was stopped" in stderr


def test_an_endless_line_is_refused_in_bounded_memory(state: Path) -> None:
    script = """
    import sys
    for _ in range(80):
        sys.stdout.write("x" * (1 << 20))
    sys.stdout.write("\\n")
    """
    config = state.parent / "c.toml"
    config.write_text("[limits]\nresponse_bytes = 1000000\n")
    guarded = Guarded(state, script + textwrap.dedent(ECHO), "--config", str(config))
    guarded.send(call())
    assert guarded.read(60)["id"] == 1
    peak = int(
        next(
            line.split()[1]
            for line in Path(f"/proc/{guarded.process.pid}/status").read_text().splitlines()
            if line.startswith("VmHWM")
        )
    )
    assert peak < 60_000
    guarded.finish()


def test_stderr_is_relayed_and_made_safe(state: Path) -> None:
    script = "import sys; sys.stderr.write('\\x1b]0;owned\\x07hello\\n'); sys.stderr.flush()\n"
    guarded = Guarded(state, script + textwrap.dedent(ECHO))
    guarded.send(call())
    assert guarded.read()["id"] == 1
    guarded.process.stdin.close()  # type: ignore[union-attr]
    guarded.process.stdin = None
    _, stderr = guarded.finish()
    assert "\x1b" not in stderr
    assert r"\x1b]0;owned\x07hello" in stderr


def test_a_slow_reader_holds_the_server_back(state: Path) -> None:
    """64 MiB towards a client that does not read: the gate stops reading, and nothing is lost."""
    script = """
    import json, sys
    text = "y" * 65536
    for n in range(1024):
        print(json.dumps({"jsonrpc": "2.0", "method": "notifications/message",
                          "params": {"level": "info", "data": text, "n": n}}), flush=True)
    """
    guarded = Guarded(state, script)
    guarded.read()
    time.sleep(1.5)
    status = Path(f"/proc/{guarded.process.pid}/status").read_text()
    peak = int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
    assert peak < 60_000
    assert [guarded.read()["params"]["n"] for _ in range(1023)] == list(range(1, 1024))
    assert guarded.finish()[0] == 0


def test_ten_thousand_concurrent_requests(state: Path) -> None:
    guarded = Guarded(state, ECHO)
    count = 10_000
    pid = os.fork()
    if pid == 0:
        guarded.send(*(call(n, str(n)) for n in range(count)))
        os._exit(0)
    seen = {(answer := guarded.read(60))["id"]: answer["result"]["content"][0]["text"] for _ in range(count)}
    os.waitpid(pid, 0)
    assert seen == {n: str(n) for n in range(count)}
    guarded.finish()


def test_input_from_a_file(state: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps(call(n)) + "\n" for n in range(50)))
    with source.open() as stdin:
        done = subprocess.run(
            [sys.executable, "-m", "callgate.cli.main", "run", "--", sys.executable, "-c", ECHO],
            stdin=stdin,
            capture_output=True,
            check=False,
            timeout=60,
            env={**os.environ, "CALLGATE_STATE_DIR": str(state)},
        )
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 50


def test_a_file_is_read_no_faster_than_the_server_takes_it(state: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps(call(n, "x" * 100_000)) + "\n" for n in range(200)))
    late = f"""
    import os, sys, time
    print('{{"jsonrpc":"2.0","method":"notifications/message","params":{{"level":"info","data":"here"}}}}', flush=True)
    while not os.path.exists({str(tmp_path / "go")!r}):
        time.sleep(0.01)
    {"".join(ECHO.splitlines(keepends=True)).replace(chr(10), chr(10) + "    ")}
    """
    with (
        source.open() as stdin,
        subprocess.Popen(
            [sys.executable, "-m", "callgate.cli.main", "run", "--", sys.executable, "-c", textwrap.dedent(late)],
            stdin=stdin,
            stdout=subprocess.PIPE,
            env={**os.environ, "CALLGATE_STATE_DIR": str(state)},
        ) as process,
    ):
        assert process.stdout is not None
        assert b"here" in process.stdout.readline()
        assert os.lseek(stdin.fileno(), 0, os.SEEK_CUR) < 4 << 20  # the place in the file is the gate's, too
        (tmp_path / "go").touch()
        assert [json.loads(line)["id"] for line in process.stdout] == list(range(200))
        assert process.wait(60) == 0


def test_a_server_that_closed_its_input_and_stays_leaves_nobody_waiting(state: Path) -> None:
    guarded = Guarded(
        state,
        """
        import os, time
        os.close(0)
        print('{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"deaf"}}', flush=True)
        time.sleep(600)
        """,
    )
    assert guarded.read()["params"]["data"] == "deaf"
    guarded.send(call())
    assert guarded.read()["error"]["data"]["rule"] == "server-gone"
    assert guarded.process.stdin and guarded.process.wait(60) == 128 + signal.SIGTERM
    assert "closed its input" in guarded.finish()[1]


def test_who_floods_stderr_after_the_end_of_its_output_is_ended(state: Path) -> None:
    guarded = Guarded(
        state,
        """
        import os, sys
        sys.stdin.readline()
        os.close(1)
        while True:
            os.write(2, b"flood\\n" * 1000)
        """,
        stderr=subprocess.DEVNULL,
    )
    guarded.send(call())
    assert guarded.read()["error"]["data"]["rule"] == "server-gone"
    guarded.process.communicate(timeout=60)
    assert guarded.process.returncode == 128 + signal.SIGTERM


def test_who_does_not_read_stderr_is_answered_and_can_end_it(state: Path) -> None:
    read, write = os.pipe()
    server = ECHO.replace(
        "import json, sys", "import json, os, sys\nfor n in range(400): os.write(2, b'%2000d\\n' % n)"
    )
    guarded = Guarded(state, server, stderr=write)
    os.close(write)
    try:
        guarded.send(call(1))
        assert guarded.read()["id"] == 1
        shown = os.read(read, 1 << 20)
        guarded.send(call(2))
        assert guarded.read()["id"] == 2
        guarded.process.terminate()
        guarded.process.communicate(timeout=60)
        assert guarded.process.returncode == 128 + signal.SIGTERM
    finally:
        guarded.process.kill()
        os.close(read)
    assert b"sandboxed" in shown


def test_what_a_server_answered_before_it_ended_is_not_lost_however_long_it_takes(state: Path) -> None:
    server = """
    import json, os, sys
    ids = [json.loads(sys.stdin.readline())["id"] for _ in range(100)]
    result = {"content": [{"type": "text", "text": "y" * 9000}]}
    os.write(1, b"".join(json.dumps({"jsonrpc": "2.0", "id": n, "result": result}).encode() + b"\\n" for n in ids))
    """
    gate = f"""
    import sys
    from callgate.cli.main import main
    from callgate.transport import stdio
    stdio._DRAIN_S = 0  # the time is over at once, as on a machine that stands still
    sys.exit(main(["run", "--name", "test", "--", sys.executable, "-c", {textwrap.dedent(server)!r}]))
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(gate)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "CALLGATE_STATE_DIR": str(state)},
    ) as process:
        assert process.stdin and process.stdout
        process.stdin.write(b"".join(json.dumps(call(n)).encode() + b"\n" for n in range(100)))
        process.stdin.flush()
        answers = [json.loads(line) for line in process.stdout]
        assert process.wait(60) == 0
    assert [answer["id"] for answer in answers if "result" in answer] == list(range(100))


@pytest.mark.parametrize("kind", ["command", "url"])
def test_too_few_descriptors_are_said_and_nothing_is_left(state: Path, kind: str) -> None:
    server = ["--", sys.executable, "-c", ECHO + f"# {state}"]
    arguments = ["run", "--name", "test", *(server if kind == "command" else ["--url", "http://127.0.0.1:1/"])]
    limited = (
        "import os, resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]),) * 2);"
        "os.execv(sys.executable, [sys.executable, '-m', 'callgate.cli.main', *sys.argv[2:]])"
    )
    explained = 0
    for limit in range(5, 40):
        done = subprocess.run(
            [sys.executable, "-c", limited, str(limit), *arguments],
            input=json.dumps(call()).encode() + b"\n",
            capture_output=True,
            check=False,
            timeout=60,
            env={**os.environ, "CALLGATE_STATE_DIR": str(state)},
        )
        said = done.stderr.decode()
        assert "internal error" not in said, (limit, said)
        if done.returncode == 0:
            assert json.loads(done.stdout)["id"] == 1
        else:
            assert done.returncode == 3
            assert "open no more files" in said or "Too many open files" in said, (limit, said)
            explained += 1
    assert explained
    assert gone(str(state))


# -- the command line ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "args",
    [
        *([], ["npx"], ["--name"], ["--mode", "lax", "--", "x"], ["--url", "http://x", "--", "y"], ["--"]),
        *(["--", "npx 'one"], ["--", " "], ["--", "server \\"]),
    ],
)
def test_wrong_arguments_are_explained(args: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(args)
    assert caught.value.what


def test_a_command_joined_to_one_string_is_split() -> None:
    assert parse(["--", "npx -y 'a b'"]).command == ["npx", "-y", "a b"]


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (
            ["npx", "-y", "@modelcontextprotocol/server-filesystem@1.2", "/data"],
            "modelcontextprotocol-server-filesystem",
        ),
        (["uvx", "mcp-server-git"], "mcp-server-git"),
        (["python", "-m", "mcp_server_time"], "mcp_server_time"),
        (["/usr/bin/python3.11", "/srv/my server.py"], "my-server.py"),
        (["env", "A=B", "node", "./index.js"], "index.js"),
        (["/srv/app/run.sh"], "run.sh"),
        (["bash", "/srv/app/start.sh"], "start.sh"),
        (["node", "exec.mjs"], "exec.mjs"),
        (["пример"], "server"),
    ],
)
def test_names(command: list[str], name: str) -> None:
    assert _name_of(command) == name


def test_servers_whose_files_have_the_same_name_share_no_home(tmp_path: Path) -> None:
    homes = set()
    for folder in ("good", "evil"):
        script = tmp_path / folder / "index.js"
        script.parent.mkdir()
        script.touch()
        command = ["node", str(script)]
        assert _name_of(command) == "index.js"
        homes.add(_home_of(command, "index.js"))
    for folder in ("good", "evil"):
        homes.add(_home_of(["sh", str(tmp_path / folder / "index.js")], "index.js"))
    assert len(homes) == 2 and all(valid_server_name(one) for one in homes)
    assert _home_of(["npx", "-y", "mcp-server-x"], "mcp-server-x") == "mcp-server-x"


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://mcp.example.com/mcp", "mcp.example.com"),
        ("http://127.0.0.1:8000/mcp/", "127.0.0.1-8000"),
        ("http://[::1]:8000", "1--8000"),
        ("https://user:secret@example.com/?token=secret", "example.com"),
        ("https://example.com?token=secret", "example.com"),
    ],
)
def test_names_of_urls(url: str, name: str) -> None:
    assert _name_of_url(url) == name


def test_a_name_does_not_tell_the_secret_in_a_path() -> None:
    one, other = (_name_of_url(f"https://mcp.example.com/s/{secret}/mcp") for secret in ("hunter2", "hunter3"))
    assert one.startswith("mcp.example.com-")
    assert one != other
    assert "hunter" not in one


def test_a_confined_server_that_lacks_a_file_beside_it_is_told_how_to_get_it(
    state: Path, tmp_path: Path, confined: None
) -> None:
    beside = tmp_path / "beside.sh"
    beside.write_text('read line; echo \'{"jsonrpc":"2.0","method":"notifications/up"}\'; read line\n')
    script = tmp_path / "server.sh"
    script.write_text(f"#!/bin/sh\n. {beside}\n")
    script.chmod(0o755)
    command = [sys.executable, "-m", "callgate.cli.main", "run", "--name", "test"]
    environment = {**os.environ, "CALLGATE_STATE_DIR": str(state)}

    def said(*options: str) -> tuple[bytes, str]:
        line = json.dumps(call()).encode() + b"\n"
        with subprocess.Popen(
            [*command, *options, "--", str(script)], env=environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as process:  # fmt: skip
            assert process.stdin and process.stdout and process.stderr
            process.stdin.write(line)
            process.stdin.flush()
            first = process.stdout.readline()  # its standard input stays open: it ends by itself, or answers
            process.stdin.close()
            return first, process.stderr.read().decode()

    first, stderr = said()
    if "no sandbox" in stderr and not os.environ.get("CALLGATE_REQUIRE_PROGRAMS"):
        pytest.skip("no sandbox holds here")
    assert b"server-gone" in first
    assert "--read PATH adds a file" in stderr
    first, stderr = said("--read", str(beside))
    assert b"notifications/up" in first
    assert "--read PATH" not in stderr


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (1, 2), (0, 1, 2)])
def test_a_file_of_ours_never_has_the_number_of_one_that_the_client_closed(
    state: Path, tmp_path: Path, closed: tuple[int, ...]
) -> None:
    script = tmp_path / "server.py"
    script.write_text("import os, sys\nos.write(2, b'noise\\n')\nfor line in sys.stdin: os.write(1, b'rubbish\\n')\n")
    shut = " ".join(f"{fd}>&-" if fd else "0<&-" for fd in closed)
    line = f"{sys.executable} -m callgate.cli.main run -- {sys.executable} {script} {shut}"
    environment = {**os.environ, "CALLGATE_STATE_DIR": str(state)}
    message = json.dumps(call()).encode() + b"\n"
    done = subprocess.run(
        ["sh", "-c", line], input=message, capture_output=True, env=environment, check=False, timeout=60
    )
    assert done.returncode == 0, done
    report = verify(state)
    assert report.verified and report.logs
    for path in state.rglob("*"):
        assert not path.is_file() or not any(word in path.read_bytes() for word in (b"noise\n", b"rubbish\n")), path


def test_whoever_started_it_may_ignore_the_ends_of_children(state: Path) -> None:
    """That is inherited: without more, a server's status and end could not be told."""
    code = "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    run = [sys.executable, "-m", "callgate.cli.main", "run", "--", "/bin/sh", "-c", "exit 7"]
    done = subprocess.run(
        [sys.executable, "-c", code, *run],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={**os.environ, "CALLGATE_STATE_DIR": str(state)},
        check=False,
        timeout=60,
    )
    assert done.returncode == 7, done.stderr


def test_a_working_directory_that_was_removed_is_said(state: Path, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    line = f"cd {gone} && rmdir {gone} && exec {sys.executable} -m callgate.cli.main run -- cat"
    environment = {**os.environ, "CALLGATE_STATE_DIR": str(state)}
    done = subprocess.run(
        ["sh", "-c", line], stdin=subprocess.DEVNULL, capture_output=True, env=environment, check=False, timeout=60
    )
    assert done.returncode == 2
    assert b"is gone" in done.stderr and b"internal" not in done.stderr


def test_a_gate_that_fails_after_the_start_leaves_nothing_of_its_server(state: Path, tmp_path: Path) -> None:
    (state / "hooks" / "spool.jsonl.taking-1").mkdir(parents=True)  # no file to take over from
    script = tmp_path / "server.sh"
    told = tmp_path / "pid"
    script.write_text(f"trap '' TERM HUP\nsleep 120 &\necho $! > {told}.new; mv {told}.new {told}; wait\n")
    line = [sys.executable, "-m", "callgate.cli.main", "run", "--", "sh", str(script)]
    environment = {**os.environ, "CALLGATE_STATE_DIR": str(state)}
    for _ in range(10):
        done = subprocess.run(
            line, stdin=subprocess.PIPE, capture_output=True, env=environment, check=False, timeout=60
        )
        assert done.returncode == 3, done.stderr
        if told.exists():
            break  # else the server was slower than the gate, which tells nothing
    status = Path(f"/proc/{told.read_text().strip()}/status")
    deadline = time.monotonic() + 60
    while status.exists() and "(zombie)" not in status.read_text() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not status.exists() or "(zombie)" in status.read_text()
