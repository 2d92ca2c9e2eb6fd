"""What a relay makes of the header of a server's answer: what passes, and what kind of body follows.

It depends on the header alone, so it is made once for a header that comes again and again.
"""

from __future__ import annotations

from callgate.transport.http.exchange import Headers, SharedHeaders
from callgate.transport.http.fields import ANSWER_DROPPED, BODYLESS, in_utf8, media_type
from callgate.transport.http.request_plan import SESSION_HEADER


class AnswerPlan:
    """See the module. `refusal` is why the answer cannot pass and what to do about it, or None.

    `plain`: JSON with status 200 that neither opens a session nor is refused, as nearly all answers are.
    """

    __slots__ = ("events", "headers", "json", "plain", "refusal", "session_id", "status")

    def __init__(self, status: int, headers: Headers) -> None:
        kept: Headers = []
        kind = b""
        encoding = b"identity"
        self.session_id: bytes | None = None
        for field in headers:
            name, value = field
            if name in ANSWER_DROPPED:
                continue
            if name == b"content-encoding":
                encoding = value.lower()
                continue
            if name == b"content-type":
                # A second one, or another charset, would let the client read what was inspected as something else.
                if not kind and (kind := media_type(value)):
                    kept.append(field if in_utf8(value) else (name, kind))
                continue
            if name == SESSION_HEADER:
                self.session_id = value
            kept.append(field)
        self.status = status
        self.headers = SharedHeaders(status, kept)
        self.json = kind == b"application/json"
        self.events = kind == b"text/event-stream" and status < 300 and status not in BODYLESS
        self.refusal: tuple[str, str] | None = None
        if encoding != b"identity":
            self.refusal = (
                "the server compressed its answer, which cannot be inspected",
                "switch compression off there",
            )
        elif 300 <= status < 400:
            self.refusal = (
                f"the server redirects (HTTP {status})",
                "set the server's url to the address it redirects to",
            )
        self.plain = status == 200 and self.json and self.refusal is None and self.session_id is None
