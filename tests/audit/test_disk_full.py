"""A full disk: an append raises, nothing is damaged, and the log says what it lost once there is room again.

Two real ways: a file size limit of the process, which everyone may set; and a full file system (tmpfs in
a mount namespace), where this machine allows one.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from callgate.audit.records import GENESIS, canonical
from tests.audit.evidence import report_of, run_python

WRITE_UNTIL_FULL = """
import json, resource, sys
from pathlib import Path
from callgate.audit import open_journal
from callgate.config import AuditConfig
from callgate.errors import AuditError
state, way = Path(sys.argv[1]), sys.argv[2]
journal = open_journal(state, AuditConfig(segment_bytes=1 << 20), process="full")
scope = journal.scope(server="s", principal="p", transport="stdio")
def decide(number):
    return scope.decision("call", 0, "tools/call", "t", number, b"x", {"a": 1}, "deny", (), 0, 0)
if way == "limit":
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
ballast = state / "ballast"
refused = 0
for number in range(20_000):
    try:
        decide(number)
    except AuditError as error:
        refused += 1
        text = error.diagnostics()
        if refused == 5:
            break
at = journal.last_seq
if way == "limit":
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
else:
    (state / "ballast").unlink()
seq = decide(0)
print(json.dumps({"refused": refused, "text": text, "at": at, "next": seq, "lost": journal.lost}), flush=True)
journal.close()
"""
MOUNT_AND_RUN = """
import subprocess, sys
from pathlib import Path
state = sys.argv[1]
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", state], check=True)
(Path(state) / "ballast").write_bytes(bytes(1 << 20))
done = subprocess.run([sys.executable, "-c", sys.argv[2], state, "mount"], stdout=subprocess.PIPE)
subprocess.run(["cp", "-r", state + "/.", sys.argv[3]], check=True)
sys.stdout.buffer.write(done.stdout)
sys.exit(done.returncode)
"""


def check(state: Path, said: bytes) -> None:
    result = json.loads(said)
    assert result["refused"] == 5
    assert "cannot be written" in result["text"]
    assert "make room" in result["text"]
    assert result["next"] == result["at"] + 1
    assert result["lost"] == 0
    log = report_of(state)
    assert log.verified, log.found.problems
    assert log.found.closed
    assert log.found.lost == 5
    text = b"".join(path.read_bytes() for path in state.glob("audit/*/*.jsonl"))
    assert b'"what":"records-lost"' in text


def test_a_file_size_limit(tmp_path: Path) -> None:
    process = run_python(WRITE_UNTIL_FULL, str(tmp_path), "limit")
    said, complaint = process.communicate(timeout=60)
    assert process.returncode == 0, complaint
    check(tmp_path, said)


def test_a_full_file_system(tmp_path: Path) -> None:
    unshare = shutil.which("unshare")
    if not unshare or subprocess.run([unshare, "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no mount namespace here (unshare -rm); the file size limit above is tested")
    mounted, copy = tmp_path / "mounted", tmp_path / "copy"
    mounted.mkdir()
    copy.mkdir()
    command = [unshare, "-rm", sys.executable, "-c", MOUNT_AND_RUN, str(mounted), WRITE_UNTIL_FULL, str(copy)]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    if b"mount:" in done.stderr:
        pytest.skip("no tmpfs in a mount namespace here; the file size limit above is tested")
    assert done.returncode == 0, done.stderr
    check(copy, done.stdout)


def test_a_log_that_cannot_even_be_opened(tmp_path: Path) -> None:
    program = """
import resource, sys
from pathlib import Path
from callgate.audit import open_journal
from callgate.config import AuditConfig
from callgate.errors import AuditError
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    open_journal(Path(sys.argv[1]), AuditConfig(), process="full")
except AuditError as error:
    print(error.diagnostics())
"""
    said, complaint = run_python(program, str(tmp_path)).communicate(timeout=60)
    assert b"cannot be written: File too large" in said, complaint
    assert b"effect: nothing was started" in said


@pytest.mark.parametrize("limit", [1000, 150_000], ids=["before its first file", "before it is announced"])
def test_a_log_that_was_not_announced_leaves_nothing(tmp_path: Path, limit: int) -> None:
    """Who starts a gate again and again, as a client does, would fill the disk with what none of them could use."""
    program = """
import resource, sys
from pathlib import Path
from callgate.audit import open_journal
from callgate.config import AuditConfig
from callgate.errors import AuditError
limit = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
for _ in range(3):
    try:
        open_journal(Path(sys.argv[1]), AuditConfig(), process="full")
    except AuditError:
        continue
    sys.exit(1)
"""
    audit = tmp_path / "audit"
    audit.mkdir()
    listed = canonical({"chain": "", "kind": "torn", "prev": GENESIS, "sha256": ""}) + b" " * 149_900
    (audit / "chains.jsonl").write_bytes(listed)
    process = run_python(program, str(tmp_path), str(limit))
    _, complaint = process.communicate(timeout=60)
    assert process.returncode == 0, complaint
    assert [path.name for path in audit.iterdir()] == ["chains.jsonl"]
    assert (audit / "chains.jsonl").read_bytes() == listed
