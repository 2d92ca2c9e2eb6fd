"""The gate is transparent: the official conformance suite says the same with and without it, check by check.

The server leg runs the suite against our fixture server, directly and through `callgate serve` in
`enforce` with fresh state. The client leg runs an SDK client against the suite's own servers, directly
and with a gate of its own in between.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.conformance import Report, difference, requirements, run_client_scenario, run_server_suite
from tests.support.gateway import serve
from tests.support.processes import FIXTURES, free_port, running

pytestmark = [pytest.mark.network, pytest.mark.slow, pytest.mark.timeout(300)]

SELECTIONS = {
    "2026-07-28": ("--requirements", "2026-07-28"),
    "2025-11-25": ("--requirements", "2025-11-25"),
    "2025-06-18": ("--suite", "all", "--spec-version", "2025-06-18"),
}
LEAST_DIRECT = {"2026-07-28": (36, 37), "2025-11-25": (29, 30)}

CLIENT_SCENARIOS = [
    ("2026-07-28", "tools_call"),
    ("2026-07-28", "request-metadata"),
    ("2026-07-28", "sep-2322-client-request-state"),
    ("2026-07-28", "http-standard-headers"),
    ("2026-07-28", "http-custom-headers"),
    ("2026-07-28", "http-invalid-tool-headers"),
    ("2026-07-28", "json-schema-ref-no-deref"),
    ("2025-11-25", "initialize"),
    ("2025-11-25", "tools_call"),
    ("2025-11-25", "elicitation-sep1034-client-defaults"),
    ("2025-11-25", "sse-retry"),
]


@pytest.fixture(scope="module")
def fixture_url() -> Iterator[str]:
    port = free_port()
    with running([sys.executable, str(FIXTURES / "servers" / "conformance_server.py"), str(port)], port):
        yield f"http://127.0.0.1:{port}/mcp"


@pytest.fixture(scope="module")
def direct(fixture_url: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Report]:
    output = tmp_path_factory.mktemp("direct")
    return {name: run_server_suite(fixture_url, output / name, *how) for name, how in SELECTIONS.items()}


@pytest.mark.parametrize("revision", LEAST_DIRECT)
def test_the_fixture_server_offers_what_the_suite_asks_for(revision: str, direct: dict[str, Report]) -> None:
    least, of = LEAST_DIRECT[revision]
    required = requirements(revision, "server")
    assert len(required) == of
    assert len(direct[revision].passing(required)) >= least, direct[revision].output


def test_the_fixture_server_passes_everything_of_2025_06_18(direct: dict[str, Report]) -> None:
    scenarios = direct["2025-06-18"].scenarios()
    assert len(scenarios) == 27
    assert len(direct["2025-06-18"].passing(sorted(scenarios))) == 27


@pytest.mark.parametrize("revision", SELECTIONS)
def test_the_suite_says_the_same_of_a_server_behind_the_gate(
    revision: str, fixture_url: str, direct: dict[str, Report], tmp_path: Path
) -> None:
    with serve(tmp_path / "gate", {"fixture": {"url": fixture_url}}, mode="enforce") as gateway:
        gated = run_server_suite(gateway.url("fixture"), tmp_path / "gated", *SELECTIONS[revision])
    assert difference(direct[revision], gated) == ""


@pytest.mark.parametrize("revision", LEAST_DIRECT)
def test_the_same_server_on_stdio_behind_the_gate_passes_what_is_required(revision: str, tmp_path: Path) -> None:
    """Here the gate itself speaks HTTP for the server: statuses, sessions, header checks and streams are its own."""
    command = [sys.executable, str(FIXTURES / "servers" / "conformance_server.py")]
    with serve(tmp_path / "gate", {"fixture": {"command": command}}, mode="enforce") as gateway:
        report = run_server_suite(gateway.url("fixture"), tmp_path / "gated", *SELECTIONS[revision])
    least, _ = LEAST_DIRECT[revision]
    assert len(report.passing(requirements(revision, "server"))) >= least, report.output


def test_the_client_scenarios_are_all_that_need_no_authorization() -> None:
    for revision in LEAST_DIRECT:
        wanted = [name for name in requirements(revision, "client") if not name.startswith("auth/")]
        assert sorted(wanted) == sorted(name for at, name in CLIENT_SCENARIOS if at == revision)


@pytest.mark.parametrize(("revision", "scenario"), CLIENT_SCENARIOS)
def test_the_suite_says_the_same_of_a_client_behind_the_gate(revision: str, scenario: str, tmp_path: Path) -> None:
    clients = FIXTURES / "clients"
    client = [sys.executable, str(clients / "conformance_client.py")]
    through = [sys.executable, str(clients / "through_gate.py"), str(tmp_path / "gate"), *client]
    alone = run_client_scenario(shlex.join(client), scenario, revision, tmp_path / "direct")
    gated = run_client_scenario(shlex.join(through), scenario, revision, tmp_path / "gated")
    assert difference(alone.judged(), gated.judged()) == ""
    assert alone.passing([scenario]) == [scenario], alone.output
