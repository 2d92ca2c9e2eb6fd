from __future__ import annotations

import base64
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mcp.shared import inbound

from callgate.errors import ProtocolError
from callgate.protocol import headers as h
from callgate.protocol.headers import (
    changed_headers,
    check_request_headers,
    decode_value,
    encode_value,
    mirrored_headers,
    param_headers,
)
from callgate.protocol.message import Kind, Message
from callgate.protocol.methods import META_VERSION
from callgate.protocol.revisions import META_CLIENT_CAPABILITIES
from tests.protocol.strategies import values

MODERN = "2026-07-28"
META = {META_VERSION: MODERN, META_CLIENT_CAPABILITIES: {}}
SCHEMA = {
    "type": "object",
    "properties": {
        "region": {"type": "string", "x-mcp-header": "Region"},
        "count": {"type": "integer", "x-mcp-header": "Count"},
        "dry": {"type": "boolean", "x-mcp-header": "Dry-Run"},
        "deep": {"type": "object", "properties": {"zone": {"type": "string", "x-mcp-header": "zone"}}},
        "free": {"type": "string"},
    },
}


def message(method="tools/call", params=None, meta=META, id=1):
    body = {"jsonrpc": "2.0", "method": method}
    if params is not None or meta is not None:
        body["params"] = dict(params or {})
        if meta is not None:
            body["params"]["_meta"] = meta
    if id is not None:
        body["id"] = id
    return Message(body, b"", Kind.REQUEST if id is not None else Kind.NOTIFICATION, method, id)


def lines(version=MODERN, method="tools/call", name="add", **extra):
    """A list of headers as an HTTP parser gives it; None leaves one out, `x_y` is the header `x-y`."""
    found = [(b"host", b"127.0.0.1"), (b"accept", b"application/json"), (b"accept", b"text/event-stream")]
    pairs = {"mcp_protocol_version": version, "mcp_method": method, "mcp_name": name, **extra}
    for key, value in pairs.items():
        if value is not None:
            found.append((key.replace("_", "-").lower().encode(), value if type(value) is bytes else value.encode()))
    return found


def rule(found):
    return None if found is None else found.rule


# -- the modern era --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (lines(), None),
        (lines(name="  add\t"), None),
        (lines(name="=?base64?YWRk?="), None),
        (lines(method=None), "header-missing"),
        (lines(version=None), "header-missing"),
        (lines(name=None), "header-missing"),
        (lines(method="tools/list"), "header-mismatch"),
        (lines(method="TOOLS/CALL"), "header-mismatch"),
        (lines(name="wrong"), "header-mismatch"),
        (lines(name="ADD"), "header-mismatch"),
        (lines(version="2025-11-25"), "header-mismatch"),
        (lines(version="2027-01-01"), "header-mismatch"),
        (lines(name="=?base64?YWR?="), "header-malformed"),
        (lines(name="=?base64?YW!k?="), "header-malformed"),
        (lines(name=b"add\xff"), "header-malformed"),
        (lines(method=b"tools/call\x01"), "header-malformed"),
        ([*lines(), (b"mcp-name", b"add")], "header-repeated"),
        ([*lines(), (b"mcp-method", b"tools/call")], "header-repeated"),
        ([*lines(), (b"mcp-protocol-version", MODERN.encode())], "header-repeated"),
        (lines(mcp_param_unknown="anything"), None),
    ],
)
def test_a_request_of_the_modern_era(given, expected):
    error = check_request_headers(given, message(params={"name": "add", "arguments": {}}))
    assert rule(error) == expected
    if error is not None:
        assert error.rpc_code == -32020
        assert error.next_step


def test_methods_without_a_name_need_none():
    assert check_request_headers(lines(method="tools/list", name=None), message("tools/list")) is None
    assert check_request_headers(lines(method="tools/list", name="x"), message("tools/list")) is None


@pytest.mark.parametrize(("method", "member"), [("prompts/get", "name"), ("resources/read", "uri")])
def test_other_methods_that_bear_a_name(method, member):
    request = message(method, {member: "file:///ü"})
    encoded = encode_value("file:///ü")
    assert encoded.startswith(b"=?base64?")
    assert check_request_headers(lines(method=method, name=encoded), request) is None
    assert rule(check_request_headers(lines(method=method, name="file:///u"), request)) == "header-mismatch"
    assert rule(check_request_headers(lines(method=method, name=None), request)) == "header-missing"
    # The bytes of the name itself, not encoded, are not a header value.
    assert rule(check_request_headers(lines(method=method, name="file:///ü"), request)) == "header-malformed"


@pytest.mark.parametrize("method", ["tasks/get", "tasks/update", "tasks/cancel"])
def test_task_requests_may_leave_the_name_out_but_not_lie(method):
    request = message(method, {"taskId": "t1"})
    assert check_request_headers(lines(method=method, name="t1"), request) is None
    assert check_request_headers(lines(method=method, name=None), request) is None
    assert rule(check_request_headers(lines(method=method, name="t2"), request)) == "header-mismatch"


def test_a_name_that_looks_encoded_is_compared_decoded():
    request = message(params={"name": "=?base64?YWRk?="})
    assert rule(check_request_headers(lines(name="=?base64?YWRk?="), request)) == "header-mismatch"
    assert check_request_headers(lines(name=encode_value("=?base64?YWRk?=")), request) is None


@pytest.mark.parametrize("name", [5, True, ["add"], {"a": 1}])
def test_a_name_that_is_no_string_never_matches(name):
    assert rule(check_request_headers(lines(name="5"), message(params={"name": name}))) == "header-mismatch"


def test_what_the_server_decides_is_forwarded():
    # An unknown revision that header and body agree on: -32022 is the server's to say.
    assert (
        check_request_headers(lines(version="v999"), message(params={"name": "add"}, meta={META_VERSION: "v999"}))
        is None
    )
    # No revision in the body: -32602 is the server's to say.
    assert check_request_headers(lines(), message(params={"name": "add"}, meta=None)) is None
    assert check_request_headers(lines(), message(params={"name": "add"}, meta={})) is None
    # No name in the body.
    assert check_request_headers(lines(name=None), message(params={})) is None
    assert check_request_headers(lines(), message(params={})) is None


def test_a_body_without_revision_still_may_not_contradict_modern_headers():
    request = message(params={"name": "add"}, meta=None)
    assert rule(check_request_headers(lines(method="tools/list"), request)) == "header-mismatch"
    assert rule(check_request_headers(lines(name="other"), request)) == "header-mismatch"
    assert check_request_headers(lines(method=None, name=None), request) is None


def test_a_revision_that_is_no_string_is_a_mismatch():
    assert (
        rule(check_request_headers(lines(), message(params={"name": "add"}, meta={META_VERSION: 5})))
        == "header-mismatch"
    )


def test_notifications_need_no_headers_but_may_not_contradict_them():
    note = message("notifications/cancelled", {"requestId": 1}, id=None)
    assert check_request_headers(lines(method=None, name=None), note) is None
    assert check_request_headers(lines(version=None, method=None, name=None), note) is None
    assert check_request_headers(lines(method="notifications/cancelled", name=None), note) is None
    assert rule(check_request_headers(lines(method="tools/call", name=None), note)) == "header-mismatch"
    assert rule(check_request_headers(lines(version="2025-11-25", method=None), note)) == "header-mismatch"


# -- the handshake era -----------------------------------------------------------------------------


@pytest.mark.parametrize("version", [None, "2025-03-26", "2025-06-18", "2025-11-25"])
def test_the_handshake_era_defines_no_mirrored_headers(version):
    request = message(params={"name": "add"}, meta=None)
    assert check_request_headers(lines(version=version, method="x", name="y"), request) is None


def test_two_versions_are_refused_in_either_era():
    request = message(params={"name": "add"}, meta=None)
    twice = [*lines(version="2025-11-25"), (b"mcp-protocol-version", MODERN.encode())]
    assert rule(check_request_headers(twice, request)) == "header-repeated"


def test_answers_of_a_client_have_nothing_to_mirror():
    answer = Message({"jsonrpc": "2.0", "id": 1, "result": {}}, b"", Kind.RESULT, None, 1)
    assert check_request_headers(lines(version="2025-11-25", method=None, name=None), answer) is None
    assert check_request_headers(lines(method=None, name=None), answer) is None


# -- arguments -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "extra", "expected"),
    [
        ({"region": "us"}, {"mcp_param_region": "us"}, None),
        ({"region": "us"}, {"MCP_PARAM_REGION": "us"}, None),
        ({"region": "us"}, {}, "header-missing"),
        ({"region": "us"}, {"mcp_param_region": "eu"}, "header-mismatch"),
        ({"region": "Hello"}, {"mcp_param_region": "=?base64?SGVsbG8=?="}, None),
        ({"region": "Hello"}, {"mcp_param_region": "=?base64?SGVsbG8?="}, "header-malformed"),
        ({"region": "Hello"}, {"mcp_param_region": "=?base64?SGVs!!!bG8=?="}, "header-malformed"),
        ({"region": "SGVsbG8="}, {"mcp_param_region": "SGVsbG8="}, None),
        ({"region": "=?base64?SGVsbG8="}, {"mcp_param_region": "=?base64?SGVsbG8="}, None),
        ({"region": "日本"}, {"mcp_param_region": "日本"}, "header-malformed"),
        ({"region": None}, {}, None),
        ({"region": None}, {"mcp_param_region": "us"}, "header-mismatch"),
        ({}, {"mcp_param_region": "us"}, "header-mismatch"),
        ({"count": 42}, {"mcp_param_count": "42"}, None),
        ({"count": 42}, {"mcp_param_count": "42.0"}, None),
        ({"count": 42.0}, {"mcp_param_count": "42"}, None),
        ({"count": 42}, {"mcp_param_count": "4.2e1"}, "header-mismatch"),
        ({"count": 42}, {"mcp_param_count": "42.5"}, "header-mismatch"),
        ({"count": True}, {"mcp_param_count": "1"}, "header-mismatch"),
        ({"count": -7}, {"mcp_param_count": "-7"}, None),
        ({"dry": True}, {"mcp_param_dry-run": "true"}, None),
        ({"dry": True}, {"mcp_param_dry-run": "True"}, "header-mismatch"),
        ({"deep": {"zone": "z"}}, {"mcp_param_zone": "z"}, None),
        ({"deep": {"zone": "z"}}, {}, "header-missing"),
        ({"deep": "z"}, {}, None),
        ({"region": ["us"]}, {}, None),
        ({"region": ["us"]}, {"mcp_param_region": "us"}, "header-mismatch"),
        ({"free": "x"}, {"mcp_param_free": "other"}, None),
        (None, {}, None),
    ],
)
def test_mirrored_arguments(arguments, extra, expected):
    params = {"name": "add"} | ({} if arguments is None else {"arguments": arguments})
    request = message(params=params)
    assert rule(check_request_headers(lines(**extra), request, SCHEMA)) == expected
    assert check_request_headers(lines(**extra), request) is None


def test_a_repeated_argument_header_is_refused():
    request = message(params={"name": "add", "arguments": {"region": "us"}})
    twice = [*lines(mcp_param_region="us"), (b"mcp-param-region", b"us")]
    assert rule(check_request_headers(twice, request, SCHEMA)) == "header-repeated"


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {"type": "number", "x-mcp-header": "A"}}},
        {"type": "object", "properties": {"a": {"type": "string", "x-mcp-header": ""}}},
        {"type": "object", "properties": {"a": {"type": "string", "x-mcp-header": "a b"}}},
        {"type": "object", "properties": {"a": {"type": "string", "x-mcp-header": 5}}},
        {"type": "object", "properties": {"a": {"type": ["string"], "x-mcp-header": "A"}}},
        {"type": "object", "x-mcp-header": "A"},
        {"type": "object", "items": {"type": "string", "x-mcp-header": "A"}},
        {"type": "object", "anyOf": [{"properties": {"a": {"type": "string", "x-mcp-header": "A"}}}]},
        {"type": "object", "$defs": {"d": {"type": "string", "x-mcp-header": "A"}}},
        {
            "type": "object",
            "properties": {
                "a": {"type": "string", "x-mcp-header": "A"}, "b": {"type": "string", "x-mcp-header": "a"},
            },
        },
    ],
)  # fmt: skip
def test_a_schema_that_breaks_the_rules_mirrors_nothing(schema):
    assert param_headers(schema) == []
    assert inbound.find_invalid_x_mcp_header(schema) is not None


def test_annotations_inside_data_are_no_annotations():
    schema = {
        "type": "object",
        "default": {"x-mcp-header": "A"},
        "properties": {"a": {"type": "string", "enum": [{"x-mcp-header": "B"}], "x-mcp-header": "C"}},
    }
    assert param_headers(schema) == [(("a",), "C", "string")]


# -- against the official SDK ----------------------------------------------------------------------

word = st.sampled_from(
    ["add", "ADD", "", " add ", "=?base64?YWRk?=", "=?base64?YWR?=", "=?base64?", "=?base64??=", "ü", "42"]
)
header_value = st.none() | st.sampled_from(
    [b"add", b"ADD", b"=?base64?YWRk?=", b"=?base64?YWR?=", b"=?base64?ww==?=", b"=?base64??=", b"=?base64?=",
     b"=?base64?w7w=?=", b"=?base64?IGFkZCA=?=", b"=?BASE64?YWRk?=", b"42", b"42.0", b"1", b"true", b"true "]
)  # fmt: skip
method_name = st.sampled_from(["tools/call", "tools/list", "prompts/get", "resources/read", "x/y"])
revision = st.sampled_from([MODERN, "2025-11-25", "v9", "", None, 5])
argument = st.sampled_from(["add", "ü", "", "=?base64?YWRk?=", 42, 42.0, 42.5, True, None, ["add"], {"a": 1}, "42"])


@given(
    method=method_name,
    named=st.none() | word | st.just(5),
    claimed=revision,
    version=st.sampled_from([MODERN, "2025-11-25", "v9", None]),
    mirrored=st.none() | method_name,
    name=header_value,
    twice=st.none() | st.sampled_from([b"mcp-name", b"mcp-method", b"mcp-protocol-version"]),
)
def test_standard_headers_are_judged_as_the_sdk_judges_them(method, named, claimed, version, mirrored, name, twice):
    member = "uri" if method == "resources/read" else "name"
    params = {} if named is None else {member: named}
    meta = {META_VERSION: claimed, META_CLIENT_CAPABILITIES: {}} if claimed is not None else None
    request = message(method, params, meta)
    given = [
        (key, value)
        for key, value in (
            (b"mcp-protocol-version", version and version.encode()),
            (b"mcp-method", mirrored and mirrored.encode()),
            (b"mcp-name", name and name.strip()),
        )
        if value is not None
    ]
    if twice is not None:
        given += [pair for pair in given if pair[0] == twice]
    texts = [(key.decode(), value.decode("latin-1")) for key, value in given]
    if meta is None:
        return  # the SDK answers -32602 before it looks; see test_what_the_server_decides_is_forwarded
    refused = inbound.find_duplicated_routing_header(texts) is not None
    if not refused:
        verdict = inbound.classify_inbound_request(request.body, headers=dict(texts))
        refused = isinstance(verdict, inbound.InboundLadderRejection) and verdict.code == h.HEADER_MISMATCH
    ours = check_request_headers([(b"host", b"x"), *given], request)
    assert (ours is not None) == refused, (ours, request.body, given)
    if ours is not None:
        assert ours.rpc_code == h.HEADER_MISMATCH
        assert inbound.ERROR_CODE_HTTP_STATUS[ours.rpc_code] == 400


SPELLINGS = ("Mcp-Param-Region", "mcp-param-count", "MCP-PARAM-DRY-RUN", "Mcp-Param-Zone")


@given(
    arguments=st.fixed_dictionaries(
        {},
        optional={
            "region": argument, "count": argument, "dry": argument,
            "deep": st.none() | st.just("x") | st.fixed_dictionaries({}, optional={"zone": argument}),
        },
    ),
    given=st.fixed_dictionaries({}, optional=dict.fromkeys(SPELLINGS, header_value)),
)  # fmt: skip
def test_argument_headers_are_judged_as_the_sdk_judges_them(arguments, given):
    given = {key: value.strip().decode() for key, value in given.items() if value is not None}
    refused = inbound.validate_mcp_param_headers(SCHEMA, arguments, given) is not None
    request = message(params={"name": "add", "arguments": arguments})
    wire = [*lines(), *((key.lower().encode(), value.encode()) for key, value in given.items())]
    ours = check_request_headers(wire, request, SCHEMA)
    assert (ours is not None) == refused, (ours, arguments, given)


@given(values)
@example(
    {
        "properties": {
            "a": {"type": "string", "x-mcp-header": "A", "properties": {"b": {"type": "integer", "x-mcp-header": "B"}}}
        }
    }
)
def test_any_schema_mirrors_what_the_sdk_would_mirror(schema):
    expected = {} if inbound.find_invalid_x_mcp_header(schema) is not None else inbound.x_mcp_header_map(schema)
    assert {path: token for path, token, _ in param_headers(schema)} == expected


# Starts with the opening mark and ends with the closing one, in one overlap: written encoded, to be safe.
OVERLAP = "=?base64?="
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.sampled_from(
    ["", " ", "a b", " a", "a ", "a\tb", "=?base64?x?=", "=?base64??=", OVERLAP, "\x7f", "é", "\0"]
)


@given(names)
def test_values_survive_the_header(value):
    encoded = encode_value(value)
    assert decode_value(encoded) == value
    assert encoded.strip(b" \t") == encoded
    assert encoded.isascii()
    assert not any(byte < 32 or byte == 127 for byte in encoded)
    assert inbound.decode_header_value(encoded.decode()) == value
    if value != OVERLAP:
        assert encoded.decode() == inbound.encode_header_value(value)


@given(st.binary(max_size=20) | st.binary(max_size=20).map(lambda b: b"=?base64?" + base64.b64encode(b) + b"?="))
def test_any_bytes_are_decoded_as_the_sdk_decodes_them(value):
    ours = decode_value(value)
    if any((byte < 32 and byte != 9) or byte > 126 for byte in value):
        assert ours is None  # stricter: the SDK reads such bytes as Latin-1
    else:
        assert ours == inbound.decode_header_value(value.decode("latin-1"))


# -- outgoing --------------------------------------------------------------------------------------


@given(
    names, st.fixed_dictionaries({}, optional={"region": names, "count": st.integers(-99, 99), "dry": st.booleans()})
)
def test_computed_headers_pass_the_check(name, arguments):
    request = message(params={"name": name, "arguments": arguments})
    computed = mirrored_headers(request.body, SCHEMA)
    assert check_request_headers(computed, request, SCHEMA) is None
    assert check_request_headers(mirrored_headers(request.body), request) is None
    expected = inbound.mcp_param_headers(inbound.x_mcp_header_map(SCHEMA), arguments)
    got = {key.decode(): value.decode() for key, value in computed if key.startswith(b"mcp-param-")}
    assert {key: decode_value(value.encode()) for key, value in got.items()} == {
        key.lower(): inbound.decode_header_value(value) for key, value in expected.items()
    }


def test_the_handshake_era_has_nothing_to_compute():
    assert mirrored_headers(message(params={"name": "a"}, meta=None).body) == []
    assert mirrored_headers({"jsonrpc": "2.0", "id": 1, "result": {}}) == []
    assert mirrored_headers(message("tools/list").body) == [
        (b"mcp-protocol-version", b"2026-07-28"), (b"mcp-method", b"tools/list"),
    ]  # fmt: skip


def test_the_ordinary_request_costs_little():
    request = message(params={"name": "add", "arguments": {"a": 1}})
    given = [(b"x-%d" % n, b"v") for n in range(8)] + [line for line in lines() if line[0] != b"accept"]
    best = min(_microseconds(request, given) for _ in range(5))
    assert best < 8  # about 1 on an idle machine


def _microseconds(request, given):
    started = time.perf_counter()
    for _ in range(2000):
        check_request_headers(given, request)
    return (time.perf_counter() - started) / 2000 * 1e6


# -- of a changed request ----------------------------------------------------------------------------

LEAVES = st.sampled_from(["x", "y", "5", "é", " a", "", 5, 0, -3, 5.0, True, False, None])


@given(
    before=st.fixed_dictionaries({}, optional={"region": LEAVES, "count": LEAVES, "dry": LEAVES, "other": LEAVES}),
    changes=st.dictionaries(
        st.sampled_from(["region", "count", "dry", "other"]), LEAVES | st.just("remove"), max_size=3
    ),
    schema=st.sampled_from([SCHEMA, None]),
)
def test_after_a_change_headers_and_body_agree_or_the_request_is_refused(before, changes, schema):
    """Also where the tool's schema is not known to the gate: what a server that knows it then says."""
    after = {**before, **{name: value for name, value in changes.items() if before.get(name) is not None}}
    after = {name: value for name, value in after.items() if value != "remove"}
    old = message(params={"name": "a", "arguments": before})
    new = message(params={"name": "b", "arguments": after})
    given = [(b"x", b"1"), *mirrored_headers(old.body, SCHEMA)]
    result = changed_headers(given, old.body, new.body, schema)
    if isinstance(result, ProtocolError):
        assert schema is None
        assert result.rule == "header-ambiguous"
    else:
        assert result[0] == (b"x", b"1")
        assert check_request_headers(result, new, SCHEMA) is None


def changed(before, after, *headers, schema=None):
    old, new = (message(params={"name": "a", "arguments": arguments}) for arguments in (before, after))
    result = changed_headers(headers, old.body, new.body, schema)
    return result if isinstance(result, ProtocolError) else dict(result)


def test_a_header_follows_its_argument_wherever_it_stands():
    header = (b"mcp-param-key", b"hush")
    assert changed({"a": {"b": "hush"}}, {"a": {"b": "***"}}, header)[b"mcp-param-key"] == b"***"
    assert changed({"a": "hush", "b": "hush"}, {"a": "***", "b": "***"}, header)[b"mcp-param-key"] == b"***"
    assert b"mcp-param-key" not in changed({"a": "hush"}, {}, header)
    assert b"mcp-param-key" not in changed({"a": "hush"}, {"a": None}, header)
    assert changed({"a": 5}, {"a": 6}, (b"mcp-param-n", b"5.0"))[b"mcp-param-n"] == b"6"
    assert changed({"a": "é"}, {"a": "ü"}, (b"mcp-param-n", b"=?base64?w6k=?="))[b"mcp-param-n"] == b"=?base64?w7w=?="


def test_a_header_that_mirrors_nothing_that_changed_stays_as_it_came():
    for header in ((b"mcp-param-n", b"5.0"), (b"mcp-param-other", b"else"), (b"mcp-param-bad", b"=?base64?!?=")):
        assert changed({"a": 5, "b": "x"}, {"a": 5, "b": "y"}, header).items() >= {header}
    listed = (b"mcp-param-n", b"x")
    assert changed({"a": ["x"]}, {"a": ["y"]}, listed)[b"mcp-param-n"] == b"x", "an item of a list is never mirrored"


def test_a_header_of_one_of_several_arguments_that_now_differ_is_refused():
    error = changed({"a": "x", "b": "x"}, {"a": "y", "b": "x"}, (b"mcp-param-n", b"x"))
    assert (error.rule, error.rpc_code) == ("header-ambiguous", -32020)


def test_many_headers_over_many_arguments_take_no_long_time():
    arguments = {f"a{number}": "x" for number in range(50_000)}
    headers = [(b"mcp-param-%d" % number, b"x") for number in range(128)]
    began = time.process_time()
    assert changed(arguments, {**arguments, "a0": "y"}, *headers).rule == "header-ambiguous"
    assert len(changed(arguments, arguments, *headers)) == 131
    assert time.process_time() - began < 5
