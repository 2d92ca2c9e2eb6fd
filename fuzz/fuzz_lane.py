"""Any bytes into the native lane's reader, beside the strict parser.

- What the lane reads, the parser reads, too, and writes back to the byte; no name stands twice in an object.
- The parser refuses none of it but for names of arguments that differ in case only or are too long, and for methods
  that do not print: those are a matter of the form, and a form that was refused is never learned.
- What the lane takes for a call or an answer is one.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import atheris

with atheris.instrument_imports(include=["callgate"]):
    from callgate.config import Limits
    from callgate.errors import ProtocolError
    from callgate.native import core
    from callgate.protocol.codec import Codec
    from callgate.protocol.message import Direction, Kind, Message

LIMITS = Limits(depth=20, nodes=300, keys=30, string_bytes=300, name_bytes=40, batch=4)
PARSER = Codec(LIMITS)
LANE = core.Forms(LIMITS) if core is not None else None


def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len(dict(pairs)) == len(pairs), "a duplicate name was accepted"
    return dict(pairs)


def decoded(data: bytes, direction: Direction) -> Any:
    """What the parser makes of it, or the rule by which it refuses."""
    try:
        return PARSER.decode(data, direction)
    except ProtocolError as error:
        return error.rule


def of_the_form(rule: str, data: bytes) -> bool:
    """Whether it was refused for its method or the names of its arguments, which stand in its form."""
    if rule == "limit-name-bytes":
        return any(len(name) > LIMITS.name_bytes for name in json.loads(data)["params"]["arguments"])
    return rule in ("json-key-case", "jsonrpc-method")


def one_input(data: bytes) -> None:
    if LANE is None:
        sys.exit("the native lane is not built: tools/build-native")
    for reads, direction, kind in (
        (LANE.reads_call, Direction.CLIENT, Kind.REQUEST),
        (LANE.reads_answer, Direction.SERVER, Kind.RESULT),
    ):
        if not reads(data):
            continue
        message = decoded(data, direction)
        if isinstance(message, str):
            # Bytes that are no text are left to whoever scans it: the lane hands everything beyond ASCII on.
            assert of_the_form(message, data) or not data.isascii(), message
            continue
        assert isinstance(message, Message)
        assert message.data == data
        assert message.kind is kind
        assert type(message.id) is int
        assert json.loads(data, object_pairs_hook=distinct) == message.body
        if kind is Kind.REQUEST:
            assert type(message.body["params"]["name"]) is str
            assert type(message.body["params"]["arguments"]) is dict


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
