#!/usr/bin/env python3
"""What the egress gate costs: at a launch, at a connection, and per byte.

    bench/egress.py            all of it, about a minute
    bench/egress.py --quick    fewer repeats

Times are the median of fresh processes or of single connections; throughput is compared with the same client and
the same host without a gate, so the ratio is what to read. Needs bubblewrap.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from callgate.sandbox.egress.settings import Lab
from callgate.sandbox.spec import Sentinel
from tests.support.egress import LOOPBACK, Authority, run_python, spec

BLOCK = b"x" * 65536
TOKEN = Sentinel("TOKEN", "ghp_SENTINEL0000", b"ghp_the-real-token", ("api.test",))

LAUNCH = """
import json, os, subprocess, sys, time
from callgate.sandbox.spec import Destination, SandboxSpec, Sentinel
times = {}
def timed(name, call):
    start = time.perf_counter(); found = call(); times[name] = (time.perf_counter() - start) * 1e3
    return found
def load():
    from callgate.sandbox.egress.gate import EgressGate
    return EgressGate
gate_class = timed("import", load)
sentinels = (Sentinel("T", "placeholder", b"value-of-it", ("a.test",)),) if sys.argv[1] == "secrets" else ()
spec = SandboxSpec(name="b", network=(Destination("a.test"), Destination("b.test", 80)), sentinels=sentinels)
gate = timed("prepare", lambda: gate_class.prepare(spec))
ir, iw = os.pipe(); br, bw = os.pipe()
own = subprocess.Popen(["bwrap", "--unshare-all", "--unshare-user", "--die-with-parent", "--ro-bind", "/", "/",
    "--info-fd", str(iw), "--block-fd", str(br), "--", "/bin/true"], pass_fds=(iw, br))
os.close(iw)
text = b""
while b"}" not in text:
    text += os.read(ir, 4096)
timed("attach", lambda: gate.attach(json.loads(text)["child-pid"]))
os.write(bw, b"x"); own.wait(); gate.close()
print(json.dumps(times))
"""

CLIENT = """
import json, os, socket, ssl, sys, time
wanted = json.loads(sys.argv[1])
context = ssl.create_default_context(cadata=wanted["ca"]) if wanted["ca"] else None
BLOCK = 1 << 18
def connect():
    raw = socket.create_connection(tuple(wanted["address"]), 20)
    return context.wrap_socket(raw, server_hostname=wanted["host"]) if context else raw
def get(one, path):
    one.sendall(b"GET " + path + b" HTTP/1.1\\r\\nHost: " + wanted["host"].encode() + b"\\r\\n\\r\\n")
    data = b""
    while b"\\r\\n\\r\\n" not in data:
        data += one.recv(65536)
    head, _, body = data.partition(b"\\r\\n\\r\\n")
    size = int(head.lower().partition(b"content-length:")[2].split()[0]) if b"ontent-" in head else None
    buffer = bytearray(BLOCK); view = memoryview(buffer); got = len(body)
    if size is None:  # chunked: framing is a small part of the bytes
        tail = body[-5:]
        while not tail.endswith(b"0\\r\\n\\r\\n"):
            count = one.recv_into(view); got += count; tail = (tail + bytes(view[max(0, count - 5):count]))[-5:]
        return got
    while got < size:
        got += one.recv_into(view)
    return got
first = time.perf_counter(); one = connect(); get(one, b"/1"); first = (time.perf_counter() - first) * 1e3
setups, requests = [], []
for _ in range(wanted["repeats"]):
    one.close()
    start = time.perf_counter(); one = connect(); get(one, b"/1"); setups.append((time.perf_counter() - start) * 1e3)
for _ in range(wanted["repeats"] * 4):
    start = time.perf_counter(); get(one, b"/1"); requests.append((time.perf_counter() - start) * 1e3)
start = time.perf_counter(); got = get(one, b"/%d" % wanted["bytes"]); seconds = time.perf_counter() - start
middle = lambda found: sorted(found)[len(found) // 2]
print(json.dumps({"first": first, "setup": middle(setups), "request": middle(requests), "rate": got / seconds / 1e6}))
"""


def serve(context: ssl.SSLContext | None) -> int:
    """A host that sends as many bytes as its path says; the port."""
    listener = socket.create_server((LOOPBACK, 0))

    def one(client: socket.socket) -> None:
        try:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            wire = context.wrap_socket(client, server_side=True) if context else client
            while head := wire.recv(65536):
                size = int(head.split(b" ")[1][1:])
                wire.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + (b"x" if size == 1 else b""))
                for _ in range(size // len(BLOCK)):
                    wire.sendall(BLOCK)
        except OSError:
            return
        finally:
            client.close()

    def accept() -> None:
        while True:
            threading.Thread(target=one, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return listener.getsockname()[1]


def launch(kind: str, repeats: int) -> dict[str, float]:
    found: list[dict[str, float]] = []
    for _ in range(repeats):
        done = subprocess.run([sys.executable, "-I", "-c", LAUNCH, kind], capture_output=True, check=True)
        found.append(json.loads(done.stdout))
    return {name: statistics.median(one[name] for one in found) for name in found[0]}


def client(order: dict[str, object]) -> list[str]:
    return [CLIENT, json.dumps(order)]


def outside(order: dict[str, object]) -> dict[str, float]:
    done = subprocess.run(["/usr/bin/python3", "-I", "-c", *client(order)], capture_output=True, check=True)
    return json.loads(done.stdout)


def inside(order: dict[str, object], lab: Lab, sentinels: tuple[Sentinel, ...], port: int) -> dict[str, float]:
    wanted = spec([("api.test", port)], sentinels)
    code = f"import sys; sys.argv = ['c', {json.dumps(order)!r}]\n{CLIENT}"
    if sentinels:
        code = code.replace('cadata=wanted["ca"]', 'cafile="/run/callgate/ca-bundle.pem"')
    ended = run_python(wanted, lab, code)
    if ended.status:
        raise SystemExit(ended.output)
    return json.loads(ended.output)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    repeats, size = (5, 64 << 20) if quick else (25, 512 << 20)

    print(f"load {os.getloadavg()[0]:.1f}\n\nat a launch, ms (median of {repeats} processes)")
    for kind in ("plain", "secrets"):
        times = launch(kind, repeats)
        print(f"  {kind:8}" + "".join(f"  {name} {value:5.1f}" for name, value in times.items()))

    world = Authority()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as file:
        file.write(world.leaf("api.test"))
        file.flush()
        context.load_cert_chain(file.name)
    clear, secure = serve(None), serve(context)
    ways = (
        ("HTTP", 80, clear, "", ()),
        ("TLS passed", 443, secure, world.pem, ()),
        ("TLS terminated", 443, secure, world.pem, (TOKEN,)),
    )
    print("\n                    first  connection  request   throughput       (ms, ms, ms, MB/s; and against direct)")
    for name, port, real, ca, sentinels in ways:
        order = {"host": "api.test", "ca": ca, "repeats": repeats * 4, "bytes": size}
        direct = outside({**order, "address": [LOOPBACK, real]})
        lab = Lab({"api.test": [LOOPBACK]}, {f"api.test:{port}": real}, (LOOPBACK,), world.pem)
        gated = inside({**order, "address": ["api.test", port]}, lab, sentinels, port)
        for label, row in ((f"{name}, direct", direct), (name, gated)):
            print(
                f"  {label:22}{row['first']:6.1f} {row['setup']:8.2f} {row['request']:8.2f} {row['rate']:11.0f}", end=""
            )
            if row is gated:
                print(
                    f"    +{gated['setup'] - direct['setup']:.2f} ms, +{gated['request'] - direct['request']:.2f} ms,"
                    f" x{gated['rate'] / direct['rate']:.2f}",
                    end="",
                )
            print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
