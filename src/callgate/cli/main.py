"""The command line: finds the sub-command and imports only that one.

`callgate run` starts the server before anything heavy is imported, so this module imports nothing.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

COMMANDS = {
    "run": "guard one server: callgate run -- COMMAND ARGS…, or callgate run --url URL",
    "serve": "one HTTP gateway for many servers",
    "pins": "definitions that are pinned, changed, waiting for approval",
    "audit": "the evidence log: tail, show, verify, export",
    "install": "put the servers of MCP clients behind the gate",
    "uninstall": "put the clients' files back, byte for byte",
    "status": "which servers of which clients are behind the gate",
    "doctor": "what is wrong with this installation, and what to do",
    "inventory": "every server declared, running or listening on this machine",
    "sandbox": "what holds on this machine: doctor, explain, learn",
    "trust": "callgate.lock: lock, verify, update, diff, sign, inspect",
    "secrets": "find plaintext credentials, move them into a store, rotate them",
    "hook": "answer a client's hook (the client starts this)",
}
EXIT_USAGE = 2
EXIT_INTERNAL = 3


def usage() -> str:
    """The help of `callgate` itself."""
    lines = ["usage: callgate COMMAND [OPTIONS]", "", "The one gate every MCP message passes.", ""]
    lines += [f"  {name:<11}{what}" for name, what in COMMANDS.items()]
    lines += ["", "callgate COMMAND --help tells more; callgate --version the version."]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Run one sub-command; returns the exit code (0 ok, 1 the answer is no, 2 usage, 3 internal)."""
    if argv is None:
        _open_standard_files()
        _learn_of_ends()
    args = sys.argv[1:] if argv is None else argv
    name = args[0] if args else ""
    if name in ("-h", "--help", "help"):
        sys.stdout.write(usage() + "\n")
        return 0
    if name in ("-V", "--version"):
        from callgate import __version__

        sys.stdout.write(f"callgate {__version__}\n")
        return 0
    if name not in COMMANDS:
        sys.stderr.write((f"callgate: no command {name!a}\n\n" if name else "") + usage() + "\n")
        return EXIT_USAGE
    if name == "run" and argv is None:  # a process of its own, started with the environment of a server
        from callgate.cli.held import hold_back

        hold_back()
    from callgate.errors import CallgateError, ConfigError

    try:
        return _run(name, args[1:])
    except ConfigError as error:
        sys.stderr.write(f"callgate: {error.diagnostics()}\n")
        return EXIT_USAGE
    except CallgateError as error:
        sys.stderr.write(f"callgate: {error.diagnostics()}\n")
        return EXIT_INTERNAL
    except KeyboardInterrupt:
        return 130
    except MemoryError:
        sys.stderr.write("callgate: out of memory\n")
        return EXIT_INTERNAL
    except BrokenPipeError:
        # The reader of our output left (as `head` does): say nothing more, to anyone.
        sys.stderr.close()
        return 0
    except Exception as error:  # noqa: BLE001 - a defect of ours must not end in a traceback on a user's screen
        return _defect(error)


def _open_standard_files() -> None:
    """What a client closed must not become the number of a file of ours: the evidence would get what goes to stderr."""
    import os

    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # takes the lowest free number, which is `fd`
            if getattr(sys, name) is None:
                setattr(sys, name, open(os.devnull, "r" if fd == 0 else "w"))  # noqa: SIM115 - open to the end


def _learn_of_ends() -> None:
    """Who started us may have ignored the ends of children, which is inherited: ours would vanish before we ask."""
    # The C half: the other one takes a launch time to import.
    from _signal import SIG_DFL, SIGCHLD, signal  # type: ignore[import-not-found]

    signal(SIGCHLD, SIG_DFL)


def _defect(error: Exception) -> int:
    """Report an error nobody foresaw: its kind and place, not its text, which may hold a secret."""
    import os

    if _no_descriptor(error):
        sys.stderr.write("callgate: it may open no more files\n  next:   raise the limit of open files (ulimit -n)\n")
        return EXIT_INTERNAL
    place = error.__traceback__  # the module of that name may be one more file than can be opened
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = f"{os.path.basename(place.tb_frame.f_code.co_filename)}:{place.tb_lineno}" if place is not None else "?"
    sys.stderr.write(
        f"callgate: internal error: {type(error).__name__} at {where}\n"
        "  next:   please report it; CALLGATE_DEBUG=1 shows the whole traceback\n"
    )
    if os.environ.get("CALLGATE_DEBUG"):
        import traceback

        traceback.print_exception(error)
    return EXIT_INTERNAL


def _no_descriptor(error: BaseException) -> bool:
    """Whether the system gave no descriptor: at an import in native code, no number says so."""
    import errno
    import os

    limits = (errno.EMFILE, errno.ENFILE)
    if isinstance(error, ImportError):
        return any(os.strerror(number) in str(error) for number in limits)
    return isinstance(error, OSError) and error.errno in limits


def _run(name: str, args: list[str]) -> int:
    if name == "run":  # the one whose start counts: no more machinery than this
        from callgate.cli import run

        return run.main(args)
    from importlib import import_module

    if name != "hook":  # a client starts that one, with the environment it likes
        from callgate.outside import caller

        caller.is_the_user()
    command: Callable[[list[str]], int] = import_module(f"callgate.cli.{name}").main
    return command(args)


if __name__ == "__main__":
    sys.exit(main())
