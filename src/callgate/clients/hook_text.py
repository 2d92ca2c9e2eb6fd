"""Inserting hook entries into a JSON text and cutting them out again; nothing else of the text changes."""

from __future__ import annotations

import json
from typing import Any, TypeAlias

from callgate.clients.formats import parse
from callgate.clients.hook_entries import find_ours
from callgate.clients.tree import Canonical, ClientFileError, Node, canonical

Pieces: TypeAlias = tuple[tuple[int, str], ...]
"""Where each text was put (characters from the start, when it was put there), in that order."""


def inserted_entry(text: str, root: Node, event: str, entry: dict[str, Any]) -> tuple[str, int, str]:
    """The text with one more entry of an event, where that stands, and what was inserted."""
    if root.kind != "map":
        raise ClientFileError("the document is not a map", next_step="mend the file, then try again")
    hooks = root.get("hooks")
    if hooks is None:
        return inserted_member(text, root, "hooks", {event: [entry]})
    if hooks.node.kind != "map":
        raise ClientFileError("'hooks' is not a map", next_step="mend the file, then try again")
    listed = hooks.node.get(event)
    if listed is None:
        return inserted_member(text, hooks.node, event, [entry])
    if listed.node.kind != "list":
        raise ClientFileError(f"'hooks.{event}' is not a list", next_step="mend the file, then try again")
    return _put(text, listed.node, entry, [item.start for item in listed.node.items], "")


def inserted_member(text: str, node: Node, key: str, value: Any) -> tuple[str, int, str]:
    """The text with one more member of a map, where that stands, and what was inserted."""
    return _put(text, node, value, [member.start for member in node.members], json.dumps(key) + ": ")


def _put(text: str, node: Node, value: Any, starts: list[int], head: str) -> tuple[str, int, str]:
    """Insert a value after the last one of a map or list, laid out as its neighbours are."""
    if node.start == node.end:  # an empty document
        piece = "{" + head + json.dumps(value, ensure_ascii=False) + "}"
        return text[: node.start] + piece + text[node.start :], node.start, piece
    newline = "\r\n" if "\r\n" in text else "\n"
    inside = node.members[-1].node.end if node.members else node.items[-1].end if node.items else node.start + 1
    if starts:
        lead = text[text.rfind("\n", 0, starts[-1]) + 1 : starts[-1]]
        own_line = not lead.strip() and "\n" in text[: starts[-1]]
        separator = "," + (newline + lead if own_line else " ")
    else:
        separator, own_line, lead = "", False, ""
    written = json.dumps(value, ensure_ascii=False, indent=2 if own_line else None)
    piece = separator + head + written.replace("\n", newline + lead)
    return text[:inside] + piece + text[inside:], inside, piece


def taken_out(text: str, root: Node, pieces: Pieces) -> str:
    """The text without callgate's entries: what was inserted, else what they say. Raises ClientFileError."""
    if pieces:
        for new in (_cut(text, pieces), _searched(text, pieces)):
            if new is not None and _is_without(new, root):
                return new
    return _without(text, root)


def _cut(text: str, pieces: Pieces) -> str | None:
    """The text without what was inserted, at the very places; None where it is not there."""
    for at, piece in reversed(pieces):
        if text[at : at + len(piece)] != piece:
            return None
        text = text[:at] + text[at + len(piece) :]
    return text


def _searched(text: str, pieces: Pieces) -> str | None:
    """The same in a file that was changed elsewhere: only a place in which an entry of callgate's stands will do."""
    for _, piece in reversed(pieces):
        try:
            spans = [(node.start, node.end) for _, node, _ in find_ours(parse("json", text))]
        except ClientFileError:
            return None
        at = text.find(piece)
        only = '"version": 1' in piece and text.count(piece) == 1
        while at >= 0 and not only and not any(start < at + len(piece) and at < end for start, end in spans):
            at = text.find(piece, at + 1)
        if at >= 0:
            text = text[:at] + text[at + len(piece) :]
        elif '"version"' not in piece:
            return None
    return text


def _is_without(new: str, root: Node) -> bool:
    """Whether a text says what the document says without callgate's entries, apart from members left empty."""
    try:
        now = canonical(parse("json", new))
    except ClientFileError:
        return False
    return bool(_pruned(now) == _pruned(_stripped(root)))


def _stripped(root: Node) -> Canonical:
    ours = {id(node) for _, node, _ in find_ours(root)}
    value = canonical(root)
    hooks = root.get("hooks")
    for member in hooks.node.members if hooks else ():
        if any(id(item) in ours for item in member.node.items):
            value["hooks"][member.key] = [canonical(item) for item in member.node.items if id(item) not in ours]
    return value


def _pruned(value: Canonical) -> Canonical:
    """Without empty lists of hooks, and without Cursor's version, which callgate may have added."""
    if not isinstance(value, dict):
        return value
    out = {key: item for key, item in value.items() if key != "version"}
    hooks = out.get("hooks")
    if isinstance(hooks, dict):
        out["hooks"] = {key: item for key, item in hooks.items() if item}
        if not out["hooks"]:
            del out["hooks"]
    return out


def check_added(before: Canonical, after: Canonical, wanted: dict[str, Any]) -> None:
    """The new text must say the old one and callgate's entries, and nothing else."""
    expected = _pruned(before)
    hooks = expected.setdefault("hooks", {})
    for event, entry in wanted.items():
        hooks[event] = [*hooks.get(event, []), canonical(parse("json", json.dumps(entry)))]
    if _pruned(after) != expected:
        raise ClientFileError("its hooks cannot be added exactly", next_step="add them by hand: see docs/hooks.md")


def _without(text: str, root: Node) -> str:
    """The text with callgate's entries taken out of their lists, by what they say."""
    for _, node, member in sorted(find_ours(root), key=lambda one: one[1].start, reverse=True):
        items = list(member.node.items)
        at = next(index for index, item in enumerate(items) if item is node)
        if at + 1 < len(items):
            text = text[: node.start] + text[items[at + 1].start :]
        elif at:
            text = text[: items[at - 1].end] + text[node.end :]
        else:
            text = text[: node.start] + text[node.end :].lstrip().removeprefix(",")
    if list(find_ours(parse("json", text))):
        raise ClientFileError("its hooks cannot be taken out exactly", next_step="remove them by hand")
    return text
