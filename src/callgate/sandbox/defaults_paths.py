"""Which paths of the host a server may be given at all, and which of those it is named become mounts."""

from __future__ import annotations

import os

from callgate.errors import SandboxError
from callgate.text import visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# Directories of which no server gets the whole, nor what lies above them.
_NEVER_WHOLE = (
    "/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/media", "/mnt", "/opt", "/proc", "/root", "/run", "/sbin",
    "/srv", "/sys", "/tmp", "/usr", "/var", "/var/run", "/var/tmp", "/Users", "/Library", "/System", "/private",  # noqa: S108
)  # fmt: skip
# Below these nothing is given: the system's own state, and devices.
_NEVER_BELOW = ("/boot", "/dev", "/etc", "/proc", "/run", "/sys", "/var/run")
# Of a home: credentials, and what starts programs at the next login.
_NEVER_IN_HOME = (
    ".ssh", ".gnupg", ".aws", ".azure", ".kube", ".docker", ".netrc", ".npmrc", ".pypirc", ".git-credentials",
    ".password-store", ".config/gcloud", ".config/gh", ".config/op", ".config/systemd", ".config/autostart",
    ".local/share/keyrings", ".mozilla", ".config/google-chrome", ".config/chromium", ".config/callgate",
    ".config/rclone", ".vault-token", ".pgpass", ".cargo/credentials.toml", ".zprofile", ".config/fish", ".bashrc",
    ".bash_profile", ".profile", ".zshrc", ".zshenv", ".bash_history", ".zsh_history", "Library/Keychains",
    "Library/LaunchAgents",
)  # fmt: skip
_NOT_WHOLE_IN_HOME = (".config", ".local", ".local/share", ".local/bin", ".local/state", ".cache", "Library")
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store")
"""Read-only in every sandbox already."""
_MOST_STEPS = 4096
_NOT_PATHS = frozenset(
    ("PATH", "HOME", "PWD", "OLDPWD", "SHELL", "TMPDIR", "TEMP", "TMP", "TZ", "TERM", "USER", "LOGNAME", "LANG")
)


class Fence:
    """What must not be given away on this machine. `state` is callgate's own directory."""

    def __init__(self, state: str, own_home: str) -> None:
        homes = {os.path.expanduser("~"), os.environ.get("HOME", "")}
        self._homes = {os.path.realpath(one) for one in homes if os.path.isabs(one)}
        self._state = os.path.realpath(state)
        self._own_home = os.path.realpath(own_home)
        self._artefacts = os.path.join(self._state, "artefacts")

    def reason(self, path: str) -> str:
        """Why a real path is not given to a server; '' where it may be."""
        if path in _NEVER_WHOLE or any(within(home, path) for home in self._homes):
            return "it holds far more than one server needs"
        if within(path, self._own_home) or within(path, self._artefacts):
            return ""
        if within(path, self._state) or within(self._state, path):
            return "callgate keeps its own state there"
        if any(within(path, one) for one in _NEVER_BELOW):
            return "it belongs to the system"
        for home in self._homes:
            for name in _NEVER_IN_HOME:
                if within(path, f"{home}/{name}"):
                    return "credentials or start-up files are kept there"
            if any(path == f"{home}/{name}" for name in _NOT_WHOLE_IN_HOME):
                return "it holds far more than one server needs"
        return ""

    def check(self, path: str, what: str) -> None:
        """Raise SandboxError where a real path must not be given."""
        reason = self.reason(path)
        if reason:
            raise SandboxError(
                f"{what} '{visible(path, 200)}' is not given to a server: {reason}",
                next_step="name the one directory the server needs, for example a project's",
            )


def within(path: str, directory: str) -> bool:
    """Whether a path is a directory or lies below it; both without links and dots."""
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def in_system(path: str) -> bool:
    """Whether a path is in every sandbox already: programs, and devices of which it has its own."""
    return any(within(path, one) for one in (*SYSTEM, "/dev/null", "/dev/zero", "/dev/urandom", "/dev/random"))


def named_in(arguments: Sequence[str], cwd: str) -> Iterator[str]:
    """The paths that arguments name and that exist: `PATH`, `--option=PATH`, `--option PATH`."""
    for argument in arguments:
        value = argument
        if argument.startswith("-"):
            _, equals, value = argument.partition("=")
            if not equals:
                continue
        path = existing(value, cwd)
        if path:
            yield path


def named_by(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """(variable, path) for each variable whose value is an absolute path that exists."""
    for name, value in environment.items():
        if name not in _NOT_PATHS and os.path.isabs(value):
            path = existing(value, "/")
            if path:
                yield name, path


def existing(value: str, cwd: str) -> str:
    """A value as an absolute path, its last part not followed; '' where nothing is there."""
    if not value or "\0" in value or len(value) > 4096:
        return ""
    path = os.path.normpath(os.path.join(cwd, value))
    return path if os.path.exists(path) else ""


def links_on(path: str) -> Iterator[str]:
    """The real directories in which the links lie that an absolute path goes through."""
    parts = [one for one in reversed(path.split("/")) if one]
    here = "/"
    for _ in range(_MOST_STEPS):
        if not parts:
            return
        name = parts.pop()
        if name in {".", ".."}:
            here = os.path.dirname(here) if name == ".." else here
            continue
        below = os.path.join(here, name)
        try:
            target = os.readlink(below)
        except OSError:
            here = below
            continue
        yield here
        parts += [one for one in reversed(target.split("/")) if one]
        here = "/" if target.startswith("/") else here
