"""What the native lane learns of the messages that went the general way."""

from __future__ import annotations

from pathlib import Path

from callgate.config import Config
from callgate.gate.engine import Gate
from tests.audit.evidence import new_journal
from tests.core.messages import answer, call, needs_core


def test_what_the_lane_would_not_take_is_not_learned(tmp_path: Path) -> None:
    needs_core()
    journal = new_journal(tmp_path)
    gate = Gate(Config(), (), journal)
    channel = gate.channel(server="s", principal="p")

    def learned(number: int) -> int:
        for raw, decide in ((call(number), channel.client), (answer(number), channel.server)):
            assert decide(raw) == raw
        assert gate.native is not None
        return len(gate.native)

    try:
        journal.watch = lambda line: None  # each record is now the journal's own business
        assert learned(1) == 0
        journal.watch = None
        gate.withheld.names["s", "p", "tools/call", "other"] = "x"
        channel.replayable = True
        assert learned(2) == 0
        gate.withheld.names.clear()
        channel.replayable = False
        gate.forms.calls.clear()
        gate.forms.answers.clear()
        assert learned(3) == 2
    finally:
        gate.close()
        journal.close()
