"""How each format writes a string, a list, and a member beside another: the smallest change of the text."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from callgate.clients.tree import EntryRefused, Member, Node

FormatName: TypeAlias = Literal["json", "toml", "yaml"]

_PLAIN_REFUSED = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})


@dataclass(frozen=True, slots=True)
class Splice:
    """Replace `text[start:end]` by `new`."""

    start: int
    end: int
    new: str


def parse(format_: FormatName, text: str) -> Node:
    """Read a document; the reader is imported when a file of its format is there. Raises ClientFileError."""
    reader: Callable[[str], Node]
    if format_ == "json":
        from callgate.clients.jsonc import parse as reader
    elif format_ == "toml":
        from callgate.clients.toml_spans import parse as reader
    else:
        from callgate.clients.yaml_spans import parse as reader
    return reader(text)


def splice(text: str, splices: Sequence[Splice]) -> str:
    """Apply changes that do not overlap. Raises EntryRefused where a place is not in the text."""
    out: list[str] = []
    at = 0
    for one in sorted(splices, key=lambda one: (one.start, one.end)):
        if one.start < at:
            raise EntryRefused(
                "the entry shares values with other parts of the file (an alias, or the like)",
                next_step="write its values out, then try again",
            )
        out += (text[at : one.start], one.new)
        at = one.end
    out.append(text[at:])
    return "".join(out)


def string(format_: FormatName, value: str) -> str:
    """A string as it stands in the file."""
    if format_ == "json":
        lone = any("\ud800" <= c <= "\udfff" for c in value)
        return json.dumps(value, ensure_ascii=lone)
    if format_ == "toml":
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if value.isascii() and value[:1].isalpha() and value.isalnum() and value.lower() not in _PLAIN_REFUSED:
        return value
    quoted = json.dumps(value, ensure_ascii=False)
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in quoted)


def replace_string(format_: FormatName, node: Node, value: str) -> Splice:
    """Another string in the place of a value."""
    return Splice(node.start, node.end, string(format_, value))


def rename(format_: FormatName, member: Member, key: str) -> Splice:
    """Another name for a member."""
    return Splice(member.key_start, member.key_end, json.dumps(key) if format_ == "json" else key)


def prepend(format_: FormatName, text: str, member: Member, values: Sequence[str]) -> Splice:
    """`values` before the items of a list; what is there stays byte for byte. A null counts as an empty list."""
    node = member.node
    new = [string(format_, value) for value in values]
    if node.kind != "list":
        space = " " if node.start == node.end else ""  # YAML: `args:` and nothing after it
        return Splice(node.start, node.end, space + _list(format_, text, member, new))
    if not node.items:
        if text[node.start + 1 : node.end - 1].strip():  # a comment: keep it
            return Splice(node.start + 1, node.start + 1, ", ".join(new))
        return Splice(node.start, node.end, _list(format_, text, member, new))
    first = node.items[0].start
    if not node.flow:
        lead = _line_start(text, node.start)
        indent = "".join(c if c in " \t" else " " for c in lead)
        newline = _newline(text, node.start)
        return Splice(node.start, node.start, "".join(f"- {value}{newline}{indent}" for value in new))
    lead = _line_start(text, first)
    if lead.strip() or "\n" not in text[node.start : first]:
        comma = "," if _compact(text) else ", "
        return Splice(first, first, "".join(value + comma for value in new))
    newline = _newline(text, first)
    return Splice(first, first, "".join(f"{value},{newline}{lead}" for value in new))


def add_list(format_: FormatName, text: str, beside: Member, key: str, values: Sequence[str], *, flow: bool) -> Splice:
    """A new member with a list, after `beside` in JSON, before it in TOML and YAML (a comment may follow it)."""
    new = [string(format_, value) for value in values]
    lead = _line_start(text, beside.start)
    if format_ == "json":
        colon = ":" if _compact(text) else ": "
        separator = (_newline(text, beside.start) + lead) if not lead.strip() and "\n" in text else colon[1:]
        return Splice(
            beside.node.end, beside.node.end, f",{separator}{json.dumps(key)}{colon}{_list(format_, text, beside, new)}"
        )
    equals = " = " if format_ == "toml" else ": "
    written = text[beside.start : beside.key_start] + key + equals + "[" + ", ".join(new) + "]"
    if flow:
        return Splice(beside.start, beside.start, written + ", ")
    indent = "".join(c if c in " \t" else " " for c in lead)
    return Splice(beside.start, beside.start, written + _newline(text, beside.start) + indent)


def _list(format_: FormatName, text: str, member: Member, new: list[str]) -> str:
    """A whole list: in JSON over several lines where its member begins a line, as serialisers write it."""
    lead = _line_start(text, member.start)
    if format_ == "json" and not lead.strip() and "\n" in text:
        newline = _newline(text, member.start)
        unit = "\t" if "\t" in lead else _unit(text)
        inner = "".join(f"{newline}{lead}{unit}{value}," for value in new)
        return f"[{inner[:-1]}{newline}{lead}]"
    return "[" + ("," if format_ == "json" and _compact(text) else ", ").join(new) + "]"


def _unit(text: str) -> str:
    """One level of indentation: that of the first indented line."""
    for line in text[:20_000].splitlines()[:200]:
        body = line.lstrip(" ")
        if body != line and body[:1] == '"':
            return line[: len(line) - len(body)]
    return "  "


def _line_start(text: str, at: int) -> str:
    """What stands on the line before `at`."""
    return text[text.rfind("\n", 0, at) + 1 : at]


def _newline(text: str, at: int) -> str:
    """The line end in use around `at`."""
    before = text.rfind("\n", 0, at)
    if before < 0:
        before = text.find("\n", at)
    return "\r\n" if before > 0 and text[before - 1] == "\r" else "\n"


def _compact(text: str) -> bool:
    """JSON on one line without spaces after commas and colons."""
    return "\n" not in text.strip() and '": ' not in text
