"""What a client sees of a server: identity, lists, and the answer to each call, as plain JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable
from datetime import datetime, timedelta
from typing import Any

from mcp import Client, StdioServerParameters
from mcp.shared.exceptions import MCPError
from pydantic import BaseModel

from tests.support.real_servers import Call

Json = Any

# The ways these servers write an instant: ISO 8601, JavaScript's Date.toString() and toLocaleTimeString().
INSTANT = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)"
    r"|[A-Z][a-z]{2} [A-Z][a-z]{2} \d\d \d{4} \d\d:\d\d:\d\d GMT[+-]\d{4}(?: \([^)]*\))?"
    r"|\d{1,2}:\d\d:\d\d [AP]M"
)
RECENT = timedelta(minutes=10)


class Progress:
    """Collects what a call reports."""

    def __init__(self) -> None:
        self.seen: list[Json] = []

    async def __call__(self, progress: float, total: float | None, message: str | None) -> None:
        self.seen.append([progress, total, message])


async def record(
    server: str | StdioServerParameters, mode: str, calls: list[Call], prompts: tuple[Call, ...] = ()
) -> dict[str, Json]:
    """Connect with the official SDK's client and write down everything."""
    transcript: dict[str, Json] = {}
    async with Client(server, mode=mode, read_timeout_seconds=60, cache=None) as client:
        transcript["revision"] = client.protocol_version
        transcript["server"] = _dump(client.server_info)
        transcript["instructions"] = client.instructions
        transcript["capabilities"] = _dump(client.server_capabilities)
        transcript["tools"] = await _answer(client.list_tools())
        transcript["prompts"] = await _answer(client.list_prompts())
        transcript["resources"] = await _answer(client.list_resources())
        transcript["templates"] = await _answer(client.list_resource_templates())
        for resource in transcript["resources"].get("resources", ()):
            uri = resource["uri"]
            transcript[f"resource {uri}"] = await _answer(client.read_resource(uri))
        for name, arguments in prompts:
            transcript[f"prompt {name}"] = await _answer(client.get_prompt(name, arguments))
        for number, (name, arguments) in enumerate(calls, 1):
            progress = Progress()
            answer = await _answer(client.call_tool(name, arguments, progress_callback=progress))
            transcript[f"call {number} {name}"] = {"answer": answer, "progress": progress.seen}
    return transcript


def uncalled(transcript: dict[str, Json]) -> set[str]:
    """Tools that were listed and not called."""
    called = {key.split(maxsplit=2)[2] for key in transcript if key.startswith("call ")}
    return {tool["name"] for tool in transcript["tools"]["tools"]} - called


def comparable(transcript: dict[str, Json]) -> dict[str, Json]:
    """A transcript without what differs from run to run: instants of now, and the order of `get-env`'s variables."""
    plain: dict[str, Json] = without_now(transcript)
    for key, entry in plain.items():
        if key.endswith(" get-env"):
            for block in entry["answer"]["content"]:
                block["text"] = json.loads(block["text"])
    return plain


def without_now(value: Json) -> Json:
    """The same with each instant of the last minutes replaced by `<now>`; nothing else is touched."""
    if isinstance(value, str):
        return INSTANT.sub(lambda match: "<now>" if _recent(match.group()) else match.group(), value)
    if isinstance(value, list):
        return [without_now(item) for item in value]
    if isinstance(value, dict):
        return {key: without_now(item) for key, item in value.items()}
    return value


def _recent(text: str) -> bool:
    now = datetime.now().astimezone()
    if text.endswith("M"):
        clock = datetime.strptime(text, "%I:%M:%S %p")  # noqa: DTZ007 - only its hands are looked at
        instant = now.replace(hour=clock.hour, minute=clock.minute, second=clock.second)
    elif text[0].isdigit():
        instant = datetime.fromisoformat(text)
    else:
        instant = datetime.strptime(text.partition(" (")[0], "%a %b %d %Y %H:%M:%S GMT%z")
    return abs(now - instant) < RECENT


async def _answer(call: Awaitable[BaseModel]) -> Json:
    """A result, or the error instead, or what the client found wrong with either."""
    try:
        return _dump(await call)
    except MCPError as error:
        return {"error": [error.code, error.message, error.data]}
    except ValueError as error:
        return {"refused by the client": type(error).__name__}


def _dump(model: BaseModel | None) -> Json:
    return None if model is None else model.model_dump(mode="json", by_alias=True)
