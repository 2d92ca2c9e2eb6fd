"""What a control took out of a list must not be called by name either.

Learned from the lists that passed this gate (in this process), forgotten when a later list shows the item
again. Controls that see every call, as definition-pins does, refuse by themselves and are not second-guessed.
A gate that replaces another at a reload begins with what that one withheld; workers of one gateway tell each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

from callgate.gate.events import Event
from callgate.gate.verdicts import Finding

if TYPE_CHECKING:
    from callgate.gate.engine import Decision, Gate
    from callgate.gate.rewriting import Rounds

Key: TypeAlias = tuple[str, str, str, str]
Still: TypeAlias = Callable[[str, str], bool]
"""Whether a gate withholds from this server's lists by this rule."""

MOST = 10_000
"""Names kept of one server; one that has more withheld than this is refused nothing beyond them."""

_LISTS = {
    "tools/list": ("tools", "name", "tools/call"),
    "prompts/list": ("prompts", "name", "prompts/get"),
    "resources/list": ("resources", "uri", "resources/read"),
}
_CALLS = frozenset(call for _, _, call in _LISTS.values())


class Withheld:
    """Names by (server, principal, calling method), each with the rule that withheld it."""

    __slots__ = ("_counts", "_heir", "_still", "_tell", "names")

    def __init__(self) -> None:
        self.names: dict[Key, str] = {}
        """Empty for nearly every gate: then no call pays for it."""
        self._counts: dict[str, int] = {}
        """By server: none takes another's room."""
        self._heir: tuple[Withheld, Still] | None = None
        self._tell: Callable[[Key, str], None] | None = None
        self._still: Still | None = None

    def learn(self, rounds: Rounds, *, shown: bool = True) -> None:
        """Note what these looks at one list remove from it, and forget what the first one shows and none removes.

        Not `shown`: the list as a whole reaches nobody, so nothing in it is to be forgotten.
        """
        event = rounds[0][0]
        place = _LISTS.get(event.method) if event.hook == "catalog" else None
        if place is None:
            return
        member, key, call = place
        server, principal = event.conversation.server, event.conversation.principal
        removed: dict[Key, str] = {}
        seen: list[Key] = []
        for look, decision in rounds:
            for number, name in _named(look, member, key):
                where = (server, principal, call, name)
                rule = decision.withheld.get(f"/result/{member}/{number}")
                if rule is not None:
                    removed[where] = rule
                elif look is event:
                    seen.append(where)
        if shown:
            for where in seen:
                if where not in removed:
                    self._forget(where)
        for where, rule in removed.items():
            self._add(where, rule)

    def share(self, tell: Callable[[Key, str], None], still: Still) -> None:
        """Tell what is learned here (`rule` is empty for what is forgotten), and hear of others what `still` says."""
        self._tell, self._still = tell, still

    def heard(self, key: Key, rule: str) -> None:
        """What another worker learned or forgot."""
        if not rule:
            self._drop(key)
        elif self._still is None or self._still(key[0], rule):
            self._keep(key, rule)

    def hand_over(self, heir: Withheld, still: Still) -> None:
        """Let `heir` begin with these names, where `still(server, rule)` says that its gate would withhold them.

        A list that was asked for before may yet be judged here: what it withholds the heir learns, what it
        shows it does not, since the new rules have not seen it.
        """
        self._heir = heir, still
        for key, rule in self.names.items():
            if still(key[0], rule):
                heir._add(key, rule)

    def _add(self, key: Key, rule: str) -> None:
        kept = self._keep(key, rule)
        if self._heir is not None:
            if self._heir[1](key[0], rule):
                self._heir[0]._add(key, rule)
        elif kept and self._tell is not None:
            self._tell(key, rule)

    def _forget(self, key: Key) -> None:
        if self._drop(key) and self._heir is None and self._tell is not None:
            self._tell(key, "")

    def _keep(self, key: Key, rule: str) -> bool:
        """Whether there is room for it."""
        if key not in self.names:
            count = self._counts.get(key[0], 0)
            if count >= MOST:
                return False
            self._counts[key[0]] = count + 1
        self.names[key] = rule
        return True

    def _drop(self, key: Key) -> bool:
        """Whether it was there."""
        if self.names.pop(key, None) is None:
            return False
        self._counts[key[0]] -= 1
        return True

    def refuse(self, event: Event, decision: Decision) -> Decision:
        """`decision`, or a denial where the call names something withheld."""
        if event.method not in _CALLS:
            return decision
        conversation = event.conversation
        rule = self.names.get((conversation.server, conversation.principal, event.method, event.name))
        if rule is None or decision.outcome == "deny":
            return decision
        from callgate.gate.engine import CLEAR, Decision

        denial = Decision() if decision is CLEAR else decision
        what = "it is withheld because of its definition, so it cannot be called; see callgate audit tail"
        denial.findings.append(Finding(rule, "tool-poisoning", f"called by name although {what}", severity="high"))
        denial.deny(what, rule)
        return denial


def _named(event: Event, member: str, key: str) -> Iterator[tuple[int, str]]:
    """Places and names of what stands in a list."""
    items: Any = event.message.body["result"].get(member) if "result" in event.message.body else None
    if type(items) is list:
        for number, item in enumerate(items):
            name = item.get(key) if type(item) is dict else None
            if type(name) is str:
                yield number, name


def carry_over(old: Gate, new: Gate) -> None:
    """Nothing that `old` withheld can be called by name behind `new` only because no list was read again.

    But for servers that are gone, and for controls that were turned off or only observe now: their word no
    longer refuses anything.
    """
    old.withheld.hand_over(new.withheld, withholds(new))


def withholds(gate: Gate) -> Still:
    """For a gateway's gate: whether it serves that server, and the rule's control enforces there."""
    controls = {control.meta.id for control in gate.controls}

    def still(server: str, rule: str) -> bool:
        control = rule.partition("/")[0]
        entry = gate.config.controls.get(control)
        mode = (entry.mode if entry else None) or gate.config.mode_of(server)
        return server in gate.config.served and control in controls and mode == "enforce"

    return still
