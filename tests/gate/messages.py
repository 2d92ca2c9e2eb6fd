"""Messages as clients and servers send them, and what became of them: for the tests of the gate."""

from __future__ import annotations

import json
from typing import Any

import orjson

from callgate.gate.outcome import Outcome
from callgate.gate.verdicts import Finding, Remove, ReplaceSpan, Rewrite

MODERN = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}


def dump(**members: Any) -> bytes:
    return orjson.dumps({"jsonrpc": "2.0", **members})


def call(id: Any = 1, name: str = "echo", **params: Any) -> bytes:
    return dump(id=id, method="tools/call", params={"name": name, "arguments": {"text": "hi"}, **params})


def answer(id: Any = 1, text: str = "hi") -> bytes:
    return dump(id=id, result={"content": [{"type": "text", "text": text}]})


def refused(result: object) -> Outcome:
    assert isinstance(result, Outcome), result
    return result


def outcome(result: object) -> dict[str, Any]:
    out = refused(result)
    data = out.reply if out.reply is not None else out.forward
    assert data is not None
    loaded: dict[str, Any] = json.loads(data)
    return loaded


def without_underscore(event: Any) -> Rewrite:
    text = event.message.body["result"]["content"][0]["text"]
    at = text.index("_")
    return Rewrite((ReplaceSpan("/result/content/0/text", at, at + 1, ""),))


def joined_description(event: Any) -> Rewrite:
    at = event.message.body["result"]["tools"][0]["description"].index("_")
    return Rewrite((ReplaceSpan("/result/tools/0/description", at, at + 1, ""),))


def withhold_evil(event: Any) -> Rewrite:
    tools = event.message.body["result"]["tools"]
    bad = [f"/result/tools/{n}" for n, tool in enumerate(tools) if "evil" in tool.get("description", "")]
    return Rewrite(tuple(map(Remove, bad)), tuple(Finding("c/evil", "tool-poisoning", "m", p) for p in bad))
