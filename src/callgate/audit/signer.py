"""Checkpoint signatures from a process of their own.

Importing `cryptography` takes 30 ms and 9 MB: too long a pause for the one thread that carries messages,
and a third of what a guarded server's gate may weigh. So while the gate runs, a checkpoint is signed by
a `python -P` of our own (`main` below), which reads what to sign from its standard input, writes
key id and signature and is gone. The private key is in the memory of a process that reads hostile bytes only
at the very end, for the closing record.
"""

from __future__ import annotations

import sys
from base64 import b64encode
from pathlib import Path
from typing import Final

from orjson import dumps

from callgate.audit.child import Child
from callgate.audit.records import Record, checkpoint_message, parse
from callgate.errors import AuditError

_QUESTION_BYTES: Final = 4096
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


class Signer:
    """At most one signature under way. Neither method waits."""

    __slots__ = ("_child", "_record")

    def __init__(self, state_dir: Path) -> None:
        self._child = Child(_PROGRAM, str(state_dir))
        self._record: Record = {}

    @property
    def busy(self) -> bool:
        """Whether an answer is still to be taken."""
        return self._child.busy

    def start(self, record: Record) -> None:
        """Have `record` (chain, covers, digest, signed_at) signed.

        Does nothing when no process can be started: the next checkpoint covers this one too.
        """
        if not self._child.busy:
            self._record = record  # first: an interrupt must not leave another record's signature under way
            self._child.start(dumps(record))

    def take(self) -> Record | None:
        """The signed record when it is ready; one without signature when the process failed."""
        answer = self._child.take()
        if answer is None:
            return None
        signature = parse(answer) or {"key": "", "signature": ""}
        return {**self._record, "key": str(signature.get("key")), "signature": str(signature.get("signature"))}

    def drop(self) -> None:
        """Forget the signature under way."""
        self._child.drop()


def main() -> int:
    """Sign one checkpoint for the process that asks."""
    record = parse(sys.stdin.buffer.readline(_QUESTION_BYTES))
    if record is None or len(sys.argv) != 2:
        return 2
    sys.stdout.buffer.write(dumps(sign(Path(sys.argv[1]), record)) + b"\n")
    return 0
