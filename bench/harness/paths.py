"""Where the bench keeps its things. All of it is below `bench/`, and what is built there is not in git."""

from __future__ import annotations

from pathlib import Path

BENCH = Path(__file__).resolve().parent.parent
SOURCES = BENCH / "c"
BUILD = BENCH / ".build"
PEERS = BENCH / "peers"
FLOORS = BENCH / "floors"
INSTALLED = BENCH / ".peers"
RESULTS = BENCH / "results"
REPORT = BENCH.parent / "docs" / "performance.md"
