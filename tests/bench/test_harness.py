"""The bench harness works: every program, every kind of series, judging and reporting. No timing is asserted."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.harness import report, results, runner, targets
from bench.harness.build import build_all, program
from bench.harness.machine import Placement, cpu_ns, describe, memory_kb, process_tree
from bench.harness.series import Series, plan

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("cc") is None, reason="the bench programs need a C compiler"),
]


@pytest.fixture(scope="module", autouse=True)
def _programs() -> None:
    build_all()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[results.Log]:
    opened = results.Log(tmp_path / "results.jsonl")
    yield opened
    opened.close()


def run(series: Series, log: results.Log) -> results.Results:
    runner.run([series], 1, Placement(realtime=False), log, print)
    assert log.results.failures == {}
    return log.results


def conversation(*messages: object) -> bytes:
    return b"".join(json.dumps(message).encode() + b"\n" for message in messages)


@pytest.mark.parametrize("pump", [[], ["threads"], ["splice"]])
def test_echo_server_speaks_both_eras_directly_and_through_the_pumps(pump: list[str]) -> None:
    command = [program("stdio_pump"), *pump, program("stdio_echo")] if pump else [program("stdio_echo")]
    meta = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "progressToken": "t"}
    sent = conversation(
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": "2025-06-18"}},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": "a", "method": "server/discover", "params": {"_meta": meta}},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/list"},
        {"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": {"name": "echo", "arguments": {"text": 'q"\\'}}},
        {
            "jsonrpc": "2.0",
            "id": 4,
            "method": "tools/call",
            "params": {"arguments": {"count": 2}, "name": "stream", "_meta": meta},
        },
        {"jsonrpc": "2.0", "id": 5, "method": "ping"},
        {"jsonrpc": "2.0", "id": 6, "method": "no/such"},
    )
    done = subprocess.run(command, input=sent, capture_output=True, timeout=60, check=True)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    by_id = {answer["id"]: answer for answer in answers if "id" in answer}
    assert by_id[1]["result"]["protocolVersion"] == "2025-06-18"
    assert by_id["a"]["result"]["supportedVersions"] == ["2026-07-28"]
    assert [tool["name"] for tool in by_id[2]["result"]["tools"]] == ["echo", "stream"]
    assert by_id[3]["result"] == {"content": [{"type": "text", "text": 'q"\\'}], "isError": False}
    assert by_id[4]["result"]["resultType"] == "complete"
    assert by_id[5]["result"] == {}
    assert by_id[6]["error"]["code"] == -32601
    progress = [answer["params"] for answer in answers if answer.get("method") == "notifications/progress"]
    assert [(each["progressToken"], each["progress"]) for each in progress] == [("t", 1), ("t", 2)]


def test_load_reports_a_server_that_answers_wrongly(tmp_path: Path) -> None:
    server = tmp_path / "server.py"
    server.write_text(
        "import json, sys\n"
        "for line in sys.stdin:\n"
        "    message = json.loads(line)\n"
        "    if 'id' in message:\n"
        "        print(json.dumps({'jsonrpc': '2.0', 'id': message['id'], 'result': {'isError': True}}), flush=True)\n"
    )
    command = [program("stdio_load"), "--calls", "5", "--", sys.executable, str(server)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert json.loads(done.stdout)["ok"] is False


@pytest.mark.parametrize(
    ("mode", "load"),
    [("1cpu", ()), ("free", ("--window", "8", "--size", "20000")), ("1cpu", ("--modern", "--size", "2000"))],
)
def test_stdio_series(mode: str, load: tuple[str, ...], log: results.Log) -> None:
    subjects = ("direct", "c-pump", "c-pump-splice", "callgate")
    series = Series("s", "a series", "stdio", mode, subjects, load, seconds=0.3, warmup=0.1)  # type: ignore[arg-type]
    found = run(series, log)
    assert found.subjects("s") == list(subjects)
    assert all((found.median("s", subject, "rate") or 0) > 0 for subject in subjects)
    assert (found.median("s", "callgate", "rss_kb") or 0) > 1000


def test_start_series_measures_the_first_answer(log: results.Log) -> None:
    found = run(Series("s", "starts", "start", "free", ("direct", "callgate"), rounds=2), log)
    assert len(found.values("s", "callgate", "first_ms")) == 2


@pytest.mark.parametrize(
    "load", [(), ("--modern", "--size", "600"), ("--connections", "8", "--size", "20000"), ("--stream", "20,1000")]
)
def test_http_series(load: tuple[str, ...], log: results.Log) -> None:
    subjects = ("direct", "l4-pump", "nginx", "callgate")
    found = run(Series("s", "a series", "http", "free", subjects, load, seconds=0.3, warmup=0.1), log)
    expected = [subject for subject in subjects if subject not in found.absent]
    assert found.subjects("s") == expected
    assert all((found.median("s", subject, "cpu_us") or 0) > 0 for subject in expected)
    if "--stream" in load:
        assert all((found.median("s", subject, "event_samples") or 0) >= 20 for subject in expected)


def test_tls_and_two_workers(log: results.Log) -> None:
    subjects = ("callgate-tls", "callgate-2-workers")
    found = run(Series("s", "a series", "http", "free", subjects, ("--connections", "4"), 0.3, 0.1), log)
    assert found.subjects("s") == list(subjects)
    assert (found.median("s", "callgate-2-workers", "processes") or 0) >= 2


def test_results_come_back_from_the_file(log: results.Log, tmp_path: Path) -> None:
    log.conditions({"cpu": "one"})
    log.absent("envoy", "not installed: try")
    log.sample("http c1", "direct", 0, {"ok": True, "p50": 10.0})
    log.sample("http c1", "nginx", 0, {"ok": True, "p50": 20.0})
    log.sample("http c1", "callgate", 0, {"ok": True, "p50": 25.0})
    log.sample("http c1", "callgate", 1, {"ok": False, "error": "lost"})
    read = results.load([tmp_path / "results.jsonl"])
    assert read.conditions == {"cpu": "one"}
    assert read.absent == {"envoy": "not installed: try"}
    assert read.added("http c1", "callgate") == 15.0
    assert read.failures == {("http c1", "callgate"): "lost"}


def test_targets_are_judged_as_ratios_to_the_floor() -> None:
    found = results.Results()
    for subject, p50 in {"direct": 10.0, "nginx": 20.0, "callgate": 25.0}.items():
        found.add("http c1", subject, {"ok": True, "p50": p50, "p99": 2 * p50})
    judged = {each.target.text: each for each in targets.judge(found)}
    assert judged["HTTP, 1 connection: added p50, to nginx's"].value == 1.5
    assert judged["HTTP, 1 connection: added p50, to nginx's"].verdict == "pass"
    assert judged["HTTP, 1 connection: p99, to p50"].value == 2.0
    assert judged["stdio, 200 B: added p50, to the C pump's"].verdict == "not measured"
    found.add("http c1", "callgate", {"ok": True, "p50": 90.0, "p99": 900.0})
    found.add("http c1", "callgate", {"ok": True, "p50": 90.0, "p99": 900.0})
    judged = {each.target.text: each for each in targets.judge(found)}
    assert judged["HTTP, 1 connection: added p50, to nginx's"].verdict == "MISS"
    assert "MISS" in report.terminal_table(list(judged.values()))


def test_the_page_names_every_target_and_no_machine() -> None:
    found = results.Results(conditions={**describe(Placement(realtime=False)), "date": "2026-11-22", "versions": {}})
    found.add("http c1", "direct", {"ok": True, "p50": 10.0, "p99": 12.0, "rate": 5.0, "cpu_us": 1.0, "rss_kb": 1024})
    page = report.markdown(found)
    assert all(target.text in page for target in targets.TARGETS)
    node = subprocess.run(["uname", "-n"], capture_output=True, text=True, check=True).stdout.strip()
    assert f" {node} " not in page
    assert str(Path.home()) not in page


def test_every_target_reads_a_series_that_the_plan_runs() -> None:
    names = {series.name for series in plan(peers=True)}
    asked: set[str] = set()

    class Asked(results.Results):
        def values(self, series: str, subject: str, metric: str) -> list[float]:
            asked.add(series)
            return [1.0]

    targets.judge(Asked())
    assert asked <= names


def test_own_cpu_time_and_memory_are_seen() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        try:
            pids = process_tree(child.pid)
            assert pids[0] == child.pid
            rss, pss = memory_kb(pids)
            assert rss >= pss > 0
            assert cpu_ns(pids) >= 0
        finally:
            child.kill()
