"""Any headers against any body, and any text through a header value.

- The check raises nothing; a refusal has the code the specification demands.
- Headers computed from a body pass the check against it.
- A value survives encoding and decoding; the encoded form holds nothing a header must not hold.

An input is a list of header lines, an empty line, and a JSON body; without a body, one value.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["callgate"]):
    from callgate.config import Limits
    from callgate.errors import ProtocolError
    from callgate.protocol.codec import Codec
    from callgate.protocol.headers import (
        check_request_headers,
        decode_value,
        encode_value,
        mirrored_headers,
        param_headers,
    )
    from callgate.protocol.message import Direction, Kind, Message

CODEC = Codec(Limits())
SCHEMA = {
    "type": "object",
    "properties": {
        "text": {"type": "string", "x-mcp-header": "Text"},
        "count": {"type": "integer", "x-mcp-header": "Count"},
        "deep": {"properties": {"flag": {"type": "boolean", "x-mcp-header": "Flag"}}},
    },
}
RULES = {"header-missing", "header-mismatch", "header-repeated", "header-malformed"}


def value(data: bytes) -> None:
    decode_value(data)
    text = data.decode(errors="replace")
    encoded = encode_value(text)
    assert decode_value(encoded) == text
    assert encoded == encoded.strip()
    assert all(32 <= byte < 127 for byte in encoded)


def one_input(data: bytes) -> None:
    head, gap, body = data.partition(b"\n\n")
    if not gap:
        value(data)
        return
    lines = [line.partition(b":") for line in head.split(b"\n")]
    headers = [(name.lower(), text.strip(b" \t")) for name, _, text in lines]
    try:
        message = CODEC.decode(body, Direction.CLIENT)
    except ProtocolError:
        return
    if not isinstance(message, Message):
        return
    params = message.body.get("params")
    for schema in (None, SCHEMA, params):
        refused = check_request_headers(headers, message, schema)
        if refused is not None:
            assert refused.rule in RULES
            assert refused.rpc_code == -32020
        param_headers(schema)
        computed = mirrored_headers(message.body, schema)
        if computed and message.kind is Kind.REQUEST and str(message.method).isascii():
            refused = check_request_headers(computed, message, schema)
            # Revision and method have no encoded form: what does not fit a header has no right header.
            assert refused is None or refused.rule == "header-mismatch" or _odd(message)
            assert refused is None or not str(message.method).isprintable() or _odd(message)


def _odd(message: Message) -> bool:
    """Whether the revision, the method or the name is not a string that a header can carry as it stands."""
    params = message.body["params"]
    claimed = next(iter(mirrored_headers(message.body)))[1]
    method = str(message.method)
    plain = claimed == claimed.strip() and method == method.strip() and not claimed.startswith(b"=?")
    named = params.get("name", params.get("uri", params.get("taskId", "")))
    return not plain or method.startswith("=?") or not isinstance(named, str)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
