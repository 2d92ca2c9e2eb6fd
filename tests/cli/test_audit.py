"""`callgate audit`: what a person and what a pipe gets, at 80 columns, and the exit codes."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from callgate.audit import records, scope, writer
from callgate.audit.records import canonical
from callgate.audit.verify import verify
from callgate.cli import audit
from callgate.cli.main import main
from tests.audit.evidence import finding, lines_of, new_journal

CHAIN = "20261122T120000-7-0123abcd"
NOON = 1_795_348_800_000_000


@pytest.fixture(autouse=True)
def _fixed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Noon UTC, one millisecond a look at the clock; 80 columns; a state directory of its own."""
    now = NOON * 1000

    def clock() -> int:
        nonlocal now
        now += 1_000_000
        return now

    monkeypatch.setattr(time, "time_ns", clock)
    monkeypatch.setattr(scope, "_now", clock)
    monkeypatch.setattr(writer, "chain_id", lambda: CHAIN)
    monkeypatch.setenv("CALLGATE_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    journal = new_journal(tmp_path, process="run")
    journal.note("launch", {"command": ["server-files"], "server": "files"})
    files = journal.scope(server="files", principal="local", transport="stdio")
    files.revision = "2025-11-25"
    seq = files.decision(
        "call", 0, "tools/call", "read_file", 1, b"x" * 120, {"arguments": {"path": "/x"}}, "allow", (), 0, 0
    )
    found = [finding(evidence="\\U000e0041")]
    files.decision(
        "content", 1, "tools/call", "read_file", 1, b"x" * 2100, {"content": []}, "rewrite", found, seq, 1400
    )
    files.decision("call", 0, "tools/call", "evil\x1b]52;c\u202e", "a\nb", b"", {}, "allow", (), 0, 0)
    journal.close()
    return journal.path


def test_tail(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "tail"]) == 0
    assert capsys.readouterr().out == (
        "12:00:00.004  allow     files      → tools/call read_file {path}\n"
        "12:00:00.005  rewrite   files      ← tools/call read_file  hidden-characters/ta…\n"
        "12:00:00.006  allow     files      → tools/call evil\\x1b]52;c\\u202e\n"
    )


def test_tail_of_everything(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "tail", "--all", "-n", "100"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[14:22].strip() for line in lines] == ["open", "note", "allow", "rewrite", "allow", "close"]
    assert all(len(line) <= 80 and line.isprintable() for line in lines)


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (["--outcome", "rewrite"], 1),
        (["--server", "files"], 3),
        (["--server", "git"], 0),
        (["-n", "2"], 2),
        (["-n", "0"], 0),
    ],
)
def test_tail_filters(log: Path, capsys: pytest.CaptureFixture[str], options: list[str], count: int) -> None:
    assert main(["audit", "tail", *options]) == 0
    assert len(capsys.readouterr().out.splitlines()) == count


def test_tail_follows(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "chain_id", lambda: CHAIN.replace("T12", "T13"))
    journal = new_journal(tmp_path)
    files = journal.scope(server="git", principal="local", transport="stdio")

    def sleep(_: float) -> None:
        if journal.last_seq == 3:
            raise KeyboardInterrupt
        files.decision("call", 0, "ping", "", journal.last_seq, b"", {}, "allow", (), 0, 0)

    monkeypatch.setattr(audit.time, "sleep", sleep)
    assert main(["audit", "tail", "-f", "-n", "1"]) == 130
    lines = capsys.readouterr().out.splitlines()
    assert [line[24:].split()[0] for line in lines] == ["files", "git", "git"]
    journal.close()


def test_tail_shows_no_decision_twice(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that comes between the first look of the follower and that for the last ones."""
    monkeypatch.setattr(writer, "chain_id", lambda: CHAIN.replace("T12", "T13"))
    journal = new_journal(tmp_path)
    files = journal.scope(server="git", principal="local", transport="stdio")
    before = audit.newest_records

    def newest(*arguments: object) -> object:
        files.decision("call", 0, "ping", "", 1, b"", {}, "allow", (), 0, 0)
        return before(*arguments)  # type: ignore[arg-type]

    def sleep(_: float) -> None:
        if journal.last_seq == 3:
            raise KeyboardInterrupt
        files.decision("call", 0, "ping", "", 2, b"", {}, "allow", (), 0, 0)
        monkeypatch.setattr(audit.time, "sleep", once)

    def once(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(audit, "newest_records", newest)
    monkeypatch.setattr(audit.time, "sleep", sleep)
    assert main(["audit", "tail", "-f"]) == 130
    assert capsys.readouterr().out.count("git        → ping") == 2
    journal.close()


def test_show(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "show", "4"]) == 0
    out = capsys.readouterr().out
    hashes = [
        line.split()[-1].removeprefix("sha256:")
        for line in out.splitlines()
        if "chained to" in line or "this record" in line or "sha256" in line
    ]
    for value in hashes:
        out = out.replace(value, value[:4] + "…")
    shown = [line.rstrip() for line in out.splitlines()]
    assert shown[:18] == [
        f"record 4 of log {CHAIN}",
        "  time        2026-11-22T12:00:00.005000Z",
        "  outcome     rewrite (hook content)",
        "  message     server → client  tools/call read_file",
        "  id          1",
        "  server      files over stdio",
        "  principal   local",
        "  revision    2025-11-25",
        f"  bytes       2.1 kB, sha256:{hashes[0][:4]}…",
        "  took        1.4 ms",
        '  content     {"content":"array"}',
        "  finding     hidden-characters/tag-characters (high) at /result/content/0/text",
        "              risk hidden-text",
        "              invisible text",
        "              evidence: \\U000e0041",
        f"  chained to  {hashes[1][:4]}…",
        f"  this record {hashes[2][:4]}…",
        "",
    ]
    assert shown[18:20] == ["answers", f"record 3 of log {CHAIN}"]
    assert hashes[1] == hashes[5]  # it is chained to its request, which came just before


def test_show_of_hostile_text_is_printable(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for reference in ("5", f"{CHAIN}:5", "0123abcd:5"):
        assert main(["audit", "show", reference]) == 0
        out = capsys.readouterr().out
        assert "tools/call evil\\x1b]52;c\\u202e" in out
        assert "a\\nb" in out
        assert out.replace("\n", "").isprintable()


def test_show_of_hostile_member_names_is_printable(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = lines_of(log)[0]
    (log / "000001.jsonl").write_bytes(canonical({**json.loads(line), "\x1b]0;x\x07\u202e": 1}))
    assert main(["audit", "show", "1"]) == 0
    out = capsys.readouterr().out
    assert "\\x1b]0;x\\x07\\u202e" in out and out.replace("\n", "").isprintable()


@pytest.mark.parametrize("action", ["verify", "tail", "show", "export"])
def test_a_record_nested_too_deep_ends_nothing(log: Path, capfd: pytest.CaptureFixture[str], action: str) -> None:
    lines = lines_of(log)
    lines[1] = lines[1].replace(b'"fields":{', b'"fields":{"a":' + b"[" * 400 + b"]" * 400 + b",")
    (log / "000001.jsonl").write_bytes(b"".join(lines))
    for options in [["--format", "ocsf"], ["--format", "otlp"]] if action == "export" else [["2"] * (action == "show")]:
        assert main(["audit", action, *options]) == (1 if action == "verify" else 0)
    assert "internal error" not in capfd.readouterr().err


@pytest.mark.parametrize("action", [["tail"], ["show", "--last"], ["export"]], ids=" ".join)
def test_what_is_no_file_is_said(log: Path, capsys: pytest.CaptureFixture[str], action: list[str]) -> None:
    (log / "000001.jsonl").unlink()
    (log / "000001.jsonl").mkdir()
    assert main(["audit", *action]) == 1
    assert "no regular file" in capsys.readouterr().err


def test_a_state_directory_without_a_directory_for_logs(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log.parent.rename(log.parent.parent / "elsewhere")
    log.parent.write_text("x")
    assert main(["audit", "verify"]) == 1
    assert "Not a directory" in capsys.readouterr().err


@pytest.mark.parametrize("chain", ["nosuch", "../keys", "."])
def test_a_log_that_never_was_is_not_missing(log: Path, capsys: pytest.CaptureFixture[str], chain: str) -> None:
    assert main(["audit", "verify", "--chain", chain]) == 1
    said = capsys.readouterr()
    assert "there is no log" in said.err and not said.out


def test_show_last(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "show", "--last"]) == 0
    assert capsys.readouterr().out.startswith(f"record 6 of log {CHAIN}\n")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["show", "99"], 1), (["show", "nowhere:1"], 1), (["show"], 2), ([], 2), (["tail", "--chain", "no"], 1)],
)
def test_what_is_not_there(log: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int) -> None:
    assert main(["audit", *arguments]) == code
    assert "Traceback" not in capsys.readouterr().err


def test_verify(log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "verify"]) == 0
    key = next(iter(verify(tmp_path).logs[0].found.keys))
    assert capsys.readouterr().out == (
        f"{CHAIN}  verified: 6 records, closed\n"
        f"  signed through record 5 by {key}\n"
        "  without an answer: 1 request, record 5\n"
        "1 of 1 log verified\n"
    )


def test_verify_says_what_is_wrong(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    segment = log / "000001.jsonl"
    segment.write_bytes(segment.read_bytes().replace(b'"outcome":"rewrite"', b'"outcome":"allow"'))
    assert main(["audit", "verify"]) == 1
    out = capsys.readouterr().out
    assert f"{CHAIN}  NOT VERIFIED: 6 records, closed\n" in out
    assert "  record 4 is not what record 5 was chained to: it was changed or replaced\n" in out
    assert out.endswith("0 of 1 log verified\n")


def test_verify_names_a_log_that_is_gone(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log.rename(log.parent.parent / "elsewhere")
    assert main(["audit", "verify"]) == 1
    assert capsys.readouterr().out == (
        f"{CHAIN}  MISSING: it was opened here, and its directory is gone\n0 of 1 log verified\n"
    )
    assert main(["audit", "verify", "--chain", CHAIN]) == 1


def test_verify_as_json(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "verify", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["verified"] is True
    assert document["logs"][0]["chain"] == CHAIN
    assert document["logs"][0]["unanswered"] == [5]
    assert document["logs"][0]["signed_through"] == 5


def test_nothing_yet(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "verify"]) == 0
    assert main(["audit", "tail"]) == 0
    assert main(["audit", "show", "--last"]) == 1
    assert capsys.readouterr().out == "there is no evidence yet\n"


def test_export_is_the_log_itself(log: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["audit", "export"]) == 0
    assert capfdbinary.readouterr().out == (log / "000001.jsonl").read_bytes()


@pytest.mark.parametrize(("form", "count"), [("ocsf", 7), ("otlp", 6)])
def test_export_for_others(log: Path, tmp_path: Path, form: str, count: int) -> None:
    target = tmp_path / "out.jsonl"
    assert main(["audit", "export", "--format", form, "-o", str(target)]) == 0
    assert len([json.loads(line) for line in target.read_text().splitlines()]) == count
    assert target.stat().st_mode & 0o077 == 0
    assert main(["audit", "export", "--format", form, "-o", str(target)]) == 2  # never over a file that is there


def test_export_of_a_time(log: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["audit", "export", "--since", "2026-11-22T12:00:00.005Z", "--until", "2026-11-22T12:00:00.007Z"]) == 0
    assert [json.loads(line)["seq"] for line in capfdbinary.readouterr().out.splitlines()] == [4, 5]
    with pytest.raises(SystemExit) as caught:
        main(["audit", "export", "--since", "yesterday\x1b"])
    assert caught.value.code == 2


def test_export_leaves_out_and_reports_what_is_damaged(log: Path, capfd: pytest.CaptureFixture[str]) -> None:
    segment = log / "000001.jsonl"
    segment.write_bytes(segment.read_bytes().replace(b'"scope":{', b'"scope":7,"x":{'))
    for form in ("ocsf", "otlp"):
        assert main(["audit", "export", "--format", form]) == 1
        assert "3 records are damaged" in capfd.readouterr().err


def test_help_fits_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["tail"], ["show"], ["verify"], ["export"]):
        with pytest.raises(SystemExit) as caught:
            main(["audit", *arguments, "--help"])
        assert caught.value.code == 0
        assert max(map(len, capsys.readouterr().out.splitlines())) <= 80
    assert records.FORMAT == 1


# -- prune -----------------------------------------------------------------------------------------


def test_prune_by_the_configuration_keeps_what_is_young(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "prune"]) == 0
    assert capsys.readouterr().out.startswith("0 records, 0 bytes removed; ")
    assert log.is_dir()


def test_prune_before_a_time(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "chain_id", lambda: CHAIN.replace("T12", "T13"))
    assert main(["audit", "prune", "--before", "2026-11-22T13:00:00Z", "--dry-run"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"{CHAIN}  records 1 to 6, the whole log"
    assert said[2].startswith("6 records, ")
    assert "would be removed" in said[2]
    assert log.is_dir()
    assert main(["audit", "prune", "--before", "2026-11-22T13:00:00Z"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == "callgate audit verify shows the signed statements"
    assert all(len(line) <= 80 for line in said)
    assert not log.is_dir()
    assert main(["audit", "verify"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert f"{CHAIN}  removed on 2026-11-22" in shown
    assert shown[-1] == "1 of 1 log verified"
    assert main(["audit", "tail", "--all", "-n", "9"]) == 0
    assert "evidence-removed" in capsys.readouterr().out
    (statement,) = verify(tmp_path).removed
    assert statement["reason"] == "by hand by user 0, before 2026-11-22T13:00:00.000000Z".replace(
        "user 0", f"user {os.getuid()}"
    )


def test_prune_before_the_first_moment_is_not_what_the_configuration_says(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = tmp_path / "c.toml"
    settings.write_text("[audit]\nkeep_days = 1\n")
    os.utime(log / "000001.jsonl")
    later = (NOON // 1_000_000 + 3 * 86_400) * 1_000_000_000
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(time, "time_ns", lambda: later)
        shared = ["audit", "prune", "--dry-run", "--config", str(settings)]
        assert main([*shared, "--before", "1970-01-01T00:00:00Z"]) == 0
        assert capsys.readouterr().out.startswith("0 records")
        assert main(shared) == 0
        assert capsys.readouterr().out.startswith(CHAIN)


def test_prune_says_what_stays(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    segment = log / "000001.jsonl"
    segment.write_bytes(segment.read_bytes().replace(b"read_file", b"rEad_file"))
    assert main(["audit", "prune", "--before", "2030-01-01"]) == 1
    assert "STAYS: it does not verify" in capsys.readouterr().out


def test_verify_says_from_where_the_chain_is_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = new_journal(tmp_path, segment_bytes=65536, checkpoint_records=50)
    scope_ = journal.scope(server="files", principal="local", transport="stdio")
    for number in range(400):
        scope_.decision("call", 0, "ping", "", number, b"", {}, "deny", (), 0, 0)
    journal.close()
    second = json.loads((journal.path / "000002.jsonl").read_bytes().splitlines()[0])
    moment = records_time(second["time"])
    monkeypatch.setattr(writer, "chain_id", lambda: CHAIN.replace("T12", "T13"))
    assert main(["audit", "prune", "--before", moment]) == 0
    capsys.readouterr()
    assert main(["audit", "verify"]) == 0
    shown = capsys.readouterr().out
    assert f"  records 1 to {second['seq'] - 1} removed by retention on 2026-11-22 (by hand" in shown
    assert "\n  chain intact from there\n" in shown


def records_time(microseconds: int) -> str:
    return datetime.fromtimestamp(microseconds / 1_000_000, UTC).isoformat()
