"""Which backend confines a server on this machine: the first that proved itself, or the one that was named.

What the proof found is kept under the state directory, for this boot, user, kernel, callgate and program: a launch
then costs a few file reads. A kept answer is no promise: the stub looks again, inside, at every start.
"""

from __future__ import annotations

import os
import sys
import time
from _thread import get_ident

from callgate.errors import SandboxError
from callgate.sandbox.backend import Probe
from callgate.sandbox.bubblewrap import BubblewrapBackend, Facts, programs
from callgate.text import visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from callgate.sandbox.backend import Backend, Prepared
    from callgate.sandbox.spec import SandboxSpec

LINUX = ("bubblewrap", "landlock", "podman", "docker")
MACOS = ("seatbelt", "podman", "docker")
CONTAINERS = ("podman", "docker")
_BOOT = "/proc/sys/kernel/random/boot_id"
_SWITCHES = (
    "/proc/sys/user/max_user_namespaces",
    "/proc/sys/kernel/unprivileged_userns_clone",
    "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
)
"""Settings that open or close user namespaces without a new boot."""
_KEPT_BYTES = 16384
_FIELDS = 4
FAILURE_SECONDS = 600.0
"""How long `auto` believes that a backend cannot be used: a daemon may be started, a machine less busy."""


class Chosen:
    """A backend that was proved, as a `Backend`. `notices`: one line for each better one that could not be used."""

    def __init__(self, backend: Backend, notices: tuple[str, ...] = ()) -> None:
        self._backend = backend
        self.name = backend.name
        self.notices = notices

    def probe(self) -> Probe:
        return self._backend.probe()

    def prepare(self, spec: SandboxSpec, argv: Sequence[str]) -> Prepared:
        """As the backend's own; what is not enforced begins with the notices."""
        prepared = self._backend.prepare(spec, argv)
        if not self.notices:
            return prepared
        from callgate.frozen import replace

        return replace(prepared, not_enforced=(*self.notices, *prepared.not_enforced))


def choose(wanted: str, state: str | Path, *, kind: str = "") -> Chosen:
    """The backend for a server of `kind` (spec.ServerKind). `wanted`: `auto` or a backend's name.

    Raises SandboxError with what to do where none, or not the named one, proves itself: a weaker one is taken
    only by `auto`, and said; `none` only by name.
    """
    if wanted == "none":
        return Chosen(make("none"))
    kept = Kept(str(state))
    if wanted != "auto":
        answer = kept.answer(wanted)
        if not answer.usable:
            answer = kept.try_now(wanted)  # it may have been installed or started since
        if answer.usable:
            return Chosen(kept.backend(wanted))
        raise SandboxError(f"the sandbox '{visible(wanted)}' cannot be used: {answer.reason}", next_step=advice(wanted))
    notices: list[str] = []
    for name in order(kind):
        answer = kept.answer(name)
        if answer.usable:
            return Chosen(kept.backend(name), tuple(notices))
        notices.append(f"the sandbox {name} could not be used: {answer.reason}")
    raise SandboxError(
        "no sandbox can be used on this machine: " + "; ".join(notices),
        next_step=f"{advice(order(kind)[0])}; or start it unconfined, on your own risk: --sandbox none",
    )


def order(kind: str = "") -> tuple[str, ...]:
    """What `auto` tries, best first."""
    if kind == "container":
        return CONTAINERS
    return MACOS if sys.platform == "darwin" else LINUX


def probe_all(state: Path) -> list[Probe]:
    """Every backend of this platform tried now, whatever is kept; what is found is kept."""
    kept = Kept(str(state))
    return [kept.try_now(name) for name in order()]


def advice(name: str) -> str:
    """What a person can do to make a backend usable here."""
    if name != "bubblewrap":
        words = {
            "landlock": "use a kernel with Landlock (Linux 5.13; 6.12 holds most), or bubblewrap",
            "podman": "install podman and start it once by hand: podman run --rm hello",
            "docker": "install docker and start its daemon, or use podman",
            "seatbelt": "seatbelt is there on macOS only",
        }
        return words.get(name, "run: callgate sandbox doctor")
    clone, apparmor = (_text(path).strip() for path in _SWITCHES[1:])
    if not programs():
        from callgate.sandbox.bubblewrap import INSTALL

        return INSTALL
    if apparmor == "1":
        return (
            "this system's AppArmor refuses user namespaces (Ubuntu 23.10 and later): load the profile that allows "
            "them to /usr/bin/bwrap, sudo apparmor_parser -r /usr/share/apparmor/extra-profiles/bwrap-userns-restrict "
            "(package apparmor-profiles), or choose the sandbox landlock"
        )
    if clone == "0":
        return "allow user namespaces: sudo sysctl kernel.unprivileged_userns_clone=1; or choose landlock"
    if _text(_SWITCHES[0]).strip() == "0":
        return "allow user namespaces: sudo sysctl user.max_user_namespaces=10000; or choose landlock"
    return "run: callgate sandbox doctor; or choose another sandbox"


class Kept:
    """What proofs found, in one small file a backend."""

    def __init__(self, state: str) -> None:
        self._directory = os.path.join(state, "sandbox")
        self._known: dict[str, Probe] = {}
        self._facts: Facts | None = None

    def answer(self, name: str) -> Probe:
        """What is known of a backend, from the file or by trying it now. Raises SandboxError for no such name."""
        if name not in self._known:
            found = self._read(name)
            self._known[name] = found if found is not None else self.try_now(name)
        return self._known[name]

    def try_now(self, name: str) -> Probe:
        """The proof itself: tens of milliseconds to seconds. Kept when it succeeds, and when it may not change."""
        backend = make(name, self._directory)
        before = _key(name)
        found = backend.probe()
        if found.usable and isinstance(backend, BubblewrapBackend):
            self._facts = backend.facts
        self._known[name] = found
        if before == _key(name):
            self._write(name, before, found)
        return found

    def backend(self, name: str) -> Backend:
        """A backend that is usable, without asking again what it can do."""
        return make(name, self._directory, self._facts if name == "bubblewrap" else None)

    def _read(self, name: str) -> Probe | None:
        path = os.path.join(self._directory, f"probe-{name}")
        lines = _text(path).split("\n")
        if len(lines) < _FIELDS or lines[0] != _key(name):
            return None
        if lines[1] != "usable" and not 0 <= time.time() - os.stat(path).st_mtime < FAILURE_SECONDS:
            return None
        if name == "bubblewrap" and lines[1] == "usable":
            program, size, userns, landlock = (
                (lines[_FIELDS].split("\t") + [""] * 4)[:4] if len(lines) > _FIELDS else [""] * 4
            )
            if not program or not landlock.isdigit():
                return None
            self._facts = Facts(program, lines[2], size == "1", userns == "1", int(landlock))
        return Probe(name, lines[1] == "usable", lines[3], lines[2])

    def _write(self, name: str, key: str, found: Probe) -> None:
        words = [key, "usable" if found.usable else "unusable", visible(found.version, 40), visible(found.reason, 1000)]
        facts = self._facts
        if name == "bubblewrap" and facts is not None:
            words.append(
                "\t".join([facts.program, *(str(int(n)) for n in (facts.size, facts.disable_userns, facts.landlock))])
            )
        path = os.path.join(self._directory, f"probe-{name}")
        beside = f"{path}.{os.getpid()}.{get_ident()}"  # servers are started side by side
        try:
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            with open(beside, "w", encoding="utf-8", errors="surrogateescape") as file:
                file.write("\n".join([*words, ""]))
            os.replace(beside, path)
        except OSError:
            return  # then the next start tries again


def make(name: str, cache: str = "", facts: Facts | None = None) -> Backend:
    """A backend by name. Raises SandboxError for a name there is not."""
    if name == "bubblewrap":
        return BubblewrapBackend(cache, facts)
    if name == "landlock":
        from callgate.sandbox.landlock import LandlockBackend

        return LandlockBackend(cache)
    if name == "podman":
        from callgate.sandbox.podman import PodmanBackend

        return PodmanBackend()
    if name == "docker":
        from callgate.sandbox.docker import DockerBackend

        return DockerBackend(cache)
    if name == "seatbelt":
        from callgate.sandbox.seatbelt import SeatbeltBackend

        return SeatbeltBackend()
    if name == "none":
        from callgate.sandbox.landlock import NoBackend

        return NoBackend()
    raise SandboxError(
        f"there is no sandbox '{visible(name, 40)}'",
        next_step="choose auto, bubblewrap, landlock, podman, docker, seatbelt or none",
    )


def _key(name: str) -> str:
    """Everything a proof depends on, as one line."""
    from callgate import __version__

    system = os.uname()
    parts = [__version__, _text(_BOOT).strip(), str(os.getuid()), system.release, system.machine, sys.executable]
    parts += [_text(path).strip() for path in _SWITCHES]
    files = [os.path.join(os.path.dirname(__file__), one) for one in ("stub.py", "seccomp_profile.py", f"{name}.py")]
    if name == "bubblewrap":
        files += programs()
    else:
        files += [os.path.join(place, name) for place in ("/usr/bin", "/usr/local/bin")]
    for path in files:
        try:
            found = os.stat(path)
        except OSError:
            parts.append("-")
        else:
            parts.append(f"{found.st_ino:x}.{found.st_size:x}.{found.st_mtime_ns:x}.{found.st_mode:o}")
    return " ".join(parts)


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read(_KEPT_BYTES)
    except OSError:
        return ""
