"""`--json` of `callgate trust`: one document on standard output, and what people read on standard error.

    {"version": 1, "action": "lock", "lock": "/…/callgate.lock", "ok": true, "servers": [{"name": …, "result": …}]}

The members are documented in docs/trust.md; new ones may come, none changes its meaning within a version. Characters
outside ASCII are escaped, so that nothing from outside reaches a terminal as it is.
"""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from typing import Any, TextIO

from callgate.errors import CallgateError
from callgate.supply.code_diff import CodeDiff
from callgate.supply.lockfile import LockedServer
from callgate.supply.resolve_checks import Warned

VERSION = 1


@dataclass(slots=True)
class Report:
    """What an action did, filled in while it does it."""

    action: str
    lock: str = ""
    code: int = 0
    """The action's exit code: `ok` where it is 0."""
    more: dict[str, Any] = field(default_factory=dict)
    servers: list[dict[str, Any]] = field(default_factory=list)

    def server(self, name: str, result: str, **more: Any) -> None:
        """One server and what became of it."""
        self.servers.append({"name": name, "result": result, **more})

    def document(self) -> dict[str, Any]:
        """The whole, as it is written."""
        head = {"version": VERSION, "action": self.action, "lock": self.lock, "ok": self.code == 0}
        return {**head, **self.more, "servers": self.servers}


def option(made: ArgumentParser) -> None:
    """`--json`."""
    made.add_argument("--json", action="store_true", help="write one JSON document; words for people go to stderr")


@contextmanager
def reporting(action: str, *, as_json: bool) -> Iterator[Report]:
    """Collect; with `as_json`, write the document at the end, also after an error of ours."""
    report = Report(action)
    if not as_json:
        yield report
        return
    out = sys.stdout
    try:
        with redirect_stdout(sys.stderr):
            yield report
    except CallgateError as error:
        report.code = report.code or 1
        report.more["error"] = error_of(error)
        _write(report, out)
        raise
    _write(report, out)


def _write(report: Report, out: TextIO) -> None:
    out.write(json.dumps(report.document(), indent=2).replace("\x7f", "\\u007f") + "\n")
    out.flush()


def error_of(error: CallgateError) -> dict[str, Any]:
    """What is wrong, and what to do."""
    return {"what": error.what, "next_step": error.next_step}


def warnings_of(found: Iterable[Warned]) -> list[dict[str, Any]]:
    """What speaks against a package."""
    return [{"text": one.text, "refuses": one.refuses} for one in found]


def server_of(server: LockedServer) -> dict[str, Any]:
    """A server as the lock has it, without what only a start needs."""
    names = "kind package version purl requested url published cooldown artefacts_digest tree"
    return {
        **{name: getattr(server, name) for name in names.split()},
        "artefacts": len(server.artefacts),
        "install_scripts": list(server.install_scripts),
        "notes": list(server.notes),
        "publisher": list(server.publisher),
        "provenance": dict(server.provenance),
        "definitions": dict(server.definitions),
    }


def diff_of(diff: CodeDiff) -> dict[str, Any]:
    """What a release changes in code."""
    return {
        "files": diff.files,
        "changes": [{"kind": one.kind, "what": one.what, "where": one.where} for one in diff.changes],
        "more": diff.more,
        "unread": list(diff.unread),
    }
