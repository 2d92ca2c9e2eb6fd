"""Put the parts of a gate together: state directory, evidence, pins, controls, engine.

The one place that knows every room; `cli` calls it, nothing imports it from below.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from callgate.config import Config
from callgate.config.places import state_directory

if TYPE_CHECKING:
    from callgate.audit import Journal
    from callgate.gate.engine import Gate


def assemble(config: Config, *, process: str) -> tuple[Path, Journal, Gate]:
    """The state directory, an open journal and a gate. Raises ConfigError, StoreError, AuditError."""
    from callgate.audit import open_journal

    state = state_directory(config)
    journal = open_journal(state, config.audit, process=process)
    return state, journal, build_gate(config, state, journal)


def make_ready(gate: Gate) -> None:
    """Load and open now what the first answer would wait for (5 ms), while its server boots.

    Only in a process that will not fork: a database connection does not survive it.
    """
    from callgate.detect import confusables  # noqa: F401  to have it loaded
    from callgate.protocol import surfaces  # noqa: F401  also

    for control in gate.controls:
        ready = getattr(control, "make_ready", None)
        if ready is not None:
            ready()


def build_gate(config: Config, state: Path, journal: Journal) -> Gate:
    """A gate for a configuration, on an open journal: again at each reload."""
    from callgate.controls.registry import build_controls
    from callgate.gate.engine import Gate

    controls = build_controls(config, state)
    return Gate(config, controls, journal, cache_dir=state / "cache")
