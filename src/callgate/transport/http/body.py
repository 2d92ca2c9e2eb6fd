"""Bodies that come in pieces."""

from __future__ import annotations


def joined(body: bytes | bytearray, piece: bytes) -> bytes | bytearray:
    """`body` and the piece that follows it; `body` itself is of no more use.

    Pieces are not kept one by one: the sender says how small they are, and each would cost fifty bytes beside its own.
    """
    if not body:
        return piece
    if type(body) is bytes:
        body = bytearray(body)
    body += piece
    return body
