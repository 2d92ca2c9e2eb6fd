"""Shows the results: the table of targets for the terminal, and docs/performance.md."""

from __future__ import annotations

import re
import subprocess
from importlib import metadata

from bench.harness.results import Results
from bench.harness.series import Series, plan
from bench.harness.subjects import ENVOY
from bench.harness.targets import Judged, judge, number

BUSY = 1.0
"""A load average from which on a run is not quiet: one process of two processors; the average lags by a minute."""
OWN = ("callgate", "orjson", "hyperscan", "httptools", "uvloop", "jiter")
TITLES = {
    "direct": "direct",
    "c-pump": "C pump, two threads",
    "c-pump-splice": "C pump, splice",
    "py-relay": "Python relay that looks at nothing",
    "py-inspects": "Python relay that parses and scans",
    "py-records": "the same, with evidence in memory",
    "l4-pump": "C pump of TCP bytes",
    "nginx": "nginx",
    "envoy": "Envoy",
    "callgate": "**callgate**",
    "callgate-python": "callgate without its native lane",
    "callgate-tls": "callgate, TLS",
    "callgate-2-workers": "callgate, two workers",
    "lasso": "Lasso mcp-gateway",
    "fastmcp": "FastMCP proxy",
    "mcp-context-protector": "mcp-context-protector",
    "mcp-proxy": "mcp-proxy",
    "contextforge": "ContextForge",
}


def versions() -> dict[str, str]:
    """Of what was measured: callgate and its libraries, the floors, the peers that are installed."""
    found = {}
    for name in OWN:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    for name, command in {
        "nginx": ["/usr/sbin/nginx", "-v"],
        "envoy": [str(ENVOY), "--version"],
        "node": ["node", "-v"],
    }.items():
        try:
            output = subprocess.run(command, check=False, capture_output=True, text=True, timeout=10)
        except OSError:
            continue
        match = re.search(r"\d+\.\d+\.\d+", output.stdout + output.stderr)
        if match:
            found[name] = match.group()
    from bench.peers.install import PEERS, installed

    found.update({name: peer.version for name, peer in PEERS.items() if name not in found and installed(peer)})
    return found


def terminal_table(judged: list[Judged]) -> str:
    """Target, limit, measured, verdict."""
    rows = [("target", "limit", "measured", "")]
    for each in judged:
        target = each.target
        rows.append((target.text, f"{target.better} {number(target.limit, target.unit)}",
                     number(each.value, target.unit), each.verdict))  # fmt: skip
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]}" for row in rows)


def markdown(results: Results) -> str:
    """The whole of docs/performance.md."""
    parts = [_INTRODUCTION, _conditions(results), _targets(results)]
    parts += [_table(results, series) for series in plan(peers=True) if results.subjects(series.name)]
    parts += [_absences(results), _METHOD]
    return "\n".join(part.rstrip() + "\n" for part in parts if part)


_INTRODUCTION = """\
# Performance

What callgate adds to a call, measured beside floors that look at nothing and beside other gateways, in one
run on one machine. This page is written by `bench/run.py --write-docs` from the results of such a run; do not
edit it by hand.

callgate ran as it is installed where there is a Rust compiler, with [its native
lane](../ARCHITECTURE.md#the-native-lane): default controls, `enforce`, every decision written to the evidence log.
Servers ran unconfined, as beside every other gateway; what the sandbox adds is on [its page](sandbox.md#what-it-costs).
"""

_METHOD = """\
## How it is measured

- Clients, servers and the pumps are C programs (`bench/c/`, built with `cc -O2`), so that they are never the
  bottleneck. Each answer is checked: right id, no error, as long as the argument was.
- The subjects of a table take turns, round by round. Every number is the median over the rounds of the round's
  own p50, p99 or rate. "Added" is the p50 minus that of the direct connection in the same series.
- One call at a time is measured in mode `1cpu`: client, gateway and server share one CPU, so the added time is
  the whole cost of the hop in CPU and context switches, without the wake-up of an idle core, which costs 10 to
  30 µs on a virtual machine and says nothing about a gateway. Some series are repeated under the default
  scheduler, where a pump of two threads costs nearly twice as much and a single loop hardly more.
- Throughput is measured in mode `split`: one CPU for the gateway alone, one for client and server, which poll:
  waking a sleeping process on another virtual CPU costs more than the call, and hits the slower gateway harder.
  Two workers are compared with one in mode `1cpu`, by CPU time a call; starts are measured in mode `free`.
- CPU time is the gateway's own (all its threads, from the kernel's accounting in ns), the server's excluded. RSS
  is of the gateway's processes, the server's excluded.
- The size is that of a request's body; the answer is about as long.
- The Python relays (`bench/floors/`) move bytes and look at nothing: what is left below them, no gateway written
  in Python can save. How far they are from the C pump is the machine's doing: its system calls against its
  interpreter. Those that parse and scan, with and without evidence, are what is left to a Python gateway that
  inspects: nothing but the calls into the libraries, and none of the rest.
- nginx and Envoy forward HTTP and look at nothing (`bench/peers/nginx.conf`, `envoy.yaml`; one worker each).
- Peers run with their own defaults, one worker, logs off; they do other work than callgate (ContextForge:
  users, roles and a database), and nobody tuned them, their authors least of all.

## How to repeat it

```
make bench                                   # the floors and callgate: three to four minutes
.venv/bin/python bench/peers/install.py      # the peers, each in an environment of its own
.venv/bin/python bench/run.py --full         # with the peers: about fifteen minutes
.venv/bin/python bench/run.py --write-docs   # this page, from the newest results
.venv/bin/python bench/soak.py               # 200,000 calls each over stdio and HTTP: memory must not grow
.venv/bin/python bench/micro.py              # what one message costs inside callgate, step by step
```

Run it on a quiet machine. SCHED_RR, where it is permitted (root, or `CAP_SYS_NICE`), keeps others out of the
pinned modes.

## What was not measured

- Gateways that no package registry ships: agentgateway, Docker's and Envoy's AI gateways.
- TLS to servers, HTTP/2, networks with delay or loss, more than two cores.
- Free-threaded Python.
- What says "not measured" above: its subject was not installed, or not part of this run.
"""


_SHOWN = ("date", "cpu", "memory", "kernel", "python", "compiler", "native lane", "scheduling", "load before", "rounds")


def _conditions(results: Results) -> str:
    conditions = results.conditions
    lines = ["## Conditions", ""]
    lines += [f"- {key}: {conditions[key]}" for key in _SHOWN if key in conditions]
    named = ", ".join(f"{name} {version}" for name, version in conditions.get("versions", {}).items())
    lines.append(f"- versions: {named}")
    if float(conditions.get("load before", 0)) > BUSY:
        lines += ["", "**The machine was busy with other work during this run.** What was measured under the default"]
        lines.append("scheduler, and all starts, are worse than they would be on a quiet one.")
    return "\n".join(lines)


def _targets(results: Results) -> str:
    lines = ["## Targets", "", "| target | limit | measured | |", "|---|---|---|---|"]
    for each in judge(results):
        target = each.target
        limit = number(target.limit, target.unit).replace(".00 ", " ").replace(".0 ", " ")
        measured = number(each.value, target.unit)
        lines.append(
            f"| {target.text} | {'≤' if target.better == '<=' else '≥'} {limit} | {measured} | {each.verdict} |"
        )
    return "\n".join(lines)


def _table(results: Results, series: Series) -> str:
    heading = f"## {series.title[0].upper() + series.title[1:]} (mode `{series.mode}`)"
    columns = _columns(series)
    lines = [heading, "", "| | " + " | ".join(name for name, _, _ in columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for subject in results.subjects(series.name):
        cells = []
        for _, metric, scale in columns:
            if metric.startswith("added "):
                value = results.added(series.name, subject, metric.removeprefix("added "))
            else:
                value = results.median(series.name, subject, metric)
            hidden = subject == "direct" and (metric.startswith("added ") or metric in ("cpu_us", "rss_kb"))
            cells.append("" if hidden or value is None else number(value * scale, "").strip())
        lines.append(f"| {TITLES.get(subject, subject)} | " + " | ".join(cells) + " |")
    for (name, subject), why in results.failures.items():
        if name == series.name and (name, subject) not in results.samples:
            reason = (why.strip().splitlines() or ["no reason"])[-1][:100]
            lines += ["", f"{TITLES.get(subject, subject)}: failed ({reason})"]
    return "\n".join(lines)


def _columns(series: Series) -> list[tuple[str, str, float]]:
    if series.kind == "start":
        return [("first answer ms", "first_ms", 1), ("added ms", "added first_ms", 1)]
    if "--stream" in series.load:
        return [("event p50 µs", "event_p50", 1), ("added µs", "added event_p50", 1), ("event p99 µs", "event_p99", 1)]
    return [
        ("p50 µs", "p50", 1),
        ("added p50 µs", "added p50", 1),
        ("p99 µs", "p99", 1),
        ("calls/s", "rate", 1),
        ("gateway CPU µs a call", "cpu_us", 1),
        ("RSS MiB", "rss_kb", 1 / 1024),
    ]


def _absences(results: Results) -> str:
    if not results.absent:
        return ""
    lines = ["## Left out of this run", ""]
    lines += [f"- {name}: {why}" for name, why in results.absent.items()]
    return "\n".join(lines)
