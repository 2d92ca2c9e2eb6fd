"""docs/protocol-errors.md names every rule the code can raise, with the code it raises it with, and no other."""

from __future__ import annotations

import ast
from dataclasses import fields
from pathlib import Path

import pytest

import callgate
from callgate.config import Limits
from callgate.errors import LimitExceeded, ProtocolError
from callgate.protocol.codec import Codec
from callgate.protocol.message import Direction
from tests.protocol.documented import PAGE, RULES

SOURCE = Path(callgate.__file__).parent


def raised() -> dict[str, set[int | None]]:
    """Every rule in the source with the codes it is raised with (None: the error's default)."""
    found: dict[str, set[int | None]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            first = node.args[0]
            name = node.func.id if isinstance(node.func, ast.Name) else ""
            rules = []
            if (name in {"ProtocolError", "LimitExceeded"} and isinstance(first, ast.Constant)) or (
                name == "_mismatch" and isinstance(first, ast.Constant)
            ):
                rules = [first.value]
            elif name == "_limit" and isinstance(first, ast.Constant):
                rules = ["limit-" + first.value.replace("_", "-")]
            for rule in rules:
                code = next((ast.literal_eval(k.value) for k in node.keywords if k.arg == "rpc_code"), None)
                found.setdefault(rule, set()).add(-32020 if name == "_mismatch" else code)
    # Made from the direction's name in Codec._too_large.
    found["limit-request-bytes"] = found["limit-response-bytes"] = {None}
    return found


def test_every_rule_is_documented_and_none_is_invented():
    assert set(raised()) == set(RULES)


def test_the_codes_are_those_of_the_code():
    for rule, codes in raised().items():
        assert {-32600 if code is None else code for code in codes} == {RULES[rule].rpc_code}, rule


def test_every_setting_exists():
    known = {f"`limits.{field.name}`" for field in fields(Limits)}
    assert {row.setting for row in RULES.values()} - {""} <= known
    for rule, row in RULES.items():
        assert bool(row.setting) == (row.setting in known)
        if rule.startswith("limit-") and row.setting:
            assert row.setting == f"`limits.{rule.removeprefix('limit-').replace('-', '_')}`"


def test_the_statuses_are_those_of_the_gate():
    assert {rule: row.status for rule, row in RULES.items() if row.status != "400"} == {
        "limit-request-bytes": "413",
        "method-removed": "404",
    }


WRITTEN = {
    rule: row.example.strip("`")
    for rule, row in RULES.items()
    if row.example.startswith("`") and row.example[1] in "{[" and not rule.startswith("header-")
}


@pytest.mark.parametrize("padding", ["", " " * 500], ids=["short", "long"])
@pytest.mark.parametrize("rule", sorted(WRITTEN))
def test_the_examples_are_refused_by_the_rule_they_explain(rule, padding):
    text = WRITTEN[rule]
    limits = Limits(exact_integers=rule != "json-integer-range")
    if rule == "jsonrpc-batch":
        assert len(Codec(limits).decode(text.encode(), Direction.CLIENT)) == 1  # the channel refuses it
        return
    if '"jsonrpc"' not in text and rule.startswith(("json-", "nul-")):
        text = (
            '{"jsonrpc":"2.0","id":1,"method":"a","params":' + text + "}"
            if '"method"' not in text
            else ('{"jsonrpc":"2.0","id":1,' + text[1:])
        )
    text += padding  # short and long texts take different parsers
    with pytest.raises(ProtocolError) as caught:
        Codec(limits).decode(text.encode(), Direction.CLIENT)
    assert caught.value.rule == rule
    assert caught.value.rpc_code == RULES[rule].rpc_code


LIMITED = {
    "limit-request-bytes": (Limits(request_bytes=40), '{"jsonrpc":"2.0","id":1,"method":"tools/list"}'),
    "limit-depth": (Limits(depth=4), '{"jsonrpc":"2.0","id":1,"method":"a","params":{"a":[[[[1]]]]}}'),
    "limit-nodes": (Limits(nodes=5), '{"jsonrpc":"2.0","id":1,"method":"a","params":{"a":[1,2,3]}}'),
    "limit-keys": (Limits(keys=4), '{"jsonrpc":"2.0","id":1,"method":"a","params":{},"more":1}'),
    "limit-string-bytes": (
        Limits(string_bytes=9), '{"jsonrpc":"2.0","id":1,"method":"a","params":{"a":"\u00fc\u00fc\u00fc\u00fc\u00fc"}}'
    ),
    "limit-name-bytes": (Limits(name_bytes=4), '{"jsonrpc":"2.0","id":1,"method":"\u00fc\u00fc\u00fc"}'),
    "limit-batch": (Limits(batch=1), '[{"jsonrpc":"2.0","method":"a"},{"jsonrpc":"2.0","method":"a"}]'),
}  # fmt: skip


@pytest.mark.parametrize("rule", sorted(LIMITED))
def test_limits_are_inclusive_and_name_their_setting(rule):
    limits, text = LIMITED[rule]
    with pytest.raises(LimitExceeded) as caught:
        Codec(limits).decode(text.encode(), Direction.CLIENT)
    assert caught.value.rule == rule
    assert RULES[rule].setting.strip("`") in caught.value.next_step
    Codec(Limits()).decode(text.encode(), Direction.CLIENT)


def test_the_page_says_that_it_is_complete():
    assert PAGE.read_text().count("| rule |") == 5


@pytest.mark.parametrize(
    ("written", "forwarded"),
    [("1E2", "100.0"), ("-0", "0"), ("0.1000000000000000055511151231257827", "0.1"), ('"\u2028"', '"\\u2028"')],
)
def test_what_the_page_says_is_spelled_otherwise(written, forwarded):
    text = '{"jsonrpc": "2.0", "id": 1, "method": "a", "params": {"a": %s}}'
    message = Codec(Limits()).decode((text % written).encode(), Direction.CLIENT)
    assert message.data.decode() == (text % forwarded).replace(" ", "")
