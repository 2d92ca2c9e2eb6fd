"""Many processes, one state directory: each has its own log, all share one key and one index."""

from __future__ import annotations

import subprocess
from pathlib import Path

from callgate.audit.index import lines
from callgate.audit.verify import verify
from tests.audit.evidence import run_python

WORKER = """
import sys
from pathlib import Path
from callgate.audit import open_journal
from callgate.config import AuditConfig
sys.stdin.readline()
for _ in range(3):
    journal = open_journal(Path(sys.argv[1]), AuditConfig(), process="worker")
    scope = journal.scope(server="s", principal="p", transport="stdio")
    for number in range(200):
        scope.decision("call", 0, "ping", "", number, b"", {}, "deny", (), 0, 0)
    journal.close()
"""
KEY = """
import sys
from pathlib import Path
from callgate.audit.keys import key_id, signing_key
sys.stdin.readline()
print(key_id(signing_key(Path(sys.argv[1])).public_key()))
"""


def start_together(program: str, state: Path, count: int) -> list[tuple[bytes, bytes]]:
    processes = [run_python(program, str(state), stdin=subprocess.PIPE) for _ in range(count)]
    for process in processes:
        assert process.stdin
        process.stdin.write(b"go\n")
        process.stdin.flush()
    results = [process.communicate(timeout=60) for process in processes]
    assert all(process.returncode == 0 for process in processes), results
    return results


def test_logs_of_many_processes_verify(tmp_path: Path) -> None:
    start_together(WORKER, tmp_path, 6)
    report = verify(tmp_path)
    assert report.verified, report
    assert len(report.logs) == 18
    assert all(log.found.closed and log.found.last_seq == 202 for log in report.logs)
    assert len(set().union(*(log.found.keys for log in report.logs))) == 1
    assert len(lines(tmp_path / "audit")) == 36


def test_processes_that_come_first_together_make_one_key(tmp_path: Path) -> None:
    for attempt in range(2):
        state = tmp_path / str(attempt)
        state.mkdir()
        names = {said for said, _ in start_together(KEY, state, 5)}
        assert len(names) == 1
        assert sorted(path.name for path in (state / "keys").iterdir()) == [
            "audit-ed25519.pem",
            "audit-ed25519.pub.pem",
        ]
