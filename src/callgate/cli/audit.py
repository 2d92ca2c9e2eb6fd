"""`callgate audit`: read, follow, verify and export the evidence log."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from callgate.audit.query import Entry, Filter, Follower, all_records, find, newest_records
from callgate.config.places import state_directory
from callgate.config.reader import configured
from callgate.errors import AuditError, ConfigError
from callgate.text import visible

if TYPE_CHECKING:
    from callgate.audit.verify import ChainReport

EXIT_OK, EXIT_NO = 0, 1
POLL_S = 0.2
"""How often `tail -f` looks for new records."""

DESCRIPTION = """\
Every decision of the gate is a record in a hash-chained log, one log a process.

  callgate audit tail [-n N] [-f]  the last decisions, one line each
  callgate audit show RECORD       one record whole, with its request or answer
  callgate audit verify            is it what was written, and what is missing
  callgate audit export            JSON lines, OCSF events or OTLP documents
  callgate audit prune             remove what is old, with a signed statement

RECORD is SEQ (of the log written last), CHAIN:SEQ, or --last.
"""
_OUTCOMES = ("allow", "annotate", "rewrite", "ask", "deny", "error")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def main(argv: list[str]) -> int:
    """The sub-command. 0 ok, or verified; 1 not verified, no such record, or not all removed; 2 usage."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if not arguments.action:
        parser.print_help()
        return 2
    config = configured(arguments.config)
    state = state_directory(config)
    _take_over_hooks(state)
    actions = {"tail": _tail, "show": _show, "verify": _verify, "export": _export}
    try:
        if arguments.action == "prune":
            from callgate.cli.audit_prune import prune_evidence

            return prune_evidence(state, config.audit, before=arguments.before, dry_run=arguments.dry_run)
        return actions[arguments.action](state, arguments)
    except AuditError as error:
        sys.stderr.write(f"callgate: {error.diagnostics()}\n")
        return EXIT_NO
    except BrokenPipeError:
        raise
    except OSError as error:
        what = f"cannot read {visible(str(error.filename), 300)}" if error.filename else "cannot write the output"
        sys.stderr.write(f"callgate: {AuditError(f'{what}: {error.strerror}').diagnostics()}\n")
        return EXIT_NO


def _take_over_hooks(state: Path) -> None:
    """Write what hooks decided since into the log, as a log of its own."""
    from callgate.clients.hook_spool import take_over, waiting

    if waiting(str(state)):
        from callgate.audit import open_journal
        from callgate.config import AuditConfig

        journal = open_journal(state, AuditConfig(), process="audit")
        try:
            take_over(str(state), journal.note)
        finally:
            journal.close()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="callgate audit", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    settings = argparse.ArgumentParser(add_help=False)
    settings.add_argument("--config", metavar="FILE", default="", help="the configuration to use")
    shared = argparse.ArgumentParser(add_help=False, parents=[settings])
    shared.add_argument("--chain", metavar="ID", default="", help="only this log (its id, or a part of it)")
    picks = argparse.ArgumentParser(add_help=False)
    picks.add_argument("--server", metavar="NAME", default="", help="only records about this server")
    picks.add_argument("--outcome", choices=_OUTCOMES, default="", help="only decisions with this outcome")
    actions = parser.add_subparsers(dest="action", metavar="ACTION")

    tail = actions.add_parser("tail", help="the last decisions", parents=[shared, picks])
    tail.add_argument("-n", dest="count", type=int, default=20, metavar="N", help="how many (20)")
    tail.add_argument("-f", "--follow", action="store_true", help="go on as they come")
    tail.add_argument("--all", action="store_true", help="also notes, checkpoints, start and end")

    show = actions.add_parser("show", help="one record", parents=[shared])
    show.add_argument("record", nargs="?", default="", metavar="RECORD", help="SEQ or CHAIN:SEQ")
    show.add_argument("--last", action="store_true", help="the newest record")

    verify = actions.add_parser("verify", help="check the evidence", parents=[shared])
    verify.add_argument("--json", action="store_true", help="print one JSON document")
    verify.add_argument("--public-key", metavar="PEM", type=Path, help="trust only this key")

    export = actions.add_parser("export", help="records for other tools", parents=[shared, picks])
    export.add_argument("--format", choices=("jsonl", "ocsf", "otlp"), default="jsonl", help="jsonl (default)")
    export.add_argument("--since", type=_moment, default=0, metavar="TIME", help="2026-11-22T10:00:00Z, or 2h, 7d ago")
    export.add_argument("--until", type=_moment, default=1 << 62, metavar="TIME", help="before this time")
    export.add_argument("-o", "--output", metavar="FILE", type=Path, help="a new file (default: standard output)")

    prune = actions.add_parser("prune", help="remove old evidence", parents=[settings])
    prune.add_argument("--before", type=_moment, metavar="TIME", help="all that is older (default: [audit])")
    prune.add_argument("--dry-run", action="store_true", help="only say what would go")
    return parser


def _moment(text: str) -> int:
    """Microseconds since 1970 for an ISO 8601 time (local without offset) or an age such as 90s, 10m, 2h, 7d."""
    number, unit = text[:-1], text[-1:]
    try:
        if number.isdecimal() and unit in _UNITS:
            return int((time.time() - int(number) * _UNITS[unit]) * 1_000_000)
        return int(datetime.fromisoformat(text).timestamp() * 1_000_000)
    except (ValueError, OverflowError) as error:
        raise argparse.ArgumentTypeError(f"{text!a} is no time: write 2026-11-22T10:00:00Z, or 2h") from error


def _filter(arguments: argparse.Namespace, *, decisions_only: bool = False) -> Filter:
    return Filter(
        chain=arguments.chain,
        server=getattr(arguments, "server", ""),
        outcome=getattr(arguments, "outcome", ""),
        since=getattr(arguments, "since", 0),
        until=getattr(arguments, "until", 1 << 62),
        decisions_only=decisions_only,
    )


def _tail(state: Path, arguments: argparse.Namespace) -> int:
    from callgate.audit.live import live_line

    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    width = min(shutil.get_terminal_size((100, 24)).columns, 160)
    wanted = _filter(arguments, decisions_only=not arguments.all)

    def show(entries: list[Entry]) -> None:
        for _, record in entries:
            sys.stdout.write(live_line(record, width=width, colour=colour) + "\n")
        sys.stdout.flush()

    follower = Follower(state / "audit", wanted) if arguments.follow else None
    last = newest_records(state / "audit", wanted, max(0, arguments.count)) if arguments.count > 0 else []
    show(last)
    shown = {line for line, _ in last}  # some of them may have come after the follower began
    while follower is not None:
        time.sleep(POLL_S)
        show([entry for entry in follower.poll() if entry[0] not in shown])
    return EXIT_OK


def _show(state: Path, arguments: argparse.Namespace) -> int:
    from callgate.cli.audit_text import record_lines

    audit_dir = state / "audit"
    reference = arguments.record
    if arguments.last:
        newest = newest_records(audit_dir, _filter(arguments), 1)
        if not newest:
            raise AuditError("there is no record yet", next_step="guard a server first: callgate run -- COMMAND")
        reference = f"{newest[0][1]['chain']}:{newest[0][1]['seq']}"
    elif not reference:
        raise ConfigError("callgate audit show needs a record", next_step="name SEQ, CHAIN:SEQ, or --last")
    elif arguments.chain and ":" not in reference:
        reference = f"{arguments.chain}:{reference}"
    entry, partner = find(audit_dir, reference)
    lines = record_lines(*entry)
    if partner:
        lines += ["", "answers" if entry[1].get("about") else "answered by", *record_lines(*partner)]
    sys.stdout.write("\n".join(lines) + "\n")
    return EXIT_OK


def _verify(state: Path, arguments: argparse.Namespace) -> int:
    from callgate.audit.reader import chains
    from callgate.audit.verify import verify
    from callgate.cli.audit_text import report_lines

    chain = arguments.chain
    if chain:
        here = chains(state / "audit")
        matching = [name for name in here if name == chain] or [name for name in here if chain in name]
        if len(matching) > 1:
            raise ConfigError(f"{len(matching)} logs match {visible(chain, 100)}", next_step="give more of the id")
        chain = matching[0] if matching else chain
    report = verify(state, chain=chain, public_key=arguments.public_key)
    if arguments.json:
        from dataclasses import asdict

        from orjson import OPT_INDENT_2, OPT_SORT_KEYS, dumps

        document = {
            "verified": report.verified,
            "logs": [_log_document(log) for log in report.logs],
            "missing": report.missing,
            "index_problems": [asdict(problem) for problem in report.index_problems],
            "removed": report.removed,
            "index_torn": [asdict(tear) for tear in report.tears],
            "index_compacted": report.compacted,
        }
        sys.stdout.write(dumps(document, None, OPT_INDENT_2 | OPT_SORT_KEYS).decode() + "\n")
    else:
        sys.stdout.write("\n".join(report_lines(report)) + "\n")
    return EXIT_OK if report.verified else EXIT_NO


def _log_document(log: ChainReport) -> dict[str, object]:
    from dataclasses import asdict

    found = asdict(log.found)
    found["keys"] = sorted(log.found.keys)
    found["unanswered"] = sorted(log.found.unanswered)
    return {
        "chain": log.chain,
        "verified": log.verified,
        "segments": log.segments,
        "torn_bytes": log.torn_bytes,
        "in_use": log.in_use,
        "sealed": log.sealed,
        "removed": log.removed,
        "unfinished": log.unfinished,
        **found,
    }


def _export(state: Path, arguments: argparse.Namespace) -> int:
    from callgate.audit.ocsf import ocsf_events
    from callgate.audit.otel import otlp_document
    from callgate.audit.records import canonical

    broken = 0
    with _output(arguments.output) as file:
        for line, record in all_records(state / "audit", _filter(arguments)):
            try:
                if arguments.format == "ocsf":
                    for event in ocsf_events(record):
                        file.write(canonical(event))
                elif arguments.format == "otlp":
                    file.write(canonical(otlp_document(record)))
                else:
                    file.write(line)
            except (KeyError, TypeError, AttributeError):
                broken += 1  # not a record that callgate wrote
    if broken:
        sys.stderr.write(f"callgate: {broken} records are damaged and were left out: see callgate audit verify\n")
    return EXIT_NO if broken else EXIT_OK


@contextmanager
def _output(path: Path | None) -> Iterator[BinaryIO]:
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(
            f"cannot write {visible(str(path), 300)}: {error.strerror}", next_step="name a new file in a writable place"
        ) from error
    with open(descriptor, "wb") as file:
        yield file
