"""`callgate inventory`: every MCP server of this machine: declared, running, or listening."""

from __future__ import annotations

import argparse
import json
import os
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from callgate.cli.client_options import add_clients, chosen_clients, configuration, shown_path
from callgate.clients.inventory import Configured, Inventory, Known, Server, take
from callgate.clients.machine import Machine, find, find_all
from callgate.clients.probe import speaks_mcp
from callgate.clients.processes import Machine as Running
from callgate.clients.processes import look
from callgate.clients.records import Records
from callgate.config import Config
from callgate.config.places import state_directory
from callgate.errors import CallgateError
from callgate.text import visible

EXIT_OK, EXIT_NO = 0, 1
MAX_PROBES = 64

DESCRIPTION = """\
List every MCP server of this machine: declared in a client's file or in
callgate.toml, running, or listening; and whether it is wrapped, pinned,
sandboxed and signed. A server that runs and is declared nowhere is a shadow
server. Nothing is started and, without --probe, nothing is asked.
"""


def main(argv: list[str]) -> int:
    """The sub-command. 0 no shadow server and none past the gate; 1 there are some; 2 usage."""
    parser = argparse.ArgumentParser(
        prog="callgate inventory", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_clients(parser)
    parser.add_argument("--probe", action="store_true", help="ask unknown listeners on loopback whether they speak MCP")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    arguments = parser.parse_args(argv)
    chosen = chosen_clients(arguments)
    config = configuration()
    state = state_directory(config)
    running = look()
    here = Machine.here()
    found = list(find_all(here, chosen, arguments.project))
    seen = {one.real for one in found}
    for folder in _projects(Records(state)):
        found += [one for one in find(here, chosen, folder) if one.real not in seen]
        seen.update(one.real for one in found)
    inventory = take(found, _configured(config), running, _known(config or Config(), state))
    if arguments.probe:
        inventory = _probed(inventory)
    if arguments.json:
        _print_json(inventory, running)
    else:
        _print(inventory, running, probed=arguments.probe)
    good = not any(one.shadow or one.wrapped == "no" for one in inventory.servers)
    return EXIT_OK if good and not inventory.unread else EXIT_NO


def _projects(records: Records) -> list[str]:
    """Directories of projects whose files were wrapped: those of records outside of any user's place."""
    home = os.path.expanduser("~")
    folders = {os.path.dirname(record.file) for record in records.all()}
    folders |= {os.path.dirname(folder) for folder in folders}
    return sorted(folder for folder in folders if folder not in (home, "/", os.path.dirname(home)))


def _configured(config: Config | None) -> list[Configured]:
    return [Configured(one.name, one.command, one.url) for one in config.servers.values()] if config else []


def _known(config: Config, state: Path) -> Known:
    """What the lock and the configuration say of servers; a damaged lock holds nothing (`doctor` says so)."""
    from callgate.supply.lockfile import FILE_NAME, load

    pinned: set[str] = set()
    signed: set[str] = set()
    for path in [state / FILE_NAME, *([Path(config.launch.lock)] if config.launch.lock else [])]:
        try:
            names = set(load(path).servers)
            pinned |= names
            if config.launch.signers:
                from callgate.supply.lock_signature import verify_lock

                verify_lock(path, [Path(one) for one in config.launch.signers], config.launch.threshold, state)
                signed |= names
        except CallgateError:
            continue
    return Known(pinned.__contains__, _sandboxed(config, state), signed.__contains__)


def _sandboxed(config: Config, state: Path) -> Callable[[str], bool]:
    """Whether a server of this name would start in a sandbox; without a usable one it would not start at all."""
    try:
        from callgate.sandbox.choose import choose

        usable = config.launch.sandbox != "none" and bool(choose(config.launch.sandbox, state).name)
    except CallgateError:
        usable = False

    def sandboxed(name: str) -> bool:
        own = config.servers[name].sandbox.backend if name in config.servers else None
        return own != "none" if own else usable

    return sandboxed


def _probed(inventory: Inventory) -> Inventory:
    """Ask the listeners nobody knows; those that speak MCP are shadow servers."""
    found: list[Server] = []
    rest = []
    for one in inventory.other_listeners[:MAX_PROBES]:
        path = speaks_mcp(one.address, one.port)
        if not path:
            rest.append(one)
            continue
        host = f"[{one.address}]" if ":" in one.address else one.address
        url = f"http://{host}:{one.port}{path}"
        owner = f"process {one.pid}" if one.pid else f"a process of user {one.user}"
        pids = (one.pid,) if one.pid else ()
        server = Server(f"port {one.port}", url, pids=pids, listening=(f"{host}:{one.port}",), wrapped="no", url=url)
        found.append(replace(server, notes=(f"answers MCP; {owner}",)))
    rest += inventory.other_listeners[MAX_PROBES:]
    return replace(inventory, servers=(*inventory.servers, *found), other_listeners=tuple(rest))


def _print(inventory: Inventory, running: Running, *, probed: bool) -> None:
    if not inventory.servers:
        print("no MCP server is declared, running or listening here")
    else:
        width = min(20, max(6, *(len(visible(one.name, 40)) for one in inventory.servers)))
        print(f"{'server':<{width}}  wrapped  pinned  sandboxed  signed  now")
    for one in inventory.servers:
        now = "running" if one.pids else "listening" if one.listening else "-"
        answers = (one.wrapped, one.pinned, one.sandboxed, one.signed)
        cells = [f"{answer or '-':<{size}}" for answer, size in zip(answers, (7, 6, 9, 6), strict=True)]
        print(f"{visible(one.name, 40):<{width}}  {'  '.join(cells)}  {now}")
        for line in _details(one):
            print(textwrap.fill(line, 80, initial_indent="    ", subsequent_indent="      ", break_on_hyphens=False))
    shadows = [one for one in inventory.servers if one.shadow]
    if shadows:
        names = ", ".join(visible(one.name, 40) for one in shadows)
        print(f"\nshadow servers, running and declared nowhere: {names}")
    for line in inventory.unread:
        print(f"not readable: {visible(line, 400)}")
    _print_limits(inventory, running, probed=probed)


def _print_limits(inventory: Inventory, running: Running, *, probed: bool) -> None:
    if not running.supported:
        print("what runs and listens cannot be seen on this system: there is no /proc")
    if running.hidden:
        print(f"{running.hidden} processes of other users are hidden from you")
    if running.partial:
        print("there are more processes or listeners than were looked at")
    others = len(inventory.other_listeners)
    if others:
        asked = "do not speak MCP where it was asked for" if probed else "were not asked; --probe asks them"
        print(f"{others} other listeners on loopback {asked}")


def _details(one: Server) -> list[str]:
    lines = [visible(one.launches, 300)] if one.launches else []
    lines += [f"declared: {_where(where)}" for where in one.declared]
    if one.shadow:
        lines.append("declared nowhere" + (f", started below {visible(one.started_by, 40)}" if one.started_by else ""))
    if one.pids:
        lines.append("process " + ", ".join(str(pid) for pid in one.pids[:8]) + ("…" if len(one.pids) > 8 else ""))
    if one.listening:
        lines.append("listens on " + ", ".join(one.listening[:8]))
    return [*lines, *(visible(note, 200) for note in one.notes)]


def _where(where: str) -> str:
    title, found, path = where.partition(": ")
    return f"{visible(title, 40)}: {shown_path(path)}" if found else visible(where, 300)


def _print_json(inventory: Inventory, running: Running) -> None:
    servers = [
        {
            "name": one.name,
            "launches": one.launches,
            "declared": list(one.declared),
            "shadow": one.shadow,
            "wrapped": one.wrapped,
            "pinned": one.pinned,
            "sandboxed": one.sandboxed,
            "signed": one.signed,
            "pids": list(one.pids),
            "listening": list(one.listening),
            "started_by": one.started_by,
            "notes": list(one.notes),
        }
        for one in inventory.servers
    ]
    document = {
        "servers": servers,
        "unread": list(inventory.unread),
        "hidden_processes": running.hidden,
        "partial": running.partial,
        "supported": running.supported,
        "other_listeners": [f"{one.address}:{one.port}" for one in inventory.other_listeners],
    }
    # ASCII only: whatever a process calls itself, a terminal shows nothing of it as it is.
    print(json.dumps(document, indent=2, ensure_ascii=True))
