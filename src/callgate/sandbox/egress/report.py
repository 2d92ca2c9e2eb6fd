"""What the gate's process tells callgate: one line of JSON an event, never more than can be kept.

A hostile server may open a thousand connections a second. Events beyond the rate are counted, by kind and outcome,
and the counts follow when there is room again: evidence then says how many, not each.
"""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import orjson

from callgate.text import visible

BURST = 100
"""Events at once."""
PER_SECOND = 20
"""Events in the long run."""
QUEUE_BYTES = 256 * 1024
"""Waiting for callgate to read; beyond it events are counted as well."""
TEXT = 253
"""Characters of a text in an event."""


class Report:
    """Writes events to callgate. Call `flush` about once a second."""

    def __init__(self, control: socket.socket, clock: Callable[[], float] = time.monotonic) -> None:
        control.setblocking(False)
        self._control = control
        self._clock = clock
        self._tokens = float(BURST)
        self._filled = clock()
        self._waiting = bytearray()
        self._suppressed: Counter[tuple[str, str]] = Counter()

    def tell(self, event: dict[str, object]) -> None:
        """Write one event, or count it."""
        if not self._take() or len(self._waiting) > QUEUE_BYTES:
            self._suppressed[str(event["kind"]), str(event.get("outcome", ""))] += 1
            return
        self._write(event)

    def flush(self, *, last: bool = False) -> None:
        """What is waiting, and the counts of what was left out, where there is room or it is the `last` chance."""
        for (kind, outcome), count in list(self._suppressed.items()):
            if last or self._take():
                del self._suppressed[kind, outcome]
                self._write({"kind": "egress-suppressed", "of": kind, "outcome": outcome, "count": count})
        self._send()

    def _take(self) -> bool:
        now = self._clock()
        self._tokens = min(float(BURST), self._tokens + (now - self._filled) * PER_SECOND)
        self._filled = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def _write(self, event: dict[str, object]) -> None:
        shown = {key: visible(value, TEXT) if isinstance(value, str) else value for key, value in event.items()}
        self._waiting += orjson.dumps(shown) + b"\n"
        self._send()

    def _send(self) -> None:
        while self._waiting:
            try:
                sent = self._control.send(self._waiting)
            except BlockingIOError:
                return
            except OSError:
                self._waiting.clear()  # callgate has gone, and so shall we
                return
            del self._waiting[:sent]


@dataclass(slots=True)
class Visit:
    """One connection to one destination, as its event will tell it."""

    host: str
    port: int
    reason: str = ""
    """Why it was refused or cut; empty: it was allowed and ended as it should."""
    failed: bool = False
    """The gate allowed it, but the host could not be reached or did not prove who it is."""
    reached: bool = False
    """Whether a connection to the host was opened and bytes could flow."""
    private: str = ""
    """The private network that it leads into; empty: to a public address."""
    via: str = ""
    """The other proxy it goes through; empty: none."""
    tls: str = "none"
    bytes_out: int = 0
    bytes_in: int = 0
    secrets: set[str] = field(default_factory=set)
    started: float = field(default_factory=time.monotonic)

    def event(self) -> dict[str, object]:
        """`outcome`: `allowed` once bytes could pass; `failed` where the host was not reached; else `refused`."""
        outcome = "failed" if self.failed else "allowed" if self.reached else "refused"
        reason = self.reason or ("" if self.reached else "it ended before anything could pass")
        event: dict[str, object] = {
            "kind": "egress",
            "host": self.host,
            "port": self.port,
            "outcome": outcome,
            "bytes_out": self.bytes_out,
            "bytes_in": self.bytes_in,
            "tls": self.tls,
            "secrets": sorted(self.secrets),
            "duration_ms": round((time.monotonic() - self.started) * 1000),
        }
        if self.via:
            event["via"] = self.via
        if self.private:
            event["network"] = f"private, allowed by {self.private}"
        if reason:
            event["reason"] = reason
        return event
