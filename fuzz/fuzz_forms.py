"""Some messages, one after the other, into a gate with the native lane and into one that has no short way.

One message a line; a line that begins with `<` is the client's, one with `>` the server's. What was learned of one
message must never decide another: forwarded bytes, refusals, what waits and the records of evidence are the same.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import atheris
import orjson

with atheris.instrument_imports(include=["callgate"]):
    from callgate.audit import open_journal
    from callgate.config import AuditConfig, Config, ControlConfig, Limits
    from callgate.controls.registry import build_controls
    from callgate.gate.engine import Gate
    from callgate.native import core

LIMITS = Limits(request_bytes=700, response_bytes=700, depth=20, nodes=60, keys=20, string_bytes=300, in_flight=3)
# What no server ever listed is noted with each call, and so never learned.
CONFIG = Config(limits=LIMITS, controls={"definition-pins": ControlConfig(mode="off")})
MESSAGES = 8
INPUTS = 10_000
"""Inputs for which one log is written; then another takes its place."""
_OF_THE_RUN = {"chain": "", "prev": "", "time": 0, "took_us": 0}


class Side:
    """A gate with a log of its own."""

    def __init__(self, place: Path, *, lane: bool) -> None:
        self.lane = lane
        self.journal = open_journal(place, AuditConfig(checkpoint_records=10**9), process="fuzz")
        self.gate = Gate(CONFIG, build_controls(CONFIG, place), self.journal)
        self.begin()

    def begin(self) -> None:
        """A new channel of a gate that knows no form."""
        if self.gate.native is not None:
            self.gate.native.clear()
        self.channel = self.gate.channel(server="s", principal="p")
        if not self.lane:
            self.channel.express = None

    def tell(self, message: bytes) -> tuple[Any, list[Any] | None]:
        """What comes of one message, and its records as far as they can be read here."""
        forms = self.gate.forms
        forms.calls.clear()  # the short way in Python has tests of its own
        forms.answers.clear()
        journal, channel = self.journal, self.channel
        before = journal.offset
        result = (channel.server if message[:1] == b">" else channel.client)(message[1:])
        waiting = {key: (one.method, one.name, one.seq, one.modern) for key, one in channel.pending.items()}
        shown = result if isinstance(result, bytes) else (result.forward, result.reply, result.rule, result.status)
        state = shown, waiting, list(channel.asked), channel.modern, channel.revision, journal.seq
        if journal.offset < before:  # these went to the disk with the others before them
            return state, None
        return state, [orjson.loads(line) | _OF_THE_RUN for line in journal.tail[before : journal.offset].splitlines()]

    def close(self) -> None:
        self.gate.close()
        self.journal.close()


class Both:
    """The two, for so many inputs."""

    def __init__(self) -> None:
        self.place = tempfile.mkdtemp(prefix="callgate-fuzz-")
        self.left = INPUTS
        self.sides = [Side(Path(self.place, str(lane)), lane=lane) for lane in (True, False)]

    def close(self) -> None:
        for side in self.sides:
            side.close()
        shutil.rmtree(self.place, ignore_errors=True)


_both: list[Both] = []


def one_input(data: bytes) -> None:
    if core is None:
        sys.exit("the native lane is not built: tools/build-native")
    if not _both or not _both[0].left:
        for old in _both:
            old.close()
        _both[:] = [Both()]
    both = _both[0]
    both.left -= 1
    for side in both.sides:
        side.begin()
    for message in data.split(b"\n")[:MESSAGES]:
        if message[:1] in (b"<", b">"):
            (lane, recorded), (python, expected) = (side.tell(message) for side in both.sides)
            assert lane == python, message
            if recorded is not None and expected is not None:
                assert recorded == expected, message


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    try:
        atheris.Fuzz()
    finally:
        for one in _both:
            one.close()
