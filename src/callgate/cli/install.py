"""`callgate install`: put the servers of MCP clients behind the gate, in the files the clients read."""

from __future__ import annotations

import argparse
import os
import shutil
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from callgate.cli.asked import agreed
from callgate.cli.client_options import (
    PROJECT,
    add_clients,
    chosen_clients,
    clients_with_hooks,
    configuration,
    in_arguments,
    settings_options,
    settings_places,
    shown_path,
)
from callgate.cli.settled import settle
from callgate.clients import granting, hook_snapshot
from callgate.clients.commit import carry_out
from callgate.clients.files import lock
from callgate.clients.git import tracked
from callgate.clients.granting import Need
from callgate.clients.hook_files import HookPlan, HookRecords, plan_add
from callgate.clients.hook_files import carry_out as carry_out_hook
from callgate.clients.hook_snapshot import OPEN_POLICIES, POLICIES
from callgate.clients.launcher import launcher
from callgate.clients.machine import Machine, find
from callgate.clients.moving import Keeper
from callgate.clients.plan import Plan, Step, Wish, plan_install
from callgate.clients.records import Records
from callgate.clients.table import BY_NAME
from callgate.config import Config
from callgate.config.places import state_directory
from callgate.errors import CallgateError, ConfigError
from callgate.text import visible
from callgate.vault.grants import read as read_grants
from callgate.vault.grants_file import changing

EXIT_OK, EXIT_NO = 0, 1

DESCRIPTION = """\
Put the MCP servers of every client on this machine behind the gate: each entry
becomes `callgate run --name NAME --env VARIABLE … -- COMMAND`, or `--url URL`.
Credentials in it go into a store, and references stay; what it starts is locked
to what it is today; clients with hooks ask callgate before a tool is called.
Nothing else of the files changes. Shows the change and asks; keeps a backup;
`callgate uninstall` puts every byte back. Restart a client to make it read.
"""


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(
        prog="callgate install", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_choice(made, project=PROJECT)
    made.add_argument("--managed", action="store_true", help="files an administrator manages too")
    made.add_argument("--keep-secrets", action="store_true", help="leave credentials in the files")
    made.add_argument(
        "--secrets-to", metavar="STORE", default="", help="keyring, age, vault or awssm (default: the best here)"
    )
    made.add_argument(
        "--lock",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="lock what servers start to what it is today (default)",
    )
    made.add_argument(
        "--hooks", action=argparse.BooleanOptionalAction, default=True, help="add hooks to clients (default)"
    )
    made.add_argument(
        "--unknown-servers", choices=POLICIES, default="", help="hooks: calls to servers no file declares (deny)"
    )
    made.add_argument(
        "--open-servers", choices=OPEN_POLICIES, default="", help="hooks: calls to declared ones past the gate (ask)"
    )
    made.add_argument("--settings-edits", choices=POLICIES, default="", help="hooks: edits of clients' settings (ask)")
    return made


def add_choice(made: argparse.ArgumentParser, *, project: str = "") -> None:
    """The options install and uninstall share."""
    add_clients(made, project=project)
    made.add_argument("--server", metavar="NAME", action="append", default=[], help="only this server (repeatable)")
    made.add_argument("--yes", action="store_true", help="do not ask")
    made.add_argument("--dry-run", action="store_true", help="show the change and write nothing")


def main(argv: list[str]) -> int:
    """The sub-command. 0 done, or nothing to do; 1 something was not done; 2 usage."""
    arguments = parser().parse_args(argv)
    machine = Machine.here()
    if machine.system == "win32":
        raise ConfigError("callgate run is not available on Windows yet, so no client can be pointed to it")
    chosen = chosen_clients(arguments)
    config = configuration()
    state = state_directory(config)
    settle(config, state)
    keeper = None if arguments.keep_secrets else open_keeper(state, arguments.secrets_to)
    wish = Wish(
        launcher(),
        tuple(arguments.server),
        arguments.managed,
        keeper,
        options=settings_options(config, state),
        places=settings_places(config, state),
        find=in_arguments,
    )
    with lock(state):
        records, hook_records = Records(state), HookRecords(state)
        found = list(find(machine, chosen, arguments.project))
        plans = list(plan_install(found, records, wish))
        missing = [name for name in wish.servers if not any(s.server == name for p in plans for s in p.steps)]
        for name in missing:
            print(f"no server '{visible(name, 80)}' in these files")
        hooked = clients_with_hooks(chosen) if arguments.hooks and not wish.servers else ()
        hooks = list(plan_add(machine, hook_records, hooked, wish.launcher, state))
        needs = granting.of_plans(plans, found, records, state, config, wish.wants, project=arguments.project)
        wanted = granting.missing(needs, read_grants(state))
        work = Work(plans, hooks, records, hook_records, state, keeper, needs, wanted, granting.unusual(config))
        before = _snapshot(machine, wish, config, arguments)
        done, agreed = show_and_do(work, arguments, nothing="nothing to wrap", before=before)
    if agreed and arguments.lock:
        from callgate.cli.install_lock import lock_wrapped, locker

        lock_wrapped(
            [step for plan in plans if plan.text is not None for step in plan.steps], locker(state, config or Config())
        )
    return done if not missing else EXIT_NO


@dataclass(frozen=True, slots=True)
class Work:
    """What would be done, and what doing it takes."""

    plans: list[Plan]
    hooks: list[HookPlan]
    records: Records
    hook_records: HookRecords
    state: Path
    keeper: Keeper | None = None
    needs: list[Need] = field(default_factory=list)
    """Secrets that entries must be granted."""
    wanted: list[Need] = field(default_factory=list)
    """Those that are not."""
    settings: str = ""
    """The configuration that counts as the user's own with them, where it is not in its usual place."""


def _snapshot(
    machine: Machine, wish: Wish, config: Config | None, arguments: argparse.Namespace
) -> Callable[[Work], None]:
    """What hooks must find before a client asks them."""

    def write(work: Work) -> None:
        if not (work.hooks or work.hook_records.all()):
            return
        hook_snapshot.write(
            work.state,
            machine,
            wish.launcher,
            gateways=gateways(config),
            configuration=config.source if config else "",
            chosen={
                "unknown": arguments.unknown_servers,
                "open": arguments.open_servers,
                "config": arguments.settings_edits,
            },
        )

    return write


def gateways(config: Config | None) -> tuple[str, ...]:
    """The URLs at which `callgate serve` listens, where servers are configured for it."""
    if config is None or not config.servers:
        return ()
    return tuple(f"http://{host}:{config.listen.port}/" for host in {config.listen.host, "localhost"})


def open_keeper(state: Path, to: str = "") -> Keeper:
    """Where credentials go: the store of that name, else the best on this machine. Raises SecretError."""
    from callgate.vault.move import keeper

    return keeper(state, to)


def show_and_do(
    work: Work, arguments: argparse.Namespace, *, nothing: str, before: Callable[[Work], None] | None = None
) -> tuple[int, bool]:
    """Show what would be done, ask, do it: the exit code, and whether it was agreed to."""
    for plan in work.plans:
        show(plan)
    for hook in work.hooks:
        _show_hook(hook)
    _show_needs(work)
    failed = any(plan.failed for plan in work.plans) or any(hook.action == "refused" for hook in work.hooks)
    changes = _changes(work)
    if changes and not agreed(f"{changes}?", arguments):
        return EXIT_OK if arguments.dry_run and not failed else EXIT_NO, False
    if arguments.dry_run:
        print(nothing)
        return EXIT_NO if failed else EXIT_OK, False
    if before:
        before(work)
    if work.wanted:
        with changing(work.state) as draft:  # first: an entry whose reference is not granted would not start
            for need in work.wanted:
                draft.add(need.grants)
            if work.settings:
                draft.believe(work.settings, granting.SETTINGS)
    every: list[Plan | HookPlan] = [*work.plans, *work.hooks]
    for one in every:
        try:
            if isinstance(one, Plan):
                backup = carry_out(one, work.records, work.state, work.keeper)
            else:
                backup = carry_out_hook(one, work.hook_records, work.state)
        except CallgateError as error:
            failed = True
            print(error.diagnostics())
        else:
            if backup:
                print(f"written: {shown_path(one.path)}\n  backup: {shown_path(str(backup))}")
            elif isinstance(one, HookPlan) and one.action == "add":
                print(f"written: {shown_path(one.path)}")
    with changing(work.state) as draft:
        granting.settle(draft, work.records, () if failed else work.needs)
    if not changes:
        print(nothing)
    elif not failed:
        print("restart the clients: they read their files when they start")
    return EXIT_NO if failed else EXIT_OK, True


def _changes(work: Work) -> str:
    """What would be changed, as one question; empty where nothing would."""
    parts: list[str] = []
    writes = [plan for plan in work.plans if plan.text is not None]
    for action, verb in (("wrap", "wrap"), ("unwrap", "put back")):
        count = sum(step.action == action for plan in writes for step in plan.steps)
        if count:
            files = sum(any(step.action == action for step in plan.steps) for plan in writes)
            parts.append(f"{verb} {_plural(count, 'server')} in {_plural(files, 'file')}")
    moves = sum(len(move.stored) for plan in writes for move in plan.moves)
    if moves:
        parts.append(f"move {_plural(moves, 'credential')} to {_store_name(work.keeper)}")
    given = sum(len(need.references) for need in work.wanted)
    if given:
        parts.append(f"grant {_plural(given, 'secret')} to {_plural(len(work.wanted), 'server')}")
    for action, verb in (("add", "add hooks to"), ("remove", "take hooks out of")):
        count = sum(hook.action == action for hook in work.hooks)
        if count:
            parts.append(f"{verb} {_plural(count, 'client')}")
    text = ", ".join(parts)
    return text[:1].upper() + text[1:]


def _store_name(keeper: Keeper | None) -> str:
    name = getattr(getattr(keeper, "store", None), "name", "")
    return {"keyring": "the keyring", "age": "the encrypted age store"}.get(name, name or "the store")


def _show_needs(work: Work) -> None:
    """Which secret goes to which server, and to no other."""
    for need in work.wanted:
        for reference in need.references:
            print(_filled(f"grant    {visible(need.server, 40)}  ", visible(reference, 300), 80))
    if work.wanted and work.settings:
        print(f"believe  {shown_path(work.settings)}")
    if work.wanted:
        print()


def _show_hook(hook: HookPlan) -> None:
    if hook.action in ("already", "none") and not hook.detail:
        return
    print(f"{BY_NAME[hook.client].title} hooks  {shown_path(hook.path)}")
    if hook.detail:
        print(_filled(f"  {hook.action if hook.action != 'none' else 'gone':<8} ", hook.detail, 80))
    if hook.next_step:
        print(f"           next: {visible(hook.next_step)}")
    if hook.action == "add" and hook.client == "codex":
        print("  Codex runs a hook only after you trusted it: open /hooks there")
    for line in hook.diff():
        print(line)
    print()


def show(plan: Plan) -> None:
    """One file: its servers, then the change of its text."""
    if not plan.steps and plan.problem is None:
        return
    client = BY_NAME.get(plan.client)
    print(f"{client.title if client else visible(plan.client, 40)}  {shown_path(plan.path)}")
    if plan.problem is not None:
        print(textwrap.indent(plan.problem.diagnostics(), "  "))
    if plan.text is not None and tracked(os.path.realpath(plan.path)):
        print("  git tracks this file: whoever gets it next needs callgate at the same path")
    width = min(24, max((len(visible(step.server, 40)) for step in plan.steps), default=0))
    for step in plan.steps:
        _show_step(step, width)
    for line in plan.diff():
        print(line)
    print()


def _show_step(step: Step, width: int) -> None:
    head = f"  {step.action:<8} {visible(step.server, 40):<{width}}  "
    columns = max(60, shutil.get_terminal_size().columns)
    detail = visible(step.detail)
    if step.action == "wrap":
        room = columns - len(head)
        print(head + (detail if len(detail) <= room else detail[: max(10, room - 1)] + "…"))
    else:
        print(_filled(head, detail, columns))
    if step.next_step:
        print(
            textwrap.fill(
                visible(step.next_step), columns, initial_indent=" " * 11 + "next: ", subsequent_indent=" " * 17
            )
        )
    for note in step.notes:
        print(textwrap.fill(visible(note), columns, initial_indent=" " * 11, subsequent_indent=" " * 13))
    for line in step.lines:
        print("    " + line)


def _filled(head: str, text: str, columns: int) -> str:
    if not text:
        return head.rstrip()
    lines = textwrap.wrap(text, max(30, columns - 13), break_on_hyphens=False)
    if len(head) + len(lines[0]) <= columns and len(lines) == 1:
        return head + lines[0]
    return "\n".join([head.rstrip(), *(" " * 13 + line for line in lines)])


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
