"""A stand-in for a model, on loopback: it answers a client's questions from a script, in four wire formats.

    python -m tests.support.model FOLDER PORT SCRIPT -- COMMAND…

serves 127.0.0.1:PORT while COMMAND runs and ends with its exit code. SCRIPT is a JSON list of steps: `{"tool": NAME,
"arguments": {…}}` makes the client call the offered tool whose name ends with NAME, `{"text": …}` ends the turn. Which
step is due is the number of tool results in the conversation, so nothing is remembered between requests; a question
without tools (a title, a summary) gets plain text. FOLDER/asked has one JSON line a question.

The formats: Anthropic's messages, OpenAI's responses and chat completions, Gemini's generateContent, each as server-sent
events or as one document, as it is asked for.
"""

from __future__ import annotations

import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MAX_BODY = 32 * 1024 * 1024
Event = tuple[str, dict[str, Any]]


class Offered:
    """A tool of a question: its name, the namespace it stands in, and whether its input is free text."""

    def __init__(self, name: str, namespace: str = "", *, free: bool = False) -> None:
        self.name = name
        self.namespace = namespace
        self.free = free


def due(script: list[dict[str, Any]], offered: list[Offered], results: int) -> tuple[Offered | None, dict[str, Any]]:
    """What is to be said now: a tool and its arguments, or None and a text."""
    step: dict[str, Any] = script[results] if results < len(script) else {"text": "that was all"}
    if not offered or "tool" not in step:
        return None, {"text": step.get("text", "ok")}
    wanted = step["tool"] if isinstance(step["tool"], list) else [step["tool"]]
    for name in wanted:
        for one in offered:
            if one.name == name or (one.namespace + one.name).endswith(name):
                return one, step["arguments"]
    return None, {"text": f"no tool {wanted} is offered"}


def anthropic(body: dict[str, Any], script: list[dict[str, Any]]) -> tuple[dict[str, Any], Iterator[Event]]:
    """POST /v1/messages."""
    offered = [Offered(tool["name"]) for tool in body.get("tools", ())]
    blocks = [block for one in body["messages"] if isinstance(one["content"], list) for block in one["content"]]
    tool, given = due(script, offered, sum(block["type"] == "tool_result" for block in blocks))
    block = (
        {"type": "tool_use", "id": f"toolu_{len(blocks)}", "name": tool.name, "input": given}
        if tool
        else {"type": "text", "text": given["text"]}
    )
    usage = {"input_tokens": 10, "output_tokens": 5}
    whole = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": [block],
        "stop_reason": "tool_use" if tool else "end_turn",
        "stop_sequence": None,
        "usage": usage,
    }

    def events() -> Iterator[Event]:
        yield "message_start", {"message": {**whole, "content": [], "stop_reason": None}}
        if tool:
            yield "content_block_start", {"index": 0, "content_block": {**block, "input": {}}}
            delta = {"type": "input_json_delta", "partial_json": json.dumps(given)}
        else:
            yield "content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}}
            delta = {"type": "text_delta", "text": given["text"]}
        yield "content_block_delta", {"index": 0, "delta": delta}
        yield "content_block_stop", {"index": 0}
        yield "message_delta", {"delta": {"stop_reason": whole["stop_reason"], "stop_sequence": None}, "usage": usage}
        yield "message_stop", {}

    return whole, ((name, {"type": name, **event}) for name, event in events())


def responses(body: dict[str, Any], script: list[dict[str, Any]]) -> tuple[dict[str, Any], Iterator[Event]]:
    """POST /v1/responses."""
    offered: list[Offered] = []
    for one in body.get("tools", ()):
        if one["type"] == "namespace":
            offered += (Offered(inner["name"], one["name"]) for inner in one["tools"])
        elif "name" in one:
            offered.append(Offered(one["name"], free=one["type"] == "custom"))
    asked = body["input"] if isinstance(body["input"], list) else []
    results = sum(str(one.get("type", "")).endswith("_output") for one in asked)
    tool, given = due(script, offered, results)
    if tool is None:
        content = [{"type": "output_text", "text": given["text"], "annotations": []}]
        item = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": content}
    elif tool.free:
        item = {"type": "custom_tool_call", "id": "ctc_1", "call_id": f"call_{results}", "name": tool.name}
        item |= {"input": given["input"], "status": "completed"}
    else:
        item = {"type": "function_call", "id": "fc_1", "call_id": f"call_{results}", "name": tool.name}
        item |= {"arguments": json.dumps(given), "status": "completed"}
        item |= {"namespace": tool.namespace} if tool.namespace else {}
    usage = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}
    whole = {"id": "resp_1", "object": "response", "model": body["model"], "status": "completed", "output": [item]}
    whole |= {"usage": {**usage, "input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": None}}

    def events() -> Iterator[Event]:
        yield "response.created", {"response": {**whole, "status": "in_progress", "output": [], "usage": None}}
        yield "response.output_item.added", {"output_index": 0, "item": item}
        yield "response.output_item.done", {"output_index": 0, "item": item}
        yield "response.completed", {"response": whole}

    return whole, ((name, {"type": name, **event}) for name, event in events())


def chat(body: dict[str, Any], script: list[dict[str, Any]]) -> tuple[dict[str, Any], Iterator[Event]]:
    """POST /v1/chat/completions."""
    offered = [Offered(one["function"]["name"]) for one in body.get("tools", ())]
    results = sum(one["role"] == "tool" for one in body["messages"])
    tool, given = due(script, offered, results)
    message: dict[str, Any] = {"role": "assistant", "content": None if tool else given["text"]}
    if tool:
        function = {"name": tool.name, "arguments": json.dumps(given)}
        message["tool_calls"] = [{"index": 0, "id": f"call_{results}", "type": "function", "function": function}]
    reason = "tool_calls" if tool else "stop"
    common = {"id": "chatcmpl-1", "created": 0, "model": body["model"]}
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    choice = {"index": 0, "message": message, "finish_reason": reason}
    whole = {**common, "object": "chat.completion", "choices": [choice], "usage": usage}

    def events() -> Iterator[Event]:
        chunk = {**common, "object": "chat.completion.chunk"}
        yield "", {**chunk, "choices": [{"index": 0, "delta": message, "finish_reason": None}]}
        yield "", {**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}], "usage": usage}

    return whole, events()


def gemini(body: dict[str, Any], script: list[dict[str, Any]]) -> tuple[dict[str, Any], Iterator[Event]]:
    """POST /v1beta/models/MODEL:generateContent and :streamGenerateContent."""
    offered = [Offered(one["name"]) for group in body.get("tools", ()) for one in group.get("functionDeclarations", ())]
    parts = [part for one in body["contents"] for part in one.get("parts", ())]
    tool, given = due(script, offered, sum("functionResponse" in part for part in parts))
    part = {"functionCall": {"name": tool.name, "args": given}} if tool else {"text": given["text"]}
    candidate = {"content": {"role": "model", "parts": [part]}, "finishReason": "STOP", "index": 0}
    usage = {"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15}
    whole = {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "stand-in"}
    return whole, iter([("", whole)])


FORMATS = {
    "/messages": anthropic,
    "/responses": responses,
    "/chat/completions": chat,
    ":generateContent": gemini,
    ":streamGenerateContent": gemini,
}


class _Model(http.server.BaseHTTPRequestHandler):
    folder: Path
    script: list[dict[str, Any]]
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        size = int(self.headers.get("Content-Length", "0"))
        body = json.loads(self.rfile.read(min(size, MAX_BODY)) or b"{}")
        path = self.path.partition("?")[0]
        with open(self.folder / "asked", "a", encoding="utf-8") as file:
            file.write(json.dumps({"path": self.path, "body": body}) + "\n")
        format_ = next((found for ending, found in FORMATS.items() if path.endswith(ending)), None)
        if format_ is None:
            self._send(404, "application/json", b'{"error": {"message": "not here"}}')
            return
        whole, events = format_(body, self.script)
        if body.get("stream") or path.endswith(":streamGenerateContent"):
            lines = [(f"event: {name}\n" if name else "") + f"data: {json.dumps(event)}\n\n" for name, event in events]
            lines += ["data: [DONE]\n\n"] if format_ is chat else []
            self._send(200, "text/event-stream", "".join(lines).encode())
        else:
            self._send(200, "application/json", json.dumps(whole).encode())

    def do_GET(self) -> None:
        self._send(404, "application/json", b'{"error": {"message": "not here"}}')

    def do_HEAD(self) -> None:
        self.do_GET()

    def _send(self, status: int, kind: str, data: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def main() -> int:
    """Serve while the command runs."""
    folder, port, script = Path(sys.argv[1]), int(sys.argv[2]), json.loads(Path(sys.argv[3]).read_bytes())
    _Model.folder, _Model.script = folder, script
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), _Model) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            return subprocess.run(sys.argv[5:], stdin=subprocess.DEVNULL, check=False).returncode
        finally:
            server.shutdown()


if __name__ == "__main__":
    sys.exit(main())
