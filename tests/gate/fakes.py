"""A journal that keeps its decisions in a list, and controls made of functions: for unit tests of the gate."""

from __future__ import annotations

from typing import Any

from callgate.config import Config, LaunchConfig
from callgate.errors import AuditError
from callgate.gate.channel import Channel
from callgate.gate.control import ControlMeta, Pattern
from callgate.gate.engine import Gate


class FakeScope:
    def __init__(self, journal: FakeJournal) -> None:
        self.journal = journal
        self.revision = ""
        self.session = ""

    def belongs_to(self, session: str) -> None:
        self.session = session

    def decision(self, *fields: Any) -> int:
        if self.journal.full:
            raise AuditError("disk full")
        self.journal.decisions.append(fields)
        return len(self.journal.decisions)

    def head(self, *form: Any) -> Any:
        return form

    def record(self, head: Any, request_id: Any, data: bytes, about: int, duration_us: int) -> int:
        return self.decision(*head[:4], request_id, data, head[4], "allow", (), about, duration_us)


class FakeJournal:
    def __init__(self) -> None:
        self.decisions: list[tuple[Any, ...]] = []
        self.notes: list[tuple[str, dict[str, Any]]] = []
        self.full = False

    def scope(self, **_: Any) -> FakeScope:
        return FakeScope(self)

    def note(self, kind: str, fields: dict[str, Any]) -> int:
        self.notes.append((kind, fields))
        return len(self.notes)

    def tick(self) -> bool:
        return False

    def outcomes(self) -> list[str]:
        return [fields[7] for fields in self.decisions]


def control(id: str, pattern: bytes = b"", **hooks: Any) -> Any:
    """A control from functions; with a pattern the hooks run on a hit only."""
    names = frozenset(hooks)
    meta = ControlMeta(
        id=id,
        title=id,
        risks=("tool-poisoning",),
        since="0.1.0",
        always=frozenset() if pattern else names,  # type: ignore[arg-type]
        on_hit=names if pattern else frozenset(),  # type: ignore[arg-type]
        patterns=(Pattern(f"{id}/p", pattern),) if pattern else (),
    )
    return type("FunctionControl", (), {"meta": meta, **{name: staticmethod(hook) for name, hook in hooks.items()}})()


def gate_of(*controls: Any, mode: str = "enforce", **config: Any) -> tuple[Gate, FakeJournal]:
    """Servers start unconfined unless `launch` says otherwise, as in all tests that are about messages."""
    journal = FakeJournal()
    config.setdefault("launch", LaunchConfig(sandbox="none"))
    return Gate(Config(mode=mode, **config), controls, journal), journal  # type: ignore[arg-type]


def channel_of(*controls: Any, mode: str = "enforce", session: str = "", **config: Any) -> tuple[Channel, FakeJournal]:
    gate, journal = gate_of(*controls, mode=mode, **config)
    return gate.channel(server="s", principal="p", session=session), journal
