"""HTTP MCP servers with one oddity each: `python http_raw.py BEHAVIOUR PORT`. Only the standard library."""

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BEHAVIOUR = sys.argv[1]
LOG: list[dict] = []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def reply(self, status: int, body: object = None, **headers: str) -> None:
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        if data:
            self.send_header("Content-Type", "application/json")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def stream(self, *events: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for event in events:
            self.wfile.write(event)
            self.wfile.flush()
        self.close_connection = True

    def do_POST(self) -> None:
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        LOG.append({"method": message.get("method"), "id": message.get("id"), "headers": headers})
        if "id" not in message:
            time.sleep(0.05)  # what follows must wait for this
            LOG.append({"accepted": message["method"]})
            self.reply(202)
        elif message.get("method") == "log":
            self.reply(200, self.result(message, {"log": LOG}))
        elif message.get("method") == "initialize":
            version = message["params"]["protocolVersion"]
            openings = sum(entry.get("method") == "initialize" for entry in LOG)
            info = {"protocolVersion": version, "capabilities": {}, "serverInfo": {"name": "h", "version": "1"}}
            self.reply(200, self.result(message, info), Mcp_Session_Id=f"s-{openings}")
        else:
            getattr(self, BEHAVIOUR)(message)

    def result(self, message: dict, result: dict) -> dict:
        return {"jsonrpc": "2.0", "id": message["id"], "result": {"resultType": "complete", **result}}

    def event(self, message: dict, id: str = "") -> bytes:
        lead = f"id: {id}\n" if id else ""
        return f"{lead}data: {json.dumps(message)}\n\n".encode()

    def do_GET(self) -> None:
        LOG.append({"get": self.headers.get("Last-Event-ID", ""), "session": self.headers.get("Mcp-Session-Id")})
        if BEHAVIOUR == "polling" and self.headers.get("Last-Event-ID"):
            last = self.headers["Last-Event-ID"]
            self.stream(self.event({"jsonrpc": "2.0", "id": int(last), "result": {"polled": True}}, "later"))
        elif BEHAVIOUR == "speaks" and not self.headers.get("Last-Event-ID"):
            self.stream(self.event({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info"}}))
        else:
            self.reply(405)

    def do_DELETE(self) -> None:
        with open(sys.argv[3], "w") as file:
            file.write(self.headers.get("Mcp-Session-Id", ""))
        self.reply(200)

    # -- behaviours --

    def plain(self, message: dict) -> None:
        self.reply(200, self.result(message, {"echo": message.get("params")}))

    speaks = plain

    def events(self, message: dict) -> None:
        note = {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progress": 1, "progressToken": 1}}
        self.stream(b": hello\n\n", self.event(note), self.event(self.result(message, {})))

    def polling(self, message: dict) -> None:
        self.stream(f"id: {message['id']}\nretry: 50\ndata:\n\n".encode())

    def cut(self, message: dict) -> None:
        note = {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progress": 1, "progressToken": 1}}
        self.stream(self.event(note))

    def slow(self, message: dict) -> None:
        if message["method"] == "hang":
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            try:
                for _ in range(1200):
                    time.sleep(0.05)
                    self.wfile.write(b": still here\n\n")
                    self.wfile.flush()
            except OSError:
                LOG.append({"closed": message["id"]})
            self.close_connection = True
        else:
            self.plain(message)

    def lingers(self, message: dict) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        try:
            self.wfile.write(self.event(self.result(message, {})))
            while True:
                self.wfile.flush()
                time.sleep(0.1)
                self.wfile.write(b": still here\n\n")
        except OSError:
            LOG.append({"closed": message["id"]})
        self.close_connection = True

    def status(self, message: dict) -> None:
        code = message["params"]["status"]
        if message["params"].get("json"):
            self.reply(code, {"jsonrpc": "2.0", "id": None, "error": {"code": -32020, "message": "mismatch"}})
        else:
            self.reply(code, b"<html>\x1b[31mno</html>")

    def mirrored(self, message: dict) -> None:
        if message["method"] == "tools/list":
            schema = {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}
            self.reply(200, self.result(message, {"tools": [{"name": "t", "inputSchema": schema}]}))
        else:
            self.plain(message)

    def pretty(self, message: dict) -> None:
        self.reply(200, json.dumps(self.result(message, {"text": "a\nb"}), indent=2).encode())

    def garbage(self, message: dict) -> None:
        self.reply(200, b'{"jsonrpc": "2.0", "id": 1, "id": 2, "result": {}}')

    def big(self, message: dict) -> None:
        self.reply(200, self.result(message, {"text": "x" * message["params"]["size"]}))


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()
