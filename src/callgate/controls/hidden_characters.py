"""hidden-characters: nothing reaches the model that the person who reads the same text cannot see.

Tag characters, bidirectional controls, zero-width characters and variation-selector payloads in every surface;
names drawn to look like other names in everything a server lists. See docs/controls/hidden-characters.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from callgate.controls.text_rules import (
    ACTIONS,
    LISTS,
    Action,
    TextRule,
    item_name,
    item_pointer,
    judge,
    only,
    option,
)
from callgate.gate.control import ControlMeta, ControlOptions, Pattern
from callgate.gate.events import Event
from callgate.gate.verdicts import ALLOW, Annotate, Deny, Edit, Finding, Remove, Rewrite, Verdict
from callgate.protocol.roles import Role
from callgate.text import visible

if TYPE_CHECKING:
    from callgate.detect.spans import Span

_ID: Final = "hidden-characters"

# Bytes of UTF-8 as the serialiser writes them. U+FE0E and U+FE0F hit only after a character without an emoji
# form, so that ordinary emoji cost nothing; everything else that the detector knows hits always.
_INVISIBLE: Final = (
    rb"\xe2\x80[\x8b-\x8f\xaa-\xae]|\xe2\x81[\xa0-\xaf]|\xd8\x9c|\xef\xbb\xbf|\xc2\xad|\xcd\x8f|\xe1\x85[\x9f\xa0]"
    rb"|\xe1\x9e[\xb4\xb5]|\xe1\xa0[\x8b-\x8f]|\xe3\x85\xa4|\xef\xbe\xa0|\xef\xbf[\xb0-\xbb]|\xf0\x9b\xb2[\xa0-\xa3]"
    rb"|\xf0\x9d\x85[\xb3-\xba]"
)
_NO_EMOJI: Final = (
    rb"(?:[\x00-\x22\x24-\x29\x2b-\x2f\x3a-\x7f]|\xc2[^\xa9\xae]|[\xc3-\xdf][\x80-\xbf]"
    rb"|\xe2(?:\x80[^\xbc]|\x81[^\x89]|[\x82\x83\x85\xb0-\xbf][\x80-\xbf]|\x84[^\xa2\xb9]|\x86[\x80-\x8f])"
    rb"|\xe3(?:\x80[^\xb0\xbd]|\x8a[^\x97\x99]|[\x81-\x89\x8b-\xbf][\x80-\xbf])|[\xe0\xe1\xe4-\xef][\x80-\xbf]{2}"
    rb"|\xf0\x9f[\xac-\xbf][\x80-\xbf]|\xf0[\x90-\x9e][\x80-\xbf]{2}|[\xf1-\xf4][\x80-\xbf]{3})"
)

META: Final = ControlMeta(
    id=_ID,
    title="Hidden characters are shown or taken out, and definitions that hold them are withheld",
    risks=("unicode-smuggling", "confusable-names"),
    since="0.1",
    always=frozenset({"catalog"}),
    on_hit=frozenset({"connect", "call", "content", "server_request"}),
    patterns=(
        Pattern(f"{_ID}/plane-14", rb"\xf3\xa0[\x80-\xbf]", ascii=False),
        Pattern(f"{_ID}/invisible", _INVISIBLE, ascii=False),
        Pattern(f"{_ID}/selector", rb"\xef\xb8[\x80-\x8d]", ascii=False),
        Pattern(f"{_ID}/emoji-selector", _NO_EMOJI + rb"\xef\xb8[\x8e\x8f]", ascii=False),
    ),
)

_PHRASES: Final = {
    "tag-characters": "invisible tag characters",
    "bidi-control": "a control that reorders what is displayed",
    "bidi-mark": "an invisible direction mark",
    "variation-selector": "variation selectors that select nothing",
    "zero-width": "characters without width",
    "flood": "hidden characters in great number",
}


class HiddenCharacters:
    """The control. Options: `action` (escape, remove, deny; default escape) for everything but definitions;
    `names` (withhold, annotate; default withhold) for listed names that imitate another name.
    """

    meta = META

    def __init__(self, options: ControlOptions) -> None:
        only(_ID, options, ("action", "names"))
        self._action = cast("Action", option(_ID, options, "action", ACTIONS, "escape"))
        self._withhold = option(_ID, options, "names", ("withhold", "annotate"), "withhold") == "withhold"

    def catalog(self, event: Event) -> Verdict:
        """Withhold definitions with hidden characters or an imitated name."""
        ascii_only = event.message.data.isascii()
        found = ALLOW if ascii_only else judge(event, _rule(), self._action)
        edits, findings = self._names(event, ascii_only)
        if not findings or isinstance(found, Deny):
            return found
        if not isinstance(found, Rewrite | Annotate):
            return Rewrite(tuple(edits), tuple(findings)) if edits else Annotate(tuple(findings))
        if isinstance(found, Rewrite):
            edits = [*found.edits, *edits]
        both = (*found.findings, *findings)
        return Rewrite(tuple(edits), both) if edits else Annotate(both)

    def connect(self, event: Event) -> Verdict:
        """Record what a client says of itself."""
        return judge(event, _rule(), self._action)

    def call(self, event: Event) -> Verdict:
        """Record hidden characters in what a client sends; arguments stay as they were written."""
        return judge(event, _rule(), self._action)

    def content(self, event: Event) -> Verdict:
        """Show, take out or deny."""
        return judge(event, _rule(), self._action)

    def server_request(self, event: Event) -> Verdict:
        """As `content`; a client's answer is only recorded."""
        return judge(event, _rule(), self._action)

    # -- names -------------------------------------------------------------------------------------

    def _names(self, event: Event, ascii_only: bool) -> tuple[list[Edit], list[Finding]]:
        edits: list[Edit] = []
        findings: list[Finding] = []
        if not ascii_only:
            self._impostors(event, edits, findings)
        self._collisions(event, edits, findings)
        return edits, findings

    def _impostors(self, event: Event, edits: list[Edit], findings: list[Finding]) -> None:
        from callgate.detect.confusables import impostor

        for surface in event.surfaces():
            if surface.role is not Role.NAME or surface.text.isascii():
                continue
            imitates = impostor(surface.text)
            if imitates:
                pointer = event.pointer(surface)
                item = item_pointer(event, pointer)
                what = f'the name "{visible(surface.text, 80)}" is drawn to look like "{visible(imitates, 80)}"'
                self._name(event, item, pointer, "confusable-name", what, edits, findings)

    def _collisions(self, event: Event, edits: list[Edit], findings: list[Finding]) -> None:
        result = event.message.body.get("result")
        if type(result) is not dict:
            return
        for kind in LISTS:
            items = result.get(kind)
            if type(items) is not list or len(items) < 2:
                continue
            from callgate.detect.confusables import skeleton

            first: dict[str, str] = {}
            # ASCII names first: where one of two is to go, it is the other one.
            named = [(index, item.get("name")) for index, item in enumerate(items) if type(item) is dict]
            for index, name in sorted(named, key=lambda entry: not str(entry[1]).isascii()):
                if type(name) is not str or not name:
                    continue
                other = first.setdefault(skeleton(name), name)
                if other != name:
                    what = f'the names "{visible(name, 80)}" and "{visible(other, 80)}" look alike'
                    item = "" if name.isascii() else f"/result/{kind}/{index}"
                    self._name(event, item, f"/result/{kind}/{index}/name", "colliding-names", what, edits, findings)

    def _name(
        self, event: Event, item: str, pointer: str, kind: str, what: str, edits: list[Edit], findings: list[Finding]
    ) -> None:
        withheld = bool(item) and self._withhold
        if withheld:
            edits.append(Remove(item))
            what = f"{item_name(event, item)} is withheld: {what}"
        findings.append(Finding(f"{_ID}/{kind}", "confusable-names", what, pointer, "high" if withheld else "low"))


def _rule() -> TextRule:
    """The rule, made when first needed: its tables cost more than the gate's start should."""
    global _RULE
    if _RULE is None:
        from callgate.detect import hidden

        def find(text: str, strict: bool, most: int) -> list[Span]:
            return hidden.find(text, strict, most)

        _RULE = TextRule(
            control=_ID,
            risk="unicode-smuggling",
            phrases=_PHRASES,
            severities={
                "tag-characters": "critical",
                "bidi-control": "high",
                "bidi-mark": "low",
                "variation-selector": "high",
                "zero-width": "medium",
                "flood": "high",
            },
            find=find,
            shown=hidden.shown,
            removed=hidden.removed,
        )
    return _RULE


_RULE: TextRule | None = None


def build(options: ControlOptions) -> HiddenCharacters:
    """The control with these options. Raises ConfigError."""
    return HiddenCharacters(options)
