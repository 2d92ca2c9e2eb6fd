"""What `callgate doctor` says about clients' files: each server's entry, and the file around it.

Facts that other rooms know come in as callables: what is a credential, which servers are pinned.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from callgate.clients.arguments import Finder, advice
from callgate.clients.entries import Entry, behind_run, entries, gate_at
from callgate.clients.files import read
from callgate.clients.formats import parse
from callgate.clients.git import tracked
from callgate.clients.machine import Found
from callgate.clients.moving import set_names
from callgate.clients.records import Records
from callgate.clients.status import FileState, ServerState, survey
from callgate.clients.steering import options, takes_over, users_alone
from callgate.clients.table import BY_NAME, Shape, System
from callgate.clients.tree import ClientFileError, is_reference
from callgate.clients.url_parts import decoded, references, url_values
from callgate.clients.wrap import outdated

Level: TypeAlias = Literal["ok", "warn", "fail"]

GUI_PATHS: Final[dict[System, str]] = {
    "linux": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/games:/snap/bin",
    "darwin": "/usr/bin:/bin:/usr/sbin:/sbin",
}
"""PATH of a program that is started from the desktop, without a shell's settings."""
GUI_CLIENTS: Final = frozenset(
    {
        *("antigravity", "claude-desktop", "cursor", "junie", "kiro", "lm-studio", "qoder", "trae", "vscode"),
        *("windsurf", "zed"),
    }
)


FEW_VARIABLES: Final = frozenset({"codex"})
"""Clients that start a server with HOME, PATH, LANG, TERM and the like, and none of the others they have."""
_NEEDS_VARIABLES: Final = frozenset({"awssm", "env", "op", "vault"})


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. `means` and `next_step` are empty where it is as it should be."""

    level: Level
    area: str
    subject: str
    what: str
    means: str = ""
    next_step: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the caller knows. `is_credential(value, key)`; `is_pinned(gate_name)`; `in_arguments(words)`."""

    system: System
    is_credential: Callable[[str, str], bool]
    is_pinned: Callable[[str], bool]
    launcher: tuple[str, ...] = ()
    """The words that start this callgate."""
    in_arguments: Finder = lambda _: ()
    own: Callable[[str, str], bool] = lambda _option, _path: False
    """Whether what `--config` or `--state` names is the user's."""
    ungranted: Callable[[Found, Entry], tuple[str, ...]] = lambda *_: ()
    """References of a wrapped entry that nobody granted to what it starts."""


_SAYS: Final[dict[str, tuple[Level, str, str]]] = {
    "wrapped": ("ok", "", ""),
    "not a server": ("ok", "", ""),
    "gone": ("warn", "the entry was wrapped once; nothing of it starts", "callgate uninstall forgets it"),
    "not wrapped": ("warn", "it goes past the gate: unconfined, and nothing of it is recorded", "callgate install"),
    "drifted": (
        "fail",
        "somebody changed the entry since callgate wrote it: what it starts may be something else",
        "look at it; then callgate uninstall --keep-edits and callgate install",
    ),
    "wrapper missing": ("fail", "the client cannot start it", "callgate install writes the new path"),
}


def check_clients(found: Iterable[Found], records: Records, clients: tuple[str, ...], facts: Facts) -> Iterator[Check]:
    """All files and servers of the chosen clients."""
    places = list(found)
    for one in survey(places, records, clients):
        yield from _states(one)
    seen: set[str] = set()
    for place in places:
        try:
            content = read(place.real)
            listed = list(entries(parse(place.place.format, content.text), place.place, place.client.shape))
        except ClientFileError:
            continue  # said above
        secret = _plain_credentials(listed, place.client.shape, facts)
        if place.real not in seen:
            seen.add(place.real)
            yield from _file(place, content.status, listed, secret=secret)
        for entry in listed:
            yield from _entry(place, entry, facts)


def _states(one: FileState) -> Iterator[Check]:
    if one.problem:
        yield Check(
            "fail",
            one.title,
            one.path,
            f"cannot be read: {one.problem}",
            "the client may start anything from it, and callgate sees nothing of it",
            "mend the file",
        )
    if one.unfinished:
        yield Check(
            "warn",
            one.title,
            one.unfinished,
            "was left by an interrupted command",
            "nothing reads it",
            "callgate install or uninstall removes it",
        )
    for server in one.servers:
        yield _state(one, server)


def _state(one: FileState, server: ServerState) -> Check:
    level, means, next_step = _SAYS[server.state]
    if one.client in BY_NAME and server.state == "not wrapped" and (reason := _hands_off(one)):
        means, next_step = f"{means}; {reason}", "remove it there, or accept it"
    what = f"{server.state}: {server.detail}" if server.detail else server.state
    return Check(level, one.title, f"{server.server} in {one.path}", what, means, next_step)


def _hands_off(one: FileState) -> str:
    if one.scope == "managed":
        return "an administrator manages the file"
    return "an update of a plugin would undo a change" if "/plugins/" in one.path else ""


def _plain_credentials(listed: list[Entry], shape: Shape, facts: Facts) -> tuple[str, ...]:
    """Names of the variables and headers that hold a credential in plain text."""
    names: list[str] = []
    for entry in listed:
        for key in (shape.env, "headers", "http_headers"):
            member = entry.node.get(key) if entry.node.kind == "map" else None
            for one in member.node.members if member and member.node.kind == "map" else ():
                value = one.node.text
                if one.node.string and not is_reference(value) and facts.is_credential(value, one.key):
                    names.append(f"{entry.name}.{one.key}")
        url = entry.url or (entry.command[entry.command.index("--url") + 1] if "--url" in entry.command[:-1] else "")
        for name, value, _ in url_values(url):
            if not references(value) and facts.is_credential(decoded(value) or value, name):
                names.append(f"{entry.name}.{name}")
    return tuple(dict.fromkeys(names))


def _file(place: Found, status: os.stat_result, listed: list[Entry], *, secret: tuple[str, ...]) -> Iterator[Check]:
    title, path = place.client.title, place.path
    if secret:
        named = ", ".join(secret[:5]) + ("…" if len(secret) > 5 else "")
        yield Check(
            "warn",
            title,
            path,
            f"holds {len(secret)} credentials in plain text: {named}",
            "whatever reads the file has them",
            "callgate install moves them into a store; callgate secrets find names all of them",
        )
    open_to = [who for who, bit in (("your group", 0o040), ("everybody", 0o004)) if status.st_mode & bit]
    if secret and open_to:
        yield Check(
            "fail",
            title,
            path,
            f"has mode {stat.S_IMODE(status.st_mode):04o} and holds credentials",
            f"{' and '.join(open_to)} can read them",
            f"chmod 600 {path}, and replace the credentials",
        )
    if status.st_mode & 0o022:
        yield Check(
            "fail",
            title,
            path,
            f"has mode {stat.S_IMODE(status.st_mode):04o}",
            "others can write there what the client starts as you",
            f"chmod go-w {path}",
        )
    wrapped = any(entry.kind == "wrapped" for entry in listed)
    if place.place.scope == "project" and (wrapped or secret) and tracked(place.real):
        why = "holds credentials" if secret else "names the callgate of this machine"
        means = "whoever gets the repository has them" if secret else "elsewhere the servers do not start"
        next_step = "take them out, and replace them" if secret else "commit it without the change"
        yield Check("fail" if secret else "warn", title, path, f"git tracks it, and it {why}", means, next_step)


def _entry(place: Found, entry: Entry, facts: Facts) -> Iterator[Check]:
    subject = f"{entry.name} in {place.path}"
    words = entry.command[0].split() if len(entry.command) == 1 else list(entry.command)
    inner = _inner(words) if entry.kind == "wrapped" else words
    if entry.kind == "wrapped" and gate_at(inner) >= 0:
        yield Check(
            "warn",
            place.client.title,
            subject,
            "passes two gates, one inside the other",
            "each message is looked at and recorded twice",
            "callgate uninstall, remove the inner callgate run by hand, callgate install",
        )
        inner = _inner(inner[gate_at(inner) :])
    if entry.kind == "wrapped":
        yield from _other_gate(place, words, subject, facts)
        yield from _steered(place, entry, subject)
        yield from _users_alone(place, words, subject, facts)
        yield from _store_reached(place, entry, subject)
        yield from _granted(place, entry, subject, facts)
    for label, what in advice(inner, place.client.shape.env, facts.in_arguments):
        yield Check(
            "warn",
            place.client.title,
            subject,
            f"holds a credential on its command line: {label}",
            "every user of this machine can read it while the server runs, and no reference can stand there",
            what,
        )
    if not inner or entry.kind not in ("stdio", "wrapped") or inner[0].startswith("${"):
        return
    if entry.kind == "wrapped" and facts.is_pinned(_name(words)):
        return  # the pinned artefact starts, by its full path
    yield from _program(place, entry, inner[0], subject, facts)


def _store_reached(place: Found, entry: Entry, subject: str) -> Iterator[Check]:
    """Whether the client hands on what the store of a reference is reached by."""
    if place.client.name not in FEW_VARIABLES:
        return
    env, passed = entry.node.get(place.client.shape.env), entry.node.get("env_vars")
    values = [one.node.text for one in env.node.members] if env else []
    schemes = sorted({text.partition("://")[0] for text in values if is_reference(text)} & _NEEDS_VARIABLES)
    if schemes and not (passed and passed.node.items):
        yield Check(
            "warn",
            place.client.title,
            subject,
            f"has references to {' and '.join(schemes)}, and {place.client.title} hands servers only a few variables",
            "what the store is reached by (VAULT_ADDR, AWS_PROFILE and the like) may not arrive",
            'name them in the entry: env_vars = ["VAULT_ADDR", "VAULT_TOKEN"]',
        )


def _granted(place: Found, entry: Entry, subject: str, facts: Facts) -> Iterator[Check]:
    """Whether the entry's references were granted to what it starts."""
    missing = facts.ungranted(place, entry)
    if missing:
        yield Check(
            "warn",
            place.client.title,
            subject,
            f"names secrets that were not granted to it: {', '.join(missing[:5])}",
            "callgate run refuses to start it",
            "if you want it to have them: callgate install, where that wrote the entry; "
            "else start it, and do what callgate run says",
        )


def _steered(place: Found, entry: Entry, subject: str) -> Iterator[Check]:
    """Whether the entry's own variables act on the gate."""
    taken = takes_over(set_names(entry.node, place.client.shape))
    if taken:
        yield Check(
            "fail",
            place.client.title,
            subject,
            f"sets {', '.join(taken)}",
            "it acts on the gate itself, outside of the sandbox",
            f"if the server needs it, write it into the command behind --: env {taken[0]}=… COMMAND",
        )
    elif why := outdated(entry, place.client.shape):
        yield Check(
            "fail",
            place.client.title,
            subject,
            why,
            "whoever writes that variable decides what runs as the gate, or by which settings",
            "callgate install writes it anew",
        )


def _users_alone(place: Found, words: list[str], subject: str, facts: Facts) -> Iterator[Check]:
    """Whether a project says of the gate what only the user may say."""
    behind = behind_run(words) if place.place.scope == "project" else []
    if option := users_alone(options(behind), facts.own):
        yield Check(
            "fail",
            place.client.title,
            subject,
            f"starts callgate with {option}",
            "whoever writes the project's file decides what the gate holds to",
            "take it out there; if you want it, say it in callgate.toml, or in a file of your own",
        )


def _other_gate(place: Found, words: list[str], subject: str, facts: Facts) -> Iterator[Check]:
    """Whether the entry starts another callgate than the one that looks."""
    program = words[gate_at(words)]
    if not (facts.launcher and os.path.isabs(program) and os.path.exists(program)):
        return
    if os.path.realpath(program) != os.path.realpath(facts.launcher[0]):
        yield Check(
            "warn",
            place.client.title,
            subject,
            f"starts another callgate than this one: {program}",
            "what it holds to and where it keeps evidence may differ",
            "callgate uninstall with that one, then callgate install with this one",
        )


def _inner(words: list[str]) -> list[str]:
    """What a wrapped command line starts behind the gate."""
    return words[words.index("--") + 1 :] if "--" in words else []


def _name(words: list[str]) -> str:
    """What the gate calls the server."""
    return words[words.index("--name") + 1] if "--name" in words[:-1] else ""


def _program(place: Found, entry: Entry, program: str, subject: str, facts: Facts) -> Iterator[Check]:
    own_path = entry.node.get(place.client.shape.env)
    if own_path and any(one.key == "PATH" for one in own_path.node.members):
        return
    if os.path.dirname(program):
        if not os.access(os.path.expanduser(program), os.X_OK) and os.path.isabs(program):
            yield _missing(place, subject, program)
        return
    here = shutil.which(program)
    if here is None:
        yield _missing(place, subject, program)
        return
    desktop = GUI_PATHS.get(facts.system, "")
    if place.client.name in GUI_CLIENTS and desktop and shutil.which(program, path=desktop) is None:
        yield Check(
            "warn",
            place.client.title,
            subject,
            f"'{program}' is at {here}, which is not on the PATH of programs started from the desktop",
            "the server may start from a terminal and not from there",
            "write its full path into the entry, or lock it: callgate trust lock",
        )


def _missing(place: Found, subject: str, program: str) -> Check:
    return Check(
        "fail",
        place.client.title,
        subject,
        f"there is no program '{program}'",
        "the server cannot start",
        "install it, or correct the entry",
    )
