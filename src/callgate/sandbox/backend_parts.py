"""What every backend with a stub opens for one start and gives back: descriptors, control group, egress gate, watchdog.

Opened while the command is prepared, then handed to `Together` once it was spawned (`running`), or closed where it
was not (`abandon`).
"""

from __future__ import annotations

import os

from callgate.errors import SandboxError
from callgate.sandbox.backend_limits import not_held
from callgate.sandbox.backend_running import Opened, Together

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from callgate.sandbox.backend import Running
    from callgate.sandbox.cgroup import ControlGroup
    from callgate.sandbox.egress.gate import EgressGate
    from callgate.sandbox.spec import SandboxSpec


class Parts:
    """Of one start. `alone`: the sandbox has no process and no user namespace."""

    def __init__(self, spec: SandboxSpec, argv: Sequence[str], *, alone: bool) -> None:
        """Raises SandboxError for a program that is not named by an absolute path."""
        if not argv or not os.path.isabs(argv[0]):
            raise SandboxError("the program of a confined server must be an absolute path")
        self.opened = Opened()
        self.gate: EgressGate | None = None
        self.group: ControlGroup | None = None
        self._spec = spec
        self._alone = alone
        self._promised: frozenset[str] = frozenset()
        self.profile = self._missing = ""

    @property
    def gated(self) -> bool:
        """Whether its network goes through an egress gate."""
        return bool(self._spec.network or self._spec.sentinels)

    def open_group(self) -> None:
        """A control group, from systemd where it runs: asked for now, there when the stub needs it."""
        from callgate.sandbox import cgroup, systemd

        limits = self._spec.limits
        scope = systemd.ask(limits)
        self.group = scope if scope is not None else cgroup.open_group(limits)
        self._promised = self.group.held if self.group else frozenset()

    def open_gate(self, ca_path: str = "") -> EgressGate:
        """The egress gate, not yet attached. `ca_path`: where the server finds its authorities, if not as usual."""
        from callgate.sandbox.egress.gate import EgressGate

        self.gate = EgressGate.prepare(self._spec, ca_path=ca_path) if ca_path else EgressGate.prepare(self._spec)
        return self.gate

    def open_profile(self, *, maker: str = "", temporary: str = "") -> str:
        """The AppArmor profile the stub enters; empty: none, and `not_held` says why where the kernel has AppArmor.
        `maker`, `temporary`: as `apparmor.entry` has them.
        """
        if not os.path.exists("/sys/module/apparmor"):
            return ""
        from callgate.sandbox.apparmor import entry

        found = entry(self._spec, maker=maker, temporary=temporary)
        self.profile, self._missing = found.name, found.missing
        return self.profile

    def for_stub(self) -> tuple[list[int], int]:
        """`control_groups` and `meeting` of the stub's order."""
        return (list(self.group.fds), self.group.meeting) if self.group else ([], -1)

    def not_held(self) -> list[str]:
        """In words, what is not held, if systemd does what it was asked for."""
        words = not_held(self._spec.limits, self._promised, own_count=not self._alone)
        return [*words, self._missing] if self._missing else words

    def settled(self) -> tuple[str, ...]:
        """What is not held beyond `not_held`, once that is known: waits for systemd."""
        if self.group is None:
            return ()
        self.group.settle()
        found = not_held(self._spec.limits, self.group.held, own_count=not self._alone)
        known = self.not_held()
        more = [line for line in found if line not in known]
        return (*([f"no control group: {self.group.refusal}"] if self.group.refusal else []), *more)

    def running(
        self,
        pid: int,
        parts: Sequence[Running] = (),
        give_back: Sequence[Callable[[], None]] = (),
        directories: Sequence[str] = (),
    ) -> Together:
        """It was spawned: let the stub into its group, start to watch. `directories` count for the disk beside its
        home; `give_back` is called at the end. Raises SandboxError.
        """
        from callgate.sandbox.watchdog import watch

        self.opened.close()
        if self.group:
            self.group.admit()
        watcher = watch(pid, self._spec, self.group, alone=self._alone, directories=directories)
        watched = [*parts, *([watcher] if watcher is not None else [])]
        return Together(watched, [*give_back, *([self.group.close] if self.group else [])], self.group)

    def abandon(self) -> None:
        """Close everything."""
        self.opened.close()
        if self.gate is not None:
            self.gate.close()
        if self.group is not None:
            self.group.close()


def kill(pid: int) -> None:
    """End what was spawned before its waiting is over: where the descriptor it waits on is closed it would go on."""
    try:
        os.kill(pid, 9)
    except ProcessLookupError:
        return
