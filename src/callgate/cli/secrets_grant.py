"""`callgate secrets grant`, `grants`, `revoke`: which server may have which secret."""

from __future__ import annotations

import argparse
import json
import os
import shlex
from pathlib import Path

from callgate.cli.client_options import configuration, shown_path, state_of_user
from callgate.clients.granting import unusual
from callgate.errors import ConfigError
from callgate.launching import granting
from callgate.launching.granted import without_query
from callgate.text import visible
from callgate.vault.grants import PERSON, Grant, is_digest, read
from callgate.vault.grants_file import changing
from callgate.vault.reference import is_reference, parse

EXIT_OK, EXIT_NO = 0, 1


def grant(arguments: argparse.Namespace) -> int:
    """`grant`: a reference to a command or a URL, or the trust in a configuration."""
    state = _state(arguments)
    if arguments.config:
        if not os.path.isfile(arguments.config):
            raise ConfigError(f"{visible(arguments.config, 300)} is no file", next_step="name a callgate.toml")
        with changing(state) as draft:
            draft.believe(arguments.config, PERSON)
        print(f"references in it count as yours: {shown_path(os.path.realpath(arguments.config))}")
        return EXIT_OK
    reference = parse(arguments.reference or "").text
    _one_target(arguments)
    made = _made(reference, arguments, state)
    settings = "" if arguments.start else unusual(configuration())
    with changing(state) as draft:
        draft.add(made)
        if settings:  # it is with these that the command will start
            draft.believe(settings, PERSON)
    print(f"granted: {visible(reference, 300)} to {_target(made[0])}")
    if settings:
        print(f"references in it count as yours: {shown_path(os.path.realpath(settings))}")
    return EXIT_OK


def _made(reference: str, arguments: argparse.Namespace, state: Path) -> list[Grant]:
    command, url = tuple(arguments.target), arguments.url
    if arguments.start:
        if not is_digest(arguments.start):
            raise ConfigError("--start is not what a refused start says", next_step="copy it whole, or leave it out")
        return [Grant(reference, arguments.start, command, without_query(url))]
    given = _variables(arguments.env)
    if url:
        return list(granting.for_url(url, [reference], state, environ={**os.environ, **given}))
    variables = {**given, **({arguments.variable: reference} if arguments.variable else {})}
    made = granting.for_command(
        command,
        variables,
        state,
        environ={**os.environ, **variables},
        cwd=os.getcwd(),
        unconfined=arguments.unconfined or granting.unconfined(configuration(), ""),
        chosen=[reference],
    )
    found = list(made)
    if not found:
        raise ConfigError(
            "it is not said in which variable the server gets it",
            next_step="--as NAME; or --env NAME='Bearer <REFERENCE>' where it stands inside a text",
        )
    return found


def _variables(given: list[str]) -> dict[str, str]:
    """`NAME=TEXT` as an entry has it, or `NAME` with what it is here."""
    found: dict[str, str] = {}
    for one in given:
        name, has_text, text = one.partition("=")
        if not name or (not has_text and name not in os.environ):
            raise ConfigError(f"--env {visible(name, 80)}: there is no such variable", next_step="--env NAME=TEXT")
        found[name] = text if has_text else os.environ[name]
    return found


def grants(arguments: argparse.Namespace) -> int:
    """`grants`: what is granted to what. No value, and no credential that stands on a command line."""
    found = read(_state(arguments))
    rows: dict[tuple[str, str], list[Grant]] = {}
    for one in sorted(found.grants.values(), key=lambda one: (one.reference, one.command, one.url)):
        rows.setdefault((one.reference, _target(one)), []).append(one)  # one start locked, one as it is now
    if arguments.json:
        document = {"grants": [_row(same) for same in rows.values()], "configurations": sorted(found.configurations)}
        print(json.dumps(document, indent=2))
        return EXIT_OK
    for (reference, target), same in rows.items():
        print(f"{visible(reference, 300)}\n  to {target}\n  by {'; '.join(_owners(same))}, {same[0].at}")
    for path in sorted(found.configurations):
        print(f"references in it count as yours: {shown_path(path)}")
    if not rows and not found.configurations:
        print("nothing is granted: references count in your own callgate.toml only")
    return EXIT_OK


def _row(same: list[Grant]) -> dict[str, object]:
    one = same[0]
    return {
        "reference": one.reference,
        "command": list(_masked(one.command)),
        "url": one.url,
        "starts": [grant.start for grant in same],
        "by": _owners(same),
        "at": one.at,
    }


def _owners(same: list[Grant]) -> list[str]:
    return list(dict.fromkeys(_owner(owner) for one in same for owner in one.owners))


def revoke(arguments: argparse.Namespace) -> int:
    """`revoke`: take it back, from one server or from all. A server that runs keeps what it has."""
    with changing(_state(arguments)) as draft:
        if arguments.config:
            found = draft.disbelieve(arguments.config)
            print("taken back" if found else "it did not count as yours")
            return EXIT_OK if found else EXIT_NO
        command, url = tuple(arguments.target), without_query(arguments.url)
        chosen = [
            one
            for one in draft.grants.values()
            if one.reference == arguments.reference
            and (not (command or url) or (one.command == command and one.url == url))
        ]
        draft.revoke(chosen)
    for target in dict.fromkeys(map(_target, chosen)):
        print(f"taken back: {visible(arguments.reference, 300)} from {target}")
    if not chosen:
        print("that was not granted; callgate secrets grants shows what is")
    return EXIT_OK if chosen else EXIT_NO


def _one_target(arguments: argparse.Namespace) -> None:
    if bool(arguments.target) == bool(arguments.url):
        raise ConfigError(
            "it is not said to what it is granted", next_step="write -- COMMAND ARGS as the entry has it, or --url URL"
        )
    if any(map(is_reference, arguments.target)):
        raise ConfigError("a reference cannot stand on a command line", next_step="pass it in a variable: --as NAME")


def _target(one: Grant) -> str:
    return visible(one.url or shlex.join(_masked(one.command)), 400)


def _masked(command: tuple[str, ...]) -> tuple[str, ...]:
    from callgate.clients.masking import mask_words

    return tuple(mask_words(command))


def _owner(owner: str) -> str:
    """`entry`, its keys, its file: as a person reads it."""
    kind, *where = owner.split("\0")
    return f"{visible('.'.join(where[:-1]), 200)} in {shown_path(where[-1])}" if where else visible(kind, 100)


def _state(arguments: argparse.Namespace) -> Path:
    return Path(arguments.state) if arguments.state else state_of_user()
