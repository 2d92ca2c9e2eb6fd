"""What the controls over text share: find in every surface, then withhold, show or take out.

By place:

- a definition in a list (tool, prompt, resource, template) is withheld: the item is removed, the list stays;
- what a server says of itself (name, instructions) is escaped in place, since there is nothing to withhold;
- results, errors, prompts, notifications and requests of a server follow the control's `action`;
- what a client sends is recorded only, so that arguments arrive as they were written;
- values that only programs compare (ids, cursors, tokens) are recorded only. Base64 is never hit: what stands in its
  place and is, is text, and goes to whoever shows or decodes it carelessly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from callgate.errors import ConfigError
from callgate.frozen import dataclass
from callgate.gate.control import ControlOptions
from callgate.gate.events import Event
from callgate.gate.verdicts import (
    ALLOW,
    Annotate,
    Deny,
    Edit,
    Finding,
    Remove,
    RenameKey,
    ReplaceSpan,
    Rewrite,
    Severity,
    Verdict,
)
from callgate.protocol.message import Direction
from callgate.protocol.roles import Role
from callgate.text import visible

if TYPE_CHECKING:
    from callgate.detect.spans import Form, Span
    from callgate.protocol.surfaces import Surface

Action: TypeAlias = Literal["escape", "remove", "deny"]
Find: TypeAlias = "Callable[[str, bool, int], list[Span]]"

ACTIONS = ("escape", "remove", "deny")
LISTS = {
    "tools": "tool",
    "prompts": "prompt",
    "resources": "resource",
    "resourceTemplates": "resource template",
}
"""Members of list results, and what one of their items is called."""

MOST_EDITS = 20_000
"""Places changed one by one in one message; beyond, each text is treated as a whole."""
MOST_FINDINGS = 50
_EXCERPT = 40

_OPAQUE = frozenset(
    {
        "jsonrpc", "id", "method", "cursor", "nextCursor", "progressToken", "requestState", "requestId", "taskId",
        "toolUseId",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TextRule:
    """One control's knowledge: what it looks for, what that is called, and its two harmless forms."""

    control: str
    risk: str
    phrases: Mapping[str, str]
    severities: Mapping[str, Severity]
    find: Find
    shown: Form
    removed: Form


def option(control: str, options: ControlOptions, name: str, choices: tuple[str, ...], default: str) -> str:
    """One of `choices`. Raises ConfigError."""
    value = options.get(name, default)
    if value not in choices:
        raise ConfigError(f"controls.{control}.{name}: must be one of {', '.join(choices)}")
    return value


def only(control: str, options: ControlOptions, known: tuple[str, ...]) -> None:
    """Raises ConfigError for an option that is not known."""
    for name in options:
        if name not in known:
            listed = ", ".join(("mode", *known))
            raise ConfigError(f"controls.{control}.{name}: unknown key; known here: {listed}")


def judge(event: Event, rule: TextRule, action: Action) -> Verdict:
    """Look at every surface of the message and say what is to be done."""
    from callgate.detect.spans import MOST_SPANS, replace

    collected = _Collected(event, rule)
    mutable = event.direction is Direction.SERVER
    definitions = event.hook == "catalog"
    form = rule.removed if action == "remove" else rule.shown
    denied = False
    for surface in event.surfaces():
        role = surface.role
        if role is Role.MACHINE and surface.text.isascii() and surface.text.isprintable():
            continue
        strict = definitions or role is Role.NAME or surface.key
        spans = rule.find(surface.text, strict, min(MOST_SPANS, MOST_EDITS - len(collected.edits)))
        if not spans:
            continue
        pointer = event.pointer(surface)
        item = item_pointer(event, pointer) if definitions else ""
        collected.finding(surface, spans, item, changes=mutable)
        if not mutable or (role is Role.MACHINE and not item and pointer.rpartition("/")[2] in _OPAQUE):
            continue
        if item:
            collected.edits.append(Remove(item))
        elif action == "deny" and not definitions:
            denied = True
        elif surface.key:
            collected.edits.append(RenameKey(pointer, replace(surface.text, spans, form), again=True))
        else:
            for span in spans:
                collected.edits += _edits(pointer, surface.text, span, form)
    return collected.verdict(denied)


def _edits(pointer: str, text: str, span: Span, form: Form) -> list[Edit]:
    """The change of one span, without its middle where that stays: there another control may have to work."""
    start, end, replacement = span.start, span.end, form(text, span)
    first = start + (2 if text[start] == "\x1b" else 1)
    last = end - (2 if text[end - 2 : end - 1] == "\x1b" else 1)
    middle = text[first:last]
    where = replacement.find(middle) if middle else -1
    if where < 0:
        return [ReplaceSpan(pointer, start, end, replacement, again=True)]
    return [
        ReplaceSpan(pointer, start, first, replacement[:where], again=True),
        ReplaceSpan(pointer, last, end, replacement[where + len(middle) :], again=True),
    ]


def item_pointer(event: Event, pointer: str) -> str:
    """The listed item that `pointer` lies in, as `/result/tools/3`; '' outside of one."""
    if event.hook != "catalog":
        return ""
    tokens = pointer.split("/", 4)
    if len(tokens) > 3 and tokens[1] == "result" and tokens[2] in LISTS and tokens[3].isdecimal():
        return "/".join(tokens[:4])
    return ""


def item_name(event: Event, item: str) -> str:
    """How to call the item at `item` when talking to a person: `tool "search"`."""
    _, _, kind, index = item.split("/")
    try:
        entry: Any = event.message.body["result"][kind][int(index)]
        name = entry.get("name")
    except (KeyError, IndexError, AttributeError, TypeError):
        name = None
    return f'{LISTS[kind]} "{visible(name, 80)}"' if isinstance(name, str) else f"{LISTS[kind]} number {index}"


class _Collected:
    """Edits and findings of one message, the latter bounded."""

    __slots__ = ("_event", "_left_out", "_rule", "edits", "findings")

    def __init__(self, event: Event, rule: TextRule) -> None:
        self._event = event
        self._rule = rule
        self._left_out = 0
        self.edits: list[Edit] = []
        self.findings: list[Finding] = []

    def finding(self, surface: Surface, spans: list[Span], item: str, *, changes: bool) -> None:
        """One finding for each kind in this surface."""
        if len(self.findings) >= MOST_FINDINGS:
            self._left_out += 1
            return
        rule = self._rule
        counts = Counter(span.kind for span in spans)
        for kind, count in counts.items():
            first = next(span for span in spans if span.kind == kind)
            where = f"{item_name(self._event, item)} is withheld: " if item else ""
            times = f" ({count} places)" if count > 1 else ""
            spelt = f', spelling "{visible(first.payload, 120)}"' if first.payload else ""
            what = f"{where}{rule.phrases[kind]} in {'a member name' if surface.key else 'the text'}{times}{spelt}"
            text = surface.text[max(0, first.start - _EXCERPT) : first.end + _EXCERPT]
            severity = rule.severities[kind] if changes else "info"
            self.findings.append(
                Finding(f"{rule.control}/{kind}", rule.risk, what, surface.pointer, severity, visible(text, 240))
            )

    def verdict(self, denied: bool) -> Verdict:
        """Deny over Rewrite over Annotate; Allow when nothing was found."""
        if not self.findings:
            return ALLOW
        if self._left_out:
            what = f"{self._left_out} more places, not listed one by one"
            self.findings.append(Finding(f"{self._rule.control}/flood", self._rule.risk, what, severity="low"))
        findings = tuple(self.findings)
        if denied:
            return Deny(f"the answer holds {self._rule.phrases['flood']}, which are not allowed here", findings)
        return Rewrite(tuple(self.edits), findings) if self.edits else Annotate(findings)
