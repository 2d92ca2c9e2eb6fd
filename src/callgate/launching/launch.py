"""A launch that was thought through: what to start, what to do once it runs, what to write down about it."""

from __future__ import annotations

from callgate.frozen import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from callgate.launching.secrets import Handover
    from callgate.sandbox.backend import Prepared, Running
    from callgate.vault.redaction import StreamRedactor


@dataclass(frozen=True, slots=True)
class Launch:
    """What a transport starts. Use it once: `started` after the spawn, or `abandon` when there was none.

    `facts` goes into the evidence as it is after `started`: no value of a secret, no argument. `notices` are lines for
    the person who started callgate, safe to print.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    cwd: str = ""
    pass_fds: tuple[int, ...] = ()
    facts: Mapping[str, object] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    prepared: Prepared | None = None
    handover: Handover | None = None

    @property
    def confined(self) -> bool:
        """Whether a sandbox holds the server; it then also ends with callgate."""
        return self.prepared is not None

    def stderr(self) -> StreamRedactor | None:
        """What the server's stderr must go through before it is cut into lines and shown; None: nothing."""
        return self.handover.stderr() if self.handover is not None else None

    def started(self, pid: int) -> Running | None:
        """Let the started process go on, watched. Raises SandboxError: then it must be killed."""
        if self.prepared is None or self.prepared.started is None:
            return None
        running = self.prepared.started(pid)
        more = self.prepared.settled() if self.prepared.settled is not None else ()
        sandbox = self.facts.get("sandbox")
        if more and isinstance(sandbox, dict):  # known only now: systemd refused what it was asked for
            sandbox["not_enforced"] = [*sandbox["not_enforced"], *more]
        if self.handover is not None:
            self.handover.runs(running)
        return running

    def abandon(self) -> None:
        """There was no spawn: close what was opened for it."""
        if self.prepared is not None and self.prepared.abandon is not None:
            self.prepared.abandon()
        self.close()

    def close(self) -> None:
        """The server has ended: give back what was leased for it."""
        if self.handover is not None:
            self.handover.close()
