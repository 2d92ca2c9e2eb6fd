"""What a control took out of a list must not be called by name either.

Learned from the lists that passed this gate (in this process), forgotten when a later list shows the item
again. Controls that see every call, as definition-pins does, refuse by themselves and are not second-guessed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from callgate.gate.events import Event
from callgate.gate.verdicts import Finding

if TYPE_CHECKING:
    from callgate.gate.engine import Decision

MOST = 10_000
"""Names kept; a server that has more withheld than this is refused nothing beyond them."""

_LISTS = {
    "tools/list": ("tools", "name", "tools/call"),
    "prompts/list": ("prompts", "name", "prompts/get"),
    "resources/list": ("resources", "uri", "resources/read"),
}
_CALLS = frozenset(call for _, _, call in _LISTS.values())


class Withheld:
    """Names by (server, principal, calling method), each with the rule that withheld it."""

    __slots__ = ("names",)

    def __init__(self) -> None:
        self.names: dict[tuple[str, str, str, str], str] = {}
        """Empty for nearly every gate: then no call pays for it."""

    def learn(self, event: Event, decision: Decision) -> None:
        """Note what `decision` removes from the list in `event`, and forget what it shows."""
        place = _LISTS.get(event.method)
        if place is None:
            return
        member, key, call = place
        items: Any = event.message.body["result"].get(member) if "result" in event.message.body else None
        if type(items) is not list:
            return
        removed = decision.withheld if decision.outcome == "rewrite" else {}
        server, principal = event.conversation.server, event.conversation.principal
        for number, item in enumerate(items):
            name = item.get(key) if type(item) is dict else None
            if type(name) is not str:
                continue
            rule = removed.get(f"/result/{member}/{number}")
            if rule is None:
                self.names.pop((server, principal, call, name), None)
            elif len(self.names) < MOST:
                self.names[server, principal, call, name] = rule

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
