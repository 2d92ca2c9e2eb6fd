"""What a sandbox tells goes into the evidence; what the user must know is said once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from callgate.audit import open_journal
from callgate.audit.query import Filter, all_records
from callgate.config import AuditConfig
from callgate.sandbox.backend_running import Together
from callgate.sandbox.spec import Sentinel
from callgate.transport.sandboxed import WatchedSandbox

REFUSED: dict[str, object] = {"kind": "egress", "host": "evil.test", "port": 443, "outcome": "refused", "reason": "x"}


class Told:
    """A sandbox that tells what it was given."""

    events_fd = 7

    def __init__(self, *batches: list[dict[str, object]]) -> None:
        self.batches = list(batches)
        self.closed = 0

    def read_events(self) -> list[dict[str, object]]:
        return self.batches.pop(0) if self.batches else []

    def replace_secrets(self, sentinels: Sequence[Sentinel]) -> None:
        raise AssertionError

    def close(self) -> None:
        self.closed += 1


def watch(tmp_path: Path, *batches: list[dict[str, object]]) -> tuple[list[str], list[dict[str, object]], Told]:
    said: list[str] = []
    journal = open_journal(tmp_path, AuditConfig(), process="test")
    told = Told(*batches)
    watched = WatchedSandbox(told, journal, "files", said.append)
    while watched.read():
        continue
    watched.close()
    journal.close()
    found = (record for _, record in all_records(tmp_path / "audit", Filter()))
    return said, [dict(record) for record in found if record.get("what") == "sandbox"], told


def test_every_event_is_evidence_and_a_refusal_is_said_once(tmp_path: Path) -> None:
    said, noted, told = watch(tmp_path, [REFUSED, REFUSED], [REFUSED])
    assert len(noted) == 3
    assert said == ["a connection to evil.test:443 was refused (x); to allow it, name it under network"]
    assert told.closed == 1


def test_what_was_allowed_is_evidence_only(tmp_path: Path) -> None:
    said, noted, _ = watch(tmp_path, [{**REFUSED, "outcome": "allowed"}])
    assert not said and len(noted) == 1


def test_text_of_the_server_is_shown_escaped_and_bounded(tmp_path: Path) -> None:
    said, _, _ = watch(tmp_path, [{**REFUSED, "host": "\x1b[2J" + "a" * 5000}])
    assert "\x1b" not in said[0] and len(said[0]) < 400


def test_a_flood_of_hosts_is_not_said_without_end(tmp_path: Path) -> None:
    said, noted, _ = watch(tmp_path, [{**REFUSED, "host": f"h{n}.test"} for n in range(200)])
    assert len(said) == 32 and len(noted) == 200


class Open(Told):
    """One that tells at its end what was still open."""

    def close(self) -> None:
        super().close()
        self.batches.append([REFUSED])


def test_what_is_told_at_the_end_comes_through_all_that_watches(tmp_path: Path) -> None:
    journal = open_journal(tmp_path, AuditConfig(), process="test")
    read, write = os.pipe()  # two parts, so that there is something to poll
    one, other = Open(), Open()
    one.events_fd, other.events_fd = read, write
    watched = WatchedSandbox(Together([one, other]), journal, "files", lambda _: None)
    watched.close()
    journal.close()
    os.close(read)
    os.close(write)
    found = [record for _, record in all_records(tmp_path / "audit", Filter()) if record.get("what") == "sandbox"]
    assert len(found) == 2 and (one.closed, other.closed) == (1, 1)
