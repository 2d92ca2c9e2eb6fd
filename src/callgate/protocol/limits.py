"""The limits of the strict parser. Each refusal names the setting that raises the limit."""

from __future__ import annotations

from callgate.frozen import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Largest message the gate accepts. All numbers are inclusive.

    The defaults let every message of the official servers pass and keep one message from exhausting
    a peer: 200 levels is where the parser of the official Python SDK stops, 4 MiB is the body limit
    of the official SDK servers.
    """

    request_bytes: int = 4 * 1024 * 1024
    """Bytes of one message from a client."""
    response_bytes: int = 32 * 1024 * 1024
    """Bytes of one message from a server."""
    depth: int = 200
    """Nested arrays and objects; more than 200 cannot be configured."""
    nodes: int = 200_000
    """Values in one message, containers included."""
    keys: int = 100_000
    """Members of one object."""
    string_bytes: int = 16 * 1024 * 1024
    """Bytes of one string in UTF-8."""
    name_bytes: int = 1024
    """Bytes of a method, tool, prompt or argument name, and of a string id."""
    batch: int = 100
    """Messages in one batch (revision 2025-03-26)."""
    in_flight: int = 20_000
    """Requests without an answer on one channel."""
    exact_integers: bool = True
    """Refuse integers that a double cannot hold exactly (JavaScript would round them)."""
