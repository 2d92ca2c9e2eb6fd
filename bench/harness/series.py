"""What is run: series of subjects under one load. Subjects of a series take turns, round by round."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from bench.harness.machine import Mode

Kind: TypeAlias = Literal["stdio", "http", "start"]

STDIO_FLOORS = ("direct", "c-pump", "py-relay", "callgate")
FLOORS_ALL = ("direct", "c-pump", "c-pump-splice", "py-relay", "callgate")
STDIO_ALL = (*FLOORS_ALL[:-1], "py-inspects", "py-records", "callgate", "callgate-python")
BLOCKING = ("direct", "c-pump", "c-pump-splice", "callgate")
"""Where a message is larger than a pipe: the Python relay does not wait for room."""
HTTP_FLOORS = ("direct", "l4-pump", "py-relay", "nginx", "envoy", "callgate")
HTTP_ALL = (*HTTP_FLOORS, "callgate-python")
STDIO_PEERS = ("lasso", "fastmcp", "mcp-context-protector")
HTTP_PEERS = ("mcp-proxy", "fastmcp", "contextforge")
SIZES = {"200 B": 200, "2 KB": 2_000, "20 KB": 20_000, "1 MB": 1_000_000}


@dataclass(frozen=True, slots=True)
class Series:
    """One load on several subjects. `load` are options of the load generator."""

    name: str
    title: str
    kind: Kind
    mode: Mode
    subjects: tuple[str, ...]
    load: tuple[str, ...] = ()
    seconds: float = 0.6
    warmup: float = 0.2
    rounds: int | None = None
    """Instead of the run's own number."""
    realtime: bool = True
    """Under SCHED_RR where that is permitted; else under the system's default scheduler."""
    server: Literal["instant", "real"] = "instant"
    """`start` only: the C server, or server-everything under Node.js."""


def stdio_series() -> list[Series]:
    """One call at a time by size; then a window; then the time to the first answer."""
    series = [
        Series(
            f"stdio {label}" + ("" if realtime else " default"),
            f"stdio, one call at a time, {label}" + ("" if realtime else ", default scheduler"),
            "stdio",
            "1cpu",
            STDIO_ALL if size <= 2_000 else FLOORS_ALL if size <= 20_000 else BLOCKING,
            ("--size", str(size)),
            seconds=1.0 if size >= 1_000_000 else 0.6,
            realtime=realtime,
        )
        for realtime in (True, False)
        for label, size in SIZES.items()
    ]
    return [
        *series,
        Series("stdio modern", "stdio, one call at a time, 2 KB, revision 2026-07-28", "stdio", "1cpu", STDIO_FLOORS,
               ("--size", "2000", "--modern")),
        Series("stdio window", "stdio, 32 calls in flight, 200 B", "stdio", "split", ("direct", "c-pump", "callgate"),
               ("--window", "32")),
        Series("start instant", "first answer of an instant server", "start", "free", ("direct", "callgate"),
               rounds=11),
        Series("start real", "first answer of server-everything (Node.js)", "start", "free", ("direct", "callgate"),
               rounds=11, server="real"),
    ]  # fmt: skip


def http_series() -> list[Series]:
    """One connection, 64 connections, event streams, TLS and two workers."""
    modern = ("--modern", "--size", "600")
    return [
        Series("http c1", "HTTP, 1 connection, 200 B, sessions", "http", "1cpu", HTTP_ALL),
        Series("http c1 default", "HTTP, 1 connection, 200 B, sessions, default scheduler", "http", "1cpu", HTTP_FLOORS,
               realtime=False),
        Series("http c1 split", "HTTP, 1 connection, 200 B, sessions, one core for the gateway", "http", "split",
               HTTP_FLOORS),
        Series("http c1 modern", "HTTP, 1 connection, 600 B, revision 2026-07-28", "http", "1cpu", HTTP_FLOORS, modern),
        Series("http c1 20 KB", "HTTP, 1 connection, 20 KB, sessions", "http", "1cpu", HTTP_FLOORS,
               ("--size", "20000")),
        Series("http c64", "HTTP, 64 connections, 200 B, sessions", "http", "split",
               (*HTTP_ALL, "callgate-tls"), ("--connections", "64"), seconds=0.8),
        Series("http c64 modern", "HTTP, 64 connections, 600 B, revision 2026-07-28", "http", "split", HTTP_FLOORS,
               ("--connections", "64", *modern), seconds=0.8),
        Series("http events", "HTTP, server-sent events 1 ms apart, 1 connection", "http", "1cpu", HTTP_FLOORS,
               ("--stream", "100,1000"), seconds=1.0),
        Series("http workers", "HTTP, 64 connections, 200 B, one worker and two", "http", "1cpu",
               ("direct", "callgate", "callgate-2-workers"), ("--connections", "64"), seconds=0.8),
    ]  # fmt: skip


def peer_series() -> list[Series]:
    """callgate beside what others run in the same place. Slow peers get longer, so that they have samples."""
    http = ("direct", "callgate", *HTTP_PEERS)
    return [
        Series("peers stdio", "stdio, one call at a time, 200 B", "stdio", "1cpu",
               ("direct", "c-pump", "callgate", *STDIO_PEERS)),
        Series("peers http c1", "HTTP, 1 connection, 200 B", "http", "1cpu", http, rounds=2),
        Series("peers http c8", "HTTP, 8 connections, 200 B, one gateway core", "http", "split", http,
               ("--connections", "8"), rounds=2),
        Series("peers http c64", "HTTP, 64 connections, 200 B, one gateway core", "http", "split", http,
               ("--connections", "64"), rounds=2),
    ]  # fmt: skip


def plan(peers: bool) -> list[Series]:
    """All series of a run, quick ones first."""
    return stdio_series() + http_series() + (peer_series() if peers else [])
