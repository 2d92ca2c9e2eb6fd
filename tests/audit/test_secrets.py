"""A secret of this process stands in no record, whatever the log is told to keep."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from callgate.audit import open_journal
from callgate.audit.verify import verify
from callgate.config import AuditConfig
from callgate.gate.verdicts import Finding
from callgate.vault import active
from callgate.vault.redaction import Redactor

SECRET = "tok-93hf8Q2xLmZ7vB4nR6"


@pytest.fixture(autouse=True)
def _secret() -> Iterator[None]:
    active.register("api", Redactor([("API_TOKEN", SECRET.encode())]))
    yield
    active.forget("api")


def written(state: Path) -> bytes:
    return b"".join(path.read_bytes() for path in (state / "audit").rglob("*") if path.is_file())


@pytest.mark.parametrize("detail", ["digest", "shape", "full"])
def test_no_record_holds_it(tmp_path: Path, detail: str) -> None:
    journal = open_journal(tmp_path, AuditConfig(content=detail), process="test")  # type: ignore[arg-type]
    scope = journal.scope(server="api", principal="me", session="", transport="stdio")
    content = {"arguments": {"text": f"Bearer {SECRET}", SECRET: {SECRET: 1}}}
    finding = Finding("r/x", "secret-exposure", f"saw {SECRET}", evidence=SECRET)
    for findings in ((), (finding,)):
        scope.decision("call", 0, "tools/call", SECRET, 1, b"{}", content, "allow", findings, 0, 5)
        scope.decision("content", 1, "tools/call", SECRET, 1, b"{}", {SECRET: {SECRET: ""}}, "allow", findings, 1, 5)
    journal.note("x", {"reason": f"no {SECRET}"})
    journal.close()
    assert SECRET.encode() not in written(tmp_path)
    assert b"[redacted:API_TOKEN]" in written(tmp_path)
    assert verify(tmp_path).verified


def test_what_is_no_secret_stands_as_it_was(tmp_path: Path) -> None:
    journal = open_journal(tmp_path, AuditConfig(content="full"), process="test")
    journal.note("x", {"reason": "tok-93hf8 is only its beginning"})
    journal.close()
    assert b"tok-93hf8 is only its beginning" in written(tmp_path)


def test_a_secret_that_is_added_later_stands_in_no_record_after_that(tmp_path: Path) -> None:
    later = "tok-Lw71pQz0yBn3Vd8s5K"
    journal = open_journal(tmp_path, AuditConfig(), process="test")
    scope = journal.scope(server="other", principal="me", session="", transport="stdio")

    def write() -> bytes:
        scope.decision("call", 0, "resources/read", f"https://h/?k={later}", 1, b"{}", {}, "allow", (), 0, 5)
        scope.decision("content", 1, "tools/call", later, 1, b"{}", {}, "allow", (), 1, 5)
        scope.decision("content", 1, "tools/call", later, 1, b"{}", {"isError": True}, "allow", (), 1, 5)
        return bytes(journal.tail[: journal.offset])

    before = write()
    assert before.count(later.encode()) == 3
    active.register("later", Redactor([("LATER", later.encode())]))
    try:
        assert write()[len(before) :].count(later.encode()) == 0
        journal.close()
    finally:
        active.forget("later")
    assert verify(tmp_path).verified


def test_a_log_that_is_closed_leaves_nothing_behind(tmp_path: Path) -> None:
    known = len(active._CLEANED)
    open_journal(tmp_path, AuditConfig(), process="test").close()
    assert len(active._CLEANED) == known
