"""How long a client waits for `callgate hook`, from the start of the process to its end.

    python -m bench.hooks [RUNS]

Each question is asked RUNS times (30) through the installed `callgate` program; the median and the slowest are shown,
and what the interpreter alone needs, measured in turn with them.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from callgate.clients import hook_snapshot
from callgate.clients.launcher import launcher
from callgate.clients.machine import Machine

LIMIT_MS = 50


def main(runs: int) -> int:
    """Measure; 1 where a median is above the limit."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        state = home / "state"
        state.mkdir()
        program = launcher()
        filler = {f"project {n}": {"history": ["x" * 200] * 20} for n in range(50)}
        servers = {"files": {"command": program[0], "args": ["run", "--", "x"]}}
        (home / ".claude.json").write_text(json.dumps({"projects": filler, "mcpServers": servers}))
        hook_snapshot.write(state, Machine("linux", folder, {}), program)
        common = {"hook_event_name": "PreToolUse", "cwd": folder, "session_id": "s"}
        patch = {"file_path": ".mcp.json", "content": "x" * 100_000}
        questions = {
            "tool of a wrapped server": {**common, "tool_name": "mcp__files__read", "tool_input": {"path": "x"}},
            "tool past the gate": {**common, "tool_name": "mcp__other__read", "tool_input": {}},
            "shell command": {**common, "tool_name": "Bash", "tool_input": {"command": "cd src && make -j4 | tee log"}},
            "file of 100 kB": {**common, "tool_name": "Write", "tool_input": patch},
            "built-in tool": {**common, "tool_name": "WebFetch", "tool_input": {"url": "https://x.example"}},
        }
        command = [*program, "hook", "claude-code", "--state", str(state)]
        took: dict[str, list[float]] = {name: [] for name in ("(python -c pass)", *questions)}
        for _ in range(runs):
            took["(python -c pass)"].append(_run([sys.executable, "-c", "pass"], b""))
            for name, question in questions.items():
                took[name].append(_run(command, json.dumps(question).encode()))
    worst = 0.0
    for name, times in took.items():
        print(f"{name:<26} median {statistics.median(times):5.1f} ms   slowest {max(times):5.1f} ms")
        worst = max(worst, statistics.median(times))
    return 0 if worst < LIMIT_MS else 1


def _run(command: list[str], question: bytes) -> float:
    start = time.perf_counter()
    subprocess.run(command, input=question, stdout=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - start) * 1000


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if sys.argv[1:] else 30))
