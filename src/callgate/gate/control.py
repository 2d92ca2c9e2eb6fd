"""The contract of a control: one file, one idea, a verdict for each hook it cares about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol, TypeAlias

from callgate.frozen import dataclass
from callgate.gate.events import Event, Hook, LaunchEvent
from callgate.gate.verdicts import Verdict

Mode: TypeAlias = Literal["enforce", "observe", "off"]


@dataclass(frozen=True, slots=True)
class Pattern:
    """A byte pattern for the one automaton, matched against the serialised message (UTF-8 JSON).

    Hyperscan syntax, no flags; a match only means "look closer": the control locates the exact
    place in the surfaces and may find nothing.
    """

    name: str
    expression: bytes
    ascii: bool = True
    """Whether it may be found in a message of printable ASCII with no escapes but those of quotes, backslashes, tabs
    and line ends. Where none of a gate's may, most messages need no scan."""


@dataclass(frozen=True, slots=True)
class ControlMeta:
    """What a control is. `id` is stable and names its docs page `docs/controls/<id>.md`.

    `always`: hooks run for every message of that kind. `on_hit`: hooks run only when one of `patterns`
    is in the message. A hook in neither is not implemented.
    """

    id: str
    title: str
    risks: tuple[str, ...]
    since: str
    always: frozenset[Hook] = frozenset()
    on_hit: frozenset[Hook] = frozenset()
    patterns: tuple[Pattern, ...] = ()


class Control(Protocol):
    """A control implements a method for each hook in `meta.always` and `meta.on_hit`.

    Methods are synchronous, take no lock, do no I/O on a message path, and return in microseconds. One control
    may also have `refusal(error: ProtocolError) -> Finding`: it describes what the strict parser refused, and
    `make_ready() -> None`: it opens before the first message what it will need (`assembly.make_ready`).

    A control whose `call` depends on nothing but server, method and name for most calls may say so in advance, by
    `clears_call(server: str, method: str, name: str) -> bool`: True where `call` would allow, now, whatever else the
    message holds and whoever sends it. It must be a few look-ups: no watchdog stands behind it. If it also
    has `clearance_stamp`, a memory of eight bytes (an mmap), it is not asked again while these stay as they are.
    """

    meta: ControlMeta


class EventHook(Protocol):
    """The shape of `connect`, `catalog`, `call`, `content` and `server_request`."""

    def __call__(self, event: Event) -> Verdict: ...


class LaunchHook(Protocol):
    """The shape of `launch`."""

    def __call__(self, event: LaunchEvent) -> Verdict: ...


ControlOptions: TypeAlias = Mapping[str, object]
