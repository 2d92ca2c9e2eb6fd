"""A small internet of our own: two network namespaces, a public address, a name, an API that speaks TLS.

    unshare --net --mount python -m tests.support.internet FOLDER COMMAND…

runs COMMAND where `api.vendor.test` is a public address at the other end of a wire that leads nowhere else, and
`gitlab.example.internal` a private one. What the API was sent is in FOLDER/heard, one JSON line a request; FOLDER/ca.pem is the authority of its certificate.
"""

from __future__ import annotations

import datetime as dt
import http.server
import json
import os
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

OURS, THEIRS = "93.184.215.13", "93.184.215.14"
OURS_INSIDE, THEIRS_INSIDE = "10.20.0.13", "10.20.0.14"
HOSTS = {"api.vendor.test": THEIRS, "elsewhere.test": THEIRS, "gitlab.example.internal": THEIRS_INSIDE}
IP = "/usr/sbin/ip"


def command(folder: Path, *words: str) -> list[str]:
    """The command line that runs `words` there. Needs root."""
    here = [sys.executable, "-m", "tests.support.internet", str(folder)]
    return ["unshare", "--net", "--mount", *here, *words]


def certificates(folder: Path) -> None:
    """An authority, and a certificate for HOSTS."""
    now = dt.datetime.now(dt.UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "callgate test authority")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
    )
    authority = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).sign(
        key, hashes.SHA256()
    )
    leaf_key = ec.generate_private_key(ec.SECP256R1())
    leaf = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, next(iter(HOSTS)))]))
        .issuer_name(name)
        .public_key(leaf_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host) for host in HOSTS]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "ca.pem").write_bytes(authority.public_bytes(pem))
    secret = leaf_key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "leaf.pem").write_bytes(leaf.public_bytes(pem) + secret)


class _Api(http.server.BaseHTTPRequestHandler):
    """Writes down what it was sent, and sends all of it back: what a reflecting API does."""

    folder: Path

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
        heard = {"host": self.headers["Host"], "authorization": self.headers["Authorization"], "body": body}
        with open(self.folder / "heard", "a", encoding="utf-8") as file:
            file.write(json.dumps(heard) + "\n")
        data = json.dumps({"you sent": heard}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def api(folder: Path) -> None:
    """The API's side: waits for its end of the wire, then serves until it is killed."""
    deadline = time.monotonic() + 60
    while subprocess.run([IP, "link", "show", "wire1"], capture_output=True, check=False).returncode:
        if time.monotonic() > deadline:
            raise SystemExit("the wire did not come")
        time.sleep(0.01)
    for words in (
        ["link", "set", "lo", "up"],
        ["addr", "add", f"{THEIRS}/24", "dev", "wire1"],
        ["addr", "add", f"{THEIRS_INSIDE}/24", "dev", "wire1"],
        ["link", "set", "wire1", "up"],
    ):
        subprocess.run([IP, *words], check=True)
    _Api.folder = folder
    with http.server.ThreadingHTTPServer(("", 443), _Api) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "leaf.pem")
        server.socket = context.wrap_socket(server.socket, server_side=True)
        (folder / "ready").touch()
        server.serve_forever()


def main() -> int:
    """Build it, run the command, take it down: all of it ends with this process' namespaces."""
    folder = Path(sys.argv[1])
    if sys.argv[2:] == ["--api"]:
        api(folder)
        return 0
    certificates(folder)
    hosts = folder / "hosts"
    hosts.write_text("127.0.0.1 localhost\n" + "".join(f"{address} {host}\n" for host, address in HOSTS.items()))
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "--bind", str(hosts), "/etc/hosts"], check=True)
    here = [sys.executable, "-m", "tests.support.internet", str(folder), "--api"]
    other = subprocess.Popen(["unshare", "--net", *here])
    try:
        for words in (
            ["link", "set", "lo", "up"],
            ["link", "add", "wire0", "type", "veth", "peer", "name", "wire1"],
            ["addr", "add", f"{OURS}/24", "dev", "wire0"],
            ["addr", "add", f"{OURS_INSIDE}/24", "dev", "wire0"],
            ["link", "set", "wire0", "up"],
        ):
            subprocess.run([IP, *words], check=True)
        _move("wire1", other.pid)
        deadline = time.monotonic() + 60
        while not (folder / "ready").exists():
            if time.monotonic() > deadline:
                raise SystemExit("the API did not come up")
            time.sleep(0.01)
        return subprocess.run(sys.argv[2:], check=False).returncode
    finally:
        other.kill()
        other.wait()


def _move(link: str, pid: int) -> None:
    """Put a link into the other process' namespace, as soon as it has one."""
    ours = os.stat("/proc/self/ns/net").st_ino
    deadline = time.monotonic() + 60
    while os.stat(f"/proc/{pid}/ns/net").st_ino == ours:
        if time.monotonic() > deadline:
            raise SystemExit("no second namespace")
        time.sleep(0.01)
    subprocess.run([IP, "link", "set", link, "netns", str(pid)], check=True)


if __name__ == "__main__":
    sys.exit(main())
