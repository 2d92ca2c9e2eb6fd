"""`callgate pins`: what is pinned, what changed since, and saying yes or no to a change."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, cast

from callgate.cli.asked import confirmed
from callgate.cli.pins_diff import changes_lines
from callgate.cli.pins_held import held_by
from callgate.cli.pins_recorded import Recorded
from callgate.config import Config
from callgate.config.places import state_directory
from callgate.config.reader import configured
from callgate.errors import ConfigError
from callgate.store.database import Store
from callgate.text import visible
from callgate.trust.changes import ABSENT
from callgate.trust.definitions import KINDS, Item, ItemKind, address, parse_address
from callgate.trust.judgement import Judgement, Nameless, judge_changed, judge_new

if TYPE_CHECKING:
    from callgate.store.pins import Definition, PinStore

EXIT_OK, EXIT_NO = 0, 1
SHOWN = 200
"""Characters of an item's name that are shown."""

DESCRIPTION = """\
Definitions of MCP servers are pinned when they are first seen. What changes later in more than wording
waits here until someone says yes; until then it is withheld from clients.

  callgate pins                        servers, what is pinned, what waits
  callgate pins diff NAME[/ITEM]       the waiting changes, both sides, nothing hidden
  callgate pins approve NAME[/ITEM]    show them, ask, and make them the baseline
  callgate pins reject NAME/ITEM       keep withholding, and stop showing it as waiting
  callgate pins reset NAME             forget the server; its next definitions are pinned anew

ITEM is a tool's name, or prompt:NAME, resource:URI, template:URI, identity, instructions.
"""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A definition that waits for approval, and what changed in it."""

    definition: Definition
    judgement: Judgement
    seen_by: tuple[str, ...]
    config: Config

    @property
    def place(self) -> str:
        """`NAME/ITEM`, safe to print and to paste."""
        return quote(self.shown)

    @property
    def shown(self) -> str:
        """`NAME/ITEM`, safe to print."""
        return _shown(self.definition.server, self.definition.kind, self.definition.key)

    @property
    def held_by(self) -> list[str]:
        """Other controls that withhold it all the same, while they enforce."""
        return held_by(self.definition.kind, self.definition.body, self.config)


def main(argv: list[str]) -> int:
    """The sub-command. 0 ok; 1 something waits (diff) or was not approved; 2 usage."""
    arguments = _parser().parse_args(argv)
    config = configured(arguments.config)
    state = state_directory(config)
    store = Store.open(state)
    try:
        command = _Command(config, state, store, arguments)
        actions = {
            "diff": command.diff,
            "approve": command.approve,
            "reject": command.reject,
            "reset": command.reset,
        }
        return actions.get(arguments.action, command.overview)()
    finally:
        store.close()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="callgate pins", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--config", metavar="FILE", default=argparse.SUPPRESS, help="the configuration to use")
    shared.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON document")
    parser.set_defaults(config="", json=False, yes=False)
    parser.add_argument("--config", metavar="FILE", default="", help="the configuration to use")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    for name, what in (
        ("list", "servers, what is pinned, what waits (the default)"),
        ("diff", "show waiting changes"),
        ("approve", "make waiting changes the baseline"),
        ("reject", "keep withholding a change"),
        ("reset", "forget a server's pins"),
    ):
        action = actions.add_parser(name, help=what, parents=[shared])
        if name != "list":
            action.add_argument("target", metavar="NAME" if name == "reset" else "NAME[/ITEM]")
        if name in ("approve", "reset"):
            action.add_argument("--yes", action="store_true", help="do not ask")
    return parser


class _Command:
    """One invocation."""

    def __init__(self, config: Config, state: Path, store: Store, arguments: argparse.Namespace) -> None:
        self._config = config
        self._state = state
        self._pins: PinStore = store.pins
        self._arguments = arguments
        target: str = getattr(arguments, "target", "")
        self._server, slash, item = target.partition("/")
        self._item = parse_address(item) if slash else None

    def overview(self) -> int:
        """All servers."""
        servers = self._pins.servers()
        entries = [(name, self._pins.definitions(name), list(self._waiting(name))) for name in servers]
        if self._arguments.json:
            _print_json([self._server_record(*entry) for entry in entries])
            return EXIT_OK
        if not entries:
            print(f"nothing is pinned yet in {visible(str(self._state), 300)}")
            return EXIT_OK
        for name, definitions, waiting in entries:
            counts = ", ".join(_counts(definitions))
            state = f"{len(waiting)} waiting" if waiting else "unchanged"
            print(
                f"{name}: {state}; pinned {_date(min(d.seen_at for d in definitions))}: {counts}"
                if definitions
                else name
            )
            for one in waiting:
                print(f"  {one.judgement.meaning:<19} {one.place}")
            for kind, key in self._absent(name):
                print(f"  {'removed':<19} {quote(_shown(name, kind, key))}")
            for definition in definitions:
                if definition.state == "rejected":
                    print(f"  {'rejected':<19} {quote(_shown(name, definition.kind, definition.key))}")
        if any(waiting for _, _, waiting in entries):
            print("\nlook at a change: callgate pins diff NAME/ITEM")
        return EXIT_OK

    def diff(self) -> int:
        """The waiting changes of one server or item."""
        waiting = self._chosen()
        if self._arguments.json:
            _print_json([_waiting_record(one) for one in waiting])
        elif not waiting:
            print(f"nothing waits for approval in {visible(self._arguments.target, 300)}")
        else:
            _show(waiting)
            target = quote(self._server) if self._item is None else waiting[0].place
            print(f"\napprove: callgate pins approve {target}")
        return EXIT_NO if waiting else EXIT_OK

    def approve(self) -> int:
        """Approve exactly what is shown."""
        waiting = self._chosen()
        if not waiting:
            print(f"nothing waits for approval in {visible(self._arguments.target, 300)}")
            return EXIT_OK
        if not self._arguments.json:
            _show(waiting)
            print()
        if not self._confirmed(f"approve {_plural(len(waiting), 'change')}?"):
            print("nothing was approved")
            return EXIT_NO
        return self._decide(waiting, approve=True)

    def reject(self) -> int:
        """Keep the "no"."""
        if self._item is None:
            raise ConfigError(
                "callgate pins reject needs NAME/ITEM",
                effect="nothing was changed",
                next_step="see callgate pins diff NAME",
            )
        waiting = self._chosen()
        if not waiting:
            print(f"nothing waits for approval in {visible(self._arguments.target, 300)}")
            return EXIT_NO
        return self._decide(waiting, approve=False)

    def reset(self) -> int:
        """Forget a server."""
        if self._item is not None:
            raise ConfigError(
                "callgate pins reset takes a server, not an item",
                effect="nothing was changed",
                next_step="callgate pins reset NAME",
            )
        self._known()
        count = len(self._pins.definitions(self._server))
        question = f"forget {_plural(count, 'definition')} of {self._server}? its next ones are pinned as they come"
        if not self._confirmed(question):
            print("nothing was forgotten")
            return EXIT_NO
        gone = self._recorded().reset(self._server)
        if self._arguments.json:
            _print_json({"server": self._server, "forgotten": gone})
        else:
            print(f"forgot {_plural(gone, 'definition')} of {self._server}")
        return EXIT_OK

    def _decide(self, waiting: list[Waiting], *, approve: bool) -> int:
        chosen = [(one.definition, one.judgement.meaning) for one in waiting]
        decided = self._recorded().decide(chosen, approve=approve)
        done = [one for one, waited in zip(waiting, decided, strict=True) if waited]
        stale = [one for one, waited in zip(waiting, decided, strict=True) if not waited]
        if self._arguments.json:
            key = "approved" if approve else "rejected"
            _print_json({key: [w.shown for w in done], "changed_meanwhile": [w.shown for w in stale]})
        else:
            for one in done:
                print(f"{'approved' if approve else 'rejected'} {one.place}  {one.definition.digest[:16]}")
                if approve and one.held_by:
                    print(f"  still withheld by {' and '.join(one.held_by)}: see [controls] in the configuration")
            for one in stale:
                print(f"not {'approved' if approve else 'rejected'}: {one.place} changed meanwhile; look again")
        return EXIT_NO if stale else EXIT_OK

    def _recorded(self) -> Recorded:
        return Recorded(self._pins, self._state, self._config.audit)

    def _confirmed(self, question: str) -> bool:
        return confirmed(
            question,
            yes=self._arguments.yes,
            effect="nothing was changed",
            next_step="look at it with callgate pins diff, then repeat the command with --yes",
        )

    def _known(self) -> None:
        if self._server not in self._pins.servers():
            raise ConfigError(
                f"nothing is pinned for a server named {visible(self._server, 80)!r}",
                effect="nothing was changed",
                next_step="names: callgate pins",
            )

    def _chosen(self) -> list[Waiting]:
        self._known()
        item = self._item and self._meant(self._item)
        return [
            one
            for one in self._waiting(self._server, rejected=item is not None)
            if item is None or item == (one.definition.kind, one.definition.key)
        ]

    def _meant(self, item: tuple[str, str]) -> tuple[str, str]:
        """The item that was named, as callgate shows names, with escapes and cut where they are long, or as it is."""
        text = address(*item)
        found: list[tuple[str, str]] = []
        known = {(one.kind, one.key) for one in self._pins.definitions(self._server)}
        for limits in ((None,), (SHOWN, 128)):  # no two names are shown alike but where they are cut
            found = [one for one in known if text in {visible(address(*one), limit) for limit in limits}]
            if not found and item in known:
                return item
            if len(found) == 1:
                return found[0]
        raise ConfigError(
            f"{self._server} has shown no {visible(text, SHOWN)!r}"
            if not found
            else f"{len(found)} items of {self._server} are shown as {visible(text, SHOWN)!r}",
            effect="nothing was changed",
            next_step="a tool goes by its name, anything else by prompt:NAME, resource:URI or template:URI",
        )

    def _waiting(self, server: str, *, rejected: bool = False) -> Iterator[Waiting]:
        """What waits; with `rejected` also what was rejected, for whoever changes their mind."""
        definitions = sorted(self._pins.definitions(server), key=lambda d: (KINDS.index(_kind(d)), d.key))
        seen = self._pins.seen_by(server)
        baseline = _Baseline(definitions)
        for definition in definitions:
            if definition.state == "pending" or (rejected and definition.state == "rejected"):
                judgement = baseline.judge(definition)
                place = (definition.kind, definition.key, definition.digest)
                yield Waiting(definition, judgement, tuple(seen.get(place, ())), self._config)

    def _absent(self, server: str) -> list[tuple[str, str]]:
        return sorted({(kind, key) for kind, key, digest in self._pins.seen_by(server) if not digest})

    def _server_record(self, name: str, definitions: list[Definition], waiting: list[Waiting]) -> dict[str, Any]:
        return {
            "server": name,
            "pinned": {kind: len(_approved(definitions, kind)) for kind in KINDS},
            "rejected": [address(d.kind, d.key) for d in definitions if d.state == "rejected"],
            "removed": [address(kind, key) for kind, key in self._absent(name)],
            "waiting": [_waiting_record(one) for one in waiting],
        }


class _Baseline:
    """What is approved of a server, by kind: read once for all that waits."""

    def __init__(self, definitions: list[Definition]) -> None:
        self._tools = frozenset(d.key.lower() for d in definitions if d.kind == "tool")
        self._approved: dict[tuple[str, str], list[Any]] = {}
        for one in definitions:
            if one.state == "approved":
                self._approved.setdefault((one.kind, one.key), []).append(one.body)
        self._nameless: dict[str, Nameless] = {}

    def judge(self, definition: Definition) -> Judgement:
        """What changed in it."""
        kind = _kind(definition)
        item = Item(kind, definition.key, definition.body, definition.digest, "")
        bodies = self._approved.get((kind, definition.key))
        if bodies is not None:
            return judge_changed(item, bodies, self._tools)
        if kind not in self._nameless:
            known = ((key, body) for (of, key), bodies in self._approved.items() if of == kind for body in bodies)
            self._nameless[kind] = Nameless(kind, known)
        return judge_new(item, self._nameless[kind])


def _kind(definition: Definition) -> ItemKind:
    return cast("ItemKind", definition.kind)


def _shown(server: str, kind: str, key: str) -> str:
    return f"{server}/{visible(address(kind, key), SHOWN)}"


def _show(waiting: list[Waiting]) -> None:
    for number, one in enumerate(waiting):
        if number:
            print()
        found = one.definition
        print(f"{one.place}  {one.judgement.meaning}" + ("  (rejected)" if found.state == "rejected" else ""))
        by = ", ".join(visible(name, 60) for name in one.seen_by[:5] if name)
        print(f"  digest {found.digest}")
        print(f"  first seen {_date(found.seen_at)}" + (f" by {by}" if by else ""))
        for line in changes_lines(one.judgement.changes):
            print(line)
        if one.held_by:
            print(
                f"\n  {' and '.join(one.held_by)} withhold{'s' * (len(one.held_by) == 1)} it as well, approved or not"
            )


def _waiting_record(one: Waiting) -> dict[str, Any]:
    found = one.definition
    return {
        "server": found.server,
        "item": address(found.kind, found.key),
        "kind": found.kind,
        "digest": found.digest,
        "state": found.state,
        "meaning": one.judgement.meaning,
        "held_by": one.held_by,
        "seen_at": found.seen_at,
        "seen_by": list(one.seen_by),
        "changes": [
            {
                "pointer": change.pointer,
                "meaning": change.meaning,
                "reason": change.reason,
                **({} if change.before is ABSENT else {"before": change.before}),
                **({} if change.after is ABSENT else {"after": change.after}),
            }
            for change in one.judgement.changes
        ],
    }


def _counts(definitions: list[Definition]) -> Iterator[str]:
    for kind in KINDS:
        keys = _approved(definitions, kind)
        if keys:
            yield _plural(len(keys), kind) if kind not in ("identity", "instructions") else kind


def _approved(definitions: list[Definition], kind: str) -> set[str]:
    """The names of what is pinned; some have several approved texts."""
    return {d.key for d in definitions if d.kind == kind and d.state == "approved"}


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _print_json(value: Any) -> None:
    # ASCII only: whatever a server wrote, a terminal shows nothing of it as it is.
    print(json.dumps(value, indent=2, ensure_ascii=True))
