"""The head of an answer, as bytes."""

from __future__ import annotations

from callgate.transport.http.exchange import Headers, SharedHeaders
from callgate.transport.http.fields import status_line


def lines_of(status: int, headers: Headers) -> bytes:
    """The status line and the headers, each with its line end."""
    return b"\r\n".join([status_line(status), *[name + b": " + value for name, value in headers], b""])


def shared_lines(headers: SharedHeaders) -> bytes:
    """The same for headers that many answers share, kept for the next one."""
    headers.lines = lines_of(headers.status, headers)
    return headers.lines
