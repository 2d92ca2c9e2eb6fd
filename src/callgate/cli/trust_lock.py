"""`callgate trust lock`: pin servers to artefacts."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from callgate.cli import trust_checks, trust_report
from callgate.cli.trust_checks import Warned
from callgate.cli.trust_common import (
    EXIT_NO,
    Place,
    confirmed,
    fetching,
    options,
    parser,
    place,
    say,
    say_error,
    title,
    told,
)
from callgate.cli.trust_report import Report
from callgate.config import Config, SandboxConfig, SecretConfig
from callgate.errors import CallgateError, ConfigError, TrustError
from callgate.runners import program_name
from callgate.supply import lockfile, publisher, resolve
from callgate.supply.launch_line import RULES, parse
from callgate.supply.lockfile import LockedServer
from callgate.text import visible

DESCRIPTION = """\
Resolve what servers' commands start, fetch it without running anything, and
write the digests into callgate.lock. From then on exactly that runs, offline.

  callgate trust lock                    all commands of callgate.toml
  callgate trust lock NAME               one of them, or one locked before
  callgate trust lock NAME -- CMD ARGS   this command, under that name
"""


def main_lock(argv: list[str]) -> int:
    """0: all were locked; 1: some were not."""
    cut = argv.index("--") if "--" in argv else len(argv)
    command = tuple(argv[cut + 1 :])
    made = parser("lock", DESCRIPTION)
    fetching(made)
    made.add_argument("names", metavar="NAME", nargs="*", help="names of servers")
    trust_report.option(made)
    arguments = made.parse_args(argv[:cut])
    with trust_report.reporting("lock", as_json=arguments.json) as report:
        where = place(arguments)
        report.lock = str(where.lock)
        for job in _jobs(where, arguments.names, command):
            if not _lock(where, arguments, job, report):
                report.code = EXIT_NO
        return report.code


def _lock(where: Place, arguments: argparse.Namespace, job: Job, report: Report) -> bool:
    """One server: whether it is locked now."""
    name, line, sandbox, secrets = job
    known = lockfile.load(where.lock).servers.get(name)
    try:
        with told(f"locking {name}"):
            server = resolve.prepare(name, line, state=where.state, known=known, options=options(arguments, where))
    except TrustError as error:
        print(f"{visible(name, 64)}: not locked")
        say_error(error)
        report.server(name, "refused", error=trust_report.error_of(error))
        return False
    if known is not None:
        server = replace(server, sandbox=known.sandbox, secrets=known.secrets, definitions=known.definitions)
    server = replace(server, sandbox=sandbox or server.sandbox, secrets=secrets or server.secrets)
    if known == server:
        print(f"{title(server)}: locked already, and as it was")
        report.server(name, "unchanged", server=trust_report.server_of(server))
        return True
    warnings = trust_checks.warnings(known, server, where.state)
    said = {"server": trust_report.server_of(server), "warnings": trust_report.warnings_of(warnings)}
    if not _agreed(server, warnings, yes=arguments.yes, no_cooldown=arguments.no_cooldown):
        resolve.discard(where.state, server, where.lock)
        print("  not locked")
        report.server(name, "refused", **said)
        return False
    if server.store:
        server = _with_definitions(server, where.state)
    resolve.commit(server, where.lock, approved=f"locked {server.purl}")
    print(f"  written to {visible(str(where.lock), 300)}")
    report.server(name, "locked", **{**said, "server": trust_report.server_of(server)})
    return True


def _with_definitions(server: LockedServer, state: Path) -> LockedServer:
    """With what it offers, asked of it in its sandbox; as it was where it does not say."""
    from callgate.launching.definitions import definitions_of

    try:
        with told(f"asking {server.name} what it offers"):
            found = definitions_of(server, state)
    except CallgateError as error:
        print(f"  its definitions are not in the lock: {error.what}")
        return server
    print(f"  {len(found)} definitions recorded")
    return replace(server, definitions=found)


Job = tuple[str, tuple[str, ...], SandboxConfig | None, dict[str, SecretConfig]]


def _jobs(where: Place, names: Sequence[str], command: tuple[str, ...]) -> list[Job]:
    """Name, launch line, sandbox and secrets of each server that is meant. Raises ConfigError."""
    if command:
        if len(names) > 1:
            raise ConfigError("one command has one name", next_step="callgate trust lock NAME -- COMMAND")
        return [_job(where.config, names[0] if names else _name(command), command)]
    known = lockfile.load(where.lock).servers
    jobs = []
    for name in names or [one for one, server in where.config.servers.items() if server.command] or sorted(known):
        configured = where.config.servers.get(name)
        line = configured.command if configured else known[name].argv if name in known else ()
        if not line:
            raise ConfigError(
                f"there is no server {visible(name, 80)!r} with a command in callgate.toml or the lock",
                next_step=f"give its command: callgate trust lock {visible(name, 80)} -- COMMAND",
            )
        jobs.append(_job(where.config, name, line))
    if not jobs:
        raise ConfigError("there is nothing to lock", next_step="callgate trust lock NAME -- COMMAND")
    return jobs


def _job(config: Config, name: str, line: tuple[str, ...]) -> Job:
    server = config.servers.get(name)
    return name, line, server.sandbox if server else None, dict(server.secrets) if server else {}


def _name(command: tuple[str, ...]) -> str:
    """A name for a command that was given none: that of its package or program."""
    line = parse(command)
    base = line.package.rpartition("/")[2] or program_name(line.entry or line.program)
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in base).strip("-._")
    return kept[:64].rstrip("-._") or "server"


def _agreed(server: LockedServer, warnings: Sequence[Warned], *, yes: bool, no_cooldown: bool) -> bool:
    """Show what is to be locked; ask where something speaks against it."""
    print(title(server))
    if server.published:
        limit = f" (nothing from after {server.cooldown[:10]} is taken)" if server.cooldown else ""
        print(f"  published {server.published[:10]}{limit}")
    if server.kind in ("npm", "pypi", "oci") and not server.cooldown and no_cooldown:
        print("  the cool-down was not held")
    if server.artefacts and server.kind in ("npm", "pypi"):
        packages = "package" if len(server.artefacts) == 1 else "packages"
        print(f"  {len(server.artefacts)} {packages}, each with a digest; tree {server.tree[:19]}...")
    elif server.artefacts:
        print(f"  {server.artefacts[0].digest[:26]}..." + (f" and tree {server.tree[:19]}..." if server.tree else ""))
    for text in publisher.describe(server.provenance):
        say(text)
    for script in server.install_scripts:
        say(f"not run: {script}")
    for rule in server.notes:
        if rule in RULES and rule != "launch-unpinned":
            say(f"{rule}: {RULES[rule]}")
        elif rule.startswith("mcpb-secret "):
            name = visible(rule.partition(" ")[2], 60)
            say(f"it needs the secret {name}: name it under [servers.{server.name}.secrets.{name}]")
        elif rule == "local-dependencies":
            print("  installed dependencies of the program are not part of this")
    for one in warnings:
        say(one.text)
    if any(one.refuses for one in warnings):
        return False
    return not warnings or confirmed("  lock it all the same?", yes=yes)
