"""The published JSON schemas of the five revisions, where a checkout has them beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

DIRECTORY = Path(__file__).parents[3] / "shared" / "data" / "mcp-schema"

needs_schemas = pytest.mark.skipif(not DIRECTORY.is_dir(), reason="the MCP schemas are not beside the checkout")

FREE = "freeMember"


def definitions(version: str) -> dict[str, Any]:
    document = json.loads((DIRECTORY / f"{version}.json").read_text())
    return document.get("$defs") or document["definitions"]


def methods(version: str, union: str) -> set[str]:
    """The `method` constants under a union such as ClientRequest."""
    found: set[str] = set()
    every = definitions(version)
    stack = [union] if union in every else []
    while stack:
        schema = every[stack.pop()]
        constant = schema.get("properties", {}).get("method", {}).get("const")
        if constant:
            found.add(constant)
        stack.extend(option["$ref"].rpartition("/")[2] for option in schema.get("anyOf", []) if "$ref" in option)
    return found


def examples(version: str, name: str) -> Iterator[Any]:
    """Instances of a definition that between them have every member and every alternative once."""
    every = definitions(version)
    yield from _fill(every, {"$ref": f"#/$defs/{name}"}, 0)


def _fill(every: dict[str, Any], schema: dict[str, Any], depth: int) -> Iterator[Any]:
    if depth > 12:
        return
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        if name in {"JSONValue", "JSONObject", "JSONArray"}:
            yield {FREE: "text"}
            return
        yield from _fill(every, every[name], depth + 1)
        return
    if "const" in schema:
        yield schema["const"]
        return
    if "enum" in schema:
        yield schema["enum"][0]
        return
    for keyword in ("anyOf", "oneOf"):
        if keyword in schema:
            for option in schema[keyword]:
                yield from _fill(every, option, depth + 1)
            return
    if "allOf" in schema:
        merged: dict[str, Any] = {}
        for part in schema["allOf"]:
            merged |= next(_fill(every, part, depth + 1))
        yield merged
        return
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = kind[0]
    if kind == "array":
        items = list(_fill(every, schema.get("items", {}), depth + 1))
        yield items
    elif kind == "object" or "properties" in schema:
        columns = {key: list(_fill(every, sub, depth + 1)) for key, sub in schema.get("properties", {}).items()}
        extra = schema.get("additionalProperties")
        if isinstance(extra, dict):
            columns[FREE] = list(_fill(every, extra, depth + 1)) or ["text"]
        elif not columns:
            columns[FREE] = ["text"]
        columns = {key: column for key, column in columns.items() if column}
        for index in range(max(map(len, columns.values()), default=0)):
            yield {key: column[min(index, len(column) - 1)] for key, column in columns.items()}
    elif kind in {"integer", "number"}:
        yield 7
    elif kind == "boolean":
        yield True
    elif kind == "null":
        yield None
    else:
        yield "text"
