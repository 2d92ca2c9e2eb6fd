"""A sandbox with an egress gate and real hosts behind it: bubblewrap, TLS servers on loopback, an authority."""

from __future__ import annotations

import datetime as dt
import http.server
import json
import os
import select
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from callgate.sandbox.egress.gate import EgressGate
from callgate.sandbox.egress.settings import Lab
from callgate.sandbox.spec import Destination, SandboxSpec, Sentinel

LOOPBACK = "127.0.0.1"


def program(name: str) -> str:
    """Its path; without it the test is skipped, or fails where programs are required."""
    found = shutil.which(name)
    if found is None:
        if os.environ.get("CALLGATE_REQUIRE_PROGRAMS"):
            pytest.fail(f"there is no program {name}")
        pytest.skip(f"there is no program {name}")
    return found


class Authority:
    """A certificate authority outside of the sandbox."""

    def __init__(self, name: str = "World CA") -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self._build(self.name, self.key, self.key, ca=True)

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode()

    def leaf(self, host: str, *, days: int = 2) -> bytes:
        """Certificate and key in one PEM. Negative `days`: expired since."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:60])])
        certificate = self._build(name, key, self.key, host=host, days=days)
        return certificate.public_bytes(Encoding.PEM) + key.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )

    def _build(
        self,
        name: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        signer: ec.EllipticCurvePrivateKey,
        *,
        host: str = "",
        ca: bool = False,
        days: int = 2,
    ) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=5))
            .not_valid_after(now + dt.timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        )
        if host:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        if ca:
            usage = x509.KeyUsage(
                digital_signature=True,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=True,
                crl_sign=True,
                encipher_only=False,
                decipher_only=False,
            )
            builder = builder.add_extension(usage, critical=True)
        return builder.sign(signer, hashes.SHA256())


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, name: str) -> None:
        super().__init__((LOOPBACK, 0), _Handler)
        self.name = name
        self.seen: list[dict[str, Any]] = []

    def handle_error(self, *_: object) -> None:
        pass  # a client that hangs up is part of the tests


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers with what it saw: method, path, fields and body. A host that reflects everything."""

    server: _Server

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(length)
        seen = {
            "method": self.command,
            "path": self.path,
            "headers": {name: value for name, value in self.headers.items()},  # noqa: C416
            "body": body.decode("latin-1"),
        }
        self.server.seen.append(seen)
        answer = json.dumps({"host": self.server.name, "saw": seen}).encode()
        self.send_response(200)
        if self.path.startswith("/chunked"):
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for at in range(0, len(answer), 7):  # borders everywhere
                part = answer[at : at + 7]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
                self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")
            return
        if self.path.startswith("/gzip"):
            import gzip

            answer = gzip.compress(answer)
            self.send_header("Content-Encoding", "gzip")
        self.send_header("X-Echo", self.headers.get("Authorization", "none"))
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer)

    do_POST = do_PUT = do_HEAD = do_OPTIONS = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


class Host:
    """One real host on loopback. `seen` is what reached it."""

    def __init__(self, name: str, pem: bytes | None = None) -> None:
        self.name = name
        self._server = _Server(name)
        if pem is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            with tempfile.NamedTemporaryFile() as file:
                file.write(pem)
                file.flush()
                context.load_cert_chain(file.name)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def seen(self) -> list[dict[str, Any]]:
        return self._server.seen

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class World:
    """Hosts by name and port, all on loopback, and the Lab that leads there."""

    def __init__(self) -> None:
        self.authority = Authority()
        self.hosts: dict[tuple[str, int], Host] = {}
        self.ports: dict[str, int] = {}
        self.addresses: dict[str, list[str]] = {}

    def add(self, name: str, port: int = 443, *, tls: bool = True, pem: bytes | None = None) -> Host:
        host = Host(name, (pem or self.authority.leaf(name)) if tls else None)
        self.hosts[name, port] = host
        self.ports[f"{name}:{port}"] = host.port
        self.addresses[name] = [LOOPBACK]
        return host

    def lab(self, **more: Any) -> Lab:
        return Lab(
            addresses=self.addresses,
            ports=self.ports,
            permitted=(LOOPBACK,),
            authorities=self.authority.pem,
            **more,
        )

    def close(self) -> None:
        for host in self.hosts.values():
            host.close()


def spec(
    network: Sequence[tuple[str, int]], sentinels: Sequence[Sentinel] = (), environment: Mapping[str, str] | None = None
) -> SandboxSpec:
    return SandboxSpec(
        name="test",
        network=tuple(Destination(host, port) for host, port in network),
        sentinels=tuple(sentinels),
        environment=environment or {},
    )


@dataclass
class Ended:
    """How a sandboxed program ended, and what the gate told."""

    status: int
    output: str
    events: list[dict[str, Any]] = field(default_factory=list)
    attach_ms: float = 0.0

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["kind"] == kind]

    @property
    def visits(self) -> list[dict[str, Any]]:
        return self.of("egress")


ROOT = (
    *("--ro-bind", "/usr", "/usr", "--symlink", "usr/lib", "/lib", "--symlink", "usr/bin", "/bin"),
    *("--ro-bind-try", "/usr/lib64", "/lib64", "--ro-bind-try", "/lib64", "/lib64"),
    *("--ro-bind-try", "/etc/ssl", "/etc/ssl", "--ro-bind-try", "/etc/nsswitch.conf", "/etc/nsswitch.conf"),
    *("--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--dir", "/work", "--chdir", "/work"),
)


class Sandboxed:
    """A program in bubblewrap with a gate attached, started when told."""

    def __init__(
        self,
        wanted: SandboxSpec,
        lab: Lab,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        files: Mapping[str, bytes] | None = None,
        binds: Sequence[tuple[str, str]] = (),
        proxy: bool = True,
    ) -> None:
        self.gate = EgressGate.prepare(wanted, lab=lab)
        opened: list[int] = []
        options: list[str] = []
        for path, content in {"/etc/hosts": self.gate.hosts_file, **self.gate.ca_files, **(files or {})}.items():
            descriptor = os.memfd_create("file", 0)
            os.write(descriptor, content)
            os.lseek(descriptor, 0, 0)
            opened.append(descriptor)
            options += ["--ro-bind-data", str(descriptor), path]
        for source, target in binds:
            options += ["--ro-bind", source, target]
        info_read, info_write = os.pipe()
        block_read, block_write = os.pipe()
        own = {"PATH": "/usr/bin:/bin", "HOME": "/work", **self.gate.environment}
        if not proxy:
            own = {name: value for name, value in own.items() if not name.lower().endswith("_proxy")}
        self.process = subprocess.Popen(
            [
                *(program("bwrap"), "--unshare-all", "--unshare-user", "--new-session", "--die-with-parent"),
                *(*ROOT, *options, "--info-fd", str(info_write), "--block-fd", str(block_read), "--", *argv),
            ],
            env={**own, **wanted.environment, **(environment or {})},
            pass_fds=(*opened, info_write, block_read),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for descriptor in (*opened, info_write, block_read):
            os.close(descriptor)
        text = b""
        while b"}" not in text:
            more = os.read(info_read, 4096)
            assert more, self.process.communicate()[0]
            text += more
        os.close(info_read)
        started = time.perf_counter()
        self.gate.attach(json.loads(text)["child-pid"])
        self.attach_ms = (time.perf_counter() - started) * 1e3
        os.write(block_write, b"x")
        os.close(block_write)
        self.events: list[dict[str, Any]] = []
        self._chunks: list[bytes] = []

    def step(self, timeout_s: float = 0.05) -> bool:
        """Look at the gate and the program once; whether its output goes on."""
        assert self.process.stdout
        watched = [self.process.stdout.fileno(), self.gate.events_fd]
        ready = select.select(watched, [], [], timeout_s)[0]
        if self.gate.events_fd in ready:
            self.events += self.gate.read_events()
        if watched[0] in ready:
            data = os.read(watched[0], 65536)
            self._chunks.append(data)
            return bool(data)
        return True

    def wait(self, timeout_s: float = 60.0) -> Ended:
        """Until the program has ended; then the gate is closed."""
        until = time.monotonic() + timeout_s
        try:
            while self.step():
                assert time.monotonic() < until, (b"".join(self._chunks).decode(), self.events)
        finally:
            self.close()
        output = b"".join(self._chunks).decode("utf-8", "replace")
        return Ended(self.process.returncode, output, self.events, self.attach_ms)

    def close(self, grace_s: float = 10.0) -> None:
        """End the program where it has not ended, and the gate."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        try:
            self.process.wait(grace_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.gate.close()
        self.events += self.gate.read_events()


def run(wanted: SandboxSpec, lab: Lab, argv: Sequence[str], **more: Any) -> Ended:
    """Run a program in a sandbox with a gate."""
    return Sandboxed(wanted, lab, argv, **more).wait()


def run_python(wanted: SandboxSpec, lab: Lab, code: str, **more: Any) -> Ended:
    """The same for the system's Python."""
    python = "/usr/bin/python3"
    if not os.access(python, os.X_OK):
        pytest.skip("there is no /usr/bin/python3")
    return run(wanted, lab, [python, "-I", "-c", code], **more)


def open_interpreter(folder: Path) -> str:
    """An interpreter with this package that every user may run, for tests as an unprivileged one."""
    own = Path(sys.executable).resolve()
    source = Path(__file__).resolve().parents[2] / "src"
    real = own
    if any(not parent.stat().st_mode & 0o001 for parent in own.parents):
        real = Path("/usr/bin/python3")
        version = subprocess.run([real, "-V"], capture_output=True, text=True, check=False).stdout.split()[-1:]
        if not version or version[0].split(".")[:2] != [str(part) for part in sys.version_info[:2]]:
            pytest.skip("no interpreter of this version that another user may run")
    packages = Path(pytest.__file__).resolve().parents[1]
    home = folder / "venv"
    site = home / f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    site.mkdir(parents=True)
    (home / "bin").mkdir()
    (home / "bin/python").symlink_to(real)
    (home / "pyvenv.cfg").write_text(f"home = {real.parent}\ninclude-system-site-packages = false\n")
    (site / "here.pth").write_text(f"{source}\n{source.parent}\n{packages}\n")
    return str(home / "bin/python")
