"""The official SDK on both sides: its client over HTTP, the bridge, its server over stdio or HTTP+SSE."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import mcp_types as types
import pytest
from mcp.client.client import Client
from mcp.client.sse import sse_client
from mcp.client.stdio import StdioServerParameters, stdio_client

from callgate.config import ServerConfig
from callgate.transport.stdio_upstream import StdioRoute
from tests.gate.fakes import FakeJournal, gate_of
from tests.support.processes import free_port, running
from tests.transport.exchanges import exists
from tests.transport.served import served

SDK = str(Path(__file__).parent / "servers" / "sdk.py")
STDIO = ServerConfig("x", command=(sys.executable, SDK, "stdio"))


@asynccontextmanager
async def bridged(server: ServerConfig) -> AsyncIterator[tuple[str, FakeJournal]]:
    gate, journal = gate_of()
    route = StdioRoute(server, gate, asyncio.get_running_loop())
    try:
        async with served(route) as url:
            yield url, journal
    finally:
        await route.close(2.0)
        gate.close()
        assert not [fields["pid"] for kind, fields in journal.notes if kind == "launch" and exists(fields["pid"])]


async def elicited(context: Any, params: Any) -> types.ElicitResult:
    return types.ElicitResult(action="accept", content={"name": "Ada"})


def text(result: Any) -> str:
    return str(result.content[0].text)


async def use(client: Client) -> list[float]:
    """Everything the server offers, once; the progress that was reported."""
    steps: list[float] = []

    async def progress(done: float, total: float | None, message: str | None) -> None:
        steps.append(done)

    tools = await client.list_tools()
    assert {tool.name for tool in tools.tools} == {"add", "count", "greet"}
    assert text(await client.call_tool("add", {"a": 2, "b": 3})) == "5"
    assert text(await client.call_tool("count", {"to": 3}, progress_callback=progress)) == "counted to 3"
    resource = await client.read_resource("data://big")
    assert len(resource.contents[0].text) == 500_000
    prompt = await client.get_prompt("summary", {"topic": "gates"})
    assert prompt.messages[0].content.text == "Summarise gates"
    unknown = await client.call_tool("add", {"a": "x", "b": 3})
    assert unknown.is_error
    return steps


@pytest.mark.parametrize(
    ("mode", "revision"), [("legacy", "2025-11-25"), ("auto", "2026-07-28"), ("2026-07-28", "2026-07-28")]
)
async def test_its_client_in_three_modes_over_streamable_http(mode: str, revision: str) -> None:
    async with bridged(STDIO) as (url, journal):
        if mode == "auto":  # its probe waits 10 s at most, and a busy machine may take longer to start Python
            async with Client(f"{url}/mcp", mode="2026-07-28") as client:
                await client.list_tools()
        async with Client(f"{url}/mcp", mode=mode, elicitation_callback=elicited) as client:  # type: ignore[arg-type]
            assert client.protocol_version == revision
            assert await use(client) == [1, 2, 3]
            if mode == "legacy":
                assert text(await client.call_tool("greet", {})) == "hello Ada"
        assert "deny" not in journal.outcomes()


async def test_two_modern_clients_share_a_process_and_nothing_else() -> None:
    async with bridged(STDIO) as (url, journal):
        async with Client(f"{url}/mcp", mode="2026-07-28") as one, Client(f"{url}/mcp", mode="2026-07-28") as other:
            calls = [client.call_tool("add", {"a": n, "b": 0}) for n, client in enumerate([one, other] * 20)]
            assert [text(result) for result in await asyncio.gather(*calls)] == [str(n) for n in range(40)]
        assert [kind for kind, _ in journal.notes] == ["launch"]


async def test_its_client_over_http_and_sse() -> None:
    async with bridged(STDIO) as (url, journal):
        async with Client(sse_client(f"{url}/sse"), mode="legacy", elicitation_callback=elicited) as client:
            assert await use(client) == [1, 2, 3]
            assert text(await client.call_tool("greet", {})) == "hello Ada"
        assert "deny" not in journal.outcomes()


async def test_its_server_over_http_and_sse() -> None:
    port = free_port()
    with running([sys.executable, SDK, "sse", str(port)], port):
        upstream = ServerConfig("x", url=f"http://127.0.0.1:{port}/sse", transport="sse")
        async with bridged(upstream) as (url, journal):
            async with Client(f"{url}/mcp", mode="legacy", elicitation_callback=elicited) as client:
                assert await use(client) == [1, 2, 3]
                assert text(await client.call_tool("greet", {})) == "hello Ada"
            async with Client(sse_client(f"{url}/sse"), mode="legacy") as client:
                assert await use(client) == [1, 2, 3]
            assert [kind for kind, _ in journal.notes] == ["connect", "connect"]
            assert "deny" not in journal.outcomes()


@pytest.mark.parametrize(("mode", "revision"), [("legacy", "2025-11-25"), ("auto", "2026-07-28")])
async def test_its_client_over_stdio_and_its_server_over_http(
    mode: str, revision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    with running([sys.executable, SDK, "streamable-http", str(port)], port):
        arguments = ["-m", "callgate.cli.main", "run", "--url", f"http://127.0.0.1:{port}/mcp"]
        state = {"CALLGATE_STATE_DIR": os.environ["CALLGATE_STATE_DIR"]}
        command = StdioServerParameters(command=sys.executable, args=arguments, env=state)
        async with Client(stdio_client(command), mode=mode, elicitation_callback=elicited) as client:  # type: ignore[arg-type]
            assert client.protocol_version == revision
            assert await use(client) == [1, 2, 3]
            if mode == "legacy":
                assert text(await client.call_tool("greet", {})) == "hello Ada"
