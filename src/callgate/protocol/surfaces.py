"""Which strings of a message the model will read, which are arguments, which are machine data.

`surfaces` lists every string value of a message exactly once, and every member name that the protocol
does not define, with pointer and role. It is total: unknown methods, members, types and revisions are
covered by one rule each, so nothing a server sends is ever outside the list:

- an unknown string in a server's message is MODEL, in a client's message ARGUMENT;
- an unknown member name in a server's message is NAME (the model reads it where it reads the value),
  in a client's message ARGUMENT;
- an object where the protocol has a string, or the reverse, is unknown.

Decisions that are not obvious: a resource URI is NAME where a server names something (models read and
repeat it) and ARGUMENT where a client asks for it. A whole JSON Schema is MODEL, `type` and `format`
too, since hosts paste schemas into the prompt; names of its properties are NAME. `_meta` is MACHINE
for the members the specification defines; server information and MCP Apps settings (`ui`) are not, and
members nobody defined are unknown. Icon sources, base64 data, MIME types, ids, cursors, tokens,
`requestState`, roles, levels and timestamps are MACHINE where the protocol puts them.

Work is linear in the size of the message, without recursion; pointers are built only when asked for.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from callgate.protocol.message import Direction
from callgate.protocol.pointer import escape
from callgate.protocol.roles import Role
from callgate.protocol.shapes import Shape, message_shape

Place: TypeAlias = "tuple[Place, str | int] | None"
"""A place in a message as a chain to its root: (place of the container, key or index)."""

__all__ = ["Role", "Surface", "surfaces"]


class Surface:
    """One string of a message: a value, or with `key` the name of the member at `pointer`.

    `pointer` is an RFC 6901 pointer into the message; it is built on first use, because a message has
    many strings and few findings.
    """

    __slots__ = ("_place", "key", "role", "text")

    def __init__(self, pointer: str | Place, text: str, role: Role, key: bool = False) -> None:
        self._place = pointer
        self.text = text
        self.role = role
        self.key = key

    @property
    def pointer(self) -> str:
        place = self._place
        if isinstance(place, str):
            return place
        tokens: list[str] = []
        while place is not None:
            place, token = place
            tokens.append("/" + escape(token))
        tokens.reverse()
        built = "".join(tokens)
        self._place = built
        return built

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Surface) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash(self._values())

    def __repr__(self) -> str:
        return f"<Surface {self.role.name.lower()}{' key' if self.key else ''} {self.pointer!r} {self.text[:40]!r}>"

    def _values(self) -> tuple[str, str, Role, bool]:
        return self.pointer, self.text, self.role, self.key


def surfaces(body: dict[str, Any], direction: Direction, method: str = "") -> list[Surface]:
    """All strings of `body` with pointer and role, container by container, outer before inner.

    `method` is the method of the request that a result or error answers ('' when it is not known: the
    result is then unknown). A message with a method of its own is read by that.
    """
    own = body.get("method")
    return walk(body, message_shape(direction, own if type(own) is str else method))


def walk(value: Any, shape: Shape) -> list[Surface]:
    """All strings of any JSON value, read as `shape`."""
    if type(value) is str:
        return [Surface(None, value, shape.role)]
    found: list[Surface] = []
    add = found.append
    stack: list[tuple[Any, Place, Shape]] = [(value, None, shape)]
    while stack:
        item, place, shape = stack.pop()
        first = len(stack)
        if type(item) is dict:
            shape = shape.read(item)
            members = shape.members
            for key, child in item.items():
                below = members.get(key)
                if below is None:
                    below = shape.other
                    add(Surface((place, key), key, shape.key, True))
                kind = type(child)
                if kind is str:
                    add(Surface((place, key), child, below.role))
                elif kind is dict or kind is list:
                    stack.append((child, (place, key), below))
        elif type(item) is list:
            for index, child in enumerate(item):
                kind = type(child)
                if kind is str:
                    add(Surface((place, index), child, shape.role))
                elif kind is dict or kind is list:
                    stack.append((child, (place, index), shape))
        if len(stack) - first > 1:
            stack[first:] = stack[: first - 1 if first else None : -1]
    return found
