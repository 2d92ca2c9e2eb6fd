"""A small virtual machine as a test host: systemd, AppArmor, cgroup v2, Docker, and no network at all.

In a test, take the fixture `machine` (tests/machine/conftest.py) and mark the file with `MARKS`:

    ran = machine.run(["systemctl", "--user", "status"], user="person", seconds=60)
    assert ran.code == 0, ran.text

By hand, from the root of the checkout; each call wakes a machine of its own, which forgets everything afterwards:

    python -m tests.support.machine run -- uname -a                  # as root
    python -m tests.support.machine run --user -- callgate --version # as `person`, in a login session
    python -m tests.support.machine run --as dockhand -- docker ps
    python -m tests.support.machine run --user -- bash -es < script  # many commands at once
    python -m tests.support.machine shell                            # one machine, a line at a time

This checkout (src, tests, docs) is copied to /opt/callgate, where the machine's own Python and `callgate` find it.
The processor is emulated: what takes a second here takes ten to twenty there.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import shlex
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.machine_image import (
    CHECKOUT,
    KERNEL_LINE,
    MACHINE,
    PERSON,
    ROOT,
    Foreign,
    Unavailable,
    directory,
)
from tests.support.programs import REQUIRED

MARKS = [
    pytest.mark.machine,
    pytest.mark.slow,
    pytest.mark.xdist_group("machine"),
    pytest.mark.timeout(900),  # the first one makes the image
]
BOOT_SECONDS = 400
LATE_SECONDS = 30
"""How much later than its limit a command's end is waited for, before the machine is given up."""
SHARED = ("src", "tests", "docs")
_SKIPPED = ("__pycache__", ".pyc")


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended. `code`: None when it was stopped at its time limit; 128 + n at signal n where a login ran it."""

    code: int | None
    out: str
    err: str

    @property
    def text(self) -> str:
        """Both streams, for a message."""
        return f"exit {self.code}\n{self.out}{self.err}"


class Machine:
    """A running machine. Nothing of it outlives `close`, which is safe to call twice."""

    def __init__(self, image: Path, work: Path, *, fresh: bool = False) -> None:
        self._work = work
        self._calls = 0
        socket_path = work / "agent"
        self._console = work / "console"
        memory = [] if fresh else ["-incoming", f"exec:cat {shlex.quote(str(image / 'memory'))}"]
        snapshot = "off" if fresh else "on"
        self._process = subprocess.Popen(
            [
                *("qemu-system-x86_64", *MACHINE, *memory),
                *("-kernel", str(image / "kernel"), "-initrd", str(image / "initrd"), "-append", KERNEL_LINE),
                *("-drive", f"file={image / 'disk'},if=virtio,format=raw,snapshot={snapshot}"),
                *("-serial", f"file:{self._console}", "-monitor", "stdio", "-device", "virtio-serial-pci"),
                *("-chardev", f"socket,id=agent,path={socket_path},server=on,wait=off"),
                *("-device", "virtserialport,chardev=agent,name=callgate"),
            ],
            env={"PATH": "/usr/bin:/bin", "TMPDIR": str(work)},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._socket = socket.socket(socket.AF_UNIX)
        self._received = bytearray()
        try:
            self._connect(str(socket_path))
            # What a fresh machine is asked waits in the port until its agent is up.
            self.check(["date", "--set", f"@{time.time():.3f}"], seconds=BOOT_SECONDS)
        except BaseException:
            self.close()
            raise

    def _connect(self, path: str) -> None:
        end = time.monotonic() + LATE_SECONDS
        while True:
            try:
                self._socket.connect(path)
                return
            except OSError as error:
                if self._process.poll() is not None or time.monotonic() > end:
                    raise Unavailable(f"the machine does not start: {self._said()}") from error
                time.sleep(0.02)

    def _said(self) -> str:
        self._process.kill()
        _, err = self._process.communicate(timeout=LATE_SECONDS)
        return (err or b"").decode(errors="replace")[-500:]

    def run(
        self,
        argv: Sequence[str],
        *,
        user: str = "",
        seconds: float = 60,
        fed: bytes = b"",
        environment: Mapping[str, str] | None = None,
        cwd: str = "",
    ) -> Ran:
        """Run a command to its end, at most `seconds` long. `user`: whose login; empty: root, in no session."""
        self._calls += 1
        request = {
            "id": self._calls,
            "argv": list(argv),
            "user": user,
            "seconds": seconds,
            "environment": dict(environment or {}),
            "cwd": cwd,
            "size": len(fed),
        }
        end = time.monotonic() + seconds + LATE_SECONDS
        self._send(json.dumps(request).encode() + b"\n" + fed, end)
        head = json.loads(self._until_line(end))
        assert head["id"] == self._calls
        body = self._take(head["size"], end)
        out, err = body[: head["out"]], body[head["out"] :]
        return Ran(head["code"], out.decode(errors="replace"), err.decode(errors="replace"))

    def check(self, argv: Sequence[str], **options: object) -> str:
        """As `run`, for what must succeed: its standard output."""
        ran = self.run(argv, **options)  # type: ignore[arg-type]
        assert ran.code == 0, f"{shlex.join(argv)}: {ran.text}"
        return ran.out

    def python(self, script: str, *arguments: str, **options: object) -> Ran:
        """A Python script, by the machine's own interpreter."""
        return self.run(["python3", "-", *arguments], fed=script.encode(), **options)  # type: ignore[arg-type]

    def put(self, files: Mapping[str, bytes], owner: str = PERSON) -> None:
        """Write files, by absolute path, with their directories."""
        pack = io.BytesIO()
        with tarfile.open(fileobj=pack, mode="w") as tar:
            for name, content in files.items():
                entry = tarfile.TarInfo(name.strip("/"))
                entry.size, entry.mtime, entry.mode = len(content), int(time.time()), 0o755
                tar.addfile(entry, io.BytesIO(content))
        self.check(["tar", "-x", "-C", "/"], fed=pack.getvalue())
        self.check(["chown", owner, *files])

    def put_checkout(self) -> None:
        """This checkout's source, as it is now."""
        pack = io.BytesIO()
        with tarfile.open(fileobj=pack, mode="w") as tar:
            for name in SHARED:
                tar.add(ROOT / name, name, filter=lambda one: None if one.name.endswith(_SKIPPED) else one)
        unpack = ["tar", "-x", "-C", CHECKOUT, f"--owner={PERSON}", f"--group={PERSON}", "--no-same-owner"]
        self.check(["runuser", "-u", PERSON, "--", *unpack], fed=pack.getvalue(), seconds=120)
        # Who may not write there would compile it at each start.
        compile_all = ["python3", "-m", "compileall", "-qq", "-j0", f"{CHECKOUT}/src"]
        self.check(["runuser", "-u", PERSON, "--", *compile_all], seconds=240)

    def sleep(self, memory: Path) -> None:
        """Write its memory into a file and end it."""
        said = f'migrate_set_parameter max-bandwidth 8G\nmigrate "exec:cat > {shlex.quote(str(memory))}"\nquit\n'
        _, err = self._process.communicate(said.encode(), timeout=BOOT_SECONDS)
        if self._process.returncode or not memory.exists():
            raise Unavailable(f"the machine's memory cannot be kept: {err.decode(errors='replace')[-500:]}")

    def close(self) -> None:
        self._socket.close()
        self._process.kill()
        self._process.wait(timeout=LATE_SECONDS)
        for pipe in (self._process.stdin, self._process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _send(self, data: bytes, end: float) -> None:
        self._socket.settimeout(max(0.1, end - time.monotonic()))
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise self._lost() from error

    def _until_line(self, end: float) -> bytes:
        while b"\n" not in self._received:
            self._receive(end)
        line, _, rest = self._received.partition(b"\n")
        self._received = bytearray(rest)
        return bytes(line)

    def _take(self, size: int, end: float) -> bytes:
        while len(self._received) < size:
            self._receive(end)
        taken = bytes(self._received[:size])
        del self._received[:size]
        return taken

    def _receive(self, end: float) -> None:
        self._socket.settimeout(max(0.1, end - time.monotonic()))
        try:
            chunk = self._socket.recv(1 << 20)
        except OSError as error:
            raise self._lost() from error
        if not chunk:
            raise self._lost()
        self._received += chunk

    def _lost(self) -> Unavailable:
        """Its console says most about why."""
        self.close()
        console = self._console.read_bytes()[-2000:] if self._console.exists() else b""
        return Unavailable(f"the machine does not answer: {console.decode(errors='replace')}")


@contextmanager
def started(image: Path, *, fresh: bool = False) -> Iterator[Machine]:
    """A machine, woken (or booted: `fresh`, and then what it writes stays on its disk), and its end."""
    with tempfile.TemporaryDirectory(prefix="machine-") as work:
        running = Machine(image, Path(work), fresh=fresh)
        try:
            yield running
        finally:
            running.close()


@contextmanager
def ready() -> Iterator[Machine]:
    """A machine with this checkout in it. Raises Unavailable."""
    with started(directory()) as running:
        running.put_checkout()
        yield running


@contextmanager
def for_tests() -> Iterator[Machine]:
    """As `ready`; where there can be none, the test is skipped and says why (in CI it fails)."""
    with contextlib.ExitStack() as stack:
        try:
            running = stack.enter_context(ready())
        except Unavailable as error:
            if REQUIRED and not isinstance(error, Foreign):
                pytest.fail(f"no test machine: {error}")
            pytest.skip(f"no test machine: {error}")
        yield running


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.support.machine", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("what", choices=("run", "shell"))
    parser.add_argument(
        "--user", dest="user", action="store_const", const=PERSON, default="", help="as an ordinary user"
    )
    parser.add_argument("--as", dest="user", metavar="USER", help="as this user, in a login session")
    parser.add_argument("--seconds", type=float, default=300, help="time limit of a command (default: 300)")
    at = argv.index("--") if "--" in argv else len(argv)
    options, command = parser.parse_args(argv[:at]), argv[at + 1 :]
    with ready() as machine:
        if options.what == "run":
            fed = b"" if sys.stdin.isatty() else sys.stdin.buffer.read()
            return _show(machine.run(command, user=options.user, seconds=options.seconds, fed=fed))
        for line in sys.stdin:
            _show(machine.run(["sh", "-c", line], user=options.user, seconds=options.seconds))
    return 0


def _show(ran: Ran) -> int:
    sys.stdout.write(ran.out)
    sys.stdout.flush()
    sys.stderr.write(ran.err)
    sys.stderr.flush()
    if ran.code is None:
        print("stopped at its time limit", file=sys.stderr)
    return 124 if ran.code is None else ran.code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
