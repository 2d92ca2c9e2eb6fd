"""The targets, each a number of one run: ratios to the floors of the same run, so that machines cancel out."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from bench.harness.results import Results

Value: TypeAlias = Callable[[Results], float | None]


@dataclass(frozen=True, slots=True)
class Target:
    """`value` of a run, compared with `limit`; None when it was not measured."""

    text: str
    value: Value
    better: Literal["<=", ">="]
    limit: float
    unit: str = "x"

    def met(self, value: float) -> bool:
        """Whether the value is on the right side of the limit."""
        return value <= self.limit if self.better == "<=" else value >= self.limit


def _ratio(over: float | None, under: float | None) -> float | None:
    return over / under if over is not None and under is not None and under > 0 else None


def added(series: str, floor: str) -> Value:
    """callgate's added p50 over the floor's."""
    return lambda results: _ratio(results.added(series, "callgate"), results.added(series, floor))


def added_by_peer(series: str, peer: str) -> Value:
    """A peer's added p50 over callgate's."""
    return lambda results: _ratio(results.added(series, peer), results.added(series, "callgate"))


def rate(series: str, floor: str) -> Value:
    """callgate's calls a second over the floor's."""
    return lambda results: _ratio(results.median(series, "callgate", "rate"), results.median(series, floor, "rate"))


def best_rate_over_peer(peer: str) -> Value:
    """Both at the number of connections that suits each best, one gateway core."""

    def value(results: Results) -> float | None:
        names = ("peers http c1", "peers http c8", "peers http c64")
        ours = [found for name in names if (found := results.median(name, "callgate", "rate")) is not None]
        theirs = [found for name in names if (found := results.median(name, peer, "rate")) is not None]
        return max(ours) / max(theirs) if ours and theirs else None

    return value


def absolute(series: str, metric: str, scale: float = 1.0) -> Value:
    """A median of callgate's own."""

    def value(results: Results) -> float | None:
        found = results.median(series, "callgate", metric)
        return None if found is None else found * scale

    return value


def added_absolute(series: str, metric: str) -> Value:
    """A median of callgate's own, minus direct."""
    return lambda results: results.added(series, "callgate", metric)


def noise(series: str) -> Value:
    """How much later than direct, in units of the spread: the interquartile ranges of both, added."""

    def value(results: Results) -> float | None:
        later = results.added(series, "callgate", "first_ms")
        spread = 0.0
        for subject in ("direct", "callgate"):
            values = results.values(series, subject, "first_ms")
            if len(values) < 4:
                return None
            low, _, high = statistics.quantiles(values, n=4)
            spread += high - low
        return None if later is None else later / spread if spread else None

    return value


def tail(series: str) -> Value:
    """p99 over p50, the median over the rounds of each."""
    return lambda results: _ratio(results.median(series, "callgate", "p99"), results.median(series, "callgate", "p50"))


def difference(series: str, subject: str, metric: str) -> Value:
    """Another callgate configuration minus the plain one."""

    def value(results: Results) -> float | None:
        one, plain = results.median(series, subject, metric), results.median(series, "callgate", metric)
        return None if one is None or plain is None else one - plain

    return value


def workers_cost(results: Results) -> float | None:
    """CPU a request with two workers over that with one."""
    two = results.median("http workers", "callgate-2-workers", "cpu_us")
    return _ratio(two, results.median("http workers", "callgate", "cpu_us"))


def worker_memory(results: Results) -> float | None:
    """RSS of a worker under load: all of callgate's processes with two workers, less those of one."""
    two = results.median("http workers", "callgate-2-workers", "rss_kb")
    one = results.median("http workers", "callgate", "rss_kb")
    return None if one is None else max(one, two / 2 if two else 0.0) / 1024


TARGETS = (
    *(
        Target(f"stdio, {size}{note}: added p50, to the C pump's", added(f"stdio {size}{name}", "c-pump"), "<=", limit)
        for name, note in (("", ""), (" default", ", default scheduler"))
        for size, limit in (("200 B", 3), ("2 KB", 3), ("20 KB", 4), ("1 MB", 6))
    ),
    Target("stdio, window of 32, 200 B", absolute("stdio window", "rate"), ">=", 100_000, "calls/s"),
    Target("first answer of an instant server, later than direct", added_absolute("start instant", "first_ms"),
           "<=", 70, "ms"),
    Target("first answer of a real server, later than direct, in its noise", noise("start real"), "<=", 1, "IQR"),
    Target("RSS of the stdio shim", absolute("stdio 200 B", "rss_kb", 1 / 1024), "<=", 35, "MiB"),
    Target("HTTP, 1 connection: added p50, to nginx's", added("http c1", "nginx"), "<=", 1.6),
    Target("HTTP, 1 connection, default scheduler: added p50, to nginx's", added("http c1 default", "nginx"),
           "<=", 1.6),
    Target("HTTP, 1 connection, one core for the gateway: added p50, to nginx's", added("http c1 split", "nginx"),
           "<=", 1.6),
    Target("HTTP, 1 connection, 2026-07-28: added p50, to nginx's", added("http c1 modern", "nginx"), "<=", 1.6),
    Target("HTTP, 64 connections: calls/s, to nginx", rate("http c64", "nginx"), ">=", 0.5),
    Target("HTTP, 64 connections: calls/s, to Envoy", rate("http c64", "envoy"), ">=", 1.1),
    Target("HTTP, 64 connections, 2026-07-28: calls/s, to nginx", rate("http c64 modern", "nginx"), ">=", 0.5),
    Target("HTTP, 64 connections, 2026-07-28: calls/s, to Envoy", rate("http c64 modern", "envoy"), ">=", 1.1),
    Target("HTTP, 1 connection: p99, to p50", tail("http c1"), "<=", 3),
    Target("HTTP, 64 connections: p99, to p50", tail("http c64"), "<=", 3),
    Target("server-sent events: added p50", added_absolute("http events", "event_p50"), "<=", 60, "µs"),
    Target("two workers: CPU a call, to one worker's", workers_cost, "<=", 1.15),
    Target("RSS of a worker", worker_memory, "<=", 60, "MiB"),
    Target("TLS: CPU a call more", difference("http c64", "callgate-tls", "cpu_us"), "<=", 8, "µs"),
    Target("HTTP: calls/s, to mcp-proxy", best_rate_over_peer("mcp-proxy"), ">=", 20),
    Target("HTTP: calls/s, to FastMCP's proxy", best_rate_over_peer("fastmcp"), ">=", 500),
    Target("HTTP: calls/s, to ContextForge", best_rate_over_peer("contextforge"), ">=", 500),
    Target("stdio: added p50 of mcp-context-protector, to ours", added_by_peer("peers stdio", "mcp-context-protector"),
           ">=", 20),
    Target("stdio: added p50 of Lasso's gateway, to ours", added_by_peer("peers stdio", "lasso"), ">=", 20),
    Target("stdio: added p50 of FastMCP's proxy, to ours", added_by_peer("peers stdio", "fastmcp"), ">=", 20),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Judged:
    """A target and what was measured."""

    target: Target
    value: float | None

    @property
    def verdict(self) -> str:
        """`pass`, `MISS`, or that it was not measured."""
        if self.value is None:
            return "not measured"
        return "pass" if self.target.met(self.value) else "MISS"


def judge(results: Results) -> list[Judged]:
    """Every target, also those without a value."""
    return [Judged(target, target.value(results)) for target in TARGETS]


def number(value: float | None, unit: str) -> str:
    """With as many digits as mean something."""
    if value is None:
        return "–"
    text = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
    return f"{text} {unit}"
