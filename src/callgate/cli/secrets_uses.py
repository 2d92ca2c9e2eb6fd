"""Where references to secrets stand: in clients' files, in callgate.toml, and in files that were changed by a move."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from callgate.cli.secrets_files import Moves
from callgate.clients.files import read
from callgate.clients.formats import FormatName, parse
from callgate.clients.machine import Machine, find
from callgate.clients.tree import ClientFileError, Node
from callgate.config.places import user_config_file
from callgate.errors import SecretError
from callgate.vault import move_env
from callgate.vault.reference import Reference, is_reference, split


@dataclass(frozen=True, slots=True)
class Use:
    """One reference at one place."""

    reference: str
    path: str
    line: int
    key: str


def uses(state: Path, project: str = "") -> tuple[list[Use], list[tuple[str, str]]]:
    """All references in known files, and the files that could not be read, with the reason."""
    found: list[Use] = []
    problems: list[tuple[str, str]] = []
    places = {one.real: one.place.format for one in find(Machine.here(), (), project)}
    config = user_config_file()
    if config:
        places[os.path.realpath(config)] = "toml"
    formats: dict[str, str] = {**{record.file: record.format for record in Moves(state).all()}, **places}
    for path, format_ in formats.items():
        if not os.path.isfile(path):
            continue
        try:
            text = read(path).text
            values = _env(text) if format_ == "env" else _strings(parse(cast("FormatName", format_), text))
            for key, value, at in values:
                found += (Use(one, path, text.count("\n", 0, at) + 1, key) for one in _references(value))
        except ClientFileError as error:
            problems.append((path, error.what))
    return found, problems


def _references(value: str) -> Iterator[str]:
    if not is_reference(value):
        return
    try:
        pieces = split(value)
    except SecretError:
        return  # a broken one: callgate run says so, where it matters
    yield from (piece.text for piece in pieces if isinstance(piece, Reference))


def _strings(root: Node) -> Iterator[tuple[str, str, int]]:
    stack: list[tuple[Node, tuple[str, ...]]] = [(root, ())]
    while stack:
        node, path = stack.pop()
        if node.kind == "map":
            stack += ((member.node, (*path, member.key)) for member in reversed(node.members))
        elif node.kind == "list":
            stack += ((item, (*path, str(at))) for at, item in reversed(list(enumerate(node.items))))
        elif node.string and node.start >= 0:
            yield ".".join(path), node.text, node.start


def _env(text: str) -> Iterator[tuple[str, str, int]]:
    return ((place.name, place.value, place.start) for place in move_env.places(text))
