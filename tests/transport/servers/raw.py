"""Stdio servers of one behaviour each, without any SDK: `python raw.py BEHAVIOUR [ARGUMENT]`."""

import json
import os
import signal
import subprocess
import sys
import time

OUT = sys.stdout.buffer


def send(message: object) -> None:
    OUT.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")
    OUT.flush()


def requests():
    for line in sys.stdin.buffer:
        message = json.loads(line)
        yield message


def answer(message: dict, result: dict) -> None:
    if "id" in message:
        send({"jsonrpc": "2.0", "id": message["id"], "result": result})


def initialize(message: dict) -> bool:
    """Answer `initialize` in the handshake era; whether the message was one."""
    if message.get("method") != "initialize":
        return message.get("method", "").startswith("notifications/")
    version = message["params"]["protocolVersion"]
    answer(
        message,
        {
            "protocolVersion": version,
            "capabilities": {"tools": {"listChanged": True}},
            "serverInfo": {"name": "raw", "version": "1"},
        },
    )
    return True


def echo() -> None:
    """Answers every request with its own params."""
    for message in requests():
        if not initialize(message):
            answer(message, {"echo": message.get("params"), "resultType": "complete", "pid": os.getpid()})


def slow() -> None:
    """Like echo, after params.arguments.delay seconds each; notes cancellations in the answer of `seen`."""
    seen = []
    for message in requests():
        if message.get("method") == "notifications/cancelled":
            seen.append(message["params"].get("requestId"))
        elif message.get("method") == "seen":
            answer(message, {"cancelled": seen, "resultType": "complete"})
        elif message.get("method") == "silent":
            pass
        elif not initialize(message):
            time.sleep(message.get("params", {}).get("arguments", {}).get("delay", 0))
            answer(message, {"echo": message.get("params"), "resultType": "complete"})


def late() -> None:
    """Answers `silent` only once it is cancelled; `times` and `other` in its arguments: how often, under which ids too."""
    held = {}
    for message in requests():
        if message.get("method") == "silent":
            held[message["id"]] = message
        elif message.get("method") == "notifications/cancelled":
            cancelled = held.pop(message["params"]["requestId"])
            arguments = cancelled["params"].get("arguments", {})
            for _ in range(arguments.get("times", 1)):
                answer(cancelled, {"text": arguments.get("text", ""), "resultType": "complete"})
            for other in arguments.get("other", []):
                send({"jsonrpc": "2.0", "id": other, "result": {"resultType": "complete"}})
        elif not initialize(message):
            answer(message, {"resultType": "complete"})


def dies() -> None:
    """Ends with code 3 on the first request after initialize."""
    for message in requests():
        if not initialize(message):
            sys.stderr.write("out of luck\n")
            sys.stderr.flush()
            os._exit(3)


def garbage() -> None:
    """Writes what is not JSON-RPC before each answer."""
    for message in requests():
        if not initialize(message):
            OUT.write(b'Listening on port 3000\n\xff\xfe\x00\n{"jsonrpc":\n\n')
            answer(message, {"ok": True, "resultType": "complete"})


def half() -> None:
    """Sends half a line, then the rest; on `die`, half a line and the end."""
    for message in requests():
        if initialize(message):
            continue
        line = json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": {"text": "x" * 200}}).encode()
        OUT.write(line[:50])
        OUT.flush()
        if message["method"] == "die":
            os._exit(0)
        time.sleep(0.1)
        OUT.write(line[50:] + b"\n")
        OUT.flush()


def flood() -> None:
    """Writes notifications as fast as it can after the first request, for ever."""
    for message in requests():
        if not initialize(message):
            break
    note = json.dumps(
        {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "x" * 1000}}
    )
    block = (note + "\n").encode() * 64
    while True:
        OUT.write(block)


def endless() -> None:
    """Writes one line without an end."""
    next(requests())
    while True:
        OUT.write(b"x" * 65536)


def too_long() -> None:
    """Answers `big` with params.size bytes of text, others at once."""
    for message in requests():
        if not initialize(message):
            size = message.get("params", {}).get("size", 1)
            if message["method"] == "last":
                OUT.write(b'{"jsonrpc":"2.0","result":{"text":"%b"},"id":%d}\n' % (b"x" * size, message["id"]))
                OUT.flush()
            else:
                answer(message, {"text": "x" * size, "resultType": "complete"})


def stubborn() -> None:
    """Ignores SIGTERM and the end of stdin."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    send({"jsonrpc": "2.0", "method": "notifications/ready"})
    while True:
        time.sleep(1)


def family() -> None:
    """Starts a child of its own that ignores SIGTERM and holds stdout; tells its pid."""
    code = "import signal,time; signal.signal(15, signal.SIG_IGN); print('', flush=True); time.sleep(600)"
    child = subprocess.Popen([sys.executable, "-I", "-S", "-c", code], stdin=subprocess.DEVNULL)
    for message in requests():
        if not initialize(message):
            answer(message, {"pid": os.getpid(), "child": child.pid, "resultType": "complete"})


def deaf() -> None:
    """Never reads its stdin."""
    time.sleep(600)


def chatty() -> None:
    """Notifies with progress, a log message and list_changed before each answer."""
    for message in requests():
        if initialize(message):
            continue
        meta = message.get("params", {}).get("_meta", {})
        if "progressToken" in meta:
            for step in (1, 2):
                params = {"progressToken": meta["progressToken"], "progress": step, "total": 2}
                send({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})
        if message["method"] == "log":
            note = {"level": "info", "data": message["params"].get("data", "hello")}
            send({"jsonrpc": "2.0", "method": "notifications/message", "params": note})
        answer(message, {"echo": message.get("params"), "resultType": "complete"})
        if message["method"] == "change":
            send({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})


def asks() -> None:
    """Before it answers, asks the client (sampling) and puts the client's answer into its own."""
    waiting = {}
    for message in requests():
        if "method" not in message:
            original = waiting.pop(message["id"])
            answer(original, {"client": message.get("result", message.get("error"))})
        elif not initialize(message):
            waiting[f"ask-{message['id']}"] = message
            send(
                {
                    "jsonrpc": "2.0",
                    "id": f"ask-{message['id']}",
                    "method": "sampling/createMessage",
                    "params": {"messages": [], "maxTokens": 1},
                }
            )


def listen() -> None:
    """Modern: acknowledges subscriptions/listen and notifies twice; `finish` ends every subscription."""
    key = "io.modelcontextprotocol/subscriptionId"
    open_ids = []
    for message in requests():
        if message.get("method") == "subscriptions/listen":
            open_ids.append(message["id"])
            params = {"_meta": {key: message["id"]}, "notifications": {"toolsListChanged": True}}
            send({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": params})
            changed = {"_meta": {key: message["id"]}}
            send({"jsonrpc": "2.0", "method": "notifications/tools/list_changed", "params": changed})
        elif message.get("method") == "finish":
            for open_id in open_ids:
                send({"jsonrpc": "2.0", "id": open_id, "result": {"resultType": "complete", "_meta": {key: open_id}}})
            answer(message, {"resultType": "complete"})
        elif message.get("method") == "notifications/cancelled":
            open_ids = [i for i in open_ids if i != message["params"]["requestId"]]
        elif message.get("method") == "open":
            answer(message, {"open": open_ids, "resultType": "complete"})


def legacy_only() -> None:
    """Knows no method but initialize."""
    for message in requests():
        if not initialize(message) and "id" in message:
            send({"jsonrpc": "2.0", "id": message["id"], "error": {"code": -32601, "message": "Method not found"}})


def batches() -> None:
    """Answers a batch with a batch, the second request first."""
    for message in requests():
        if isinstance(message, list):
            made = [{"jsonrpc": "2.0", "id": m["id"], "result": {"echo": m["params"]}} for m in message if "id" in m]
            if made:
                send(made[::-1])
        elif not initialize(message):
            answer(message, {})


def pairs() -> None:
    """Answers two requests at a time, in a batch, whatever the revision; `broken` makes the second answer none."""
    held = []
    for message in requests():
        if not initialize(message):
            held.append(message)
        if len(held) == 2:
            made = [{"jsonrpc": "2.0", "id": one["id"], "result": {}} for one in held]
            if held[1]["method"] == "broken":
                made[1]["result"] = None
            send(made)
            held.clear()


def null_params() -> None:
    """Sends a progress notification whose params are null before each answer."""
    for message in requests():
        if not initialize(message):
            send({"jsonrpc": "2.0", "method": "notifications/progress", "params": None})
            answer(message, {"echo": message.get("params")})


def noisy() -> None:
    """On notifications/start, sends 2,000 numbered log messages of 1 KB."""
    for message in requests():
        if message.get("method") == "notifications/start":
            for number in range(2000):
                params = {"level": "info", "data": number, "logger": "x" * 1000}
                send({"jsonrpc": "2.0", "method": "notifications/message", "params": params})
        else:
            initialize(message)


def deaf_later() -> None:
    """Answers initialize, then never reads again."""
    for message in requests():
        if initialize(message) and message["method"] != "initialize":
            time.sleep(600)


def asks_modern() -> None:
    """Sends a request of its own, which servers must not since 2026-07-28, and tells what came back."""
    waiting = None
    for message in requests():
        if "method" in message:
            waiting = message
            send({"jsonrpc": "2.0", "id": "q", "method": "roots/list"})
        elif waiting:
            answer(waiting, {"client": message["error"], "resultType": "complete"})


def duplicates() -> None:
    """Answers with a null result, which is no JSON-RPC result of MCP."""
    for message in requests():
        send({"jsonrpc": "2.0", "id": message["id"], "result": None})


def progress_flood() -> None:
    """Sends 2,000 progress notifications of 1 KB for a request `flood`, answers others."""
    for message in requests():
        token = message.get("params", {}).get("_meta", {}).get("progressToken")
        if message["method"] == "flood":
            for number in range(2000):
                params = {"progressToken": token, "progress": number, "message": "x" * 1000}
                send({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})
        else:
            answer(message, {"resultType": "complete"})


def mirrored() -> None:
    """Offers a tool whose argument is mirrored in a header."""
    schema = {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}
    for message in requests():
        answer(message, {"tools": [{"name": "t", "inputSchema": schema}], "resultType": "complete"})


def environment() -> None:
    """Answers with its environment, directory and session."""
    for message in requests():
        if not initialize(message):
            answer(message, {"env": dict(os.environ), "cwd": os.getcwd(), "sid": os.getsid(0), "pid": os.getpid()})


if __name__ == "__main__":
    {name: value for name, value in globals().items() if callable(value)}[sys.argv[1]]()
