"""Putting an entry behind the gate, and back: what changes in the text, and what must be true afterwards.

Wrapping touches the members that say what to start, and nothing else. The text from the first to the last of them is
kept before and after the change; unwrapping puts the one back in the place of the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from callgate.clients.entries import Entry, behind_run
from callgate.clients.formats import FormatName, Splice, add_list, prepend, rename, replace_string
from callgate.clients.launcher import heedless
from callgate.clients.moving import Move, environment_names, set_names, splices, with_references
from callgate.clients.steering import HARMLESS, options, takes_over, unnamed
from callgate.clients.table import Shape
from callgate.clients.tree import Canonical, EntryRefused, Member, Node, canonical
from callgate.text import visible

_SIGN_IN = frozenset(
    {
        "auth",
        "authorization",
        "authprovidertype",
        "bearer_token_env_var",
        "env_http_headers",
        "headers",
        "headershelper",
        "http_headers",
        "oauth",
        "requestinit",
    }
)
"""Members by which the client signs in to a remote server; `callgate run --url` would not know of them."""


@dataclass(frozen=True, slots=True)
class Change:
    """One entry's change: the splices, the members touched (before, after), and the value it must then have.

    `values` are the paths, within the entry, of values that change beside the touched members.
    """

    splices: tuple[Splice, ...]
    before: tuple[str, ...]
    after: tuple[str, ...]
    value: Canonical
    values: tuple[tuple[str, ...], ...] = ()


def wrap(
    text: str,
    format_: FormatName,
    shape: Shape,
    entry: Entry,
    launcher: tuple[str, ...],
    named: tuple[str, ...],
    moves: Sequence[Move] = (),
    places: Mapping[str, str] | None = None,
) -> Change:
    """Put one entry behind `launcher run --name …`, with `--env` for each variable the entry names.

    `named` are the gate's name for it and further options of `callgate run`; `places` the options that name settings
    and state, for an entry that sets a variable by which others would be found. `moves` put references in the place of
    values. Raises EntryRefused, ClientFileError.
    """
    names = environment_names(entry.node, shape)
    named = (*named, *_places(set_names(entry.node, shape), named, places or {}))
    if any(name.startswith("PYTHON") for name in names):
        launcher = heedless()
    prefix = (*launcher, "run", "--name", *named)
    if entry.kind == "remote":
        return _wrap_url(text, format_, shape, entry, (*prefix, "--url", moves[0].reference if moves else entry.url))
    passed = (word for name in names for word in ("--env", name))
    change = _wrap_command(text, format_, shape, entry, (*prefix, *passed, "--"))
    return replace(
        change,
        splices=(*change.splices, *splices(format_, entry.node, moves)),
        value=with_references(change.value, moves),
        values=tuple(move.path for move in moves),
    )


def outdated(entry: Entry, shape: Shape) -> str:
    """Why a wrapped entry should be written anew: what it sets would act on the gate. Empty: it is well."""
    words = entry.command[: entry.command.index("--")] if "--" in entry.command else entry.command
    names = set_names(entry.node, shape)
    if any(name.startswith("PYTHON") and name not in HARMLESS for name in names) and not {"-E", "-P"} <= set(words):
        return "it sets variables of Python, and starts the gate in an older way, which heeds them"
    if unnamed(names, [option for option, _ in options(behind_run(entry.command))]):
        return "it sets a variable by which the gate finds its settings and its state"
    return ""


def _places(names: tuple[str, ...], named: tuple[str, ...], places: Mapping[str, str]) -> Iterator[str]:
    """The options that keep an entry's variables from deciding over the gate. Raises EntryRefused where none do."""
    taken = takes_over(names)
    if taken:
        raise EntryRefused(
            f"it sets {visible(', '.join(taken), 200)}, which would act on the gate itself, outside of the sandbox",
            next_step="if the server needs it, write it into the command, so that only the server gets it: "
            f"env {visible(taken[0], 80)}=… COMMAND",
        )
    for option in unnamed(names, named):
        if not places.get(option):
            raise EntryRefused(
                "it sets a variable by which the gate would find other settings (HOME, XDG_CONFIG_HOME), and there is "
                "no callgate.toml to name instead",
                next_step="make one (an empty file will do) in ~/.config/callgate, then try again",
            )
        yield from (option, places[option])


def _wrap_command(text: str, format_: FormatName, shape: Shape, entry: Entry, prefix: tuple[str, ...]) -> Change:
    node = entry.node
    value = canonical(node)
    command = _member(node, shape.command)
    if command.node.kind == "list":
        value[shape.command] = [*_plain(prefix), *value[shape.command]]
        splices = (prepend(format_, text, command, prefix),)
        return Change(splices, (shape.command,), (shape.command,), value)
    if not shape.args:
        raise EntryRefused(f"{shape.command} is not a list", next_step="write it as the client documents it")
    if not command.node.string:
        raise EntryRefused(f"{shape.command} is not a string", next_step="put it in quotes")
    program = replace_string(format_, command.node, prefix[0])
    words = (*prefix[1:], command.node.text)
    args = node.get(shape.args)
    after = (shape.command, shape.args)
    if args is None:
        value |= {shape.command: "s" + prefix[0], shape.args: _plain(words)}
        added = add_list(format_, text, command, shape.args, words, flow=node.flow)
        return Change((program, added), (shape.command,), after, value)
    if args.node.kind != "list" and not args.node.is_null:
        raise EntryRefused(f"{shape.args} is not a list", next_step="write it as the client documents it")
    old = value[shape.args] if args.node.kind == "list" else []
    value |= {shape.command: "s" + prefix[0], shape.args: [*_plain(words), *old]}
    return Change((program, prepend(format_, text, args, words)), after, after, value)


def _wrap_url(text: str, format_: FormatName, shape: Shape, entry: Entry, words: tuple[str, ...]) -> Change:
    if shape.stdio_only:
        raise EntryRefused("a URL, which this client does not read from its file", next_step="nothing to do")
    node = entry.node
    _check_remote(entry, shape)
    key = next(key for key in shape.urls if (found := node.get(key)) and found.node.text == entry.url)
    url = _member(node, key)
    value = {name: item for name, item in canonical(node).items() if name != key}
    renamed = rename(format_, url, shape.command)
    if shape.args:
        program = replace_string(format_, url.node, words[0])
        added = add_list(format_, text, url, shape.args, words[1:], flow=node.flow)
        splices = [renamed, program, added]
        value |= {shape.command: "s" + words[0], shape.args: _plain(words[1:])}
        after = [shape.command, shape.args]
    else:
        whole = prepend(format_, text, url, words)
        splices = [renamed, Splice(url.node.start, url.node.end, whole.new)]
        value[shape.command] = _plain(words)
        after = [shape.command]
    before = [key]
    kind = node.get(shape.kind)
    if kind and kind.node.string:
        splices.append(replace_string(format_, kind.node, shape.stdio))
        value[shape.kind] = "s" + shape.stdio
        before.append(shape.kind)
        after.append(shape.kind)
    return Change(tuple(splices), tuple(before), tuple(after), value)


def _check_remote(entry: Entry, shape: Shape) -> None:
    """What stands in the way of a stdio face for a URL. Raises EntryRefused."""
    for member in entry.node.members:
        if member.key.lower() in _SIGN_IN and (member.node.members or member.node.items or member.node.string):
            raise EntryRefused(
                f"a remote server to which the client signs in with '{visible(member.key, 40)}'",
                next_step="put url and headers of it into callgate.toml and use callgate serve, or a stdio entry "
                "callgate run --name NAME --url URL whose NAME has them there",
            )
        if member.key in (shape.command, shape.args) and member.key:
            raise EntryRefused(f"a URL, and {member.key} beside it", next_step="remove one of them")
    if not entry.url.startswith(("http://", "https://")):
        raise EntryRefused("a URL that is neither http nor https", next_step="nothing to do")
    if "@" in entry.url.partition("://")[2].partition("/")[0].partition("?")[0]:
        raise EntryRefused(
            "a URL with a name or a password before its host, which callgate does not send",
            next_step="put an Authorization header of it into callgate.toml and use callgate serve",
        )


def _member(node: Node, key: str) -> Member:
    found = node.get(key)
    if found is None:
        raise EntryRefused(f"{visible(key, 40)} is missing", next_step="write the entry as the client documents it")
    return found


def _plain(words: tuple[str, ...]) -> list[Canonical]:
    return ["s" + word for word in words]


def extent(node: Node, keys: tuple[str, ...]) -> tuple[int, int]:
    """From the first to the last of these members. Raises EntryRefused where one is missing or has no place."""
    found = [member for key in keys if (member := node.get(key))]
    if len(found) < len(keys) or any(member.start < 0 or member.node.end < 0 for member in found):
        raise EntryRefused("the entry is not as it was written", next_step="see callgate status")
    return min(member.start for member in found), max(member.node.end for member in found)
