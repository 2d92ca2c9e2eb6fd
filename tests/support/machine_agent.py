"""The machine's side of `tests.support.machine`: runs one command after another, as whom it is told, and says how it ended.

It speaks over a virtio port: a line of JSON, then as many bytes as that says. It is installed into the image and
needs nothing but Python.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, BinaryIO

PORT = "/dev/virtio-ports/callgate"
OUTPUT_BYTES = 8 << 20
"""Of one command's one stream; what is beyond is cut off."""


def command(request: dict[str, Any]) -> list[str]:
    """As `user` it is a login: with the session, the control group and the bus that a person has."""
    words = ["env", *(["-C", request["cwd"]] if request["cwd"] else [])]
    words += [f"{name}={value}" for name, value in request["environment"].items()]
    words += request["argv"]
    return ["runuser", "-l", request["user"], "-c", shlex.join(words)] if request["user"] else words


def run(request: dict[str, Any], fed: bytes) -> tuple[dict[str, Any], bytes]:
    """The end of one command. Its streams are files, so that what it leaves behind cannot hold this up."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, tempfile.TemporaryFile() as given:
        given.write(fed)
        given.seek(0)
        process = subprocess.Popen(
            command(request), stdin=given, stdout=out, stderr=err, cwd="/", start_new_session=True
        )
        try:
            code: int | None = process.wait(request["seconds"])
        except subprocess.TimeoutExpired:
            code = None
            for pid in [*descendants(process.pid), process.pid]:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            process.wait()
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read(OUTPUT_BYTES))
    return {"code": code, "out": len(texts[0]), "size": sum(map(len, texts))}, b"".join(texts)


def descendants(pid: int) -> list[int]:
    """All processes below one."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(entry.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(entry.parent.name))
    found: list[int] = []
    left = [pid]
    while left:
        below = children.get(left.pop(), [])
        found += below
        left += below
    return found


def exactly(port: BinaryIO, size: int) -> bytes:
    """So many bytes; while nobody is connected there are none."""
    kept = bytearray()
    while len(kept) < size:
        chunk = port.read(min(size - len(kept), 1 << 16))
        if chunk:
            kept += chunk
        else:
            time.sleep(0.02)
    return bytes(kept)


def line(port: BinaryIO) -> bytes:
    kept = b""
    while not kept.endswith(b"\n"):
        kept += exactly(port, 1)
    return kept


def main() -> int:
    with open(PORT, "r+b", buffering=0) as port:
        while True:
            request = json.loads(line(port))
            fed = exactly(port, request["size"])
            try:
                head, body = run(request, fed)
            except OSError as error:
                text = f"{error}\n".encode()
                head, body = {"code": 127, "out": 0, "size": len(text)}, text
            data = json.dumps({"id": request["id"], **head}).encode() + b"\n" + body
            while data:
                data = data[port.write(data) or 0 :]


if __name__ == "__main__":
    sys.exit(main())
