"""Logs to test with, and ways to damage them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from callgate.audit import Journal, open_journal
from callgate.audit.reader import segment_paths
from callgate.audit.verify import ChainReport, Report, verify
from callgate.config import AuditConfig

CALL = {"name": "read_file", "arguments": {"path": "/etc/hosts", "limit": 5}}
ANSWER = {"content": [{"type": "text", "text": "127.0.0.1"}], "isError": False}


def finding(**changes: str) -> SimpleNamespace:
    fields = {
        "rule": "hidden-characters/tag-characters",
        "risk": "hidden-text",
        "message": "invisible text",
        "pointer": "/result/content/0/text",
        "severity": "high",
        "evidence": "\\U000e0041",
    }
    return SimpleNamespace(**(fields | changes))


def new_journal(state: Path, process: str = "test", **settings: Any) -> Journal:
    return open_journal(state, AuditConfig(**settings), process=process)


def fill(journal: Journal, calls: int) -> None:
    """`calls` requests, each with its answer."""
    scope = journal.scope(server="files", principal="local", transport="stdio")
    for number in range(calls):
        seq = scope.decision("call", 0, "tools/call", "read_file", number, b"{}", CALL, "allow", (), 0, 0)
        scope.decision("content", 1, "tools/call", "read_file", number, b"[]", ANSWER, "allow", (), seq, 250)


def closed_log(state: Path, calls: int = 3, **settings: Any) -> Path:
    """The directory of a log that was written and closed."""
    journal = new_journal(state, **settings)
    fill(journal, calls)
    journal.close()
    return journal.path


def lines_of(directory: Path) -> list[bytes]:
    return b"".join(path.read_bytes() for path in segment_paths(directory)).splitlines(keepends=True)


def records_in(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines_of(directory)]


def rewrite(directory: Path, lines: list[bytes]) -> None:
    """Replace the log by these lines, in one segment."""
    for path in segment_paths(directory):
        path.unlink()
    (directory / "000001.jsonl").write_bytes(b"".join(lines))


def report_of(state: Path, chain: str = "") -> ChainReport:
    report = verify(state, chain=chain)
    assert len(report.logs) == 1
    return report.logs[0]


def codes(report: Report | ChainReport) -> set[str]:
    if isinstance(report, ChainReport):
        return {problem.code for problem in report.found.problems}
    return set().union(*map(codes, report.logs)) | {problem.code for problem in report.index_problems}


def left_by(state: Path, process: int) -> Path:
    """The log of this process. By name, the last one may be another's: of one second, the higher number counts."""
    (found,) = (state / "audit").glob(f"*-{process}-*")
    return found


def run_python(program: str, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
    )
