"""Many clients, one connection: request ids that cannot meet. Pure.

Stateless requests (2026-07-28) of all clients of one principal share one server process. Each gets an id
of the gate's own there; the id, the progress token, the subscription id and the id in a cancellation are
mapped on the way in and back on the way out. Nothing else in a message carries a request id.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from callgate.protocol.message import JsonObject, RequestId
from callgate.protocol.revisions import META_SUBSCRIPTION_ID

Owner = TypeVar("Owner")
_MAX_ID = 2**53 - 1


class Entry(Generic[Owner]):
    """One request in flight: who made it, and the id and progress token it had there."""

    __slots__ = ("id", "owner", "token")

    def __init__(self, owner: Owner, id: RequestId, token: Any) -> None:
        self.owner = owner
        self.id = id
        self.token = token


class IdMap(Generic[Owner]):
    """The requests in flight on one connection."""

    __slots__ = ("_last", "entries")

    def __init__(self) -> None:
        self.entries: dict[int, Entry[Owner]] = {}
        """By the gate's id, oldest first."""
        self._last = 0

    def open(self, owner: Owner, body: JsonObject) -> tuple[int, JsonObject]:
        """The gate's id for a request, and the request as the server gets it. `body` is not changed."""
        gate_id = self._last = self._last + 1 if self._last < _MAX_ID else 1
        upstream = {**body, "id": gate_id}
        token = None
        params = body.get("params")
        if type(params) is dict:
            meta = params.get("_meta")
            if type(meta) is dict and "progressToken" in meta:
                token = meta["progressToken"]
                upstream["params"] = {**params, "_meta": {**meta, "progressToken": gate_id}}
        self.entries[gate_id] = Entry(owner, body["id"], token)
        return gate_id, upstream

    def find(self, gate_id: Any) -> Entry[Owner] | None:
        """The request with the gate's id, if it is in flight. True is not 1 here."""
        return self.entries.get(gate_id) if type(gate_id) is int else None

    def close(self, gate_id: int) -> Entry[Owner] | None:
        """The request is over; its id is never used again."""
        return self.entries.pop(gate_id, None)

    def answer(self, body: JsonObject) -> tuple[Entry[Owner], JsonObject] | None:
        """The request that `body` answers, which is then over, and the answer as its client gets it."""
        gate_id = body.get("id")
        entry = self.find(gate_id)
        if entry is None:
            return None
        del self.entries[gate_id]  # type: ignore[arg-type]  # find() accepts integers only
        return entry, for_client(body, gate_id, entry.id)

    def notification(self, body: JsonObject) -> tuple[int, JsonObject] | None:
        """The gate's id of the request a server's notification belongs to, and the notification as its client gets it.

        None where it names no request in flight.
        """
        params = body.get("params")
        if type(params) is not dict:
            return None
        meta = params.get("_meta")
        if type(meta) is dict and META_SUBSCRIPTION_ID in meta:
            gate_id = meta[META_SUBSCRIPTION_ID]
            entry = self.find(gate_id)
            if entry is None:
                return None
            return gate_id, {**body, "params": {**params, "_meta": {**meta, META_SUBSCRIPTION_ID: entry.id}}}
        method = body.get("method")
        if method == "notifications/progress":
            gate_id = params.get("progressToken")
            entry = self.find(gate_id)
            if entry is None or entry.token is None:
                return None
            return gate_id, {**body, "params": {**params, "progressToken": entry.token}}  # type: ignore[return-value]
        if method == "notifications/cancelled":
            gate_id = params.get("requestId")
            entry = self.find(gate_id)
            if entry is None:
                return None
            return gate_id, {**body, "params": {**params, "requestId": entry.id}}  # type: ignore[return-value]
        return None

    def is_late(self, body: JsonObject) -> bool:
        """Whether a notification names a request that is over: its server may not know yet that it was cancelled."""
        params = body.get("params")
        if type(params) is not dict:
            return False
        meta = params.get("_meta")
        named = [params.get("progressToken"), params.get("requestId")]
        if type(meta) is dict:
            named.append(meta.get(META_SUBSCRIPTION_ID))
        return any(type(one) is int and 0 < one <= self._last and one not in self.entries for one in named)


def for_client(body: JsonObject, gate_id: Any, request_id: RequestId) -> JsonObject:
    """An answer to the request with the gate's id, as the client gets that made the request under its own."""
    answer = {**body, "id": request_id}
    result = body.get("result")
    if type(result) is dict:
        meta = result.get("_meta")
        if type(meta) is dict and _same(meta.get(META_SUBSCRIPTION_ID), gate_id):
            answer["result"] = {**result, "_meta": {**meta, META_SUBSCRIPTION_ID: request_id}}
    return answer


def _same(value: Any, gate_id: Any) -> bool:
    return type(value) is int and value == gate_id
