"""definition-pins: what a server showed at first use is what it may show, until a person says otherwise.

First use pins the whole surface. A later difference is classified (trust/changes.py): cosmetic ones pass
with a note, any other withholds the item, not the server, until it is approved with `callgate pins`.
Calls are held against the same: a withheld name is refused even when it is called by name.
See docs/controls/definition-pins.md.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any, Final

import orjson

from callgate.detect import escapes, hidden
from callgate.errors import ConfigError, StoreError
from callgate.gate.control import ControlMeta, ControlOptions
from callgate.gate.events import Event
from callgate.gate.verdicts import (
    ALLOW,
    Annotate,
    Deny,
    Edit,
    Finding,
    Remove,
    ReplaceValue,
    Rewrite,
    Severity,
    Verdict,
)
from callgate.protocol.message import Direction
from callgate.store.pins import AFTER_CHANGE, KindPins, Sighting
from callgate.store.view import PinView
from callgate.text import visible
from callgate.trust.canonical import canonical
from callgate.trust.changes import ABSENT, PASSING, Change
from callgate.trust.definitions import KEY_MEMBER, LISTS, Extract, Item, address, extract, handed_out_later
from callgate.trust.judgement import APPROVED, FIRST, Judgement, Nameless, judge_changed, judge_new
from callgate.vault import active

META: Final = ControlMeta(
    id="definition-pins",
    title="Changed definitions are withheld until approved",
    risks=("rug-pull", "fake-tool-invocation"),
    since="0.1",
    always=frozenset({"catalog", "call"}),
)
OPEN_S: Final = 600.0
"""A list of which nobody ever read the last page counts as complete this long after its first page."""

_CALLS: Final = {"tools/call": "tool", "prompts/get": "prompt", "resources/read": "resource"}
_MOST_FINDINGS: Final = 50
_REMEMBERED: Final = 1024
_CONVERSATIONS: Final = 256
_OFFERED: Final = 500
MOST_PINNED: Final = 10_000
"""A server that has so many of a kind gets no more pinned unasked: pages need not end."""
COMPARED_BYTES: Final = 262_144
"""Changed definitions of one answer are compared up to this size; the rest is withheld as it is."""
TOO_MANY: Final = Judgement(
    "changed", (Change("", ABSENT, ABSENT, "instruction-adding", "too much changed at once to compare it"),)
)
_SEVERITIES: Final[dict[str, Severity]] = {
    "cosmetic": "info",
    "removed": "low",
    "annotation-flip": "medium",
    "widening": "medium",
    "added": "medium",
    "renamed": "medium",
    "destination-adding": "high",
    "instruction-adding": "high",
}


class DefinitionPins:
    """The control. `state_dir` holds the pins; option `unlisted` is `pass` (default) or `deny`."""

    meta = META

    def __init__(self, options: ControlOptions, state_dir: Path) -> None:
        unknown = sorted(set(options) - {"unlisted"})
        if unknown:
            raise ConfigError(f"controls.definition-pins.{unknown[0]}: unknown key; known here: mode, unlisted")
        unlisted = options.get("unlisted", "pass")
        if unlisted not in ("pass", "deny"):
            raise ConfigError("controls.definition-pins.unlisted: must be one of pass, deny")
        self._deny_unlisted = unlisted == "deny"
        self._view = PinView(state_dir)
        self._clear = self._view.clear
        self._map = self.clearance_stamp = self._view.generation.map
        self._cursors: dict[tuple[int, object], tuple[object, str | None]] = {}
        self._pages: dict[tuple[str, str, str, str], tuple[str, set[str]]] = {}
        self._offered: dict[int, tuple[object, frozenset[str]]] = {}
        """What the last whole list of tools had and showed, by conversation."""
        self._answers: dict[tuple[str, str, str], tuple[bytes, bytes, Verdict]] = {}

    def make_ready(self) -> None:
        """Open the database before an answer has to be judged. Where it cannot be opened, that answer says so."""
        try:
            _ = self._view.pins
        except StoreError:
            return

    # call: a memory read and two dictionary look-ups for an approved name

    def call(self, event: Event) -> Verdict:
        """Refuse a name that is withheld from this principal."""
        kind = _CALLS.get(event.method)
        if kind is None:
            if event.method in LISTS:
                self._remember_cursor(event)
            return ALLOW
        if self._map[:] == self._view.seen:
            names = self._clear.get((event.conversation.server, kind))
            if names is not None and event.name in names:
                return ALLOW
        return self._call(event, kind)

    def clears_call(self, server: str, method: str, name: str) -> bool:
        """Whether `call` allows this name to everybody: the same look-ups, without an event."""
        kind = _CALLS.get(method)
        if kind is None or self._map[:] != self._view.seen:
            return False
        names = self._clear.get((server, kind))
        return names is not None and name in names

    def _call(self, event: Event, kind: str) -> Verdict:
        server, name = event.conversation.server, event.name
        pins = self._view.kind(server, kind)
        rows = pins.sightings.get(name)
        if rows:
            mine = rows.get(event.conversation.principal)
            verdict = mine[0] if mine else "ok"
            if mine is None and any(row[0] == "withheld" for row in rows.values()):
                verdict = "withheld"
            if verdict == "withheld":
                return self._refuse(server, kind, name)
            changed = mine is not None and mine[1] == AFTER_CHANGE
            if verdict == "absent" and kind == "tool" and (changed or not self._offered_here(event)):
                reason = f"the server no longer offers the {kind} {visible(name, 128)!s}; list its tools again"
                return Deny(reason, (_finding("removed-call", reason, "/params/name"),))
        if name in pins.approved or kind == "resource":
            return ALLOW
        if not _closed(pins, kind):
            note = f"the {kind} {visible(name, 128)} was called before the server listed it; nothing is pinned for it"
            return Annotate((_finding("unlisted-call", note, "/params/name", "info"),))
        note = f"the {kind} {visible(name, 128)} is called but was never listed"
        if self._deny_unlisted:
            return Deny(note, (_finding("unlisted-call", note, "/params/name"),))
        return Annotate((_finding("unlisted-call", note, "/params/name", "low"),))

    def _offered_here(self, event: Event) -> bool:
        """Whether the last whole list of this very conversation had the tool: another one may have been shown less."""
        conversation, names = self._offered.get(id(event.conversation), (None, frozenset[str]()))
        return conversation is event.conversation and event.name in names

    def _remember_offer(self, event: Event, names: Iterable[str]) -> None:
        """Once its tools were judged: what was withheld here is not to be called once another list lacks it."""
        sightings = self._view.kind(event.conversation.server, "tool").sightings
        shown = (one for one in names if all(row[0] != "withheld" for row in sightings.get(one, {}).values()))
        offered = self._offered
        offered.pop(id(event.conversation), None)
        while len(offered) >= _CONVERSATIONS:
            del offered[next(iter(offered))]
        offered[id(event.conversation)] = event.conversation, frozenset(islice(shown, _OFFERED))

    def _refuse(self, server: str, kind: str, name: str) -> Deny:
        shown = visible(address(kind, name), 128)
        reason = (
            f"the definition of {shown} is not the one that was approved, so it is withheld; "
            f"whoever runs callgate can look at it with: {_look(server, shown)}"
        )
        return Deny(reason, (_finding("withheld-call", reason, "/params/name", "high"),))

    def _remember_cursor(self, event: Event) -> None:
        """Answers do not say which page was asked for; requests do."""
        params = event.message.body.get("params")
        cursor = params.get("cursor") if isinstance(params, dict) else None
        while len(self._cursors) >= _REMEMBERED:
            del self._cursors[next(iter(self._cursors))]
        kept = cursor if isinstance(cursor, str) else None
        self._cursors[id(event.conversation), event.message.id] = (event.conversation, kept)

    # catalog: what the server says it is and offers

    def catalog(self, event: Event) -> Verdict:
        """Pin what is new at first use, withhold what changed, note what is cosmetic."""
        asked = self._cursors.pop((id(event.conversation), event.message.id), None)
        result = event.message.body.get("result")
        if type(result) is dict and handed_out_later(result):
            reason = "the server wants its catalogue fetched later, as a task, where nothing could be compared"
            return Deny(reason, (_finding("handed-out-later", reason, "/result"),))
        found = extract(event.method, event.message.body)
        if found is None:
            return ALLOW
        stamp = self._map[:]
        whole = found.kind == "" or (asked is not None and asked[1] is None and found.cursor is None)
        key = (event.conversation.server, event.conversation.principal, event.method)
        mark = b""
        if whole:
            mark = blake2b(orjson.dumps(event.message.body["result"]), digest_size=16).digest()
            known = self._answers.get(key)
            if known is not None and known[0] == stamp and known[1] == mark:
                if found.kind == "tool":
                    self._remember_offer(event, (item.key for item in found.items))
                return known[2]
        verdict, settled = self._judge(event, found, asked, whole)
        if whole and settled:
            while len(self._answers) >= _REMEMBERED:
                del self._answers[next(iter(self._answers))]
            self._answers[key] = (stamp, mark, verdict)  # as it was before: a decision may have come in between
        return verdict

    def _judge(
        self, event: Event, found: Extract, asked: tuple[object, str | None] | None, whole: bool
    ) -> tuple[Verdict, bool]:
        """The verdict, and whether the next equal answer will get the same."""
        listed: set[str] | None = None
        if found.kind != "":
            listed = {item.key for item in found.items} if whole else self._page(event, found, asked)
        try:
            run = self._judged(event, found, listed)
        except KeyError:  # somebody decided meanwhile, and what this was compared with is gone
            self._view.refresh()
            run = self._judged(event, found, listed)
        if listed is not None and found.kind == "tool":
            self._remember_offer(event, listed)
        for pointer in found.unreadable:
            run.edits.append(Remove(pointer))
            run.findings.append(_finding("unreadable", "what has no name, or is no list, cannot be pinned", pointer))
        return run.verdict(), not run.wrote

    def _judged(self, event: Event, found: Extract, listed: set[str] | None) -> _Catalogue:
        run = _Catalogue(self._view, event.conversation.server, event.conversation.principal)
        if found.kind == "":
            for item in found.items:
                run.kind(item.kind, [item], listed=None, tools=frozenset())
        else:
            tools = frozenset(item.key.lower() for item in found.items) if found.kind == "tool" else frozenset()
            run.kind(found.kind, list(found.items), listed=listed, tools=tools)
        return run

    def _page(self, event: Event, found: Extract, asked: tuple[object, str | None] | None) -> set[str] | None:
        """All names of a list that came in pages, when this was its last page; None otherwise."""
        if asked is None:
            return None
        conversation = event.conversation
        place = (conversation.server, conversation.principal, conversation.session, event.method)
        keys = {item.key for item in found.items}
        if asked[1] is not None:
            expected, before = self._pages.pop(place, ("", set()))
            if expected != asked[1]:
                return None
            keys |= before
        if found.cursor is None:
            # The first page is forgotten where the server was reset since: this one is not all there is.
            reset = asked[1] is not None and self._view.kind(place[0], found.kind).first_at is None
            return None if reset else keys
        if len(keys) > 2 * MOST_PINNED:
            return None
        while len(self._pages) >= _REMEMBERED:
            del self._pages[next(iter(self._pages))]
        self._pages[place] = (found.cursor, keys)
        return None


class _Catalogue:
    """The judgement of one answer: findings, edits and what has to be written down."""

    def __init__(self, view: PinView, server: str, principal: str) -> None:
        self._view = view
        self._server = server
        self._principal = principal
        self.findings: list[Finding] = []
        self.edits: list[Edit] = []
        self.wrote = False
        self._compared = 0
        self._nameless: dict[str, Nameless] = {}
        """By kind, once something of that kind is new: read once for all that is."""

    def verdict(self) -> Verdict:
        """Rewrite when something is withheld, Annotate when something was noted."""
        findings = self.findings
        if len(findings) > _MOST_FINDINGS:
            rest = len(findings) - _MOST_FINDINGS
            findings = [
                *findings[:_MOST_FINDINGS],
                _finding("more", f"{rest} further findings of this answer left out"),
            ]
        if self.edits:
            return Rewrite(tuple(self.edits), tuple(findings))
        return Annotate(tuple(findings)) if findings else ALLOW

    def kind(self, kind: str, items: list[Item], listed: set[str] | None, tools: frozenset[str]) -> None:
        """Judge the items of one kind. `listed`: all names of a list that was read to its end, else None."""
        pins = self._pin_first(kind, items, complete=listed is not None)
        names = tools | {key.lower() for key in pins.approved} if kind == "tool" else tools
        rows: dict[str, Sighting] = {}
        gone: set[str] = set()
        shown: dict[str, tuple[Item, Judgement]] = {}
        for item in items:
            approved = pins.approved.get(item.key, ())
            judgement = APPROVED if item.digest in approved else self._compare(item, approved, names)
            self._report(item, judgement, (item.key, item.digest) in pins.rejected)
            if item.key not in shown or shown[item.key][1].passes:  # a name that is there twice: the worse one counts
                shown[item.key] = item, judgement
        for item, judgement in shown.values():
            self._sight(item, judgement, pins, rows, gone)
        if listed is not None and kind != "resource":
            self._missing(kind, pins, listed, rows, gone)
        complete = listed is not None and not pins.complete
        if rows or gone or complete:
            self._view.pins.see(
                self._server, kind, self._principal, rows.values(), gone=gone - rows.keys(), complete=complete
            )
            self.wrote = True

    def _pin_first(self, kind: str, items: list[Item], *, complete: bool) -> KindPins:
        """Pin what was never seen, while the baseline of this kind is open."""
        pins = self._view.kind(self._server, kind)
        fresh: dict[str, Item] = {}
        if not _closed(pins, kind):
            for item in items:
                # a sighting while nothing is pinned is of before a reset
                if item.key not in pins.approved and (pins.first_at is None or item.key not in pins.sightings):
                    fresh.setdefault(item.key, item)
        if not fresh:
            return pins
        rows = [(item.key, item.digest, _kept(item)) for item in fresh.values()]
        pinned = self._view.pins.pin_first(self._server, kind, rows, complete=complete)
        self.wrote = True
        self._view.refresh()  # who pinned it a moment ago may not have told yet
        if pinned:
            number = f"{len(pinned)} {kind}" + ("s" if len(pinned) != 1 else "")
            what = number if kind in KEY_MEMBER else f"the server's {kind}"
            self.findings.append(_finding("first-use", f"{what} pinned at first use", severity="info"))
        return self._view.kind(self._server, kind)

    def _compare(self, item: Item, approved: tuple[str, ...], tools: frozenset[str]) -> Judgement:
        if approved:
            self._compared += len(canonical(item.body))
            if self._compared > COMPARED_BYTES and item.kind in KEY_MEMBER:
                return TOO_MANY
            bodies = [self._view.body(self._server, item.kind, item.key, digest) for digest in approved]
            return judge_changed(item, bodies, tools)
        if item.kind == "resource":
            return FIRST
        if item.kind not in self._nameless:
            known = self._view.pins.bodies(self._server, item.kind).items()
            self._nameless[item.kind] = Nameless(item.kind, ((key, body) for (key, _), body in known))
        return judge_new(item, self._nameless[item.kind])

    def _report(self, item: Item, judgement: Judgement, rejected: bool) -> None:
        if judgement.standing in ("approved", "first"):
            return
        shown = visible(item.address, 128)
        meaning = judgement.meaning
        worst = next((change for change in judgement.changes if change.meaning == meaning), None)
        where = f" at {visible(worst.pointer, 200)}" if worst and worst.pointer else ""
        what = f"{shown}: {worst.reason}{where}" if worst else shown
        if len(judgement.changes) > 1:
            what += f" (and {len(judgement.changes) - 1} more changes)"
        if not judgement.passes:
            state = "rejected" if rejected else "until approved"
            what += f"; withheld ({state}); {_look(self._server, shown)}"
            self._withhold(item, judgement)
        after = worst.after if worst else ""
        evidence = visible(after, 200) if isinstance(after, str) else ""
        self.findings.append(_finding(meaning, what, item.pointer, _SEVERITIES[meaning], evidence))

    def _withhold(self, item: Item, judgement: Judgement) -> None:
        """Take an item out of a list; put the pinned text back where there is no list."""
        if item.kind == "instructions":
            self.edits.append(_put_back(item.pointer, item.body, judgement.nearest))
        elif item.kind == "identity":
            self._restore_identity(item, judgement)
        else:
            self.edits.append(Remove(item.pointer))

    def _restore_identity(self, item: Item, judgement: Judgement) -> None:
        """Put back each member with a change that needs approval; all changed ones for a change of the whole."""
        withheld = {change.pointer for change in judgement.changes if change.meaning not in PASSING}
        members = {change.pointer.split("/")[1] for change in judgement.changes if change.pointer}
        for member in sorted(members):
            name = member.replace("~1", "/").replace("~0", "~")
            touched = "" in withheld or any(f"{pointer}/".startswith(f"/{member}/") for pointer in withheld)
            if not touched or name not in item.body:
                continue
            pinned = judgement.nearest.get(name)
            if name == "capabilities":
                if pinned is None:
                    continue  # where they were not said, none were refused
                self.edits += [Remove(f"/result/capabilities/{one}") for one in item.body[name] if one not in pinned]
            else:
                self.edits.append(_put_back(f"{item.pointer}/{member}", item.body[name], pinned))

    def _sight(
        self, item: Item, judgement: Judgement, pins: KindPins, rows: dict[str, Sighting], gone: set[str]
    ) -> None:
        """What to write down of an item: nothing for nearly all."""
        seen = pins.sightings.get(item.key, {})
        mine = seen.get(self._principal)
        if not judgement.passes:
            row = Sighting(item.key, "withheld", item.digest, _kept(item))
        elif seen.keys() - {self._principal}:
            row = Sighting(item.key, "ok", item.digest)
        else:
            if mine is not None:
                gone.add(item.key)
            return
        if mine != (row.verdict, row.digest):
            rows[item.key] = row

    def _missing(self, kind: str, pins: KindPins, listed: set[str], rows: dict[str, Sighting], gone: set[str]) -> None:
        """Pinned items that a whole list lacks stay in the baseline, as absent; waiting ones are forgotten."""
        for key in pins.approved.keys() - listed:
            mine = pins.sightings.get(key, {}).get(self._principal)
            if mine is None or mine[0] != "absent":
                rows[key] = Sighting(key, "absent", AFTER_CHANGE if mine and mine[0] == "withheld" else "")
                what = (
                    f"{visible(address(kind, key), 128)}: the server no longer offers it; its definition stays pinned"
                )
                self.findings.append(_finding("removed", what, severity="low"))
        for key in pins.sightings.keys() - pins.approved.keys() - listed:
            if self._principal in pins.sightings[key]:
                gone.add(key)


def _look(server: str, shown: str) -> str:
    """The command, as a shell takes it: the name is the server's, and whoever reads it may well paste it."""
    from shlex import quote

    return f"callgate pins diff {quote(f'{server}/{shown}')}"


def _closed(pins: KindPins, kind: str) -> bool:
    """Whether what was never seen is new, rather than pinned as it comes."""
    if len(pins.approved) >= MOST_PINNED:
        return True
    if kind == "resource":
        return False  # data comes and goes
    return pins.complete or (pins.first_at is not None and abs(time.time() - pins.first_at) > OPEN_S)


def _kept(item: Item) -> bytes:
    """What is written down of a definition: all of it but the server's own secrets. The digest is of all."""
    return active.clean(canonical(item.body))


def _finding(rule: str, message: str, pointer: str = "", severity: Severity = "medium", evidence: str = "") -> Finding:
    risk = "fake-tool-invocation" if rule in ("unlisted-call", "removed-call") else "rug-pull"
    return Finding(f"definition-pins/{rule}", risk, message, pointer, severity, evidence)


def _put_back(pointer: str, shown: Any, pinned: Any) -> Edit:
    """The pinned value, or nothing at all where there was none.

    What holds hidden characters or secrets is taken out instead: the controls for those edit the same place, and
    two edits of one place would refuse the whole answer.
    """
    from callgate.protocol.surfaces import surfaces

    if not pinned or any(_edited_by_others(part.text) for part in surfaces({"result": shown}, Direction.SERVER)):
        return Remove(pointer)
    return ReplaceValue(pointer, pinned)


def _edited_by_others(text: str) -> bool:
    return bool(hidden.find(text, True) or escapes.find(text, True)) or active.clean_text(text) != text
