"""What a control can say of an event, and how one finding is described.

Composition (engine): Deny over Ask over Rewrite over Annotate over Allow. Rewrites of several
controls compose by pointer and span; where two touch the same characters or name and neither of these edits is made
again, the event is denied.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from callgate.frozen import dataclass

Severity: TypeAlias = Literal["info", "low", "medium", "high", "critical"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing a control noticed.

    `rule` is `<control id>/<what>`, stable; `risk` is an id of `callgate.risks`; `message` and
    `evidence` are safe to print (run through `callgate.text.visible`); `pointer` is an RFC 6901
    pointer into the message body, or empty for the message as a whole.
    """

    rule: str
    risk: str
    message: str
    pointer: str = ""
    severity: Severity = "medium"
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class ReplaceSpan:
    """Replace characters [start, end) of the string at `pointer` by `text`.

    `again`: where another edit touches the same characters this one gives way, since its control has a pattern for
    what is there and so makes it again when the changed message is looked at.
    """

    pointer: str
    start: int
    end: int
    text: str
    again: bool = False


@dataclass(frozen=True, slots=True)
class ReplaceValue:
    """Replace the value at `pointer` by `value`."""

    pointer: str
    value: Any


@dataclass(frozen=True, slots=True)
class RenameKey:
    """Rename the last member of `pointer` to `key`. Denied when `key` is already there. `again`: as in ReplaceSpan."""

    pointer: str
    key: str
    again: bool = False


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove the value at `pointer`: a tool from a list, a block from a result."""

    pointer: str


Edit: TypeAlias = ReplaceSpan | ReplaceValue | RenameKey | Remove
EDITS = (ReplaceSpan, ReplaceValue, RenameKey, Remove)


@dataclass(frozen=True, slots=True)
class Allow:
    """Nothing to say."""


@dataclass(frozen=True, slots=True)
class Annotate:
    """Pass unchanged; record the findings; raise the conversation's labels."""

    findings: tuple[Finding, ...] = ()
    labels: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Pass changed: redacted, escaped, filtered. `note` is what a person reads in the live line."""

    edits: tuple[Edit, ...]
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Ask:
    """A person decides. `subject` is bound by the engine to principal, server and exact message."""

    subject: str
    findings: tuple[Finding, ...] = ()
    expires_s: float = 120.0


@dataclass(frozen=True, slots=True)
class Deny:
    """It does not pass. `reason` goes to the caller: what was refused and what to do, no policy detail."""

    reason: str
    findings: tuple[Finding, ...] = ()


Verdict: TypeAlias = Allow | Annotate | Rewrite | Ask | Deny

ALLOW = Allow()
