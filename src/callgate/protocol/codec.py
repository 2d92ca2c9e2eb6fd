"""The strict parser: bytes in, one inspected Message out, or a ProtocolError with a stable rule id.

What was inspected is what is sent: `Message.data` is the serialisation of the parsed object. Speed comes
from a proof: where serialising the parsed object gives back the very bytes received, they held no
duplicate key, no odd number spelling and no second spelling of anything, and the thorough walk is
skipped unless one of LEXICAL (found in the same automaton scan that serves all controls) asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import isinf
from typing import Any, TypeAlias

import jiter
import orjson

from callgate.config import Limits
from callgate.errors import LimitExceeded, ProtocolError
from callgate.protocol import keys
from callgate.protocol.fragments import id_of_answer
from callgate.protocol.message import Direction, Kind, Message, RequestId
from callgate.protocol.methods import LIST_METHODS, NAME_MEMBERS

Scan: TypeAlias = Callable[[bytes], tuple[int, ...]]

LEXICAL: tuple[tuple[str, bytes], ...] = (
    ("lexical/long-number", rb"[:\[,]-?[0-9]{16}"),
    ("lexical/nul", rb"\\u0000"),
    ("lexical/line-separator", rb"\xe2\x80[\xa8\xa9]|\xc2\x85"),
)
"""Patterns a scanner must hold so that the walk can be skipped: a hit only asks for the walk."""

_SEPARATORS = (
    (b"\xe2\x80\xa8", rb"\u2028"),
    (b"\xe2\x80\xa9", rb"\u2029"),
    (b"\xc2\x85", rb"\u0085"),
)
"""Where some readers of lines end one (Node's readline, Python's splitlines), so that the rest of a string would
become a message of its own. In JSON they stand only inside strings; escaped, they mean the same to everyone."""

_SMALL = 2048
"""Up to here orjson is the faster parser: by half for objects in arrays, hardly for one long string."""
_SHALLOW = 400
"""No more bytes than this cannot nest deeper than 200; for more the brackets are counted."""
_MAX_EXACT = 2**53
_ENVELOPE = keys.ENVELOPE
_COMMON = keys.COMMON
_METHODS = NAME_MEMBERS.keys() | LIST_METHODS.keys()
_REQUEST = Kind.REQUEST
_NOTIFICATION = Kind.NOTIFICATION
_RESULT = Kind.RESULT


class Codec:
    """Decode messages under `limits`.

    `scan` returns ids of automaton patterns found in the serialised bytes; `lexical` are the ids of
    LEXICAL among them. Without a scanner every message is walked: slower, as strict.
    """

    def __init__(self, limits: Limits, scan: Scan | None = None, lexical: Iterable[int] = ()) -> None:
        self.limits = limits
        self._scan = scan
        self._lexical = frozenset(lexical)
        self._walk_from = min(2 * limits.nodes, 4 * limits.keys, limits.string_bytes)
        if limits.depth < 200:
            self._walk_from = min(self._walk_from, 2 * limits.depth)
        self._name_length = limits.name_bytes // 4
        """Names of up to so many characters are short enough in any spelling."""
        self._methods = frozenset(method for method in _METHODS if len(method) <= self._name_length)
        """Methods whose name needs no further look."""
        self._max_bytes = (limits.request_bytes, limits.response_bytes)
        self._small = min(_SMALL, self._walk_from, *self._max_bytes)
        """Up to here a message is within all limits that its length can break."""
        self._brackets = min(200, limits.depth)
        """So few cannot nest too deep."""

    def decode(self, raw: bytes, direction: Direction) -> Message | list[Message]:
        """One message, or the messages of a JSON-RPC batch.

        `raw` carries no line terminator. Raises ProtocolError (LimitExceeded for sizes); the error's
        `request_id` is set where the id could be read. Whether a batch is allowed is the caller's
        question: it depends on the negotiated revision.
        """
        size = len(raw)
        if size > self._max_bytes[direction]:
            raise self._too_large(size, direction)
        try:
            if size <= self._small and (size <= _SHALLOW or self._shallow(raw)):
                try:
                    data = orjson.dumps(body := orjson.loads(raw))
                except ValueError as error:
                    if size <= _SHALLOW:
                        raise _explain(raw, error) from None
                else:
                    if data == raw:
                        return self._inspected(body, data, walk=False)
            try:
                body, data, walk = self._parse(raw)
            except ValueError as error:
                raise _explain(raw, error) from None
            return self._inspected(body, data, walk)
        except ProtocolError as error:
            _address(error, raw, direction)
            raise

    def plain(self, raw: bytes) -> dict[str, Any] | None:
        """The object of nearly every message: small, serialised as we would serialise it, with no pattern in it.

        None for any other, which `decode` then reads from the start. What `plain` returns is not judged yet:
        `message` does that.
        """
        size = len(raw)
        scan = self._scan
        if size > self._small or scan is None or (size > _SHALLOW and not self._shallow(raw)):
            return None
        try:
            body = orjson.loads(raw)
        except ValueError:
            return None
        return body if orjson.dumps(body) == raw and type(body) is dict and not scan(raw) else None

    def message(self, body: dict[str, Any], raw: bytes, direction: Direction) -> Message:
        """The message of an object that `plain` read from `raw`. Raises ProtocolError as `decode` does."""
        try:
            return self._message(body, raw, ())
        except ProtocolError as error:
            _address(error, raw, direction)
            raise

    def _shallow(self, raw: bytes) -> bool:
        """Whether there are too few brackets in it to nest too deep. In strings they count as well."""
        return raw.count(b"{") + raw.count(b"[") <= self._brackets

    def _inspected(self, body: Any, data: bytes, walk: bool) -> Message | list[Message]:
        """The messages of a parsed object, scanned, and walked where it is owed or asked for."""
        scan = self._scan
        if scan is None:
            hits: tuple[int, ...] = ()
            walk = True
        else:
            hits = scan(data)
            if hits and not walk and not self._lexical.isdisjoint(hits):
                walk = True
        if walk or len(data) > self._walk_from:
            self._walk(body, data)
            data = one_line(data)
        if type(body) is dict:
            return self._message(body, data, hits)
        if type(body) is list:
            return self._batch(body)
        raise ProtocolError(
            "jsonrpc-not-object", "a message must be a JSON object", next_step="send one JSON-RPC 2.0 object"
        )

    def encode(self, body: dict[str, Any]) -> Message:
        """A message from an object the gate made or changed itself; scanned like any other."""
        data = orjson.dumps(body)
        hits = self._scan(data) if self._scan is not None else ()
        if self._scan is None or not self._lexical.isdisjoint(hits):
            data = one_line(data)
        return self._message(body, data, hits)

    # -- JSON ------------------------------------------------------------------------------------

    def _parse(self, raw: bytes) -> tuple[Any, bytes, bool]:
        """The object, its serialisation, and whether the thorough walk is owed. Raises ValueError."""
        body = jiter.from_json(raw, allow_inf_nan=False, cache_mode="keys", catch_duplicate_keys=True)
        try:
            data = orjson.dumps(body)
        except TypeError:
            self._walk(body, b"")
            raise ProtocolError(
                "json-integer-range", "an integer does not fit 64 bits", next_step="send such numbers as strings"
            ) from None
        return body, data, data != raw

    def _walk(self, body: Any, data: bytes) -> None:
        """Every check that needs each node: depth, counts, string sizes, numbers, NUL in keys."""
        limits = self.limits
        exact = limits.exact_integers
        longest = limits.string_bytes
        check_strings = len(data) > longest
        level = [body]
        depth = nodes = 0
        while level:
            depth += 1
            if depth > limits.depth and any(type(one) in (dict, list) for one in level):
                raise _limit("depth", f"nested deeper than {limits.depth} levels")
            nodes += len(level)
            if nodes > limits.nodes:
                raise _limit("nodes", f"more than {limits.nodes} values")
            below: list[Any] = []
            for value in level:
                kind = type(value)
                if kind is str:
                    if check_strings and len(value) * 4 > longest and len(value.encode()) > longest:
                        raise _limit("string_bytes", f"a string longer than {longest} bytes")
                elif kind is dict:
                    if len(value) > limits.keys:
                        raise _limit("keys", f"an object with more than {limits.keys} members")
                    for key in value:
                        if "\0" in key:
                            raise ProtocolError("nul-in-name", "a member name contains NUL (U+0000)")
                    below.extend(value.values())
                elif kind is list:
                    below.extend(value)
                elif kind is int:
                    if exact and not -_MAX_EXACT <= value <= _MAX_EXACT and _rounded(value):
                        raise ProtocolError(
                            "json-integer-rounded",
                            f"the integer {str(value)[:24]} would be rounded by readers that use doubles",
                            next_step="send it as a string, or set limits.exact_integers = false",
                        )
                elif kind is float and isinf(value):
                    raise ProtocolError("json-number-overflow", "a number is too large for a double", rpc_code=-32700)
            level = below

    def _too_large(self, size: int, direction: Direction) -> LimitExceeded:
        name = "request_bytes" if direction is Direction.CLIENT else "response_bytes"
        return _limit(name, f"a message of {size} bytes exceeds the limit of {self._max_bytes[direction]}")

    # -- JSON-RPC --------------------------------------------------------------------------------

    def _batch(self, items: list[Any]) -> list[Message]:
        if not items:
            raise ProtocolError("jsonrpc-batch-empty", "a batch must hold at least one message")
        if len(items) > self.limits.batch:
            raise _limit("batch", f"a batch of {len(items)} messages exceeds the limit of {self.limits.batch}")
        messages: list[Message] = []
        for item in items:
            if type(item) is not dict:
                raise ProtocolError("jsonrpc-not-object", "each message of a batch must be a JSON object")
            messages.append(self.encode(item))
        return messages

    def _message(self, body: dict[str, Any], data: bytes, hits: tuple[int, ...]) -> Message:
        """Classify by members; an error carries the id where one can be read."""
        try:
            if body.get("jsonrpc") != "2.0":
                raise ProtocolError("jsonrpc-version", 'the member "jsonrpc" must be "2.0"')
            # Nearly every message has these members and no others; then none of them is odd or one too many.
            if len(body) == 4 and "method" in body and "params" in body and "id" in body:
                method = body["method"]
                if type(method) is str and method in self._methods:
                    if (params := body["params"]) is not None:
                        self._params(params)
                    request_id = body["id"]
                    if type(request_id) is not int:
                        request_id = self._id(request_id)
                    return Message(body, data, _REQUEST, method, request_id, hits)
            elif len(body) == 3 and "result" in body and "id" in body:
                return self._result(body, data, hits)
            if not _ENVELOPE.issuperset(body):
                keys.refuse_variants(body, _ENVELOPE, "the message")
            if "method" not in body:
                return self._answer(body, data, hits)
            method = body["method"]
            if type(method) is not str or not method:
                raise ProtocolError("jsonrpc-method", '"method" must be a non-empty string')
            if len(method) > self._name_length or "\0" in method:
                self._name(method, "method")
            if not method.isprintable():
                raise ProtocolError("jsonrpc-method", '"method" has characters that do not print')
            if "result" in body or "error" in body:
                raise ProtocolError("jsonrpc-hybrid", "a message has both a method and a result or error")
            if "params" in body and (params := body["params"]) is not None:
                self._params(params)
            if "id" not in body:
                return Message(body, data, _NOTIFICATION, method, None, hits)
            request_id = body["id"]
            if type(request_id) is not int:
                request_id = self._id(request_id)
            return Message(body, data, _REQUEST, method, request_id, hits)
        except ProtocolError as error:
            found = body.get("id")
            if error.request_id is None and type(found) in (str, int):
                error.request_id = found
            error.is_answer = "method" not in body
            raise

    def _params(self, params: Any) -> None:
        if type(params) is not dict:
            raise ProtocolError("jsonrpc-params", '"params" must be an object')
        if len(params) != 2 or "name" not in params or "arguments" not in params:
            if not _COMMON.issuperset(params):
                keys.check_params(params)
            if "_meta" in params:
                _check_meta(params["_meta"])
            uri = params.get("uri")
            if type(uri) is str and "\0" in uri:
                raise ProtocolError("nul-in-name", "params.uri contains NUL (U+0000)")
        name = params.get("name")
        if type(name) is str and (len(name) > self._name_length or "\0" in name):
            self._name(name, "params.name")
        arguments = params.get("arguments")
        if arguments is not None:
            if type(arguments) is not dict:
                raise ProtocolError("jsonrpc-params", '"params.arguments" must be an object')
            for key in arguments:
                if len(key) > self._name_length:
                    self._name(key, "an argument's name")
            keys.refuse_collisions(arguments, "arguments")

    def _answer(self, body: dict[str, Any], data: bytes, hits: tuple[int, ...]) -> Message:
        if "result" in body:
            if "error" in body:
                raise ProtocolError("jsonrpc-hybrid", "a message has both a result and an error")
            return self._result(body, data, hits)
        if "error" not in body:
            raise ProtocolError("jsonrpc-kind", "a message needs a method, a result or an error")
        error = body["error"]
        if type(error) is not dict or type(error.get("code")) is not int or type(error.get("message")) is not str:
            raise ProtocolError("jsonrpc-error", '"error" must be an object with an integer code and a string message')
        if not keys.ERROR.issuperset(error):
            keys.refuse_variants(error, keys.ERROR, "error")
        found = body.get("id")
        return Message(body, data, Kind.ERROR, None, None if found is None else self._id(found), hits)

    def _result(self, body: dict[str, Any], data: bytes, hits: tuple[int, ...]) -> Message:
        result = body["result"]
        if type(result) is not dict:
            raise ProtocolError("jsonrpc-result", '"result" must be an object')
        if "id" not in body:
            raise ProtocolError("jsonrpc-id", "a result must carry the id of its request")
        keys.check_result(result)
        request_id = body["id"]
        if type(request_id) is not int:
            request_id = self._id(request_id)
        return Message(body, data, _RESULT, None, request_id, hits)

    def _id(self, value: Any) -> RequestId:
        kind = type(value)
        if kind is int:
            return int(value)
        if kind is str:
            self._name(value, "id")
            return str(value)
        shown = "null" if value is None else kind.__name__
        raise ProtocolError("jsonrpc-id", f"an id must be a string or an integer, not {shown}")

    def _name(self, value: str, what: str) -> None:
        longest = self.limits.name_bytes
        if len(value) > self._name_length and len(value.encode()) > longest:
            raise _limit("name_bytes", f"{what} is longer than {longest} bytes")
        if "\0" in value:
            raise ProtocolError("nul-in-name", f"{what} contains NUL (U+0000)")


def parse_leniently(raw: bytes) -> Any:
    """What a careless reader takes a refused message for (observe mode follows it). None: not JSON."""
    try:
        return orjson.loads(raw)
    except ValueError:
        return None


def _address(error: ProtocolError, raw: bytes, direction: Direction) -> None:
    """Note who waits for a refused message of a server, as a careless reader or its first and last bytes have it.

    A wrong guess costs nothing: only a caller who waits for exactly this id is told that the answer was refused.
    """
    if direction is Direction.CLIENT or (error.request_id is not None and error.rule != "jsonrpc-hybrid"):
        return
    body = parse_leniently(raw)
    if type(body) is dict:
        found, is_answer = body.get("id"), "method" not in body or "result" in body or "error" in body
    else:
        found, is_answer = id_of_answer(raw), True
    if type(found) in (str, int):
        error.request_id, error.is_answer = found, is_answer


def one_line(data: bytes) -> bytes:
    """`data` with the separators escaped that some readers take for the end of a line."""
    if data.isascii():
        return data
    for separator, escaped in _SEPARATORS:
        data = data.replace(separator, escaped)
    return data


def _check_meta(meta: Any) -> None:
    if type(meta) is not dict:
        raise ProtocolError("jsonrpc-params", '"_meta" must be an object')
    if not keys.META.issuperset(meta):
        keys.refuse_variants(meta, keys.META, "_meta")


def _rounded(value: int) -> bool:
    try:
        return int(float(value)) != value
    except OverflowError:
        return True


def _limit(name: str, what: str) -> LimitExceeded:
    rule = "limit-" + name.replace("_", "-")
    return LimitExceeded(rule, what, next_step=f"send less, or raise limits.{name}")


_NOT_JSON = "the message is not valid JSON"


def _explain(raw: bytes, error: ValueError) -> ProtocolError:
    """Why the parsers refused: a rule id of its own for each known trap, else `json-syntax`."""
    text = str(error)
    if raw.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        return ProtocolError("json-bom", "the message starts with a byte order mark", rpc_code=-32700)
    if "duplicate" in text.lower():
        return ProtocolError("json-duplicate-key", "an object has the same member twice", rpc_code=-32700)
    try:
        raw.decode()
    except UnicodeDecodeError as bad:
        return ProtocolError("json-utf8", f"the message is not valid UTF-8 at byte {bad.start}", rpc_code=-32700)
    if "surrogate" in text or "end of hex escape" in text:
        return ProtocolError("json-lone-surrogate", "a string has a lone surrogate escape", rpc_code=-32700)
    if "recursion" in text or "depth" in text:
        return _limit("depth", "nested deeper than 200 levels")
    if "infinity" in text or "number out of range" in text:
        return ProtocolError("json-number-overflow", "a number is too large for a double", rpc_code=-32700)
    at = text.rpartition(" at ")[2] or text.rpartition(": ")[2]
    at = at if at.startswith("line") and len(at) < 40 else ""
    if any(word in raw for word in (b"NaN", b"Infinity")):
        return ProtocolError("json-not-a-number", f"NaN and Infinity are not JSON {at}".rstrip(), rpc_code=-32700)
    return ProtocolError("json-syntax", f"{_NOT_JSON} {at}".rstrip(), rpc_code=-32700)
