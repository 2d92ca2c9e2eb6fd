"""`callgate status`: which servers of which clients are behind the gate."""

from __future__ import annotations

import argparse
import json
import textwrap
from typing import Any

from callgate.cli.client_options import add_clients, chosen_clients, clients_with_hooks, shown_path, state_of_user
from callgate.clients.hook_survey import HookState
from callgate.clients.hook_survey import survey as hook_survey
from callgate.clients.launcher import launcher_or_name
from callgate.clients.machine import Machine, find_all
from callgate.clients.records import Records
from callgate.clients.status import FileState, survey
from callgate.clients.table import CLIENTS, NO_FILES
from callgate.text import visible

EXIT_OK, EXIT_NO = 0, 1

DESCRIPTION = """\
Show the MCP servers of every client on this machine: behind the gate, not
wrapped, drifted (edited since it was wrapped), or with a callgate that is gone.
"""


def main(argv: list[str]) -> int:
    """The sub-command. 0 every server is behind the gate; 1 some are not, or cannot be judged; 2 usage."""
    parser = argparse.ArgumentParser(
        prog="callgate status", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_clients(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    arguments = parser.parse_args(argv)
    chosen = chosen_clients(arguments)
    records = Records(state_of_user())
    found = find_all(Machine.here(), chosen, arguments.project)
    states = list(survey(found, records, chosen))
    hooks = list(hook_survey(Machine.here(), clients_with_hooks(chosen), launcher_or_name(), records.path.parent))
    if arguments.json:
        _print_json(states, hooks)
    else:
        _print(states, hooks, chosen)
    good = all(
        not one.problem and all(server.state in ("wrapped", "not a server", "gone") for server in one.servers)
        for one in states
    )
    return EXIT_OK if good else EXIT_NO


def _outside(chosen: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    """What no file shows."""
    kept = [(c.title, c.outside) for c in CLIENTS if c.outside and (not chosen or c.name in chosen)]
    return kept if chosen else [*kept, *NO_FILES]


def _print(states: list[FileState], hooks: list[HookState], chosen: tuple[str, ...]) -> None:
    if not any(one.servers or one.problem for one in states):
        print("no server in any client's file")
    for one in states:
        if not (one.servers or one.problem or one.unfinished):
            continue
        print(f"{visible(one.title, 40)}  {shown_path(one.path)}")
        if one.problem:
            print(f"  not readable: {visible(one.problem)}")
        if one.unfinished:
            print(f"  left by an interrupted command, to be deleted: {shown_path(one.unfinished)}")
        width = min(24, max((len(visible(server.server, 40)) for server in one.servers), default=0))
        for server in one.servers:
            line = f"  {server.state:<15}  {visible(server.server, 40):<{width}}  {visible(server.detail)}"
            print(line.rstrip())
    if hooks:
        print("Hooks")
    for hook in hooks:
        print(f"  {hook.state:<15}  {hook.client:<11}  {shown_path(hook.path)}")
    print("\nServers that no file shows, and that may go past the gate:")
    for title, where in _outside(chosen):
        print(textwrap.fill(f"{title}: {where}", 78, initial_indent="  ", subsequent_indent="    "))


def _print_json(states: list[FileState], hooks: list[HookState]) -> None:
    files: list[dict[str, Any]] = [
        {
            "client": one.client,
            "path": one.path,
            "scope": one.scope,
            "problem": one.problem,
            "unfinished": one.unfinished,
            "servers": [
                {
                    "server": server.server,
                    "where": list(server.where),
                    "state": server.state,
                    "detail": server.detail,
                    "launches": server.launches,
                }
                for server in one.servers
            ],
        }
        for one in states
    ]
    asked = [{"client": one.client, "path": one.path, "state": one.state, "detail": one.detail} for one in hooks]
    outside = [{"client": title, "where": where} for title, where in _outside()]
    # ASCII only: whatever a file says, a terminal shows nothing of it as it is.
    print(json.dumps({"files": files, "hooks": asked, "outside": outside}, indent=2, ensure_ascii=True))
