"""What a pinned start costs, and real packages of others, pinned and started."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from callgate.errors import TrustError
from callgate.supply import artefacts, lockfile
from callgate.supply.lockfile import Artefact, Entry, LockedServer
from callgate.supply.pinned import pinned_launch
from callgate.supply.resolve import lock_server

DIGEST = "sha512-" + "A" * 86 + "=="


def built(state: Path, files: int) -> LockedServer:
    """A server with a tree of so many files, and a lock of twenty such servers with a hundred artefacts each."""
    where = "npm/big@1.0.0"
    with artefacts.building(state) as folder:
        for number in range(files):
            path = folder / "tree" / "node_modules" / f"p{number // 8}" / f"{number}.js"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"// {number}\n")
        digest = artefacts.digest_of(folder / "tree" / "node_modules" / "p0" / "0.js")
        _, tree = artefacts.seal(state, folder, where, "node_modules/p0")
    entry = Entry(("{runtime}", "{store}/node_modules/p0/0.js"), "node_modules/p0/0.js", digest, "node", "/bin/cat")
    many = tuple(Artefact(f"pkg:npm/some-package-{n}@1.0.{n}", DIGEST) for n in range(100))
    server = LockedServer(
        "s0", ("npx", "s0"), "npm", entry, artefacts=many, store=f"{where}/tree", record=where, tree=tree
    )
    path = state / "callgate.lock"
    for number in range(20):
        one = replace(server, name=f"s{number}", argv=("npx", f"s{number}"))
        lockfile.edit(path, lambda old, one=one: old.put(one))
    return server


def test_the_launch_path_is_quick_and_imports_little(tmp_path: Path) -> None:
    server = built(tmp_path, 1600)
    best = min(timed(tmp_path, server) for _ in range(20))
    assert best < 0.004, f"{best * 1000:.2f} ms; about 1.3 ms on a quiet machine"
    code = (
        "import sys, pathlib; before = set(sys.modules)\n"
        "from callgate.supply.pinned import pinned_launch\n"
        f"pinned_launch('s0', ['npx', 's0'], [pathlib.Path({str(tmp_path / 'callgate.lock')!r})], pathlib.Path({str(tmp_path)!r}))\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"subprocess", "argparse", "asyncio", "callgate.config", "callgate.supply.lockfile"}


def timed(state: Path, server: LockedServer) -> float:
    start = time.perf_counter()
    assert pinned_launch("s0", server.argv, [state / "callgate.lock"], state)
    return time.perf_counter() - start


def test_a_pipe_in_the_locks_place_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "callgate.lock")
    with pytest.raises(TrustError):
        pinned_launch("x", ("y",), [tmp_path / "callgate.lock"], tmp_path)


REAL = [
    ("memory", ("npx", "-y", "@modelcontextprotocol/server-memory")),
    ("time", ("uvx", "mcp-server-time")),
]
HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
}


@pytest.mark.network
@pytest.mark.online
@pytest.mark.slow
@pytest.mark.parametrize(("name", "line"), REAL)
def test_real_packages(name: str, line: tuple[str, ...], state: Path, npm: None) -> None:
    try:
        server = lock_server(name, line, state=state)
    except TrustError as error:
        pytest.skip(f"the registry does not serve it here: {error.what}")
    assert server.published and server.published < server.cooldown
    found = pinned_launch(name, line, [state / "callgate.lock"], state)
    assert found is not None
    with subprocess.Popen(found.argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=state) as process:
        assert process.stdin and process.stdout
        process.stdin.write(json.dumps(HELLO).encode() + b"\n")
        process.stdin.flush()
        answer = json.loads(process.stdout.readline())
        process.kill()
    assert answer["result"]["serverInfo"]["name"]
