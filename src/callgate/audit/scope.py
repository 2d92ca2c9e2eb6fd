"""A scope records the decisions about one client talking to one server: the hot end of the evidence log."""

from __future__ import annotations

import time
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from orjson import OPT_APPEND_NEWLINE, Fragment, dumps

from callgate.audit.records import (
    CONTENT_BYTES,
    FINDINGS,
    Record,
    canonical_value,
    cut,
    finding_fields,
)
from callgate.audit.shapes import shape
from callgate.audit.texts import Who

if TYPE_CHECKING:
    from callgate.audit.writer import Journal

_now = time.time_ns
_NOTHING: Final[dict[str, Any]] = {}
LARGE: Final = 4096
"""Messages of more bytes are digested with BLAKE3, which is faster there; SHA-256 is below."""


def _load_blake3() -> Any:
    """The hash for large messages, or None where there is no wheel for the platform: then it is SHA-256."""
    try:
        from blake3 import blake3
    except ImportError:
        return None
    return blake3


def _failure(content: dict[str, Any]) -> str:
    """How an answer says that its request failed: `tool_error`, `rpc_error`, or not at all."""
    if content.get("isError") is True:
        return "tool_error"
    return "rpc_error" if "error" in content else ""


class Scope:
    """Records the decisions about one client talking to one server. Made by `Journal.scope`; cheap to make.

    `revision` is the negotiated protocol revision, empty until it is known.
    """

    __slots__ = ("_journal", "_large", "_record", "_revision", "_who", "text")

    def __init__(self, journal: Journal, who: Who) -> None:
        self._journal = journal
        self._who = who
        self._revision = ""
        # The members of a decision in canonical order. Those from `content` to `outcome` are missing: a
        # Fragment is text that orjson copies as it is, and the one for `chain` carries them behind its value.
        self._record: dict[str, Any] = {
            "about": 0,
            "chain": None,
            "prev": "",
            "rpc_id": None,
            "scope": journal.texts.scope(who, ""),
            "seq": 0,
            "sha256": "",
            "size": 0,
            "time": 0,
            "took_us": 0,
        }
        self.text = dumps(self._record["scope"])
        """The value of `scope` in the records."""
        self._large: dict[str, Any] | None = None
        """The same with the other digest; made for the first large message."""

    @property
    def revision(self) -> str:
        """The protocol revision written into the records from now on."""
        return self._revision

    @revision.setter
    def revision(self, revision: str) -> None:
        if revision != self._revision:
            self._revision = revision
            self._renew()

    def belongs_to(self, session: str) -> None:
        """Name this session in the records from now on: one that was opened by an answer."""
        principal, server, _, transport = self._who
        self._who = (principal, server, session, transport)
        self._renew()

    def _renew(self) -> None:
        self._record["scope"] = self._journal.texts.scope(self._who, self._revision)
        self.text = dumps(self._record["scope"])
        self._large = None

    def decision(
        self,
        hook: str,
        direction: int,
        method: str,
        name: str,
        request_id: str | int | None,
        data: bytes,
        content: Any,
        outcome: str,
        findings: Any,
        about: int,
        duration_us: int,
    ) -> int:
        """Record one decision; its `seq`. Raises AuditError when it cannot be written.

        `direction` is 0 for a message of the client and 1 for one of the server; `content` the params,
        result or error of the message whose bytes are `data`; `about` the `seq` of the request's record
        or 0; `findings` any sequence of objects with the members of `gate.verdicts.Finding`.
        """
        journal = self._journal
        if findings or journal.keeps_values or type(content) is not dict:
            return self._general(
                hook, direction, method, name, request_id, data, content, outcome, findings, about, duration_us
            )
        if direction:
            if content.get("isError") is True or "error" in content:
                failed = _failure(content)
                heads = journal.failed_heads
            else:
                failed = ""
                heads = journal.server_heads
        else:
            failed = ""
            heads = journal.client_heads
            arguments = content.get("arguments")
            if type(arguments) is dict:
                content = arguments
        if journal.digest_only:
            content = _NOTHING
        key = (hook, method, name, outcome, *content, *map(type, content.values()))
        try:
            head = heads[key]
        except KeyError:
            made = journal.texts.head(key, direction, content, failed)
            if made is None:
                return self._general(
                    hook, direction, method, name, request_id, data, content, outcome, findings, about, duration_us
                )
            head = made
        try:
            return self.record(head, request_id, data, about, duration_us)
        except TypeError:  # an id that is not valid Unicode, or an integer beyond 64 bits
            return self._general(
                hook, direction, method, name, request_id, data, content, outcome, findings, about, duration_us
            )

    def head(self, hook: str, direction: int, method: str, name: str, content: dict[str, Any]) -> Fragment | None:
        """For `record`: what the records of allowed messages of this form have in common, once one was written.

        `content` is what is described: a request's `arguments`, an answer's result. None where each record is made
        by itself: where values are kept, where an object stands in `content`, where the answer failed.
        """
        journal = self._journal
        if journal.keeps_values or _failure(content):
            return None
        heads, key, _ = self._place(hook, direction, method, name, content)
        return heads.get(key)

    def constant(self, hook: str, direction: int, method: str, name: str, content: dict[str, Any]) -> bytes | None:
        """What `head` stands for, as text, also where an object stands in `content`."""
        journal = self._journal
        if journal.keeps_values or _failure(content):
            return None
        heads, key, described = self._place(hook, direction, method, name, content)
        head = heads.get(key) or journal.texts.head(key, direction, described, "")
        return dumps(head) if head is not None else None

    def _place(
        self, hook: str, direction: int, method: str, name: str, content: dict[str, Any]
    ) -> tuple[dict[tuple[object, ...], Fragment], tuple[object, ...], dict[str, Any]]:
        """Where the head of an allowed message of this form stands, under which key, and what it describes."""
        journal = self._journal
        described = _NOTHING if journal.digest_only else content
        heads = journal.server_heads if direction else journal.client_heads
        return heads, (hook, method, name, "allow", *described, *map(type, described.values())), described

    def record(self, head: Fragment, request_id: str | int | None, data: bytes, about: int, duration_us: int) -> int:
        """Record an allowed message of the form that `head` stands for; its `seq`. See `decision`.

        Raises AuditError, and TypeError for an id that JSON cannot hold; then nothing was written.
        """
        journal = self._journal
        seq = journal.seq + 1
        size = len(data)
        if size <= LARGE:
            record = self._record
            record["sha256"] = sha256(data).hexdigest()
        else:
            record = self._large_record(data)
        record["about"] = about
        record["chain"] = head
        record["prev"] = journal.prev
        record["rpc_id"] = request_id
        record["seq"] = seq
        record["size"] = size
        record["time"] = _now() // 1000
        record["took_us"] = duration_us
        line = dumps(record, None, OPT_APPEND_NEWLINE)
        offset = journal.offset
        end = offset + len(line)
        if end > journal.limit:
            return journal.append(line)
        digest = sha256(line).hexdigest()
        # No call from here on: a signal handler that raises comes before all of this or after it.
        journal.tail[offset:end] = line
        journal.offset = end
        journal.prev = digest
        journal.seq = seq
        return seq

    def _large_record(self, data: bytes) -> dict[str, Any]:
        """The template with the digest of a large message in it."""
        journal = self._journal
        if journal.blake3 is False:
            journal.blake3 = _load_blake3()
        if journal.blake3 is None:
            self._record["sha256"] = sha256(data).hexdigest()
            return self._record
        large = self._large
        if large is None:
            others = [(name, value) for name, value in self._record.items() if name != "sha256"]
            large = self._large = dict(sorted([("blake3", ""), *others]))
        large["blake3"] = journal.blake3(data).hexdigest()
        return large

    def _digest(self, data: bytes) -> tuple[str, str]:
        """Name and value of the digest of a message."""
        record = self._record if len(data) <= LARGE else self._large_record(data)
        if "blake3" in record:
            return "blake3", record["blake3"]
        return "sha256", sha256(data).hexdigest()

    def _general(
        self,
        hook: str,
        direction: int,
        method: str,
        name: str,
        request_id: str | int | None,
        data: bytes,
        content: Any,
        outcome: str,
        findings: Any,
        about: int,
        duration_us: int,
    ) -> int:
        """Any decision: with findings, with values (`full`), with params that are no object."""
        digest, value = self._digest(data)
        record: Record = {
            digest: value,
            "about": about,
            "direction": "server" if direction else "client",
            "hook": hook,
            "kind": "decision",
            "method": cut(method),
            "name": cut(name),
            "outcome": outcome,
            "rpc_id": cut(request_id) if isinstance(request_id, str) else request_id,
            "scope": self._record["scope"],
            "size": len(data),
            "took_us": duration_us,
        }
        if findings:
            record["findings"] = [finding_fields(finding) for finding in findings[:FINDINGS]]
            if len(findings) > FINDINGS:
                record["findings_dropped"] = len(findings) - FINDINGS
        if type(content) is dict:
            if direction and (failed := _failure(content)):
                record["failed"] = failed
            if not direction and type(content.get("arguments")) is dict:
                content = content["arguments"]
        return self._journal.append_record(record | self._content(content))

    def _content(self, content: Any) -> Record:
        detail = self._journal.config.content
        if detail == "full":
            value = canonical_value(content)
            if len(value) <= CONTENT_BYTES:
                return {"content": Fragment(value), "detail": "full"}
            detail = "shape"
        if detail == "shape":
            return {"content": Fragment(shape(content)), "detail": "shape"}
        return {"detail": detail}
