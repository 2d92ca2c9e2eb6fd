"""The writing side of the evidence log: one `Journal` a process, which makes a `Scope` for each client and server.

A decision costs two SHA-256 (of the message, of the line), one serialisation and one slice assignment;
no system call, no lock: each process has its own log. Everything rare leaves through `Journal.append`.

When the disk is full the append raises AuditError and has changed nothing; the gate then refuses
(`enforce`) or goes on (`observe`), and the number of records lost is noted as soon as there is room.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import callgate
from callgate.audit import index
from callgate.audit.files import private_directory
from callgate.audit.place import Place
from callgate.audit.records import COVER_WINDOW, FORMAT, RECORD_BYTES, Record, canonical, cut, parse
from callgate.audit.retention_timer import RetentionTimer
from callgate.audit.scope import Scope
from callgate.audit.signer import Signer, sign
from callgate.audit.spool import FLUSH_BYTES, HEADER_BYTES, Spool, discard
from callgate.audit.syncer import EARLY, Syncer
from callgate.audit.texts import Texts
from callgate.config import AuditConfig
from callgate.errors import AuditError
from callgate.vault.active import clean

AUDIT_DIRECTORY: Final = "audit"
_SIGN_AFTER_S: Final = 60.0
"""With fewer than `checkpoint_records` new records: this long after the last checkpoint, at an idle moment."""
_SIGN_EVERY_S: Final = 20.0
"""Under load a checkpoint is signed at most this often: each costs the processor as much as some thousand calls."""
_MOST_FINISHED: Final = 4
"""Full segments that may wait for the disk."""
_FEW: Final = 1000
"""A checkpoint interval below this is watched at each record, a longer one with each `tick` and whenever the journal
itself writes a record or makes room for one."""


def open_journal(state_dir: Path, config: AuditConfig, *, process: str) -> Journal:
    """Open a new log for this process in `state_dir/audit`. Raises AuditError."""
    return Journal(state_dir, config, process)


def chain_id() -> str:
    """`20261122T095500-4711-9f86d081`: start in UTC, process id, eight random hex digits."""
    return f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{os.getpid()}-{os.urandom(4).hex()}"


class Journal(Place):
    """The log of this process. Not thread-safe, and not to be used after a fork.

    The attributes without a docstring are for Scope, which writes records itself as long as they fit
    below `limit`; it keeps `seq`, `prev` and `offset` true.
    """

    __slots__ = (
        "_checkpoint_due",
        "_closed",
        "_lost",
        "_retention",
        "_sign_at",
        "_sign_from",
        "_signed",
        "_signer",
        "_spool",
        "_state_dir",
        "_syncer",
        "_watch",
        "blake3",
        "chain",
        "client_heads",
        "config",
        "digest_only",
        "failed_heads",
        "keeps_values",
        "on_removal",
        "path",
        "server_heads",
        "texts",
    )

    def __init__(self, state_dir: Path, config: AuditConfig, process: str) -> None:
        self.chain = chain_id()
        """Id of this log."""
        self.path = state_dir / AUDIT_DIRECTORY / self.chain
        """Directory of this log."""
        self.config = config
        self.digest_only = config.content == "digest"
        self.keeps_values = config.content == "full"
        self.texts = Texts(self.chain, described=not self.digest_only)
        self.client_heads = self.texts.client_heads
        self.server_heads = self.texts.server_heads
        self.failed_heads = self.texts.failed_heads
        self.on_removal: Callable[[Record], None] | None = None
        """Told, after it is on record, what retention removed or could not; must not raise."""
        self.blake3: Any = False
        """The hash for large messages: False until it is needed, None where it is missing."""
        self.seq = 0
        self.offset = HEADER_BYTES
        self._state_dir = state_dir
        self._watch: Callable[[bytes], None] | None = None
        self._lost = 0
        self._closed = False
        self._checkpoint_due = config.checkpoint_records
        self._retention = RetentionTimer(state_dir, config)
        self._signer = Signer(state_dir)
        self._signed = 0
        self._sign_at = time.monotonic() + _SIGN_AFTER_S
        self._sign_from = 0.0
        opened = {"chain": self.chain, "kind": "opened", "process": process, "time": time.time_ns() // 1000}
        try:
            private_directory(self.path.parent)
            self.path.mkdir(mode=0o700)
            self._spool = Spool(self.path)
            self.prev = index.append(self.path.parent, opened)
        except OSError as error:
            discard(self.path)
            raise _write_error(self.path, error, _NOT_BEGUN) from error
        self.tail = self._spool.tail
        self.segment = self._spool.segment
        self.segment_number = 1
        self.position = 0
        self.segment_bytes = config.segment_bytes
        self._syncer = Syncer(self._spool, config.sync_ms)
        self._set_limit()
        self.append_record(
            {"format": FORMAT, "kind": "open", "pid": os.getpid(), "process": process, "version": callgate.__version__}
        )

    @property
    def last_seq(self) -> int:
        """`seq` of the last record written."""
        return self.seq

    @property
    def lost(self) -> int:
        """Records that could not be written since the last one that could."""
        return self._lost

    @property
    def watch(self) -> Callable[[bytes], None] | None:
        """Called with every record's line, newline included; must not raise. None costs nothing."""
        return self._watch

    @watch.setter
    def watch(self, observer: Callable[[bytes], None] | None) -> None:
        self._watch = observer
        self._set_limit()

    def scope(self, *, server: str, principal: str, session: str = "", transport: str) -> Scope:
        """A scope for one client (`principal`, `session`) talking to `server` over `transport`."""
        return Scope(self, (principal, server, session, transport))

    def note(self, kind: str, fields: Record) -> int:
        """Record a slow event of the gate itself; its `seq`. `fields` must hold no secret."""
        record: Record = {"fields": fields, "kind": "note", "what": cut(kind)}
        if len(canonical(record)) > RECORD_BYTES - 1024:
            record["fields"] = {"omitted": "too large"}
        return self.append_record(record)

    @property
    def tick_s(self) -> float:
        """How often to call `tick` while records are written, in s: 0.05 to 0.25. See `syncer.EARLY`."""
        return min(0.25, max(0.05, self.config.sync_ms / 1000 * EARLY)) if self.config.sync_ms else 0.25

    def tick(self) -> bool:
        """Housekeeping for an idle moment: start a sync, a signature, a removal of old evidence. Cheap to call often.

        True when something waits for a later tick. Raises nothing: what fails here fails again at the next
        record, where the gate can refuse.
        """
        waiting = self._syncer.tick(self.seq)
        if self._syncer.error:
            self.limit = -1
        if self.seq != self._signed:
            waiting = True
            if self._signer.busy:
                with suppress(AuditError):
                    self._take_signature()
            elif time.monotonic() >= (self._sign_from if self.seq >= self._checkpoint_due else self._sign_at):
                self._start_signature()
        removed = self._retention.tick()
        if removed is not None:
            with suppress(AuditError):
                self.note("evidence-removed", removed)
            if self.on_removal is not None:
                self.on_removal(removed)
        return waiting or self._retention.busy

    def checkpoint(self) -> int:
        """Sign for everything written so far, here and now (30 ms the first time); the checkpoint's `seq`."""
        self._signer.drop()
        record = self._unsigned()
        return self._write_checkpoint("checkpoint", record | sign(self._state_dir, record))

    def close(self) -> None:
        """Write the signed closing record and put everything on disk. A second call does nothing."""
        if self._closed:
            return
        self._signer.drop()
        self._retention.drop()
        self.texts.close()
        lost, self._lost = self._lost, 0
        self._checkpoint_due = self.seq + 2  # none for the closing record, which is one
        record = self._unsigned()
        try:
            self.append_record({**record, **sign(self._state_dir, record), "kind": "close", "lost": lost})
        except AuditError:
            self._lost += lost
            raise
        self._closed = True
        self.limit = -1
        now = time.time_ns() // 1000
        closed = {"chain": self.chain, "digest": self.prev, "kind": "closed", "seq": self.seq, "time": now}
        try:
            self._spool.finish(self)
            index.append(self.path.parent, closed)
        except OSError as error:
            raise _write_error(self.path, error) from error

    def append_record(self, record: Record) -> int:
        """Complete a record with `chain`, `prev`, `seq` and `time` and write it."""
        record["chain"] = self.chain
        record["prev"] = self.prev
        record["seq"] = self.seq + 1
        record["time"] = time.time_ns() // 1000
        line = canonical(record)
        if len(line) > RECORD_BYTES:
            for name in ("content", "findings"):
                record.pop(name, None)
            record["omitted"] = len(line)
            line = canonical(record)
        cleaned = clean(line)
        if cleaned != line:  # names may stand in another order now
            again = parse(cleaned)
            if again is None:
                raise AuditError("a record that held a secret could not be written without it")
            line = canonical(again)
        return self.append(line)

    def append(self, line: bytes) -> int:
        """Write a line made for the present `seq` and `prev`: the way of all but the fast path of Scope."""
        self._ready(len(line))
        digest = sha256(line).hexdigest()
        end = self.offset + len(line)
        seq = self.seq + 1
        self.tail[self.offset : end] = line
        self.offset = end
        self.prev = digest
        self.seq = seq
        if self._watch is not None:
            self._watch(line)
        if self.config.sync_ms == 0:
            try:
                self._syncer.now()
            except OSError as error:
                raise _write_error(self.path, error) from error
        if self._lost or self._signer.busy or self.seq >= self._checkpoint_due:
            with suppress(AuditError):  # this record is written; the next one will meet the error
                self._afterwards()
        return seq

    def make_room(self, length: int) -> bool:
        """For who writes records into `tail` by itself: put those on their way that are in it already.

        False where that failed; the next record that is appended says why. What waits for a record is done first,
        and may be a record itself.
        """
        try:
            if self._lost or self._signer.busy or self.seq >= self._checkpoint_due:
                self._afterwards()
            self._clear_tail(length)
        except (AuditError, OSError):
            return False
        return not self._closed

    def _afterwards(self) -> None:
        """What waits for a record that could be written."""
        if self._lost:
            lost, self._lost = self._lost, 0
            self._set_limit()
            try:
                self.note("records-lost", {"count": lost})
            except AuditError:
                self._lost += lost - 1  # the note is not one of the decisions
                raise
        if self._signer.busy:
            self._take_signature()
        elif self.seq >= self._checkpoint_due and time.monotonic() >= self._sign_from:
            self._start_signature()

    def _ready(self, length: int) -> None:
        """Make room for a line. Raises AuditError, and counts the record as lost, when there is none."""
        if self._closed:
            raise AuditError("the evidence log is closed", effect="the message was not recorded")
        try:
            self._clear_tail(length)
        except OSError as error:
            self._lost += 1
            self.limit = -1
            raise _write_error(self.path, error) from error

    def _clear_tail(self, length: int) -> None:
        """Append what is in `tail` to the segment where a line of `length` bytes does not fit any more."""
        if self._syncer.error:
            self._syncer.now()
            self._set_limit()
        if self.offset + length > FLUSH_BYTES and self.offset > HEADER_BYTES:
            self._spool.flush(self)
            waiting = len(self._spool.finished)
            self._syncer.tick(self.seq, urgent=waiting > 0)
            if waiting > _MOST_FINISHED:
                self._syncer.now()  # the disk is slower than the log grows: now the log waits for it

    def _set_limit(self) -> None:
        """How far Scope may write by itself; nowhere while each record needs more than an assignment."""
        each = self._watch is not None or self.config.sync_ms == 0 or self.config.checkpoint_records < _FEW
        self.limit = -1 if each or self._lost else FLUSH_BYTES

    def _unsigned(self) -> Record:
        """What a checkpoint signs for: everything up to the last record."""
        return {"chain": self.chain, "covers": self.seq, "digest": self.prev, "signed_at": time.time_ns() // 1000}

    def _start_signature(self) -> None:
        self._schedule()
        self._signer.start(self._unsigned())

    def _take_signature(self) -> None:
        record = self._signer.take()
        if record is None:
            return
        if self.seq + 2 - record["covers"] < COVER_WINDOW:
            self._write_checkpoint("checkpoint", record)
        else:
            self._start_signature()  # it took so long that who verifies has forgotten what it was for

    def _write_checkpoint(self, kind: str, record: Record) -> int:
        self._schedule()
        covered_all = record["covers"] == self.seq
        seq = self.append_record({**record, "kind": kind})
        if covered_all:
            self._signed = seq
        return seq

    def _schedule(self) -> None:
        self._checkpoint_due = self.seq + self.config.checkpoint_records
        self._sign_at = time.monotonic() + _SIGN_AFTER_S
        if self.config.checkpoint_records >= _FEW:
            self._sign_from = time.monotonic() + _SIGN_EVERY_S


_REFUSED = "in enforce mode the message is refused; in observe mode it passes unrecorded"
_NOT_BEGUN = "nothing was started, in either mode: what a log misses is said in the log itself"


def _write_error(path: Path, error: OSError, effect: str = _REFUSED) -> AuditError:
    return AuditError(
        f"the evidence log {path} cannot be written: {error.strerror}",
        effect=effect,
        next_step="make room on the disk, or set state_dir to another one",
    )
