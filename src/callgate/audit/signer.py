"""Checkpoint signatures from a process of their own.

Importing `cryptography` takes 30 ms and 9 MB: too long a pause for the one thread that carries messages,
and a third of what a guarded server's gate may weigh. So while the gate runs, a checkpoint is signed by
a `python -P` of our own (`main` below), which reads what to sign from its standard input, writes
key id and signature and is gone. The private key is in the memory of a process that reads hostile bytes only
at the very end, for the closing record.
"""

from __future__ import annotations

import os
import sys
from base64 import b64encode
from contextlib import suppress
from pathlib import Path
from typing import Final

from orjson import dumps

from callgate.audit.records import Record, checkpoint_message, parse
from callgate.errors import AuditError

_ANSWER_BYTES: Final = 4096
_PROGRAM: Final = "import sys; from callgate.audit.signer import main; sys.exit(main())"


def sign(state_dir: Path, record: Record) -> Record:
    """`key` and `signature` for a checkpoint, made here and now. Both empty when there is no usable key."""
    from callgate.audit.keys import key_id, signing_key

    try:
        key = signing_key(state_dir)
    except AuditError:
        return {"key": "", "signature": ""}  # the log goes on, and verification says that it is unsigned
    name = key_id(key.public_key())
    return {"key": name, "signature": b64encode(key.sign(checkpoint_message({**record, "key": name}))).decode()}


def _options() -> tuple[str, ...]:
    """The interpreter's options: what is a server's PYTHONPATH, and not the gate's, is not the signer's either."""
    return ("-E", "-P") if sys.flags.ignore_environment else ("-P",)


class Signer:
    """At most one signature under way. Neither method waits."""

    __slots__ = ("_answer", "_pid", "_record", "_state_dir")

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._record: Record | None = None
        self._pid = 0
        self._answer = -1

    @property
    def busy(self) -> bool:
        """Whether an answer is still to be taken."""
        return self._record is not None

    def start(self, record: Record) -> None:
        """Have `record` (chain, covers, digest, signed_at) signed. Does nothing when no process can be started."""
        self._reap()
        if self._record is not None or not sys.executable:
            return
        pipes: list[int] = []
        try:
            pipes += os.pipe()
            pipes += os.pipe()
            question, ask, answer, reply = pipes
            os.write(ask, dumps(record) + b"\n")
            self._pid = os.posix_spawn(
                sys.executable,
                [sys.executable, *_options(), "-c", _PROGRAM, str(self._state_dir)],
                os.environ,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, question, 0),
                    (os.POSIX_SPAWN_DUP2, reply, 1),
                    (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
                ],
            )
            os.set_blocking(answer, False)
        except OSError:  # no descriptor or no process to be had: the next checkpoint covers this one too
            pass
        else:
            pipes.remove(answer)
            self._answer, self._record = answer, record
        finally:
            for descriptor in pipes:
                os.close(descriptor)

    def take(self) -> Record | None:
        """The signed record when it is ready; one without signature when the process failed."""
        if self._record is None:
            return None
        try:
            answer = os.read(self._answer, _ANSWER_BYTES)
        except BlockingIOError:
            return None
        signature = parse(answer) or {"key": "", "signature": ""}
        record = {**self._record, "key": str(signature.get("key")), "signature": str(signature.get("signature"))}
        self.drop()
        return record

    def drop(self) -> None:
        """Forget the signature under way."""
        if self._record is not None:
            self._record = None
            os.close(self._answer)
            self._reap()

    def _reap(self) -> None:
        """Take the exit status, so that no zombie stays longer than until the next signature."""
        if self._pid:
            with suppress(ChildProcessError):
                if os.waitpid(self._pid, os.WNOHANG) == (0, 0):
                    return
            self._pid = 0


def main() -> int:
    """Sign one checkpoint for the process that asks."""
    record = parse(sys.stdin.buffer.readline(_ANSWER_BYTES))
    if record is None or len(sys.argv) != 2:
        return 2
    sys.stdout.buffer.write(dumps(sign(Path(sys.argv[1]), record)) + b"\n")
    return 0
