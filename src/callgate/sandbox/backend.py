"""What a sandbox backend is: it proves what it enforces on this machine, then wraps a command."""

from __future__ import annotations

from callgate.frozen import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Protocol

    from callgate.sandbox.spec import SandboxSpec, Sentinel
else:
    Protocol = object  # a protocol says nothing at run time, and `typing` is a third of a launch's imports


@dataclass(frozen=True, slots=True)
class Check:
    """One escape that was really tried inside the sandbox. `held`: it failed, as it should."""

    name: str
    held: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Probe:
    """What a backend is worth on this machine.

    `usable` only where every check that this backend promises to hold did hold. `reason` says why not, and what
    to do about it.
    """

    backend: str
    usable: bool
    reason: str = ""
    version: str = ""
    checks: tuple[Check, ...] = ()
    not_enforced: tuple[str, ...] = ()
    """What this backend does not limit here, in words for a person, for example "memory of all processes together"."""


class Running(Protocol):
    """What watches a started server; `close` is safe to call twice."""

    @property
    def events_fd(self) -> int:
        """Readable when `read_events` has something to tell; -1 where there never is."""

    def read_events(self) -> list[dict[str, object]]:
        """What happened since the last call, for the evidence log: connections, refusals, limits reached.

        Never blocks. Each has a `kind`; an empty list after `events_fd` was readable means: the end, stop watching.
        """

    def replace_secrets(self, sentinels: Sequence[Sentinel]) -> None:
        """Values were renewed or rotated: swap the new ones in from now on."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Prepared:
    """A wrapped command, ready to be started. Descriptors in `pass_fds` keep their numbers in the child.

    `started` is called once, right after the spawn, with the process id: it releases the child where that waits,
    opens the egress gate, moves the process into its control group or starts the watchdog. It raises SandboxError,
    and then the caller kills the process. `settled` says what is not enforced beyond `not_enforced`, which is known
    only once the system answered what it was asked for: it waits for that. `abandon` closes what was opened when
    there will be no spawn.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    cwd: str = ""
    pass_fds: tuple[int, ...] = ()
    backend: str = ""
    not_enforced: tuple[str, ...] = ()
    apparmor: str = ""
    """The AppArmor profile it is started under; empty: none."""
    settled: Callable[[], tuple[str, ...]] | None = None
    started: Callable[[int], Running] | None = None
    abandon: Callable[[], None] | None = None


class Backend(Protocol):
    """A way to confine a server."""

    name: str

    def probe(self) -> Probe:
        """Try the escapes this backend promises to stop, for real: tens of milliseconds to seconds."""

    def prepare(self, spec: SandboxSpec, argv: Sequence[str]) -> Prepared:
        """Wrap `argv`, whose first word is an absolute path on the host. Raises SandboxError."""
