"""HTTP headers that repeat members of the body: checked against it, and computed again from it.

Since 2026-07-28 a client repeats the revision, the method, the name and chosen arguments of a request in
`MCP-Protocol-Version`, `Mcp-Method`, `Mcp-Name` and `Mcp-Param-*` (Streamable HTTP, "Request Metadata").
Whoever routes by header and whoever acts by body must see the same request, so a difference is refused
with HTTP 400 and JSON-RPC code -32020. The gate itself decides by the body alone.

What the specification leaves to the server is not refused here: an unknown revision, `_meta` without a
revision under a modern header (the server answers -32602), `Mcp-Param-*` of a tool whose schema is not
known, a missing `Mcp-Name` on `tasks/*` (draft extension), missing headers on notifications. In the
handshake era only a repeated `MCP-Protocol-Version` is refused: those revisions define no mirrored
headers, and a client SHOULD, but need not, send the negotiated revision. `callgate serve` refuses all that
came twice in either era before anybody asks here.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from callgate.errors import ProtocolError
from callgate.protocol.message import Kind, Message
from callgate.protocol.methods import MIRRORED_NAMES
from callgate.protocol.revisions import HANDSHAKE_VERSIONS, TASK_REQUESTS, modern_version

HeaderList: TypeAlias = Sequence[tuple[bytes, bytes]]

HEADER_MISMATCH = -32020
"""JSON-RPC code of a missing, malformed, repeated or differing header; its HTTP status is 400."""

VERSION_HEADER = b"mcp-protocol-version"
METHOD_HEADER = b"mcp-method"
NAME_HEADER = b"mcp-name"
PARAM_PREFIX = b"mcp-param-"
SCHEMA_KEYWORD = "x-mcp-header"

_ROUTING = (VERSION_HEADER, METHOD_HEADER, NAME_HEADER)
_SENTINEL = b"=?base64?"
_SENTINEL_END = b"?="
_HANDSHAKE = frozenset(version.encode() for version in HANDSHAKE_VERSIONS)
# These run over a header of bounded length and cannot backtrack: one character class each.
_PLAIN = re.compile(rb"[\x20-\x7e\t]*")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_DECIMAL = re.compile(r"-?[0-9]{1,400}(\.0{1,400})?")

_MIRRORABLE = ("string", "integer", "boolean")
_SUBSCHEMA = frozenset(
    {
        "items", "contains", "unevaluatedItems", "additionalProperties", "propertyNames", "unevaluatedProperties",
        "not", "if", "then", "else", "contentSchema",
    }
)  # fmt: skip
_SUBSCHEMA_LIST = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_SUBSCHEMA_MAP = frozenset({"patternProperties", "dependentSchemas", "$defs", "definitions"})


def check_request_headers(
    headers: HeaderList, message: Message, tool_schema: Mapping[str, Any] | None = None
) -> ProtocolError | None:
    """Why the headers of a POST contradict its body, or None.

    `headers` have lower-case names; `tool_schema` is the `inputSchema` of the tool that a `tools/call` names,
    where it is known. Returned, not raised: the caller answers with HTTP 400.
    """
    found = dict(headers)
    claimed = modern_version(message.body)
    method = message.method
    # The ordinary request, decided without another look: each header once, each equal to the body.
    if (
        type(claimed) is str
        and method is not None
        and message.kind is Kind.REQUEST
        and len(found) == len(headers)
        and found.get(VERSION_HEADER) == claimed.encode()
        and found.get(METHOD_HEADER) == method.encode()
        and claimed.isascii()
        and method.isascii()
    ):
        member = MIRRORED_NAMES.get(method)
        if member is None:
            return None
        name = message.body["params"].get(member)
        if (
            type(name) is str
            and tool_schema is None
            and found.get(NAME_HEADER) == name.encode()
            and name.isascii()
            and not name.startswith("=?base64?")
        ):
            return None
    return _check(headers, message, tool_schema, claimed)


def _check(
    headers: HeaderList, message: Message, tool_schema: Mapping[str, Any] | None, claimed: Any
) -> ProtocolError | None:
    lines: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        if name.startswith(b"mcp-"):
            lines.setdefault(name, []).append(value.strip(b" \t"))
    versions = lines.get(VERSION_HEADER, [])
    if len(versions) > 1:
        return _mismatch("header-repeated", "MCP-Protocol-Version", "appears more than once")
    version = versions[0] if versions else None
    if claimed is None and (version is None or version in _HANDSHAKE):
        return None
    for name in _ROUTING:
        values = lines.get(name, ())
        if len(values) > 1:
            return _mismatch("header-repeated", _SHOWN[name], "appears more than once")
        if values and _PLAIN.fullmatch(values[0]) is None:
            return _mismatch("header-malformed", _SHOWN[name], "has characters that a header must not have")
    return _check_modern(lines, message, tool_schema, claimed, version)


def _check_modern(
    lines: dict[bytes, list[bytes]],
    message: Message,
    tool_schema: Mapping[str, Any] | None,
    claimed: Any,
    version: bytes | None,
) -> ProtocolError | None:
    # Without a revision in the body a modern server refuses by itself (-32602); a notification may go bare.
    must = claimed is not None and message.kind is Kind.REQUEST
    if version is None:
        if must:
            return _mismatch("header-missing", "MCP-Protocol-Version", "is missing")
    elif claimed is not None and _text(version) != claimed:
        return _mismatch("header-mismatch", "MCP-Protocol-Version", "differs from the revision in the body")
    method = message.method
    if method is None:
        return None
    given = lines.get(METHOD_HEADER)
    if given is None:
        if must:
            return _mismatch("header-missing", "Mcp-Method", "is missing")
    elif _text(given[0]) != method:
        return _mismatch("header-mismatch", "Mcp-Method", "differs from the method in the body")
    params = message.body.get("params")
    if message.kind is not Kind.REQUEST or type(params) is not dict:
        return None
    error = _check_name(lines, method, params, must)
    if error is None and method == "tools/call" and tool_schema is not None and must:
        error = _check_params(lines, params.get("arguments"), tool_schema)
    return error


def _check_name(
    lines: dict[bytes, list[bytes]], method: str, params: dict[str, Any], must: bool
) -> ProtocolError | None:
    member = MIRRORED_NAMES.get(method)
    name = None if member is None else params.get(member)
    if name is None:
        return None
    given = lines.get(NAME_HEADER)
    if given is None:
        if must and method not in TASK_REQUESTS:
            return _mismatch("header-missing", "Mcp-Name", "is missing")
        return None
    decoded = decode_value(given[0])
    if decoded is None:
        return _mismatch("header-malformed", "Mcp-Name", "is not valid base64 of UTF-8")
    if decoded != name:
        return _mismatch("header-mismatch", "Mcp-Name", f"differs from params.{member}")
    return None


def _check_params(lines: dict[bytes, list[bytes]], arguments: Any, schema: Mapping[str, Any]) -> ProtocolError | None:
    if arguments is not None and type(arguments) is not dict:
        return None  # the strict parser refuses this before
    for path, token, kind in param_headers(schema):
        shown = f"Mcp-Param-{token}"
        values = lines.get(PARAM_PREFIX + token.lower().encode(), [])
        rendered = _render(_follow(arguments, path))
        if len(values) > 1:
            return _mismatch("header-repeated", shown, "appears more than once")
        if rendered is None:
            if values:
                return _mismatch("header-mismatch", shown, "is present, but its argument is not")
            continue
        if not values:
            return _mismatch("header-missing", shown, "is missing, but its argument is present")
        decoded = decode_value(values[0])
        if decoded is None:
            return _mismatch("header-malformed", shown, "is not a plain or base64 header value")
        if decoded != rendered and not (kind == "integer" and _same_integer(decoded, _follow(arguments, path))):
            return _mismatch("header-mismatch", shown, "differs from its argument")
    return None


# -- values ----------------------------------------------------------------------------------------


def decode_value(value: bytes) -> str | None:
    """What a header value says: as it stands, or the UTF-8 text inside `=?base64?...?=`.

    None for a value with bytes beyond printable ASCII, and for base64 that is not the canonical encoding
    of UTF-8 text.
    """
    if _PLAIN.fullmatch(value) is None:
        return None
    if not value.startswith(_SENTINEL) or not value.endswith(_SENTINEL_END) or len(value) < 11:
        return value.decode("ascii")
    payload = value[9:-2]
    try:
        decoded = binascii.a2b_base64(payload, strict_mode=True)
        # Non-zero trailing bits decode too; two spellings of one value are one too many.
        return decoded.decode() if binascii.b2a_base64(decoded, newline=False) == payload else None
    except ValueError:
        return None


def encode_value(value: str) -> bytes:
    """`value` as a header value: as it stands where that is safe, else as `=?base64?...?=`."""
    if value.isascii():
        plain = value.encode()
        sentinel = plain.startswith(_SENTINEL) and plain.endswith(_SENTINEL_END)
        if not sentinel and plain == plain.strip() and b"\t" not in plain and _PLAIN.fullmatch(plain) is not None:
            return plain
    return _SENTINEL + binascii.b2a_base64(value.encode(), newline=False) + _SENTINEL_END


def _text(value: bytes) -> str:
    return value.decode("latin-1")


def _render(value: Any) -> str | None:
    """A value as a client writes it into a header; None when there is nothing to write."""
    if type(value) is bool:
        return "true" if value else "false"
    return str(value) if type(value) in {str, int, float} else None


def _same_integer(header: str, value: Any) -> bool:
    if type(value) is float:
        if not value.is_integer():
            return False
    elif type(value) is not int:
        return False
    return _DECIMAL.fullmatch(header) is not None and int(header.partition(".")[0]) == int(value)


def _follow(arguments: Any, path: tuple[str, ...]) -> Any:
    value = arguments
    for name in path:
        if type(value) is not dict:
            return None
        value = value.get(name)
    return value


# -- the schema's x-mcp-header ---------------------------------------------------------------------


def param_headers(schema: Any) -> list[tuple[tuple[str, ...], str, str]]:
    """(path of the property, header token, type) of each argument a tool wants mirrored.

    Empty when any `x-mcp-header` in the schema breaks the rules: clients must then drop the tool, so no
    conforming request carries its headers. The rules: a token (RFC 9110 section 5.6.2), unique without regard
    to case, on a string, integer or boolean property that plain `properties` lead to.
    """
    wanted: list[tuple[tuple[str, ...], str, str]] = []
    seen: set[str] = set()
    stack: list[tuple[tuple[str, ...] | None, Any]] = [((), schema)]
    while stack:
        path, node = stack.pop()
        if type(node) is not dict:
            continue
        if SCHEMA_KEYWORD in node:
            token, kind = node[SCHEMA_KEYWORD], node.get("type")
            if not path or type(token) is not str or _TOKEN.fullmatch(token) is None or type(kind) is not str:
                return []
            if kind not in _MIRRORABLE or token.lower() in seen:
                return []
            seen.add(token.lower())
            wanted.append((path, token, kind))
        for keyword, value in node.items():
            if type(value) is dict:
                if keyword == "properties":
                    below = value.items()
                    stack.extend((None if path is None else (*path, name), child) for name, child in below)
                elif keyword in _SUBSCHEMA_MAP:
                    stack.extend((None, child) for child in value.values())
                elif keyword in _SUBSCHEMA:
                    stack.append((None, value))
            elif type(value) is list and keyword in _SUBSCHEMA_LIST:
                stack.extend((None, child) for child in value)
    return wanted


# -- outgoing --------------------------------------------------------------------------------------


def mirrored_headers(
    body: Mapping[str, Any], tool_schema: Mapping[str, Any] | None = None
) -> list[tuple[bytes, bytes]]:
    """The headers a modern request must carry for `body`; empty for a message of the handshake era.

    For a request whose body was changed see `changed_headers`. Without the tool's schema no `Mcp-Param-*` is computed.
    """
    claimed = modern_version(body)
    method = body.get("method")
    if type(claimed) is not str or type(method) is not str:
        return []
    headers = [(VERSION_HEADER, encode_value(claimed)), (METHOD_HEADER, encode_value(method))]
    params = body["params"]
    member = MIRRORED_NAMES.get(method)
    if member is not None and type(params.get(member)) is str:
        headers.append((NAME_HEADER, encode_value(params[member])))
    if tool_schema is not None and method == "tools/call":
        for path, token, _ in param_headers(tool_schema):
            rendered = _render(_follow(params.get("arguments"), path))
            if rendered is not None:
                headers.append((PARAM_PREFIX + token.lower().encode(), encode_value(rendered)))
    return headers


def changed_headers(
    headers: HeaderList,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    tool_schema: Mapping[str, Any] | None = None,
) -> list[tuple[bytes, bytes]] | ProtocolError:
    """The headers of a modern request whose body was `before` and is `after` now, so that both agree again.

    With the tool's schema its `Mcp-Param-*` are computed from the body. Any other one mirrors an argument that has its
    value: it gets the new value of that argument, or goes with it. One that has no argument's value stays, for the
    server to judge. The error, where several arguments had the value and not all of them became the same.
    """
    mirrored = mirrored_headers(after, tool_schema)
    known = {name for name, _ in mirrored}
    known |= {PARAM_PREFIX + token.lower().encode() for _, token, _ in param_headers(tool_schema or {})}
    fates = _fates(before, after)
    result: list[tuple[bytes, bytes]] = []
    for name, value in headers:
        if name in known:
            continue
        fate = _fate(value, fates) if name.startswith(PARAM_PREFIX) else None
        if fate is None or fate == {None}:
            result.append((name, value))
        elif len(fate) > 1:
            shown = "Mcp-Param-" + name[len(PARAM_PREFIX) :].decode("latin-1")
            return _mismatch("header-ambiguous", shown, "mirrors one of several arguments that now differ")
        else:
            result += [(name, encode_value(now)) for (now,) in filter(None, fate) if now is not None]
    return result + mirrored


def _arguments(body: Mapping[str, Any]) -> Any:
    params = body.get("params") if body.get("method") == "tools/call" else None
    return params.get("arguments") if type(params) is dict else None


_Fate: TypeAlias = tuple[str | None] | None
"""The new value of an argument, None inside where it has none any more; None for an unchanged one."""


def _fates(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, set[_Fate]]:
    """For each value of an argument that a header can mirror, what became of the arguments that had it.

    Headers mirror arguments that names alone lead to.
    """
    fates: dict[str, set[_Fate]] = {}
    stack: list[tuple[Any, Any]] = [(_arguments(before), _arguments(after))]
    while stack:
        old, new = stack.pop()
        if type(old) is dict:
            stack.extend((item, new.get(name) if type(new) is dict else None) for name, item in old.items())
            continue
        was, now = _render(old), _render(new)
        if was is not None:
            fate = None if was == now else (now,)
            for spelling in {was, _whole(was)}:
                fates.setdefault(spelling, set()).add(fate)
    return fates


def _fate(value: bytes, fates: dict[str, set[_Fate]]) -> set[_Fate] | None:
    """What became of the arguments a header may stand for; None where there is no such argument."""
    said = decode_value(value.strip(b" \t"))
    return None if said is None else fates.get(said) or fates.get(_whole(said))


def _whole(text: str) -> str:
    """One spelling for a whole number, whichever way it is written; other text as it is."""
    return str(int(text.partition(".")[0])) if _DECIMAL.fullmatch(text) else text


_SHOWN = {VERSION_HEADER: "MCP-Protocol-Version", METHOD_HEADER: "Mcp-Method", NAME_HEADER: "Mcp-Name"}


def _mismatch(rule: str, header: str, what: str) -> ProtocolError:
    return ProtocolError(
        rule,
        f"the header {header} {what}",
        rpc_code=HEADER_MISMATCH,
        next_step=f"send {header} once, with what the body says",
    )
