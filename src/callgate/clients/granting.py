"""What the entries of a client's file need to be granted: the references in those that start behind the gate."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from callgate.clients.entries import Entry, entries, gate_at
from callgate.clients.formats import FormatName, parse
from callgate.clients.machine import Found
from callgate.clients.plan import Plan
from callgate.clients.records import Records
from callgate.clients.table import Shape
from callgate.clients.tree import canonical
from callgate.config import Config
from callgate.launching import granting, own
from callgate.launching.granted import named, names_for, references
from callgate.vault.grants import Grant, Grants
from callgate.vault.grants_file import Draft

SETTINGS = "callgate install"
"""Owner of the configuration that installed entries start with."""
_ENTRY = "entry"


@dataclass(frozen=True, slots=True)
class Need:
    """What one entry must be granted."""

    server: str
    owner: str
    grants: tuple[Grant, ...]
    """All of it; none where it holds no reference."""

    @property
    def references(self) -> tuple[str, ...]:
        """The secrets it then gets."""
        return tuple(dict.fromkeys(one.reference for one in self.grants))


@dataclass(frozen=True, slots=True)
class Start:
    """The words of `callgate run` in an entry, as far as a grant is about them."""

    name: str
    command: tuple[str, ...]
    url: str
    names: tuple[str, ...]
    unconfined: bool


def owner_of(key: tuple[str, tuple[str, ...]], kind: str = _ENTRY) -> str:
    """On whose account an entry's grants are."""
    return "\0".join((kind, *key[1], key[0])) if key[1] else kind + "\0"


def needs(
    found: Iterable[Found],
    format_: FormatName,
    text: str,
    owned: Callable[[Found, Entry], str],
    state: Path,
    config: Config | None,
    *,
    project: str = "",
    environ: Mapping[str, str] = os.environ,
) -> Iterator[Need]:
    """What the entries of one file, given by its text, need. `owned` names an entry's owner; none: it is left out."""
    root = parse(format_, text)
    for one in found:
        for entry in entries(root, one.place, one.client.shape):
            owner = owned(one, entry) if entry.kind == "wrapped" else ""
            if owner:
                made = _grants(entry, one.client.shape, state, config, environ, _directory(one, entry, project), owner)
                yield Need(entry.name, owner, made)


def _grants(
    entry: Entry,
    shape: Shape,
    state: Path,
    config: Config | None,
    environ: Mapping[str, str],
    cwd: str,
    owner: str,
) -> tuple[Grant, ...]:
    start = start_of(entry.command)
    member = entry.node.get(shape.env)
    own_variables = member.node.members if member and member.node.kind == "map" else ()
    environ = {**environ, **{one.key: one.node.text for one in own_variables if one.node.kind == "scalar"}}
    if start.url:
        return tuple(granting.for_url(start.url, references([start.url]), state, environ=environ, owner=owner))
    if not start.command:
        return ()
    variables = named(environ, names_for(config or Config(), start.name, start.command, start.names))
    free = start.unconfined or granting.unconfined(config, start.name)
    made = granting.for_command(start.command, variables, state, environ=environ, cwd=cwd, unconfined=free, owner=owner)
    return tuple(made)


def ungranted(
    found: Found, entry: Entry, known: Grants, state: Path, config: Config | None, project: str
) -> tuple[str, ...]:
    """References of a wrapped entry that its start would be refused for, locked or not."""
    shape, where = found.client.shape, _directory(found, entry, project)
    made = _grants(entry, shape, state, config, os.environ, where, "")
    has = {one.reference for one in made if one.key in known.grants}
    return tuple(dict.fromkeys(one.reference for one in made if one.reference not in has))


def start_of(words: tuple[str, ...]) -> Start:
    """What a wrapped command line asks of `callgate run`."""
    if len(words) == 1:
        words = tuple(words[0].split())
    at = gate_at(words)
    options: dict[str, list[str]] = {}
    rest = list(words[words.index("run", at) + 1 :]) if at >= 0 and "run" in words[at:] else []
    while rest and rest[0] != "--":
        option, has_value, value = rest.pop(0).partition("=")
        options.setdefault(option, []).append(value if has_value else rest.pop(0) if rest else "")

    def last(option: str) -> str:
        return (options.get(option) or [""])[-1]

    command = tuple(rest[1:])
    if len(command) == 1 and " " in command[0] and not os.path.exists(command[0]):
        command = tuple(shlex.split(command[0]))  # as `callgate run` takes it
    return Start(last("--name"), command, last("--url"), tuple(options.get("--env", ())), last("--sandbox") == "none")


def _directory(found: Found, entry: Entry, project: str) -> str:
    """Where the client starts it; empty where only the client knows."""
    member = entry.node.get("cwd")
    if member and member.node.string and os.path.isabs(member.node.text):
        return member.node.text
    if found.place.scope == "project":
        return os.path.abspath(project)
    return entry.container[1] if entry.container[:1] == ("projects",) and len(entry.container) > 1 else ""


def of_plans(
    plans: Iterable[Plan],
    found: Iterable[Found],
    records: Records,
    state: Path,
    config: Config | None,
    wants: Callable[[str], bool],
    *,
    project: str = "",
) -> list[Need]:
    """What the entries that `install` wrapped, or is about to wrap, need."""
    groups: dict[str, list[Found]] = {}
    for one in found:
        groups.setdefault(one.real, []).append(one)
    made: list[Need] = []
    for plan in plans:
        if plan.problem is not None or plan.content is None:
            continue
        new = {record.key: record for record in plan.add}

        def owned(one: Found, entry: Entry, new: Collection[object] = new.keys()) -> str:
            key = one.real, entry.where
            record = records.get(*key)
            ours = key in new or (record is not None and canonical(entry.node) == record.wrapped)
            return owner_of(key) if ours and wants(entry.name) else ""

        text = plan.content.text if plan.text is None else plan.text
        made += needs(groups[plan.content.path], plan.format, text, owned, state, config, project=project)
    return made


def missing(made: Iterable[Need], found: Grants) -> list[Need]:
    """Those of which something is not granted yet, or not on this account."""
    has = {key: one.owners for key, one in found.grants.items()}
    return [one for one in made if any(one.owner not in has.get(grant.key, ()) for grant in one.grants)]


def unusual(config: Config | None) -> str:
    """The configuration, where it counts as the user's own only if that is written down."""
    return config.source if config is not None and not own.configuration(config.source, Grants()) else ""


def settle(draft: Draft, records: Records, made: Iterable[Need] = ()) -> None:
    """Take back what entries were granted that need it no more, or are not behind the gate any more."""
    kept = {owner_of(record.key) for record in records.all()}
    prefix = owner_of(("", ()))
    needed = {one.owner: {grant.key for grant in one.grants} for one in made}

    def gone(owner: str, grant: Grant | None) -> bool:
        if owner == SETTINGS:
            return not kept
        if owner.startswith(prefix) and owner not in kept:
            return True
        return grant is not None and owner in needed and grant.key not in needed[owner]

    draft.release(gone)
