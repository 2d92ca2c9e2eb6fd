"""secret-redaction: what a server was given in confidence does not come back in what it says.

Every secret that callgate resolved for a server, and every credential that stands in its configuration, is taken out
of all its messages, in the forms of `vault.redaction`. See docs/controls/secret-redaction.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from callgate.controls.text_rules import MOST_EDITS, only
from callgate.gate.control import ControlMeta, ControlOptions
from callgate.gate.events import Event
from callgate.gate.verdicts import ALLOW, Deny, Edit, Finding, RenameKey, ReplaceSpan, Rewrite, Verdict
from callgate.protocol.message import Direction
from callgate.protocol.roles import Role
from callgate.vault import active

if TYPE_CHECKING:
    from callgate.config import Config
    from callgate.vault.redaction import Needle, Redactor

_ID: Final = "secret-redaction"
_RISK: Final = "secret-exposure"
_FILLER: Final = "REDACTED"
"""Eight characters of base64: what takes the place of a secret inside binary data, so that it still decodes."""
_SERVER: Final = Direction.SERVER

META: Final = ControlMeta(
    id=_ID,
    title="Secrets of a server are taken out of what it says",
    risks=(_RISK,),
    since="0.2",
    always=frozenset({"catalog", "content", "server_request"}),
)


class SecretRedaction:
    """The control. It has no options; `mode` is as for all controls."""

    meta = META

    def __init__(self, options: ControlOptions) -> None:
        only(_ID, options, ())

    def catalog(self, event: Event) -> Verdict:
        """Take secrets out of what a server says it offers."""
        return _judge(event)

    def content(self, event: Event) -> Verdict:
        """Take secrets out of results, errors and notifications."""
        return _judge(event)

    def server_request(self, event: Event) -> Verdict:
        """Take secrets out of what a server asks; a client's answer passes."""
        return _judge(event)


def _judge(event: Event) -> Verdict:
    redactor = active.of(event.conversation.server)
    if redactor is None or event.direction is not _SERVER:
        return ALLOW
    needles = redactor.found(event.message.data)
    return _taken_out(event, redactor, needles) if needles else ALLOW


def _taken_out(event: Event, redactor: Redactor, needles: tuple[Needle, ...]) -> Verdict:
    from callgate.vault.redaction import mark

    edits: list[Edit] = []
    where: dict[str, list[str]] = {}
    digits = {needle.text: event.message.data.count(needle.data) for needle in needles if needle.data.isdigit()}
    for surface in event.surfaces():
        spans = redactor.places_in(surface.text)
        if not spans:
            continue
        pointer, text = event.pointer(surface), surface.text
        shown = redactor.redact_text(pointer) or pointer  # a member's name may be a secret too
        pieces: list[tuple[int, int, str]] = []
        for start, end, needle in spans:
            where.setdefault(needle.name, []).append(shown)
            opaque = surface.role is Role.MACHINE and needle.in_base64
            pieces.append((start, end, _filler(end - start) if opaque else mark(needle.name)))
        for form in digits:
            digits[form] -= text.count(form or "\0")
        if surface.key:
            edits.append(RenameKey(pointer, _spliced(text, pieces)))
        else:
            edits += [ReplaceSpan(pointer, start, end, put) for start, end, put in pieces]
        if len(edits) > MOST_EDITS:
            break
    left = len(edits) > MOST_EDITS or any(count > 0 for count in digits.values())
    if left or not edits:
        names = sorted({*where, *(needle.name for needle in needles)})
        findings = tuple(_finding(name, where.get(name, [""])[:1], "the message is refused") for name in names)
        return Deny(
            "the answer holds a secret of this server where it cannot be taken out; see callgate audit", findings
        )
    return Rewrite(tuple(edits), tuple(_finding(name, places, "it is taken out") for name, places in where.items()))


def _finding(name: str, places: list[str], done: str) -> Finding:
    times = f" in {len(places)} places" if len(places) > 1 else ""
    return Finding(f"{_ID}/exposed", _RISK, f"the server said its secret {name}{times}; {done}", places[0], "high")


def _filler(count: int) -> str:
    return (_FILLER * (count // len(_FILLER) + 1))[:count]


def _spliced(text: str, pieces: list[tuple[int, int, str]]) -> str:
    out: list[str] = []
    at = 0
    for start, end, put in pieces:
        out += (text[at:start], put)
        at = end
    return "".join((*out, text[at:]))


def needed(config: Config) -> bool:
    """Whether a server of this configuration or of this process has secrets: else no message is looked at."""
    if active.any_secrets():
        return True
    from callgate.vault.known_tokens import prefix_of
    from callgate.vault.reference import is_reference

    for server in config.servers.values():
        if server.secrets:
            return True
        for text in (*server.environment.values(), *server.headers.values()):
            if is_reference(text) or any(map(prefix_of, text.split())):
                return True
    return False


def build(options: ControlOptions) -> SecretRedaction:
    """The control. Raises ConfigError for any option."""
    return SecretRedaction(options)
