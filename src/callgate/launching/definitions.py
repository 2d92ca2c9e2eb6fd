"""What a pinned server offers: started once in its sandbox, asked for its lists, and ended.

The digests are those `definition-pins` keeps, so a lock and the pins speak of the same things.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from callgate.config import Config, LaunchConfig, Limits
from callgate.errors import CallgateError, ProtocolError, TrustError
from callgate.launching.launch import Launch
from callgate.launching.plan import Wish, plan
from callgate.protocol.codec import Codec
from callgate.protocol.message import Direction, Kind, Message
from callgate.supply import lockfile
from callgate.supply.lockfile import LockedServer, LockFile
from callgate.trust.definitions import address, extract

SECONDS = 30.0
"""For all of it."""
PAGES = 50
"""Of one list."""
PLACEHOLDER = "callgate-no-secret"
"""What a server finds in place of its secrets: it is asked what it offers, not to do anything."""
_OUTPUT_BYTES = 64 * 1024 * 1024
_LISTS = {
    "tools": ("tools/list",),
    "prompts": ("prompts/list",),
    "resources": ("resources/list", "resources/templates/list"),
}
_HELLO = {
    "protocolVersion": "2025-06-18",
    "capabilities": {},
    "clientInfo": {"name": "callgate", "version": "1"},
}


def definitions_of(server: LockedServer, state: Path) -> dict[str, str]:
    """Digests by address (`search`, `prompt:greet`, `identity`). Raises CallgateError where it does not answer."""
    if not server.store:
        raise TrustError("only what was pinned into the store is started to be looked at")
    with tempfile.TemporaryDirectory(prefix="callgate-") as folder:
        lock = Path(folder) / lockfile.FILE_NAME
        bare = replace(server, secrets={}, sandbox=replace(server.sandbox, network=()))
        lock.write_bytes(lockfile.serialise(LockFile(lock).put(bare)))
        config = Config(launch=LaunchConfig(lock=str(lock)), state_dir=str(state))
        wish = Wish(
            name=server.name,
            command=server.argv,
            variables=os.environ,
            given=dict.fromkeys(server.secrets, PLACEHOLDER),
            cwd="/",
        )
        return _Asked(plan(config, wish, state), server.name).definitions()


class _Asked:
    """One started server and the conversation with it."""

    def __init__(self, launch: Launch, name: str) -> None:
        self._launch = launch
        self._name = name
        self._codec = Codec(Limits())
        self._end = time.monotonic() + SECONDS
        self._number = 0
        self._read = 0
        self._buffer = b""

    def definitions(self) -> dict[str, str]:
        launch = self._launch
        try:
            process = subprocess.Popen(
                launch.argv,
                env=dict(launch.environment),
                cwd=launch.cwd or None,
                pass_fds=launch.pass_fds,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                start_new_session=True,
            )
        except OSError as error:
            launch.abandon()
            raise TrustError(f"{self._name} could not be started: {error.strerror}") from error
        running = None
        try:
            running = launch.started(process.pid)
            return self._asked(process)
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.communicate()
            if running is not None:
                running.close()
            launch.close()

    def _asked(self, process: subprocess.Popen[bytes]) -> dict[str, str]:
        found: dict[str, str] = {}
        hello = self._ask(process, "initialize", _HELLO)
        self._keep(found, "initialize", hello)
        self._send(process, {"jsonrpc": "2.0", "method": "notifications/initialized"})
        offered = hello.get("result", {}).get("capabilities", {})
        for capability, methods in _LISTS.items():
            if not isinstance(offered, dict) or capability not in offered:
                continue
            for method in methods:
                for page in self._pages(process, method):
                    self._keep(found, method, page)
        return found

    def _pages(self, process: subprocess.Popen[bytes], method: str) -> Iterator[Mapping[str, Any]]:
        params: dict[str, Any] = {}
        for _ in range(PAGES):
            page = self._ask(process, method, params)
            yield page
            shown = extract(method, page)
            if shown is None or shown.cursor is None:
                return
            params = {"cursor": shown.cursor}
        raise TrustError(f"{self._name} lists more than {PAGES} pages of {method}")

    def _keep(self, found: dict[str, str], method: str, body: Mapping[str, Any]) -> None:
        shown = extract(method, body)
        if shown is not None:
            found.update({address(item.kind, item.key): item.digest for item in shown.items})

    def _ask(self, process: subprocess.Popen[bytes], method: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
        self._number += 1
        self._send(process, {"jsonrpc": "2.0", "id": self._number, "method": method, "params": params})
        while True:
            message = self._next(process)
            if message.kind in (Kind.RESULT, Kind.ERROR) and message.id == self._number:
                body: Mapping[str, Any] = message.body
                return body

    def _send(self, process: subprocess.Popen[bytes], message: Mapping[str, Any]) -> None:
        import orjson

        assert process.stdin is not None  # noqa: S101  it was opened as a pipe
        try:
            process.stdin.write(orjson.dumps(message) + b"\n")
        except OSError as error:
            raise self._silent() from error

    def _next(self, process: subprocess.Popen[bytes]) -> Message:
        """The next message of the server; what is none is passed over, as a client would."""
        assert process.stdout is not None  # noqa: S101  it was opened as a pipe
        while True:
            line, newline, rest = self._buffer.partition(b"\n")
            if newline:
                self._buffer = rest
                try:
                    decoded = self._codec.decode(line, Direction.SERVER)
                except ProtocolError:
                    continue
                if isinstance(decoded, Message):
                    return decoded
                continue
            left = self._end - time.monotonic()
            if left <= 0 or not select.select([process.stdout], [], [], left)[0]:
                raise self._silent()
            chunk = os.read(process.stdout.fileno(), 1 << 16)
            self._read += len(chunk)
            if not chunk or self._read > _OUTPUT_BYTES:
                raise self._silent()
            self._buffer += chunk

    def _silent(self) -> CallgateError:
        return TrustError(
            f"{self._name} did not say what it offers",
            effect="its definitions were not recorded",
            next_step=f"see what it needs: callgate sandbox explain {self._name}",
        )
