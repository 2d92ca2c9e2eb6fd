"""`callgate sandbox`: what holds on this machine, what a server would get, and what it seems to need."""

from __future__ import annotations

import argparse
import difflib
import json
import os
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from callgate.cli.sandbox_text import (
    explain_lines,
    explain_record,
    learn_lines,
    learn_record,
    report_lines,
    report_record,
)
from callgate.cli.settled import settle
from callgate.config import Config, SandboxConfig, SecretConfig, ServerConfig
from callgate.config.places import state_directory
from callgate.config.reader import configured
from callgate.errors import CallgateError, ConfigError, LaunchError, SandboxError, TrustError
from callgate.text import visible

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from callgate.sandbox.backend import Backend
    from callgate.sandbox.spec import SandboxSpec

EXIT_OK, EXIT_NO = 0, 1
DEFAULT_SECONDS = 10.0
MAX_SECONDS = 3600.0

DESCRIPTION = """\
Every server runs in a sandbox that proved itself on this machine.

  callgate sandbox doctor              what holds here, and how that was tried
  callgate sandbox explain NAME        what a server of callgate.toml would get
  callgate sandbox explain -- CMD      the same for a command
  callgate sandbox learn -- CMD        watch it at work, propose the least for it
"""


def main(argv: list[str]) -> int:
    """The sub-command. 0 ok; 1 no sandbox holds, or the server would not start; 2 usage."""
    words, command = _divided(argv)
    arguments = _parser().parse_args(words)
    actions = {"doctor": _doctor, "explain": _explain, "learn": _learn}
    return actions[arguments.action](arguments, command)


def _divided(argv: list[str]) -> tuple[list[str], tuple[str, ...]]:
    """Our own words, and the command after `--`."""
    if "--" not in argv:
        return argv, ()
    at = argv.index("--")
    return argv[:at], tuple(argv[at + 1 :])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="callgate sandbox", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--config", metavar="FILE", default="", help="the configuration to use")
    shared.add_argument("--json", action="store_true", help="print one JSON document")
    named = argparse.ArgumentParser(add_help=False)
    named.add_argument("--sandbox", metavar="BACKEND", default="", help="this backend instead of the chosen one")
    named.add_argument("--read", metavar="PATH", action="append", default=[], help="it may read this too")
    named.add_argument("--write", metavar="PATH", action="append", default=[], help="it may write this too")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    doctor = actions.add_parser("doctor", help="what holds on this machine", parents=[shared])
    doctor.add_argument("--verbose", "-v", action="store_true", help="name every escape that was tried")
    explain = actions.add_parser("explain", help="what a server would get", parents=[shared, named])
    explain.add_argument("name", metavar="NAME", nargs="?", default="", help="a server of the configuration")
    explain.add_argument(
        "--profile", choices=("apparmor", "seatbelt", "seccomp"), default="", help="print this profile of it instead"
    )
    learn = actions.add_parser("learn", help="watch a server at work", parents=[shared, named])
    learn.add_argument("name", metavar="NAME", nargs="?", default="", help="a server of the configuration")
    learn.add_argument(
        "--seconds", type=float, default=0.0, help="watch so long (default: until it has listed its tools, at most 10)"
    )
    learn.add_argument("--open", action="store_true", help="WITHOUT a sandbox: it can do all that you can do")
    learn.add_argument(
        "--attach", action="store_true", help="stdin and stdout are the server's: for a client to use it"
    )
    learn.add_argument("--append", metavar="FILE", default="", help="append the proposal to this callgate.toml")
    return parser


def _doctor(arguments: argparse.Namespace, command: Sequence[str]) -> int:
    from callgate.sandbox.doctor import examine

    if command:
        raise ConfigError("doctor takes no command", next_step="callgate sandbox explain -- COMMAND")
    report = examine(state_directory(configured(arguments.config)))
    if arguments.json:
        _print_json(report_record(report))
    else:
        print("\n".join(report_lines(report, verbose=arguments.verbose)))
    return EXIT_OK if report.automatic else EXIT_NO


@dataclass(frozen=True, slots=True)
class _Asked:
    """The server in question."""

    name: str
    argv: tuple[str, ...]
    spec: SandboxSpec
    wanted: str
    today: SandboxConfig
    state: Path
    pinned: str = ""
    """What the lock says of it, in a word."""
    notices: tuple[str, ...] = ()
    secrets: Mapping[str, SecretConfig] = field(default_factory=dict)


def _declared(config: Config, server: ServerConfig | None, name: str, state: Path) -> tuple[str, ...]:
    """The command of a server of the configuration, else of a lock."""
    if server is not None and server.command:
        return server.command
    if server is not None:
        raise ConfigError(f"{name} is reached by a URL: nothing of it runs here")
    from callgate.launching.pinned import lock_files
    from callgate.supply import lockfile

    for path in lock_files(config, state) if name else ():
        found = lockfile.load(Path(path)).servers.get(name)
        if found is not None:
            return found.argv
    raise ConfigError(
        f"neither the configuration nor callgate.lock has a server {visible(name, 80)!r}" if name else "which server?",
        next_step="name one of them, or write the command after the name it runs under: "
        f"callgate sandbox explain {shlex.quote(visible(name, 80)) if name else 'NAME'} -- COMMAND ARGS",
    )


def _plain(name: str) -> str:
    """A program's name as a server's."""
    kept = "".join(char if char.isascii() and (char.isalnum() or char in "._-") else "-" for char in name[:64])
    return kept.lstrip("._-") or "server"


def _asked(arguments: argparse.Namespace, command: tuple[str, ...]) -> _Asked:
    """The specification it would get. No secret is resolved and nothing is pinned or started for it."""
    from callgate.launching import plan as planning
    from callgate.launching.environment import by_name
    from callgate.launching.pinned import pinning
    from callgate.sandbox.defaults import spec_for

    config = configured(arguments.config)
    state = state_directory(config)
    settle(config, state)
    name = arguments.name or (_plain(os.path.basename(command[0])) if command else "")
    server = config.servers.get(name)
    command = command or _declared(config, server, name, state)
    wish = planning.Wish(
        name=name,
        command=command,
        variables=os.environ,
        read=tuple(arguments.read),
        write=tuple(arguments.write),
        cwd=server.cwd if server else "",
    )
    pinned = pinning(config, name, command, state, confined=False)
    settings = planning.server_settings(server.sandbox if server else SandboxConfig(), pinned, wish)
    environment = {**by_name(os.environ, settings.environment), **(dict(server.environment) if server else {})}
    secrets = {**pinned.secrets, **(server.secrets if server else {})}
    spec, argv = spec_for(
        name,
        pinned.argv,
        environment=environment,
        cwd=pinned.directory or wish.cwd,
        state=state,
        config=settings,
        extra_network=[host for one in secrets.values() for host in one.hosts],
        named=server.sandbox.network if server else (),
    )
    return _Asked(
        name=name,
        argv=tuple(argv),
        spec=spec,
        wanted=arguments.sandbox or settings.backend or planning.backend_by_lock(config, name, pinned),
        today=server.sandbox if server else SandboxConfig(),
        state=state,
        pinned=str(pinned.facts.get("state", "unpinned")),
        notices=(*pinned.notices, *spec.notices),
        secrets=secrets,
    )


def _backend(asked: _Asked) -> Backend:
    from callgate.sandbox.choose import choose

    return choose(asked.wanted, asked.state, kind=asked.spec.kind)


def _explain(arguments: argparse.Namespace, command: tuple[str, ...]) -> int:
    try:
        asked = _asked(arguments, command)
    except (LaunchError, TrustError) as error:
        if arguments.json:
            _print_json({"starts": False, "refusal": error.diagnostics()})
        else:
            print(f"It would not start: {error.diagnostics()}")
        return EXIT_NO
    if arguments.profile:
        sys.stdout.write(_profile(arguments.profile, asked))
        return EXIT_OK
    name, refusal, apparmor = asked.wanted, "", ""
    missing: tuple[str, ...] = ("everything: it has all the rights of this user",)
    try:
        if asked.wanted != "none":
            prepared = _backend(asked).prepare(asked.spec, asked.argv)
            name, missing = prepared.backend, prepared.not_enforced
            if prepared.settled:
                missing = (*missing, *prepared.settled())
            apparmor = prepared.apparmor
            if prepared.abandon:
                prepared.abandon()
    except SandboxError as error:
        refusal, missing = error.diagnostics(), ()
    if arguments.json:
        _print_json(explain_record(asked.spec, asked.argv, name, missing, refusal, asked.secrets, apparmor))
    else:
        title = f"{visible(asked.name, 60)}: a {asked.spec.kind} server, {asked.pinned}, in {name}"
        lines = explain_lines(asked.spec, asked.argv, asked.secrets, missing, asked.notices, apparmor)
        print("\n".join([title, *lines, *_loading(arguments, command, asked, apparmor)]))
        if refusal:
            print(f"\nIt would not start: {refusal}")
    return EXIT_NO if refusal else EXIT_OK


def _loading(arguments: argparse.Namespace, command: tuple[str, ...], asked: _Asked, apparmor: str) -> list[str]:
    """The two commands that load its AppArmor profile, where the kernel could have it and has not."""
    from callgate.sandbox.apparmor import commands, kernel_has_it

    if apparmor or asked.wanted == "none" or asked.spec.kind == "container" or not kernel_has_it():
        return []
    words = [arguments.name] if arguments.name else []
    for option in ("config", "sandbox"):
        words += [f"--{option}", getattr(arguments, option)] if getattr(arguments, option) else []
    for option in ("read", "write"):
        for path in getattr(arguments, option):
            words += [f"--{option}", path]
    line = shlex.join([*words, *(("--", *command) if command else ())])
    return ["", "To load its AppArmor profile:", *(f"  {one}" for one in commands(visible(line, 2000), asked.name))]


def _profile(kind: str, asked: _Asked) -> str:
    spec = asked.spec
    if kind == "apparmor":
        from callgate.sandbox import apparmor

        if spec.kind == "container":
            raise ConfigError("an image runs under its engine's own AppArmor profile")
        return apparmor.profile(spec).text
    if kind == "seatbelt":
        from callgate.sandbox import seatbelt

        return seatbelt.profile_text(spec, spec.home or "/private/tmp/home", "/private/tmp/server")
    from callgate.sandbox.seccomp_profile import profile, to_oci
    from callgate.sandbox.seccomp_variant import Variant

    return json.dumps(to_oci(profile(Variant(unix_sockets=spec.unix_sockets))), indent=1) + "\n"


def _learn(arguments: argparse.Namespace, command: tuple[str, ...]) -> int:
    from callgate.sandbox.learn import observe
    from callgate.sandbox.learn_proposal import propose, toml

    if not 0 <= arguments.seconds <= MAX_SECONDS:
        raise ConfigError(f"--seconds must be at most {MAX_SECONDS:g}")
    if arguments.attach and arguments.json:
        raise ConfigError("--attach gives stdout to the server: leave --json out, the report goes to stderr")
    asked = _asked(arguments, command)
    if arguments.open:
        sys.stderr.write("callgate: it runs WITHOUT a sandbox now, with all your rights\n")
    environment = {**os.environ, **asked.spec.environment}
    seen = observe(
        None if arguments.open else _backend(asked),
        asked.spec,
        asked.argv,
        seconds=arguments.seconds or (MAX_SECONDS if arguments.attach else DEFAULT_SECONDS),
        until_listed=not arguments.seconds,
        attach=arguments.attach,
        environment=environment if arguments.open else None,
    )
    proposal = propose(seen, asked.spec, asked.today, os.path.expanduser("~"))
    before, after = toml(asked.name, asked.today), toml(asked.name, proposal.sandbox, proposal.doubts)
    changes = list(difflib.unified_diff(before.splitlines(), after.splitlines(), "today", "proposed", lineterm="", n=9))
    if arguments.json:
        _print_json(learn_record(seen, proposal, after))
    else:
        stream = sys.stderr if arguments.attach else sys.stdout
        stream.write("\n".join(learn_lines(seen, asked.argv, changes)) + "\n")
    if arguments.append:
        _append(Path(arguments.append), asked.name, after)
    return EXIT_OK if seen.answered or arguments.attach else EXIT_NO


def _append(path: Path, name: str, table: str) -> None:
    """Add the table to a configuration that has none for this server, and that still reads afterwards."""
    import tomllib

    from callgate.config.document import parse

    text = path.read_text(encoding="utf-8") if path.exists() else ""
    joined = text + ("" if not text or text.endswith("\n") else "\n") + ("\n" if text else "") + table
    try:
        parse(tomllib.loads(joined), source=str(path))
    except (tomllib.TOMLDecodeError, CallgateError) as error:
        raise ConfigError(
            f"{visible(str(path), 300)} cannot take a second table for {visible(name, 80)}: {visible(str(error), 300)}",
            effect="nothing was written",
            next_step="put the lines shown above into its table by hand",
        ) from error
    with open(path, "a", encoding="utf-8") as file:
        file.write(joined[len(text) :])


def _print_json(document: Any) -> None:
    print(json.dumps(document, indent=2, ensure_ascii=True))
