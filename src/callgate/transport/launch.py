"""Start a stdio server as early as possible: this module imports nothing that costs time.

The server runs in a process group of its own, so that whatever it started can be ended with it, and, on
Linux with util-linux, is told to end when callgate itself is killed (`setpriv --pdeathsig`).
"""

from __future__ import annotations

import os
import sys

from callgate.errors import LaunchError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PIPE_BYTES = 1024 * 1024
"""Pipe size asked for (Linux): large messages then cross in fewer turns."""
_DEFAULT_SIGNALS = (13, 25)
"""SIGPIPE and SIGXFSZ, which Python ignores and a server must not find ignored."""
_SETPRIV = ("/usr/bin/setpriv", "/bin/setpriv")


class Child:
    """A started server: its process id and our ends of its three pipes."""

    __slots__ = ("pid", "stderr", "stdin", "stdout")

    def __init__(self, pid: int, stdin: int, stdout: int, stderr: int) -> None:
        self.pid = pid
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr


def resolve(program: str, path: str | None = None, cwd: str = "") -> str:
    """The file a command name stands for. Raises LaunchError with what to do."""
    if os.sep in program:
        places = [os.path.join(cwd, program) if cwd else program]
    else:
        search = path if path is not None else os.environ.get("PATH", os.defpath)
        places = [os.path.join(folder or ".", program) for folder in search.split(os.pathsep)]
    denied = False
    for place in places:
        if os.path.isfile(place):
            if os.access(place, os.X_OK):
                return place
            denied = True
    if denied:
        raise LaunchError(f"{program!r} is not executable", next_step="check the file's mode (chmod +x)")
    raise LaunchError(
        f"there is no program {program!r}",
        next_step="check the spelling, or give the full path: programs started by an editor often have a short PATH",
    )


def spawn(
    command: Sequence[str],
    environment: Mapping[str, str] | None = None,
    cwd: str = "",
    *,
    pass_fds: tuple[int, ...] = (),
    confined: bool = False,
) -> Child:
    """Start `command` (never through a shell) with pipes for stdin, stdout and stderr.

    `environment` replaces the inherited one when given. Descriptors of `pass_fds` keep their numbers. A `confined`
    command is a sandbox that ends with us by itself. Raises LaunchError.
    """
    if not command:
        raise LaunchError("no server command", next_step="write: callgate run -- COMMAND ARGS…")
    variables = dict(os.environ) if environment is None else environment
    program = resolve(command[0], variables.get("PATH"), cwd)
    prefix: list[str] = []
    if sys.platform == "linux" and not confined:
        guard = next((place for place in _SETPRIV if os.access(place, os.X_OK)), None)
        if guard is not None:
            prefix = [guard, "--pdeathsig", "KILL", "--"]
    if cwd and not os.path.isdir(cwd):
        raise LaunchError(f"the working directory {cwd!r} does not exist")
    in_read, in_write = _pipe()
    out_read, out_write = _pipe()
    err_read, err_write = os.pipe()
    here = os.getcwd() if cwd else ""
    for fd in pass_fds:
        os.set_inheritable(fd, True)
    try:
        if cwd:
            os.chdir(cwd)  # posix_spawn has no working directory of its own
        pid = os.posix_spawn(
            prefix[0] if prefix else program,
            [*prefix, program, *command[1:]] if prefix else list(command),
            variables,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, in_read, 0),
                (os.POSIX_SPAWN_DUP2, out_write, 1),
                (os.POSIX_SPAWN_DUP2, err_write, 2),
            ],
            setpgroup=0,
            setsigdef=_DEFAULT_SIGNALS,
        )
    except OSError as error:
        for fd in (in_write, out_read, err_read):
            os.close(fd)
        raise LaunchError(f"cannot start {command[0]!r}: {error.strerror}") from error
    finally:
        if cwd:
            os.chdir(here)
        for fd in (in_read, out_write, err_write):
            os.close(fd)
        for fd in pass_fds:
            os.set_inheritable(fd, False)
    return Child(pid, in_write, out_read, err_read)


def _pipe() -> tuple[int, int]:
    read, write = os.pipe()
    widen(write)
    return read, write


def widen(fd: int) -> None:
    """Ask for a larger pipe; where that is not allowed or not a pipe, the default does."""
    if sys.platform == "linux":
        import fcntl

        try:
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        except OSError:
            return


def launch_record(command: Sequence[str], pid: int, server: str) -> dict[str, object]:
    """What was started, without its arguments: they may hold secrets. The digest tells two commands apart."""
    from hashlib import sha256

    line = "\0".join(command).encode("utf-8", "surrogateescape")
    return {
        "arguments": len(command) - 1,
        "pid": pid,
        "program": os.path.basename(command[0]),
        "server": server,
        "sha256": sha256(line).hexdigest(),
    }
