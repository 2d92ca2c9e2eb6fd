"""One decoded MCP message: the object that was inspected and the bytes that will be sent.

JSON-RPC 2.0 as MCP uses it: requests and notifications carry `method`, responses carry exactly one
of `result` and `error`. Batches exist in revision 2025-03-26 only.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, TypeAlias

import orjson

JsonObject: TypeAlias = dict[str, Any]
RequestId: TypeAlias = str | int


class Kind(IntEnum):
    """What a message is, by its members."""

    REQUEST = 0
    NOTIFICATION = 1
    RESULT = 2
    ERROR = 3


class Direction(IntEnum):
    """Who sent the message."""

    CLIENT = 0
    SERVER = 1


class Message:
    """A message that passed the strict parser.

    `data` is the canonical serialisation of `body`: these bytes were scanned and these bytes are
    forwarded (house, invariant 1). `hits` are the ids of the automaton's patterns found in `data`;
    empty for nearly all messages. Treat `body` as read-only; an edit makes a new Message.
    """

    __slots__ = ("body", "data", "hits", "id", "kind", "method")

    def __init__(
        self,
        body: JsonObject,
        data: bytes,
        kind: Kind,
        method: str | None,
        id: RequestId | None,
        hits: tuple[int, ...] = (),
    ) -> None:
        self.body = body
        self.data = data
        self.kind = kind
        self.method = method
        self.id = id
        self.hits = hits

    def copy_body(self) -> JsonObject:
        """A body of one's own, to change: read back from the serialised bytes."""
        body: JsonObject = orjson.loads(self.data)
        return body

    def names(self, member: str) -> RequestId | None:
        """The request that a notification is about, by the member of its params that names it; None where none does."""
        params = self.body.get("params")
        value = params.get(member) if params else None
        return value if type(value) in (str, int) else None

    def __repr__(self) -> str:
        return f"<Message {self.kind.name.lower()} method={self.method!r} id={self.id!r} {len(self.data)} B>"
