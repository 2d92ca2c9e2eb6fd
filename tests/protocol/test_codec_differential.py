"""Whatever the strict parser accepts means the same to every reader; whatever it refuses has a documented rule."""

from __future__ import annotations

from collections import Counter

import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings

from callgate.config import Limits
from callgate.errors import ProtocolError
from callgate.protocol.codec import LEXICAL, Codec
from callgate.protocol.message import Direction, Kind, Message
from tests.protocol import readers
from tests.protocol.documented import RULES
from tests.protocol.hostile import hostile_texts

CODEC = Codec(Limits())
MANY = settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def node():
    with readers.running_node() as reader:
        yield reader


def decoded(raw: bytes, direction: Direction = Direction.CLIENT) -> list[Message]:
    """The messages in `raw`; none when it is refused, which must be in a documented way."""
    try:
        found = CODEC.decode(raw, direction)
    except ProtocolError as error:
        assert error.rule in RULES, error.rule
        assert error.rpc_code == RULES[error.rule].rpc_code
        assert error.what.isprintable()
        assert error.what.isascii()
        return []
    return found if isinstance(found, list) else [found]


@MANY
@given(hostile_texts)
@example(b'{"jsonrpc":"2.0","id":1,"method":"x","params":{"a":-0}}')
@example(b'{"jsonrpc":"2.0","id":-0,"method":"x","params":{"__proto__":{"a":1}}}')
def test_every_reader_understands_the_same(node, raw):
    for message in decoded(raw):
        data, body = message.data, message.body
        assert readers.same(readers.python_json(data), body)
        assert readers.same(readers.fast_json(data), body)
        assert readers.same(node.read(data), body)
        assert readers.same(readers.careless(readers.python_json(data)), readers.exact(body))
        check_sdk(message)


def check_sdk(message: Message) -> None:
    try:
        kind, members = readers.sdk(message.data)
    except readers.Refused:
        # The SDK wants an id in every error, and integers that fit 64 bits as ids.
        assert message.kind is Kind.ERROR, message.body
        assert message.body.get("id") is None
        return
    assert kind is message.kind, message.body
    expected = {name: message.body[name] for name in members if name in message.body}
    if kind is Kind.ERROR:
        expected["error"] = {name: expected["error"][name] for name in members["error"]}
        assert {"code", "message"} <= members["error"].keys()
    assert readers.same(members, expected), (members, message.body)
    assert type(members.get("id")) is type(message.body.get("id"))
    assert MEMBERS[kind] & message.body.keys() <= members.keys()


MEMBERS = {
    Kind.REQUEST: {"method", "params", "id"}, Kind.NOTIFICATION: {"method", "params"},
    Kind.RESULT: {"id", "result"}, Kind.ERROR: {"id", "error"},
}  # fmt: skip


@MANY
@given(hostile_texts)
def test_white_space_changes_nothing(raw):
    """Short and long texts take different parsers; what passes is the same."""
    short, padded = decoded(raw), decoded(raw + b" " * 500)
    assert [message.data for message in short] == [message.data for message in padded]


@MANY
@given(hostile_texts)
def test_what_was_accepted_is_what_was_written(raw):
    """The strict parser never mends: a plain parser that refuses duplicates reads the same from the raw bytes."""
    for message in decoded(raw):
        plain = readers.python_json(raw)
        assert any(readers.same(item, message.body) for item in (plain if isinstance(plain, list) else [plain]))


@MANY
@given(hostile_texts)
def test_forwarded_bytes_are_canonical(raw):
    """Decoding what is forwarded gives the same message and the same bytes: the next gate changes nothing."""
    for message in decoded(raw):
        (again,) = decoded(message.data)
        assert again.data == message.data == CODEC.encode(message.body).data
        assert again.data.decode().splitlines() == [message.data.decode()]  # careless readers of lines see one, too
        assert (again.kind, again.method, again.id, again.body) == (
            message.kind, message.method, message.id, message.body,
        )  # fmt: skip


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(hostile_texts)
def test_a_scanner_changes_the_way_but_not_the_verdict(raw):
    """With a scanner the parser skips the walk where it can; the verdict is that of the parser that never skips."""
    quick = Codec(Limits(), scan=plain_scan, lexical=range(len(LEXICAL)))
    outcomes = []
    for codec in (CODEC, quick):
        try:
            found = codec.decode(raw, Direction.SERVER)
        except ProtocolError as error:
            outcomes.append((error.rule, error.rpc_code))
        else:
            outcomes.append([message.data for message in (found if isinstance(found, list) else [found])])
    assert outcomes[0] == outcomes[1]


def plain_scan(data: bytes) -> tuple[int, ...]:
    """What the automaton does for the patterns of codec.LEXICAL, by the standard library."""
    import re

    return tuple(index for index, (_, pattern) in enumerate(LEXICAL) if re.search(pattern, data))


def test_the_texts_reach_both_sides():
    """The generator is of use: it makes accepted messages of each kind, and most refusals."""
    seen: Counter[str] = Counter()

    @settings(max_examples=1000, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(hostile_texts)
    def collect(raw):
        try:
            found = CODEC.decode(raw, Direction.CLIENT)
        except ProtocolError as error:
            seen[error.rule] += 1
        else:
            seen.update(message.kind.name for message in (found if isinstance(found, list) else [found]))

    collect()
    kinds = {kind.name for kind in Kind}
    assert kinds <= seen.keys(), seen
    assert sum(seen[kind] for kind in kinds) > 80, seen
    refusals = RULES.keys() & seen.keys()
    assert len([rule for rule in refusals if rule.startswith("json-")]) >= 6, seen
    # Hypothesis also draws constants of whatever modules are loaded, so the last few come and go.
    assert len([rule for rule in refusals if rule.startswith("jsonrpc-")]) >= 4, seen


def _places(struct, path=()):
    for name, below in struct.items():
        yield (*path, name)
        yield from _places(below, (*path, name))


LISTS = {"tools", "prompts", "resources", "contents", "messages", "roots"}


def _planted(path, key):
    """A message with `key` beside or in place of the member at `path`."""
    value = {key: "planted"}
    for depth in range(len(path) - 2, -1, -1):
        name = path[depth]
        listed = name in LISTS or (name == "content" and path[depth - 1] == "result")
        value = {name: [value] if listed else value}
    body = {"jsonrpc": "2.0", "id": 1} | value
    if path[0] in {"method", "id", "jsonrpc"}:
        body |= {"method": "x"} if path[0] != "method" else {}
    elif path[0] == "params":
        body["method"] = "x"
    elif path[0] == "error":
        body["error"] = {"code": 1, "message": "m"} | body.get("error", {})
    return body


@pytest.mark.parametrize("path", list(_places(readers.STRUCT)), ids="/".join)
@pytest.mark.parametrize("spell", [str.upper, str.capitalize, lambda name: name.replace("s", "\u017f")])
def test_no_other_spelling_of_a_protocol_member_passes(path, spell):
    key = spell(path[-1])
    if key == path[-1] or (len(path) == 1 and path[0] in {"params", "result", "error"}):
        return
    for message in decoded(orjson.dumps(_planted(path, key)), Direction.SERVER):
        data = readers.python_json(message.data)
        assert readers.same(readers.careless(data), readers.exact(message.body))


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\u2028\u2029\x85"])
@pytest.mark.parametrize("codec", ["walking", "scanning"])
def test_no_string_can_become_a_line_of_its_own(separator, codec):
    """Node's readline ends a line at U+2028: the rest of an argument would be a message nobody inspected."""
    codec = CODEC if codec == "walking" else Codec(Limits(), scan=plain_scan, lexical=range(len(LEXICAL)))
    hidden = '{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"name":"delete"}}'
    body = {"jsonrpc": "2.0", "id": 1, "method": "x", "params": {"a": f"{separator}{hidden}{separator}"}}
    for raw in (orjson.dumps(body), orjson.dumps(body, option=orjson.OPT_INDENT_2)):
        message = codec.decode(raw, Direction.CLIENT)
        assert message.body == body
        assert readers.lines_node_reads(message.data + b"\n") == 1
        assert readers.same(readers.python_json(message.data), body)
    assert codec.encode(body).data == message.data
    assert readers.lines_node_reads(orjson.dumps(body) + b"\n") > 1 or separator == "\x85"
