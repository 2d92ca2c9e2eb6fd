"""Signed statements in `chains.jsonl` about a log that nobody writes any more, or whose oldest segments are gone.

`sealed`: the log of a process that was killed, looked at later: it verified, and ended at record `covers` with the
digest `digest`; `torn` bytes of a record that was not written whole follow. From then on its end is fixed.

`pruned`: retention removed the segments up to `segment`, that is, all records up to `through`, whose line has the
digest `digest`. `first_kept` is the number of the record that is first now, 0 when the whole log was removed.
`removed` and `bytes` are what this removal took, `reason` is why. The statement is on disk before a file goes.

`compacted`: lines about logs that were removed as a whole were dropped from the start of the list
(`audit/index_compact.py`).

All carry `time`, `key` and `signature` (base64, Ed25519) over `statement_message`: all members but `prev`
and `signature`. Without a key that can be used nothing is stated, and so nothing is removed.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from pathlib import Path
from typing import Final

from callgate.audit.chain import VerifySignature
from callgate.audit.records import Record, canonical

SEALED: Final = "sealed"
PRUNED: Final = "pruned"
COMPACTED: Final = "compacted"
_SIGNED_PREFIX: Final = b"callgate audit statement 1\n"
_NOT_SIGNED: Final = frozenset(("prev", "signature"))


def statement_message(statement: Record) -> bytes:
    """The bytes a statement's signature covers."""
    signed = {name: value for name, value in statement.items() if name not in _NOT_SIGNED}
    return _SIGNED_PREFIX + canonical(signed).rstrip(b"\n")


def signed(state_dir: Path, statement: Record) -> Record:
    """The statement with `key` and `signature`. Raises AuditError when there is no usable key."""
    from callgate.audit.keys import key_id, signing_key

    key = signing_key(state_dir)
    named = {**statement, "key": key_id(key.public_key())}
    return {**named, "signature": b64encode(key.sign(statement_message(named))).decode()}


def is_signed(statement: Record, verify_signature: VerifySignature) -> bool:
    """Whether the statement carries a valid signature of a known key."""
    try:
        signature = b64decode(str(statement["signature"]), validate=True)
    except (KeyError, ValueError):
        return False
    return verify_signature(str(statement.get("key")), statement_message(statement), signature) is True
