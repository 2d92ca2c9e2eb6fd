"""terminal-escapes: no text of a server drives the terminal or log viewer of the person who reads it.

ANSI and other control sequences, C0 and C1 controls, overwriting carriage returns and backspaces, in every
surface. See docs/controls/terminal-escapes.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from callgate.controls.text_rules import ACTIONS, Action, TextRule, judge, only, option
from callgate.gate.control import ControlMeta, ControlOptions, Pattern
from callgate.gate.events import Event
from callgate.gate.verdicts import Verdict

if TYPE_CHECKING:
    from callgate.detect.spans import Span

_ID: Final = "terminal-escapes"

META: Final = ControlMeta(
    id=_ID,
    title="Terminal control is shown or taken out, and definitions that hold it are withheld",
    risks=("terminal-escape-injection",),
    since="0.1",
    on_hit=frozenset({"connect", "catalog", "call", "content", "server_request"}),
    patterns=(
        # The serialiser writes C0 as \b, \f, \r or \u00xx; an even number of backslashes before it is text.
        Pattern(f"{_ID}/c0", rb"[^\\](\\\\)*\\(u00[01]|b|f)", ascii=False),
        Pattern(f"{_ID}/carriage-return", rb"[^\\](\\\\)*\\r([^\\]|\\[^n])", ascii=False),
        Pattern(f"{_ID}/delete-and-c1", rb"\x7f|\xc2[\x80-\x9f]", ascii=False),
    ),
)

_PHRASES: Final = {
    "csi": "an ANSI control sequence",
    "osc-link": "a terminal hyperlink, whose target need not be what it shows,",
    "osc-clipboard": "a sequence that writes the clipboard",
    "osc-title": "a sequence that sets the window's title",
    "osc": "an operating system command for a terminal",
    "device-control": "a device control string",
    "control-string": "a control string for a terminal",
    "escape": "an escape sequence",
    "c1": "a C1 control",
    "carriage-return": "a carriage return that overwrites the line",
    "backspace": "backspaces that take text back",
    "delete": "a delete control",
    "bell": "a bell",
    "control": "a control character",
    "flood": "terminal control in great number",
}


class TerminalEscapes:
    """The control. Option: `action` (escape, remove, deny; default escape) for everything but definitions."""

    meta = META

    def __init__(self, options: ControlOptions) -> None:
        only(_ID, options, ("action",))
        self._action = cast("Action", option(_ID, options, "action", ACTIONS, "escape"))

    def catalog(self, event: Event) -> Verdict:
        """Withhold definitions with terminal control; escape it in what the server says of itself."""
        return judge(event, _rule(), self._action)

    def connect(self, event: Event) -> Verdict:
        """Record what a client says of itself."""
        return judge(event, _rule(), self._action)

    def call(self, event: Event) -> Verdict:
        """Record terminal control in what a client sends; arguments stay as they were written."""
        return judge(event, _rule(), self._action)

    def content(self, event: Event) -> Verdict:
        """Show, take out or deny."""
        return judge(event, _rule(), self._action)

    def server_request(self, event: Event) -> Verdict:
        """As `content`; a client's answer is only recorded."""
        return judge(event, _rule(), self._action)


def _rule() -> TextRule:
    """The rule, made when first needed: its tables cost more than the gate's start should."""
    global _RULE
    if _RULE is None:
        from callgate.detect import escapes

        def find(text: str, strict: bool, most: int) -> list[Span]:
            return escapes.find(text, strict, most)

        _RULE = TextRule(
            control=_ID,
            risk="terminal-escape-injection",
            phrases=_PHRASES,
            severities={
                "csi": "medium",
                "osc-link": "high",
                "osc-clipboard": "critical",
                "osc-title": "medium",
                "osc": "high",
                "device-control": "high",
                "control-string": "medium",
                "escape": "medium",
                "c1": "low",
                "carriage-return": "medium",
                "backspace": "medium",
                "delete": "low",
                "bell": "low",
                "control": "low",
                "flood": "high",
            },
            find=find,
            shown=escapes.shown,
            removed=escapes.removed,
        )
    return _RULE


_RULE: TextRule | None = None


def build(options: ControlOptions) -> TerminalEscapes:
    """The control with these options. Raises ConfigError."""
    return TerminalEscapes(options)
