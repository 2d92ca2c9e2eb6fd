"""The format of the evidence log: one record is one line of canonical JSON (UTF-8, sorted keys, compact).

Members of every record:

| member | meaning |
|---|---|
| `chain` | id of the log this record belongs to, `<UTC start>-<pid>-<random>`: one log per process |
| `kind` | `open`, `decision`, `note`, `checkpoint`, `close` |
| `prev` | hex SHA-256 of the line before, newline included; in the first record, of this log's line in `chains.jsonl` |
| `seq` | 1, 2, 3 … without gaps |
| `time` | microseconds since 1970-01-01T00:00:00Z |

`open`, always the first: `format` (1), `process` (what runs: `run`, `serve`), `pid`, `version` of callgate.

`decision`, one per message that came to the gate:

| member | meaning |
|---|---|
| `about` | `seq` of the request this message answers or belongs to; 0 if none |
| `content` | of a request's `arguments`, else of params, result or error: what `detail` says |
| `detail` | `digest` (no `content`), `shape` (audit/shapes.py) or `full` (the values) |
| `direction` | `client` (the client sent it) or `server` |
| `failed` | of an answer: `tool_error` (a result with `isError`) or `rpc_error` (a JSON-RPC error); else absent |
| `findings` | list of `{evidence, message, pointer, risk, rule, severity}`; absent when empty |
| `hook` | `connect`, `catalog`, `call`, `content`, `server_request` |
| `method`, `name` | MCP method; tool or prompt name or resource URI, cut at 256 characters |
| `outcome` | `allow`, `annotate`, `rewrite`, `ask`, `deny`; `would-rewrite`, `would-ask`, `would-deny` where a \
control only observes; `error` where one failed while only observing |
| `rpc_id` | JSON-RPC id, null for a notification |
| `scope` | `{principal, revision, server, session, transport}`: who spoke to which server |
| `sha256` or `blake3` | digest of the message's bytes as they went on; BLAKE3 above 4096 bytes, where it is faster |
| `size` | of those bytes |
| `took_us` | of an answer: microseconds since its request came; else 0 or the time the decision took |

`note`, a slow event of the gate itself: `what` (`launch`, `reload`, `pin-approved`, …) and `fields`.

`checkpoint` and `close`: `covers` and `digest` (seq and SHA-256 of the line signed for), `key` (id of the
Ed25519 key, empty when there was none), `signature` (base64, over `checkpoint_message`). `close` is the
last record of a log that was closed in good order; `lost` counts decisions that could not be written.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final, TypeAlias

from orjson import (
    OPT_APPEND_NEWLINE,
    OPT_SORT_KEYS,
    JSONDecodeError,
    JSONEncodeError,
    dumps,
    loads,  # noqa: TID251 - our own lines, and verification compares them with their canonical form
)

Record: TypeAlias = dict[str, Any]

FORMAT: Final = 1
GENESIS: Final = "0" * 64
"""`prev` where nothing is before."""
RECORD_BYTES: Final = 64 * 1024
"""Longest line the writer makes, newline included."""
COVER_WINDOW: Final = 65_536
"""How many records a checkpoint may come after the one it covers."""
CONTENT_BYTES: Final = 32 * 1024
"""Largest value kept with `content = "full"`; a larger one is kept as a shape."""
DEPTH: Final = 220
"""Levels of a value that the serialiser writes: more than any message that passes has, and what is made of it."""
TEXT_CHARACTERS: Final = 512
"""Longest text of a finding's message or evidence."""
NAME_CHARACTERS: Final = 256
"""Longest name, URI, method, pointer, session or string id."""
FINDINGS: Final = 20
"""Findings kept per decision; `findings_dropped` counts the rest."""


def message_digest(record: Record) -> str:
    """The digest of a decision's message with the name of its hash: `sha256:…` or `blake3:…`."""
    name = "blake3" if "blake3" in record else "sha256"
    return f"{name}:{record.get(name)}"


_SIGNED_PREFIX: Final = b"callgate audit checkpoint 1\n"


def digest_of(line: bytes) -> str:
    """Hex SHA-256 of a line, newline included."""
    return hashlib.sha256(line).hexdigest()


def canonical(record: Record) -> bytes:
    """The line of a record. Text that is not valid Unicode is kept with its faults escaped."""
    try:
        return dumps(record, None, OPT_SORT_KEYS | OPT_APPEND_NEWLINE)
    except JSONEncodeError:
        return dumps(_printable(record), str, OPT_SORT_KEYS | OPT_APPEND_NEWLINE)


def parse(line: bytes) -> Record | None:
    """The object on a line; None when it is no JSON object."""
    try:
        record = loads(line)
    except JSONDecodeError:
        return None
    return record if type(record) is dict else None


def canonical_value(value: Any) -> bytes:
    """Any JSON value in the same form, without a newline."""
    try:
        return dumps(value, None, OPT_SORT_KEYS)
    except JSONEncodeError:
        return dumps(_printable(value), str, OPT_SORT_KEYS)


def _printable(value: Any, depth: int = DEPTH) -> Any:
    """The value with every string valid Unicode, every integer within 64 bits, every key a string, and no deeper."""
    if not depth and isinstance(value, dict | list | tuple):
        return "…"
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_printable(str(key)): _printable(item, depth - 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_printable(item, depth - 1) for item in value]
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return str(value)
    return value


def cut(text: str, limit: int = NAME_CHARACTERS) -> str:
    """At most `limit` characters; a cut one ends in `…`."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def quoted(text: str, limit: int = NAME_CHARACTERS) -> str:
    """The text as JSON, cut at `limit` characters."""
    text = cut(text, limit)
    try:
        return dumps(text).decode()
    except JSONEncodeError:
        return dumps(_printable(text)).decode()


def finding_fields(finding: Any) -> Record:
    """One finding, bounded. Any object with `rule`, `risk`, `message`, `pointer`, `severity`, `evidence`."""
    return {
        "evidence": cut(str(finding.evidence), TEXT_CHARACTERS),
        "message": cut(str(finding.message), TEXT_CHARACTERS),
        "pointer": cut(str(finding.pointer)),
        "risk": cut(str(finding.risk)),
        "rule": cut(str(finding.rule)),
        "severity": cut(str(finding.severity)),
    }


def checkpoint_message(record: Record) -> bytes:
    """The bytes a checkpoint's signature covers: what is signed for, by which key, when."""
    signed = {name: record[name] for name in ("chain", "covers", "digest", "key", "signed_at")}
    return _SIGNED_PREFIX + dumps(signed, None, OPT_SORT_KEYS)
