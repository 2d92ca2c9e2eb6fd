"""The engine: asks the controls, composes their verdicts, fails closed.

Built once per configuration. It knows no control by name; it knows which hooks each implements, which
patterns wake it, and whether it enforces or only observes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from callgate.errors import CallgateError, ProtocolError
from callgate.gate import native
from callgate.gate.control import Control
from callgate.gate.conversation import Conversation
from callgate.gate.events import HOOKS, Event, Hook, LaunchEvent
from callgate.gate.express import Forms
from callgate.gate.verdicts import (
    EDITS,
    Allow,
    Annotate,
    Ask,
    Deny,
    Edit,
    Finding,
    Remove,
    Rewrite,
    Verdict,
)
from callgate.gate.watchdog import WATCHDOG, ControlTimeout
from callgate.gate.withheld import Withheld
from callgate.protocol.codec import LEXICAL, Codec
from callgate.vault.active import no_longer

if TYPE_CHECKING:
    from callgate.audit import Journal
    from callgate.config import Config
    from callgate.gate.channel import Channel

HookFunction: TypeAlias = Callable[[Any], Verdict]
Clears: TypeAlias = Callable[[str, str, str], bool]
_VERDICTS = (Allow, Annotate, Rewrite, Ask, Deny)


class Bound:
    """One control's function for one hook, with what the engine needs to know of it."""

    __slots__ = ("control", "function", "guards_calls", "mode")

    def __init__(self, control: str, function: HookFunction, mode: str | None, guards_calls: bool) -> None:
        self.control = control
        self.function = function
        self.guards_calls = guards_calls
        """Whether the control sees every call, and so refuses by itself what it withheld."""
        self.mode = mode
        """`enforce`, `observe`, or None: as the server says."""


class Decision:
    """What all controls together say of one event.

    `outcome`: allow, annotate, rewrite, ask, deny; would-rewrite, would-ask, would-deny where the control
    only observes; error where it failed while only observing.
    """

    __slots__ = ("edits", "findings", "labels", "outcome", "reason", "rule", "withheld")

    def __init__(self) -> None:
        self.outcome = "allow"
        self.reason = ""
        self.rule = ""
        self.findings: list[Finding] = []
        self.edits: list[Edit] = []
        self.labels: frozenset[str] = frozenset()
        self.withheld: dict[str, str] = {}
        """Pointers of list items removed by controls that do not see calls, each with its rule."""

    def deny(self, reason: str, rule: str) -> None:
        """Refuse; the first reason given is the one the caller reads."""
        if self.outcome != "deny":
            self.outcome = "deny"
            self.reason = reason
            self.rule = rule


CLEAR = Decision()
"""All controls allow. One object for all messages, never changed."""


class Gate:
    """All controls of one configuration, their automaton and the evidence log.

    `cache_dir` keeps the compiled automaton between starts. Raises ConfigError for a pattern that does
    not compile and ValueError for a control whose declaration and methods disagree.
    """

    def __init__(
        self, config: Config, controls: Sequence[Control], journal: Journal, cache_dir: Path | None = None
    ) -> None:
        from callgate.detect.automaton import Automaton

        self.config = config
        self.controls = tuple(controls)
        self.journal = journal
        self.watchdog = WATCHDOG
        self.always: dict[Hook, tuple[Bound, ...]] = dict.fromkeys(HOOKS, ())
        self._on_hit: dict[Hook, tuple[tuple[frozenset[int], Bound], ...]] = dict.fromkeys(HOOKS, ())
        self._by_pattern: dict[Hook, tuple[tuple[frozenset[int], Bound], ...]] = dict.fromkeys(HOOKS, ())
        self.enforces = False
        """Whether a control enforces whatever mode a server is in."""
        patterns = list(LEXICAL)
        for control in self.controls:
            first = len(patterns)
            patterns += [(pattern.name, pattern.expression) for pattern in control.meta.patterns]
            self._register(control, frozenset(range(first, len(patterns))))
        explain = (getattr(control, "refusal", None) for control in self.controls)
        self.finding_of: Callable[[ProtocolError], Finding] = next(filter(None, explain), _plain_finding)
        """A refusal of the parser as a finding: by the control that answers for the parser's limits."""
        self.clears_call = self._clearance()
        """Whether all controls that want every call allow this one unseen; None where one of them cannot say."""
        self.clearance_stamp = self._stamp()
        """A memory that changes before a call that was cleared is cleared no longer; None where there is none."""
        self.forms = Forms()
        self.native = native.forms(config.limits)
        self.ascii_is_clear = not any(pattern.ascii for control in self.controls for pattern in control.meta.patterns)
        """Whether no control's pattern can be in plain ASCII."""
        self.withheld = Withheld()
        self.automaton = Automaton(patterns, cache_dir=cache_dir)
        self.codec = Codec(config.limits, self.automaton.scan, range(len(LEXICAL)))

    def _register(self, control: Control, ids: frozenset[int]) -> None:
        meta = control.meta
        configured = self.config.controls.get(meta.id)
        for hook in HOOKS:
            wanted = hook in meta.always or hook in meta.on_hit
            function = getattr(control, hook, None)
            if wanted != callable(function):
                raise ValueError(f"control {meta.id}: hook {hook} is declared but not implemented, or the reverse")
            if not wanted:
                continue
            bound = Bound(
                meta.id, cast("HookFunction", function), configured.mode if configured else None, "call" in meta.always
            )
            self.enforces = self.enforces or bound.mode == "enforce"
            if hook in meta.always:
                self.always[hook] += (bound,)
            else:
                self._on_hit[hook] += ((ids, bound),)
            if ids:
                self._by_pattern[hook] += ((ids, bound),)

    def _clearance(self) -> Clears | None:
        """`Control.clears_call` of all controls that want every call, as one function."""
        asked = [control for control in self.controls if "call" in control.meta.always]
        each: list[Clears | None] = [getattr(control, "clears_call", None) for control in asked]
        clears = [one for one in each if one is not None]
        if len(clears) < len(asked):
            return None
        if len(clears) == 1:
            return clears[0]
        return lambda server, method, name: all(one(server, method, name) for one in clears)

    def _stamp(self) -> Any:
        """`Control.clearance_stamp` of the one control that wants every call."""
        asked = [control for control in self.controls if "call" in control.meta.always]
        return getattr(asked[0], "clearance_stamp", None) if len(asked) == 1 else None

    def channel(
        self, *, server: str, principal: str, session: str = "", transport: str = "stdio", mode: str = ""
    ) -> Channel:
        """A fresh correlation scope: a stdio pair, a handshake-era session, or one modern HTTP exchange."""
        from callgate.gate.channel import Channel

        conversation = Conversation(server, principal, mode or self.config.mode_of(server), session)
        scope = self.journal.scope(server=server, principal=principal, session=session, transport=transport)
        return Channel(self, conversation, scope)

    def asked(self, hook: Hook, hits: tuple[int, ...]) -> tuple[Bound, ...]:
        """The controls to ask: those of every message, and those one of whose patterns was found."""
        if not hits:
            return self.always[hook]
        woken = tuple(bound for ids, bound in self._on_hit[hook] if not ids.isdisjoint(hits))
        return self.always[hook] + woken

    def asked_again(self, hook: Hook, hits: tuple[int, ...]) -> tuple[Bound, ...]:
        """The controls to ask of a message another control changed: those one of whose patterns is in it.

        The others judged what the server or client really said; what the gate made of it is not news to them.
        """
        return tuple(bound for ids, bound in self._by_pattern[hook] if not ids.isdisjoint(hits))

    def decide(self, asked: tuple[Bound, ...], event: Event | LaunchEvent, mode: str) -> Decision:
        """Ask each control and compose: Deny over Ask over Rewrite over Annotate over Allow.

        Returns CLEAR, which nobody may change, when all of them allow.
        """
        decision = CLEAR
        watchdog = self.watchdog
        if not watchdog.armed:
            watchdog.arm()
        for bound in asked:
            watchdog.calls += 1
            watchdog.busy = True
            try:
                verdict = bound.function(event)
                watchdog.busy = False
                if type(verdict) is Allow:
                    continue
                why = ""
                kind = type(verdict)
                failure = "" if kind in _VERDICTS else f"returned {kind.__name__}, which is no verdict"
            except ControlTimeout:
                failure, why = "did not answer in time", ""
            except Exception as error:  # noqa: BLE001 - any failure of a control must deny, whatever it is
                failure = f"failed ({type(error).__name__})"
                why = "; ".join(filter(None, (error.what, error.next_step))) if isinstance(error, CallgateError) else ""
            watchdog.busy = False
            if decision is CLEAR:
                decision = Decision()
            if not failure:
                try:
                    _compose(decision, bound, verdict, observed=(bound.mode or mode) == "observe")
                except (TypeError, AttributeError):
                    failure = "returned a verdict that holds something else than findings and edits"
            if failure:
                _failed(decision, bound, mode, failure, why)
        return decision

    def close(self) -> None:
        """Stop the watchdog until the next decision. The journal belongs to whoever opened it."""
        self.watchdog.disarm()
        self.forms.close()
        if self.native is not None:
            no_longer(self.native)
            self.native.clear()


WATCHDOG.guarded = Gate.decide.__code__  # all controls are called there


def _plain_finding(error: ProtocolError) -> Finding:
    return Finding(error.rule, "parser-differential", error.what)


def _failed(decision: Decision, bound: Bound, mode: str, what: str, why: str) -> None:
    """Fail closed: what a broken control would have said is not known. `why` is for the evidence, not for the peer."""
    rule = f"control-failed/{bound.control}"
    said = f"the control {bound.control} {what}"
    decision.findings.append(Finding(rule, "fail-open", said, severity="high", evidence=why))
    if (bound.mode or mode) == "observe":
        if decision.outcome in ("allow", "annotate"):
            decision.outcome = "error"
    else:
        decision.deny(f"the control {bound.control} {what}, so the message does not pass", rule)


def _compose(decision: Decision, bound: Bound, verdict: Verdict, *, observed: bool) -> None:
    """Add one control's verdict. In observe mode all it can do is leave findings."""
    if isinstance(verdict, Allow):
        return
    if isinstance(verdict, Rewrite) and not all(type(edit) in EDITS for edit in verdict.edits):
        raise TypeError("an edit that is none")
    decision.findings += verdict.findings
    if isinstance(verdict, Annotate):
        decision.labels |= verdict.labels
    rule = verdict.findings[0].rule if verdict.findings else bound.control
    if isinstance(verdict, Annotate):
        if decision.outcome == "allow":
            decision.outcome = "annotate"
    elif observed:
        if decision.outcome in ("allow", "annotate", "error"):
            decision.outcome = f"would-{type(verdict).__name__.lower()}"
            decision.rule = rule
    elif isinstance(verdict, Deny):
        decision.deny(verdict.reason, rule)
    elif isinstance(verdict, Ask):
        if decision.outcome != "deny":
            decision.outcome = "ask"
            decision.reason = verdict.subject
            decision.rule = rule
    else:
        decision.edits += verdict.edits
        if not bound.guards_calls:
            rules = {finding.pointer: finding.rule for finding in verdict.findings}
            removed = (edit.pointer for edit in verdict.edits if isinstance(edit, Remove))
            decision.withheld |= {pointer: rules.get(pointer, rule) for pointer in removed}
        if decision.outcome not in ("ask", "deny"):
            decision.outcome = "rewrite"
            decision.rule = rule
