"""Credentials of a client's file that are replaced by references, and put back.

What callgate keeps of an entry must not hold what the store holds: in the kept text the reference stands where the
value stood, beside how the literal was written (`literals`). Who keeps the values is the caller's `Keeper`; this
module decides nothing about stores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, cast

from callgate.clients.arguments import Finder
from callgate.clients.entries import Entry
from callgate.clients.formats import FormatName, Splice, splice, string
from callgate.clients.literals import Exceptions, Form, describe, write
from callgate.clients.table import Shape
from callgate.clients.tree import Canonical, EntryRefused, Node, canonical, is_reference, locate
from callgate.clients.url_parts import decoded, has_references, references, url_values
from callgate.errors import CallgateError


class Keeper(Protocol):
    """Where credentials go. The methods raise CallgateError, which never names a value."""

    def offer(self, server: str, key: str, value: str) -> str | None:
        """The reference that would stand for this value of that server; None: it is no credential. Stores nothing."""
        ...

    def keep(self, reference: str, value: str) -> None:
        """Store the value, so that `fetch` gives it back. Storing the same again changes nothing."""
        ...

    def fetch(self, reference: str) -> str:
        """The value."""
        ...


@dataclass(frozen=True, slots=True)
class Part:
    """One credential: what it is called, its reference, and itself."""

    name: str
    reference: str
    value: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Move:
    """One value that changes: `path` are the keys within the entry.

    Where credentials are parts of it, as in a URL, `reference` is the whole text with references in it, and `parts`
    are what goes into the store.
    """

    path: tuple[str, ...]
    reference: str
    value: str = field(repr=False)
    form: Form
    parts: tuple[Part, ...] = ()

    @property
    def stored(self) -> tuple[Part, ...]:
        """What goes into the store."""
        return self.parts or (Part(self.path[-1], self.reference, self.value),)


@dataclass(frozen=True, slots=True)
class Moved:
    """A value that stands in the store, as the record of an entry keeps it.

    `at` and `length` say where the literal of the reference stands in the kept text; `at` is -1 where it stands
    elsewhere in the entry.
    """

    path: tuple[str, ...]
    reference: str
    style: str
    exceptions: Exceptions = ()
    at: int = -1
    length: int = 0

    def literal(self, value: str) -> str:
        """The value as it was written; as usual, where that form cannot hold the value there is now."""
        format_ = cast("FormatName", self.style.partition("-")[0])
        written = write(Form(self.style, self.exceptions), value)
        return written if describe(format_, written, value) is not None else string(format_, value)


def environment_names(node: Node, shape: Shape) -> tuple[str, ...]:
    """The variables that an entry sets or passes on, in the order of the file, each once.

    Raises EntryRefused for a name that no environment can hold.
    """
    names: list[str] = []
    for key in (shape.env, *shape.env_names):
        member = node.get(key)
        if member is None:
            continue
        if member.node.kind == "map":
            names += (one.key for one in member.node.members if one.node.kind == "scalar")
        elif member.node.kind == "list" and key != shape.env:
            names += _listed(member.node)
    for name in names:
        if not name or name[0] == "-" or "=" in name or any(c < " " for c in name):
            raise EntryRefused("a variable whose name no environment can hold", next_step=f"mend {shape.env}")
    return tuple(dict.fromkeys(names))


def set_names(node: Node, shape: Shape) -> tuple[str, ...]:
    """The variables to which an entry gives values of its own."""
    member = node.get(shape.env)
    return tuple(one.key for one in member.node.members) if member and member.node.kind == "map" else ()


def _listed(node: Node) -> Iterator[str]:
    for item in node.items:
        label = item.get("name") if item.kind == "map" else None
        if item.kind == "scalar" and item.string:
            yield item.text
        elif label and label.node.string:
            yield label.node.text


def plan_moves(
    text: str, format_: FormatName, shape: Shape, entry: Entry, server: str, keeper: Keeper
) -> tuple[tuple[Move, ...], tuple[str, ...]]:
    """What would go into the store, and the names of credentials that cannot, because of how they are written."""
    if entry.kind == "remote":
        return _plan_url(text, format_, shape, entry, server, keeper)
    member = entry.node.get(shape.env)
    if member is None or member.node.kind != "map":
        return (), ()
    moves: list[Move] = []
    odd: list[str] = []
    for one in member.node.members:
        value = one.node.text
        if not one.node.string or not value or is_reference(value) or _filled_in(value):
            continue
        reference = keeper.offer(server, one.key, value)
        if reference is None:
            continue
        form = describe(format_, text[one.node.start : one.node.end], value) if one.node.start >= 0 else None
        if form is None:
            odd.append(one.key)
        else:
            moves.append(Move((shape.env, one.key), reference, value, form))
    return tuple(moves), tuple(odd)


def _plan_url(
    text: str, format_: FormatName, shape: Shape, entry: Entry, server: str, keeper: Keeper
) -> tuple[tuple[Move, ...], tuple[str, ...]]:
    url = entry.url
    if has_references(url):
        return (), ()
    parts: list[Part] = []
    odd: list[str] = []
    template = url
    for name, written, at in reversed(list(url_values(url))):
        if _filled_in(written):
            continue
        value = decoded(written)
        reference = keeper.offer(server, name, written if value is None else value)
        if reference is not None and (value is None or not reference.isprintable() or set("<>&") & set(reference)):
            odd.append(f"{name} of its URL")
        elif reference is not None and value is not None:
            template = f"{template[:at]}<{reference}>{template[at + len(written) :]}"
            parts.append(Part(f"{name} of its URL", reference, value))
    if not parts:
        return (), tuple(odd)
    member = next(found for key in shape.urls if (found := entry.node.get(key)) and found.node.text == url)
    node = member.node
    form = describe(format_, text[node.start : node.end], url) if node.start >= 0 else None
    if form is None:
        return (), (*odd, *(part.name for part in parts))
    return (Move((member.key,), template, url, form, tuple(reversed(parts))),), tuple(odd)


def exposed(url: str, find: Finder) -> str:
    """What in a URL would be a credential on a command line, for all to read; empty where nothing would."""
    for name, value, _ in url_values(url):
        if _filled_in(value) or (not references(value) and tuple(find([f"--{name}={decoded(value) or value}"]))):
            return name
    return ""


def _filled_in(value: str) -> bool:
    """Whether the client itself fills in the value or a part of it: `${input:id}`, `${env:NAME}`, `$NAME`."""
    return "${" in value or (value[:1] == "$" and value[1:].isidentifier())


def splices(format_: FormatName, node: Node, moves: Iterable[Move]) -> list[Splice]:
    """The references in the places of the values."""
    found: list[Splice] = []
    for move in moves:
        at = _at(node, move.path)
        found.append(Splice(at.start, at.end, string(format_, move.reference)))
    return found


def kept_splices(format_: FormatName, node: Node, moves: Iterable[Move]) -> list[Splice]:
    """As `splices`, for a text in which the entry may be wrapped already: there a URL is one of the arguments."""
    found: list[Splice] = []
    for move in moves:
        if locate(node, move.path) is not None:
            found += splices(format_, node, (move,))
            continue
        arguments = (item for member in node.members for item in member.node.items if item.text == move.value)
        found += (Splice(item.start, item.end, string(format_, move.reference)) for item in arguments)
    return found


def with_references(value: Canonical, moves: Iterable[Move | Moved]) -> Canonical:
    """A kept value with the references in it."""
    return _with(value, {move.path: move.reference for move in moves})


def with_values(value: Canonical, moved: Iterable[Moved], values: Mapping[str, str]) -> Canonical:
    """A kept value with the credentials in it again."""
    return _with(value, {one.path: values[one.reference] for one in moved})


def _with(value: Canonical, texts: Mapping[tuple[str, ...], str]) -> Canonical:
    out: Canonical = dict(value)
    for path, text in texts.items():
        inner = out
        for key in path[:-1]:
            inner[key] = dict(inner[key])
            inner = inner[key]
        inner[path[-1]] = "s" + text
    return out


def same_apart(now: Canonical, original: Canonical, moved: Sequence[Moved]) -> bool:
    """Whether an entry is as it was before callgate, when its credentials may stand in it or not."""
    if now == original:
        return True
    try:
        for one in moved:
            inner = now
            for key in one.path:
                inner = inner[key]
            if not isinstance(inner, str) or inner[:1] != "s":
                return False
        return bool(moved) and with_references(now, moved) == original
    except (KeyError, TypeError):
        return False


def interrupted(
    format_: FormatName, node: Node, wrapped: Canonical, moved: Sequence[Moved], fetch: Callable[[str], str]
) -> list[Splice]:
    """The references that a move which was interrupted did not write any more, in the places of the values.

    Its record was kept and the file was not replaced, or, on the way back, the other way round. Empty where the entry
    is whole, or says something else than the store.
    """
    now = canonical(node)
    if now == wrapped or not same_apart(now, wrapped, moved):
        return []
    found: list[Splice] = []
    for one in moved:
        at = locate(node, one.path)
        if at is None or at.start < 0:
            return []
        if at.text != one.reference:
            try:
                if fetch(one.reference) != at.text:
                    return []
            except CallgateError:
                return []  # it is shown as edited, which is what can be known of it
            found.append(Splice(at.start, at.end, string(format_, one.reference)))
    return found


def conceal(
    format_: FormatName, text: str, node: Node, span: tuple[int, int], moves: Sequence[Move], carried: Sequence[Moved]
) -> tuple[str, tuple[Moved, ...]]:
    """The text of `span` without credentials, and what puts them back.

    `node` is the entry in `text`, where the values of `moves` still stand, and references for those `carried` over
    from an earlier record.
    """
    start, end = span
    inside: list[tuple[Splice, Moved]] = []
    outside: list[Moved] = []
    every: list[Move | Moved] = [*moves, *carried]
    for one in every:
        at = _at(node, one.path)
        form = one.form if isinstance(one, Move) else Form(one.style, one.exceptions)
        kept = string(format_, one.reference) if isinstance(one, Move) else text[at.start : at.end]
        moved = Moved(one.path, one.reference, form.style, form.exceptions)
        if start <= at.start and at.end <= end:
            inside.append((Splice(at.start - start, at.end - start, kept), moved))
        else:
            outside.append(moved)
    inside.sort(key=lambda pair: pair[0].start)
    shift = 0
    placed: list[Moved] = []
    for one_splice, moved in inside:
        at_kept = one_splice.start + shift
        shift += len(one_splice.new) - (one_splice.end - one_splice.start)
        placed.append(Moved(moved.path, moved.reference, moved.style, moved.exceptions, at_kept, len(one_splice.new)))
    return splice(text[start:end], [one for one, _ in inside]), (*placed, *outside)


def reveal(kept: str, moved: Iterable[Moved], values: Mapping[str, str]) -> str:
    """The kept text with the credentials in it again, byte for byte."""
    return splice(
        kept,
        [Splice(one.at, one.at + one.length, one.literal(values[one.reference])) for one in moved if one.at >= 0],
    )


def put_back(node: Node, moved: Iterable[Moved], values: Mapping[str, str]) -> list[Splice]:
    """Of the credentials that stand outside of the kept text: their literals, in the places of the references."""
    found: list[Splice] = []
    for one in moved:
        if one.at >= 0:
            continue
        at = locate(node, one.path)
        if at is not None and at.string and at.text == one.reference:
            found.append(Splice(at.start, at.end, one.literal(values[one.reference])))
    return found


def _at(node: Node, path: tuple[str, ...]) -> Node:
    found = locate(node, path)
    if found is None or found.start < 0:
        raise EntryRefused("a value that has no place of its own", next_step="write it out, then try again")
    return found
