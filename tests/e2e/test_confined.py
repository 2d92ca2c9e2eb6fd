"""In the default sandbox, real servers do what they do without one: same lists, same answers, as the client sees them.

What differs is what must: a server that prints its variables prints fewer, and nothing on the host's loopback answers.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from mcp import StdioServerParameters

from callgate.audit.query import Filter, all_records
from tests.support.gateway import run_command, serve
from tests.support.programs import npm_script, pypi_server
from tests.support.real_servers import REAL_SERVERS, RealServer
from tests.support.transcripts import comparable, record

pytestmark = [pytest.mark.network, pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.usefixtures("confined")]


def _query(sql: str) -> dict[str, str]:
    return {"query": sql}


ONLY_CONFINED = (
    RealServer(
        "sqlite",
        lambda work: [pypi_server("mcp-server-sqlite"), "--db-path", str(work / "data.db")],
        lambda work, site: [
            ("create_table", _query("CREATE TABLE people (name TEXT)")),
            ("write_query", _query("INSERT INTO people VALUES ('Ada')")),
            ("read_query", _query("SELECT * FROM people")),
            ("list_tables", {}),
            ("describe_table", {"table_name": "people"}),
            ("read_query", _query("DROP TABLE people")),
            ("append_insight", {"insight": "there is one"}),
        ],
    ),
    RealServer("playwright", lambda work: [*npm_script("@playwright/mcp"), "--headless"], lambda work, site: []),
    RealServer("fetch", lambda work: [pypi_server("mcp-server-fetch")], lambda work, site: []),
)
"""Beside those of all other tests; without calls: what takes a browser, or the network, only lists what it has."""
OUTSIDE = {"get-env": "prints its environment"}
SERVERS = (*(one for one in REAL_SERVERS if one.name != "fetch"), *ONLY_CONFINED)


def launches(state: Path) -> list[dict[str, Any]]:
    """The facts of every launch in the evidence."""
    notes = (record for _, record in all_records(state / "audit", Filter()))
    return [record["fields"] for record in notes if record.get("what") == "launch"]


@pytest.fixture(scope="module")
def direct() -> dict[str, dict[str, Any]]:
    """What was seen of each server without the gate: recorded once."""
    return {}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where servers work. Answers that name their directory can be compared."""
    return tmp_path_factory.mktemp("work")


@pytest.mark.parametrize("route", ["run", "serve"])
@pytest.mark.parametrize("server", SERVERS, ids=lambda server: server.name)
async def test_a_confined_server_answers_as_a_free_one(
    server: RealServer, route: str, direct: dict[str, dict[str, Any]], place: Path, tmp_path: Path
) -> None:
    work, state = place / server.name, tmp_path / "state"
    command = server.command(work)
    calls = [call for call in server.calls(work, "") if call[0] not in OUTSIDE]
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    declared = dict(server.environment(work))
    environment = {**ours, **declared, "CALLGATE_STATE_DIR": str(state)}

    async def over_stdio(argv: list[str]) -> dict[str, Any]:
        server.fresh(work)
        parameters = StdioServerParameters(command=argv[0], args=argv[1:], env=environment, cwd=tmp_path)
        return await record(parameters, "auto", calls, server.prompts)

    if server.name not in direct:
        direct[server.name] = await over_stdio(command)
    if route == "run":
        options = [word for name in declared for word in ("--env", name)] + ["--write", str(work)]
        seen = await over_stdio(run_command(command, "--name", server.name, *options))
    else:
        server.fresh(work)
        table = {"command": command, "environment": declared, "sandbox": {"write": [str(work)]}}
        with serve(tmp_path, {server.name: table}, state=state, launch={"sandbox": "auto"}) as gateway:
            seen = await record(gateway.url(server.name), "auto", calls, server.prompts)
    assert comparable(seen) == comparable(direct[server.name])
    started = launches(state)
    assert started
    for facts in started:
        assert facts["sandbox"]["backend"] in ("bubblewrap", "landlock")
        # fetch is known to need every host; nothing else has a way out
        assert facts["sandbox"]["network"] == (["*:443", "*:80"] if server.name == "fetch" else [])
