"""`callgate run`: guard one server, as a drop-in prefix in any client's configuration.

Start-up order: read the arguments by hand, plan the launch (lock, sandbox, secrets), start the server, and only
then import the gate: the imports take their time while the server boots, which it does anyway.
"""

from __future__ import annotations

import gc
import os
import sys

from callgate.cli.held import held, with_held
from callgate.config import SANDBOXES
from callgate.controls import LAUNCH_CONTROLS
from callgate.errors import CallgateError, ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from callgate.audit import Journal
    from callgate.config import Config
    from callgate.gate.engine import Gate
    from callgate.launching.launch import Launch
    from callgate.sandbox.backend import Running
    from callgate.transport.launch import Child
    from callgate.transport.stdio import Relay
    from callgate.vault.session import Session

HELP = """\
usage: callgate run [OPTIONS] -- COMMAND ARGS…
       callgate run [OPTIONS] --url URL

Guard one MCP server: it runs pinned and in a sandbox, every message passes
the gate and leaves evidence.

  --name NAME        what the lock, pins and evidence call the server
                     (default: from the command or URL)
  --config FILE      settings (default: callgate.toml in the user's
                     configuration directory)
  --state DIR        where pins, keys and evidence live (default: as settings
                     say)
  --mode MODE        enforce (default) or observe
  --url URL          the server speaks HTTP: offer it on stdin and stdout
  --env NAME         a variable the server gets; NAME* for all that begin so
  --read PATH        a file or directory it may read
  --write PATH       a directory it may write
  --network HOST     a host it may connect to: HOST, HOST:PORT, *.DOMAIN or *
  --sandbox BACKEND  auto (default), bubblewrap, landlock, podman, docker,
                     seatbelt, or none: unconfined, which evidence keeps

The server's exit code is callgate's. Put the prefix before any command of a client's configuration:
  "command": "callgate", "args": ["run", "--", "npx", "-y", "SOME-SERVER"]
"""
_OPTIONS = {
    "--name": "name",
    "--config": "config",
    "--state": "state",
    "--mode": "mode",
    "--url": "url",
    "--sandbox": "sandbox",
}
_LISTS = {"--env": "env", "--read": "read", "--write": "write", "--network": "network"}


class Arguments:
    """What was asked for on the command line."""

    __slots__ = (
        *("command", "config", "env", "help", "mode", "name", "network", "read", "sandbox", "state", "url", "write"),
    )

    def __init__(self) -> None:
        self.name = ""
        self.config = ""
        self.state = ""
        self.mode = ""
        self.url = ""
        self.sandbox = ""
        self.help = False
        self.command: list[str] = []
        self.env: list[str] = []
        self.read: list[str] = []
        self.write: list[str] = []
        self.network: list[str] = []


def parse(args: list[str]) -> Arguments:
    """The arguments. Raises ConfigError."""
    found = Arguments()
    at = 0
    while at < len(args):
        word = args[at]
        at += 1
        if word == "--":
            found.command = args[at:]
            break
        if word in ("-h", "--help"):
            found.help = True
            return found
        option, has_value, value = word.partition("=")
        if option not in _OPTIONS and option not in _LISTS:
            raise ConfigError(
                f"callgate run: {word!a} is not an option",
                next_step="put -- before the server's command: callgate run -- COMMAND ARGS…",
            )
        if not has_value:
            if at == len(args):
                raise ConfigError(f"callgate run: {option} needs a value", next_step="see callgate run --help")
            value = args[at]
            at += 1
        if option in _LISTS:
            getattr(found, _LISTS[option]).append(value)
        else:
            setattr(found, _OPTIONS[option], value)
    if len(found.command) == 1 and " " in found.command[0] and not os.path.exists(found.command[0]):
        # Some clients join command and arguments to one string.
        import shlex

        try:
            found.command = shlex.split(found.command[0])
        except ValueError as error:
            raise ConfigError(
                f"callgate run: the command's line cannot be split: {str(error).lower()}",
                next_step="close its quotes, or write command and arguments as words of their own",
            ) from error
    if bool(found.command) == bool(found.url):
        raise ConfigError(
            "callgate run needs a server: a command after --, or --url", next_step="see callgate run --help"
        )
    if found.mode not in ("", "enforce", "observe"):
        raise ConfigError("callgate run: --mode is enforce or observe")
    if found.sandbox and found.sandbox not in SANDBOXES:
        raise ConfigError(f"callgate run: --sandbox is one of {', '.join(SANDBOXES)}")
    return found


def main(args: list[str]) -> int:
    """Run; the exit code is the server's."""
    arguments = parse(args)
    if arguments.help:
        sys.stdout.write(HELP)
        return 0
    gc.disable()  # what a start makes stays: to look for garbage there costs 4 ms and finds none
    try:
        return _remote(arguments) if arguments.url else _local(arguments)
    finally:
        gc.enable()


def _local(arguments: Arguments) -> int:
    from callgate.transport.launch import launch_record, spawn

    config = _configuration(arguments)
    name = arguments.name or _name_of(arguments.command)
    launch = _planned(config, name, arguments)
    child: Child | None = None
    running: Running | None = None
    try:
        try:
            if LAUNCH_CONTROLS:
                journal, gate = _open(config, name)
                _allow_launch(gate, name, arguments.command)
                child, running = _start(launch, spawn)
            else:
                child, running = _start(launch, spawn)
                journal, gate = _open(config, name)
        except BaseException:
            if child is None:
                launch.abandon()
            raise
        journal.note("launch", {**launch_record(arguments.command, child.pid, name), **launch.facts, **_held_fact()})
        _take_over_hooks(config, journal)
        relay = _relay(child, running, launch, gate, journal, name)
    except BaseException:
        if child is not None:
            _abandon(child)
            if running is not None:
                running.close()
            launch.close()
        raise
    for line in (*launch.notices, *_held_notice()):
        relay.say(line)
    _collect_again()
    try:
        return relay.run()
    finally:
        launch.close()
        gate.close()
        journal.close()


def _relay(child: Child, running: Running | None, launch: Launch, gate: Gate, journal: Journal, name: str) -> Relay:
    """What carries the messages, with all loaded that the first of them needs."""
    from callgate.assembly import make_ready
    from callgate.transport.launch import widen
    from callgate.transport.stdio import Relay

    for fd in (0, 1):
        widen(fd)
    make_ready(gate)
    channel = gate.channel(server=name, principal=_principal(), transport="stdio")
    return Relay(child, channel, journal, name, running=running, confined=launch.confined, redactor=launch.stderr())


def _held_fact() -> dict[str, object]:
    names = held(os.environ)
    return {"held_back": names} if names else {}


def _held_notice() -> tuple[str, ...]:
    from callgate.text import visible

    names = ", ".join(visible(name, 60) for name in held(os.environ))
    return (f"held back from callgate itself: {names}; a server gets what --env names",) if names else ()


def _collect_again() -> None:
    """From here on objects come and go. Those of the start need not be looked at again."""
    gc.freeze()
    gc.enable()


def _planned(config: Config, name: str, arguments: Arguments) -> Launch:
    """What is to be started. A refusal is evidence too."""
    from callgate.config.places import state_path
    from callgate.launching.plan import Wish, plan

    wish = Wish(
        name=name,
        command=tuple(arguments.command),
        variables=with_held(os.environ),
        names=tuple(arguments.env),
        read=tuple(arguments.read),
        write=tuple(arguments.write),
        network=tuple(arguments.network),
        sandbox=arguments.sandbox,
        cwd=_here(),
        home="" if arguments.name else _home_of(arguments.command, name),
    )
    try:
        return plan(config, wish, state_path(config))
    except CallgateError as error:
        journal, gate = _open(config, name)
        journal.note("launch-failed", {"server": name, "reason": error.what})
        gate.close()
        journal.close()
        raise


def _here() -> str:
    """The working directory. Raises ConfigError where somebody removed it."""
    try:
        return os.getcwd()
    except OSError as error:
        raise ConfigError(
            "the directory that callgate was started in is gone", next_step="start it in one that exists"
        ) from error


def _take_over_hooks(config: Config, journal: Journal) -> None:
    """What hooks decided since the last log was open belongs into the evidence."""
    from callgate.clients import hook_spool
    from callgate.config.places import state_path

    state = state_path(config)
    if hook_spool.waiting(state):
        hook_spool.take_over(state, journal.note)


def _start(launch: Launch, spawn: Callable[..., Child]) -> tuple[Child, Running | None]:
    """Spawn and release it. Raises LaunchError, with nothing left running."""
    child = spawn(launch.argv, launch.environment, launch.cwd, pass_fds=launch.pass_fds, confined=launch.confined)
    try:
        return child, launch.started(child.pid)
    except BaseException:
        _abandon(child)
        launch.close()
        raise


def _remote(arguments: Arguments) -> int:
    from callgate.config.places import state_directory
    from callgate.launching.granted import check_url
    from callgate.launching.headers import LiveHeaders
    from callgate.launching.urls import resolved_url
    from callgate.outside import caller
    from callgate.transport.remote_stdio import run_remote

    config = _configuration(arguments)
    name = arguments.name or _name_of_url(arguments.url)
    server = config.servers.get(name)
    state = state_directory(config)
    caller.settle(config, state)
    headers = LiveHeaders(server.headers if server is not None else {}, state, name)
    session: Session | None = None
    journal: Journal | None = None
    try:
        check_url(config, name, arguments.url, state)
        # Before the gate is put together: it looks for secrets where there are some.
        url, session = resolved_url(arguments.url, state, name)
        journal, gate = _open(config, name)
        if server is not None:
            headers.only_for(server.url, arguments.url)
        headers.resolve()
    except CallgateError as error:
        if journal is None:
            journal, gate = _open(config, name)
        journal.note("launch-failed", {"server": name, "reason": error.what})
        gate.close()
        journal.close()
        if session is not None:
            session.close()
        raise
    _collect_again()
    try:
        return run_remote(url, gate=gate, journal=journal, name=name, headers=headers)
    finally:
        headers.close()
        if session is not None:
            session.close()
        gate.close()
        journal.close()


def _configuration(arguments: Arguments) -> Config:
    from callgate.config import Config
    from callgate.config.places import user_config_file
    from callgate.frozen import replace

    path = arguments.config or user_config_file()
    state = os.path.abspath(arguments.state) if arguments.state else ""
    if path:
        from callgate.config.reader import load

        config = load(path, kept=True, state=state)
    else:
        config = Config()
    if state:
        config = replace(config, state_dir=state)
    return replace(config, mode=arguments.mode) if arguments.mode else config  # type: ignore[arg-type]  # parse() checked it


def _open(config: Config, name: str) -> tuple[Journal, Gate]:
    from callgate.assembly import assemble

    _, journal, gate = assemble(config, process=f"run {name}")
    journal.on_removal = _say_removed
    return journal, gate


def _say_removed(fields: Mapping[str, object]) -> None:
    """What retention removed from the evidence, on stderr."""
    from callgate.cli.removal import say

    say(fields)


def _allow_launch(gate: Gate, name: str, command: list[str]) -> None:
    """Ask the launch controls. Raises LaunchError when one denies."""
    from callgate.errors import LaunchError
    from callgate.gate.events import LaunchEvent

    event = LaunchEvent(name, tuple(command), os.getcwd(), tuple(sorted(with_held(os.environ))))
    decision = gate.decide(gate.always["launch"], event, gate.config.mode_of(name))
    if decision.outcome in ("deny", "ask"):
        raise LaunchError(decision.reason, next_step=f"rule {decision.rule}")


def _abandon(child: Child) -> None:
    """End a server that was started for a gate that could not be."""
    import signal

    for fd in (child.stdin, child.stdout, child.stderr):
        os.close(fd)
    try:
        os.killpg(child.pid, signal.SIGKILL)
        os.waitpid(child.pid, 0)
    except (ProcessLookupError, ChildProcessError):
        return


_RUNNERS = frozenset(
    ("npx", "uvx", "uv", "node", "python", "env", "bunx", "bun", "deno", "run", "tool", "exec", "sh", "bash", "dash",
     "zsh", "ruby", "perl", "php", "java")
)  # fmt: skip


def _meant(command: list[str]) -> tuple[str, str]:
    """The word of a command that says what is run, after runners and options, and that without its directory."""
    for part in command:
        base = os.path.basename(part) if part.startswith(("/", "./", "../")) else part
        runner = base.rstrip("0123456789.") in _RUNNERS  # python3.11, and not run.sh
        if not (runner or base.startswith("-") or "=" in base):
            return part, base
    return command[0], command[0]


def _name_of(command: list[str]) -> str:
    """A name from the command: the package or program it runs, without runner, version and path."""
    word = _meant(command)[1].removeprefix("@").partition("@")[0]
    cleaned = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in word).strip("-._")
    return cleaned[:64] or "server"


def _home_of(command: list[str], name: str) -> str:
    """Under which name a server that was given none keeps its home: many files are called index.js or server.py."""
    path = _meant(command)[0]
    if not os.path.isfile(path):
        return name
    from hashlib import sha256

    return f"{name[:55]}-{sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:8]}"


def _name_of_url(url: str) -> str:
    """A name from the URL: its host. Any other path than the usual is a digest: some paths hold the caller's secret."""
    rest = url.partition("://")[2].partition("#")[0]
    host, _, path = rest.partition("/")
    host = host.partition("?")[0].rpartition("@")[2]
    cleaned = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in host).strip("-._")[:48]
    if path.partition("?")[0].strip("/") not in ("", "mcp", "sse"):
        from hashlib import sha256

        cleaned += "-" + sha256(path.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return cleaned or "server"


def _principal() -> str:
    """Who calls: over stdio, the local user that started us."""
    return f"local:{os.getuid()}" if hasattr(os, "getuid") else "local"
