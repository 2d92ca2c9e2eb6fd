"""The protocol errors of correlation: what only a channel can find wrong with a message."""

from __future__ import annotations

from callgate.errors import LimitExceeded, ProtocolError


def reused_id() -> ProtocolError:
    """A request with the id of one that still waits."""
    return ProtocolError("id-in-flight", "the id of a request that is still without an answer was used again")


def unissued_answer() -> ProtocolError:
    """An answer whose request nobody made."""
    return ProtocolError("response-unknown-id", "an answer to a request nobody made")


def name_not_text(member: str) -> ProtocolError:
    """A request whose name is no string."""
    return ProtocolError("jsonrpc-params", f'"params.{member}" must be a string')


def too_many_in_flight(limit: int) -> LimitExceeded:
    """More requests without an answer than `limits.in_flight`."""
    return LimitExceeded(
        "limit-in-flight", f"more than {limit} requests without an answer", next_step="wait, or raise limits.in_flight"
    )


def server_asks() -> ProtocolError:
    """A request of a server in the stateless era (2026-07-28)."""
    return ProtocolError("server-request", "servers send no requests since revision 2026-07-28")


def no_batches(revision: str) -> ProtocolError:
    """A batch outside revision 2025-03-26."""
    return ProtocolError(
        "jsonrpc-batch", f"batches exist in revision 2025-03-26 only, not in {revision or 'this conversation'}"
    )
