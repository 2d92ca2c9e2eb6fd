"""`callgate doctor`: look at everything this installation rests on, and say what is wrong and what to do."""

from __future__ import annotations

import argparse
import json
import os
import stat
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

from callgate.cli.client_options import (
    add_clients,
    chosen_clients,
    clients_with_hooks,
    configuration,
    in_arguments,
    settings_places,
    shown_path,
)
from callgate.cli.settled import settle
from callgate.clients import hook_snapshot, hook_survey
from callgate.clients.checks import Check, Facts, Level, check_clients
from callgate.clients.granting import ungranted
from callgate.clients.launcher import launcher, launcher_or_name
from callgate.clients.machine import Machine, find
from callgate.clients.records import FILE_NAME as RECORDS
from callgate.clients.records import Records
from callgate.config import Config, SandboxConfig
from callgate.config.places import state_directory
from callgate.errors import CallgateError
from callgate.text import visible
from callgate.vault import grants

EXIT_OK, EXIT_NO = 0, 1

DESCRIPTION = """\
Look at everything this installation rests on: the entries of clients, their
hooks, the sandbox, the lock and the pins, the state directory, the evidence.
Each line is ok, warn or fail; what is not ok says what it means and what to do.
"""
_PRIVATE = ("keys", "secrets", "hooks", "backups", "audit")
_MOST_LISTED = 200
"""Files of one directory whose modes are looked at."""


def main(argv: list[str]) -> int:
    """The sub-command. 0 nothing fails; 1 something does; 2 usage."""
    parser = argparse.ArgumentParser(
        prog="callgate doctor", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_clients(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--all", action="store_true", help="list what is ok, too")
    arguments = parser.parse_args(argv)
    checks = list(examine(chosen_clients(arguments), arguments.project))
    if arguments.json:
        _print_json(checks)
    else:
        _print(checks, everything=arguments.all)
    return EXIT_NO if any(one.level == "fail" for one in checks) else EXIT_OK


def examine(clients: tuple[str, ...] = (), project: str = "") -> Iterator[Check]:
    """All checks. What cannot be looked at is a failed check, and the others go on."""
    machine = Machine.here()
    config: Config | None = None
    try:
        config = configuration()
        state = state_directory(config)
        settle(config, state)
    except CallgateError as error:
        yield _failed("configuration", "callgate.toml", error)
        return
    if config is not None:
        yield Check("ok", "configuration", config.source, "is valid")
    settled = config or Config()
    parts: tuple[tuple[str, Callable[[], Iterator[Check]]], ...] = (
        ("program", _program),
        ("state", lambda: _state(state)),
        ("backups", lambda: _backups(state)),
        ("grants", lambda: _grants(state)),
        ("clients", lambda: _files(machine, state, clients, project, config)),
        ("hooks", lambda: _hooks(machine, state, clients)),
        ("sandbox", lambda: _sandbox(settled, state)),
        ("lock", lambda: _lock(settled, state)),
        ("pins", lambda: _pins(state)),
        ("evidence", lambda: _evidence(state)),
    )
    for area, look in parts:
        try:
            yield from look()
        except CallgateError as error:
            yield _failed(area, "", error)
        except OSError as error:
            yield Check("fail", area, "", f"cannot be looked at: {error.strerror}", "nothing is known about it")


def _failed(area: str, subject: str, error: CallgateError) -> Check:
    return Check("fail", area, subject, error.what, error.effect, error.next_step)


def _program() -> Iterator[Check]:
    yield Check("ok", "program", launcher()[0], "is what clients are pointed to")


def _state(state: Path) -> Iterator[Check]:
    spoiled = list(_open_to_others(state))
    for path, status in spoiled[:20]:
        mode = stat.S_IMODE(status.st_mode)
        owner = status.st_uid != os.geteuid()
        what = f"belongs to user {status.st_uid}" if owner else f"has mode {mode:04o}"
        yield Check(
            "fail",
            "state",
            str(path),
            what,
            "others can read or change what callgate keeps there",
            f"chmod {'700' if stat.S_ISDIR(status.st_mode) else '600'} {path}",
        )
    if not spoiled:
        yield Check("ok", "state", str(state), "is yours alone")


def _open_to_others(state: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """The directory and its private parts that others may read or write; public keys are for everybody."""
    places = [state, *(state / name for name in _PRIVATE)]
    for place in places:
        try:
            status = place.lstat()
        except FileNotFoundError:
            continue
        private = place == state or place.name in ("keys", "secrets")
        if status.st_uid != os.geteuid() or status.st_mode & (0o077 if private else 0o022):
            yield place, status
        if place == state or not stat.S_ISDIR(status.st_mode):
            continue
        for one in sorted(place.iterdir())[:_MOST_LISTED]:
            inner = one.lstat()
            public = one.name.endswith(".pub.pem") or not stat.S_ISREG(inner.st_mode)
            if inner.st_uid != os.geteuid() or inner.st_mode & (0o022 if public else 0o077):
                yield one, inner


def _backups(state: Path) -> Iterator[Check]:
    """Copies of clients' files, and the records of the way back, that hold credentials in plain text."""
    from callgate.cli.secrets_find import search

    folder = state / "backups"
    copies = sorted(str(path) for path in folder.iterdir()) if folder.is_dir() else []
    records = str(state / RECORDS)
    paths = [*copies[-_MOST_LISTED:], *([records] if os.path.exists(records) else [])]
    if not paths:
        return
    found = {one.path for one in search(argparse.Namespace(path=paths)).findings}
    spoiled = sorted(found - {records})
    if spoiled:
        yield Check(
            "warn",
            "backups",
            str(folder),
            f"copies that hold credentials in plain text: {len(spoiled)}, the newest {os.path.basename(spoiled[-1])}",
            "they were made before those were moved, or of files that hold them still",
            "delete them when you do not need them: callgate uninstall works without",
        )
    elif copies:
        yield Check("ok", "backups", str(folder), "hold no credential that is known by its form")
    if records in found:
        yield Check(
            "warn",
            "backups",
            records,
            "holds credentials in plain text",
            "the entries were wrapped with them, and uninstall puts them back from there",
            "callgate secrets move",
        )


def _grants(state: Path) -> Iterator[Check]:
    found = len({(one.reference, one.command, one.url) for one in grants.read(state).grants.values()})
    yield Check("ok", "grants", "", f"secrets granted to servers: {found}")


def _files(
    machine: Machine, state: Path, clients: tuple[str, ...], project: str, config: Config | None
) -> Iterator[Check]:
    from callgate.detect.credentials import judge

    places = settings_places(config, state)
    try:
        known = grants.read(state)
    except CallgateError:
        known = grants.Grants()  # said above
    facts = Facts(
        machine.system,
        lambda value, key: judge(value, key) is not None,
        _pinned(state),
        launcher_or_name(),
        in_arguments,
        lambda option, path: os.path.isabs(path) and os.path.realpath(path) == os.path.realpath(places[option]),
        lambda found, entry: ungranted(found, entry, known, state, config, project),
    )
    count = 0
    for one in check_clients(find(machine, clients, project), Records(state), clients, facts):
        count += 1
        yield one
    if not count:
        yield Check("ok", "clients", "", "no server in any client's file")


def _pinned(state: Path) -> Callable[[str], bool]:
    """Whether the user's lock holds a server of this name; a damaged lock is said elsewhere."""
    from callgate.supply.lockfile import FILE_NAME, load

    try:
        servers = load(state / FILE_NAME).servers
    except CallgateError:
        return lambda _: False
    return lambda name: name in servers


_HOOK_SAYS: dict[str, tuple[Level, str, str]] = {
    "installed": ("ok", "", ""),
    "missing": ("warn", "built-in tools and servers past the gate are called unseen", "callgate install"),
    "fails open": ("fail", "where callgate does not answer, the tool is called", "callgate install"),
    "not run": ("warn", "Codex passes over what nobody trusted as it is", "open /hooks in Codex and trust it"),
    "another callgate": ("fail", "another program than this callgate answers", "callgate install"),
    "unreadable": ("fail", "whether the client asks callgate is not known", "mend the file, then callgate install"),
}


def _hooks(machine: Machine, state: Path, clients: tuple[str, ...]) -> Iterator[Check]:
    asked = False
    for one in hook_survey.survey(machine, clients_with_hooks(clients), launcher_or_name(), state):
        level, means, next_step = _HOOK_SAYS[one.state]
        asked = asked or one.state != "missing"
        what = f"{one.state}: {one.detail}" if one.detail else one.state
        yield Check(level, f"{one.client} hooks", one.path, what, means, next_step)
    if not asked:
        return
    try:
        hook_snapshot.load(str(state))
    except hook_snapshot.HookError as error:
        yield Check("fail", "hooks", "", str(error), "every tool call is refused", "callgate install")
    from callgate.clients.hook_spool import NAME

    spool = state / hook_snapshot.FOLDER / NAME
    if spool.exists():
        size = spool.stat().st_size
        yield Check("ok", "hooks", str(spool), f"{size} bytes of evidence wait for the next callgate")


def _sandbox(config: Config, state: Path) -> Iterator[Check]:
    wanted = config.launch.sandbox
    if wanted == "none":
        yield Check(
            "fail",
            "sandbox",
            "launch.sandbox",
            "is none",
            "every server starts with all your rights",
            "remove the line, or name a backend",
        )
        return
    from callgate.sandbox.choose import choose

    chosen = choose(wanted, state)
    for notice in chosen.notices:
        yield Check("warn", "sandbox", "", notice, "a weaker one is used", "callgate sandbox doctor")
    yield Check("ok", "sandbox", chosen.name, "proved itself on this machine")
    for name, server in config.servers.items():
        if server.sandbox.backend == "none":
            yield Check(
                "fail",
                "sandbox",
                f"servers.{name}",
                "is configured without a sandbox",
                "it starts with all your rights",
                "remove sandbox.backend",
            )
        yield from _ways_out(f"servers.{name}", server.sandbox)


def _ways_out(where: str, sandbox: SandboxConfig) -> Iterator[Check]:
    """What only the user's configuration opens, and what of it would keep the server from starting."""
    from callgate.sandbox.destinations import private_network, proxy_address

    try:
        networks = ", ".join(map(private_network, sandbox.private_networks))
        proxy = proxy_address(sandbox.egress_proxy) if sandbox.egress_proxy else None
    except CallgateError as error:
        yield _failed("sandbox", where, error)
        return
    if networks:
        yield Check("ok", "sandbox", where, f"may reach hosts it names in {networks}")
    if proxy is not None:
        way = f"{proxy.host}:{proxy.port}"
        yield Check("ok", "sandbox", where, f"connects through {way}: where names lead is that proxy's to judge")


def _lock(config: Config, state: Path) -> Iterator[Check]:
    from callgate.supply.lockfile import FILE_NAME, load

    paths = [state / FILE_NAME, *([Path(config.launch.lock)] if config.launch.lock else [])]
    for path in paths:
        if not path.exists():
            level: Level = "fail" if config.launch.lock and path != paths[0] else "warn"
            yield Check(
                level,
                "lock",
                str(path),
                "is not there",
                "servers start as their registry has them today",
                "callgate trust lock NAME -- COMMAND",
            )
            continue
        lock = load(path)
        yield Check("ok", "lock", str(path), f"servers it holds: {len(lock.servers)}")
        if config.launch.signers:
            from callgate.supply.lock_signature import verify_lock

            signed = verify_lock(path, [Path(one) for one in config.launch.signers], config.launch.threshold, state)
            yield Check("ok", "lock", str(path), f"signed by {len(signed.signers)} of the named signers")


def _pins(state: Path) -> Iterator[Check]:
    from callgate.store.database import Store

    store = Store.open(state)
    try:
        servers = store.pins.servers()
        waiting = {name: len(store.pins.definitions(name, "pending")) for name in servers}
    finally:
        store.close()
    for name, count in waiting.items():
        if count:
            yield Check(
                "warn",
                "pins",
                name,
                f"{count} changed definitions wait",
                "they are withheld until you decide",
                f"callgate pins diff {visible(name, 80)}",
            )
    if not any(waiting.values()):
        yield Check("ok", "pins", "", f"servers whose definitions are pinned: {len(servers)}")


def _evidence(state: Path) -> Iterator[Check]:
    from callgate.audit.verify import verify

    if not (state / "audit").is_dir():
        yield Check("ok", "evidence", "", "there is none yet")
        return
    report = verify(state)
    if report.verified:
        yield Check("ok", "evidence", str(state / "audit"), f"logs that verify: {len(report.logs)}")
    else:
        bad = sum(not log.verified for log in report.logs) + len(report.missing) + len(report.index_problems)
        yield Check(
            "fail",
            "evidence",
            str(state / "audit"),
            f"{bad} logs are changed or missing",
            "what they say cannot be relied on",
            "callgate audit verify",
        )


def _print(checks: list[Check], *, everything: bool) -> None:
    counts = {level: sum(one.level == level for one in checks) for level in ("ok", "warn", "fail")}
    area = ""
    areas = list(dict.fromkeys(one.area for one in checks))
    for one in sorted(checks, key=lambda one: areas.index(one.area)):
        if one.level == "ok" and not everything:
            continue
        if one.area != area:
            area = one.area
            print(visible(area, 60))
        subject = f"{_shown(one.subject)}: " if one.subject else ""
        line = f"{subject}{visible(one.what, 400)}"
        print(_wrapped(f"  {one.level:<4}  ", line))
        if one.means:
            print(_wrapped(" " * 8, visible(one.means, 400)))
        if one.next_step:
            print(_wrapped(" " * 8 + "next: ", visible(one.next_step, 400)))
    print(f"{counts['ok']} ok, {counts['warn']} to look at, {counts['fail']} failed")


def _shown(subject: str) -> str:
    name, found, path = subject.partition(" in ")
    return f"{visible(name, 80)} in {shown_path(path)}" if found else shown_path(subject)


def _wrapped(head: str, text: str) -> str:
    indent = " " * (len(head) if len(head) < 12 else 14)
    return textwrap.fill(text, 80, initial_indent=head, subsequent_indent=indent, break_on_hyphens=False)


def _print_json(checks: list[Check]) -> None:
    found = [
        {
            "level": one.level,
            "area": one.area,
            "subject": one.subject,
            "what": one.what,
            "means": one.means,
            "next": one.next_step,
        }
        for one in checks
    ]
    # ASCII only: whatever a file says, a terminal shows nothing of it as it is.
    print(json.dumps({"checks": found, "failed": any(c.level == "fail" for c in checks)}, indent=2, ensure_ascii=True))
