"""What a transport does with a message that does not simply pass."""

from __future__ import annotations

HTTP_BAD_REQUEST = 400
HTTP_FORBIDDEN = 403
HTTP_TOO_LARGE = 413
HTTP_UNAVAILABLE = 503
HTTP_OK = 200


class Outcome:
    """The gate's answer for one message (or batch) when it is not "forward these bytes".

    `forward`: bytes for the other side (a changed message; a substitute for a refused answer), or None.
    `reply`: bytes back to the sender (why a request was refused), or None.
    `status`: the HTTP status an HTTP face gives `reply`. `rule`: the stable id of what was decided.
    """

    __slots__ = ("forward", "reply", "rule", "status")

    def __init__(
        self, forward: bytes | None, reply: bytes | None, rule: str = "", status: int = HTTP_FORBIDDEN
    ) -> None:
        self.forward = forward
        self.reply = reply
        self.rule = rule
        self.status = status

    def __repr__(self) -> str:
        return f"<Outcome {self.rule or 'rewrite'} forward={self.forward!r} reply={self.reply!r} {self.status}>"


def goes_on(result: bytes | Outcome) -> bool:
    """Whether something of a message reaches the other side."""
    return type(result) is bytes or result.forward is not None  # type: ignore[union-attr]  # not bytes, so an Outcome
