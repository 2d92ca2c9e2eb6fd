"""Fetching for catalogues: http, https and file, without redirects, proxies of the environment, or a library."""

from __future__ import annotations

import http.client
import os
import ssl
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from callgate.errors import TrustError
from callgate.text import visible

TIMEOUT_S: Final = 20.0
_CHUNK: Final = 64 * 1024


class NotThere(Exception):
    """The file is not there, or the server answered something else than 200. `status` as in HTTP."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


def base_url(url: str) -> str:
    """A catalogue's address with a closing slash. Raises TrustError for another scheme, a query or credentials."""
    parts = urlsplit(url)
    local = parts.scheme == "file" and parts.path.startswith("/") and not parts.netloc
    good = local or (parts.scheme in ("http", "https") and parts.hostname)
    if not good or parts.username or parts.password or parts.query or parts.fragment or len(url) > 2000:
        raise TrustError(
            f"'{visible(url, 200)}' is no address of a catalogue",
            next_step="write it as https://host/path or file:///path, without query and password",
        )
    return url if url.endswith("/") else url + "/"


def fetch(url: str) -> Iterator[bytes]:
    """The content in pieces; the caller stops when it has enough. Raises NotThere and OSError."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        try:
            descriptor = os.open(unquote(parts.path), os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        except FileNotFoundError as error:
            raise NotThere(404) from error
        with open(descriptor, "rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk
        return
    connection = _connection(parts)
    try:
        connection.request("GET", parts.path or "/", headers={"User-Agent": "callgate", "Accept-Encoding": "identity"})
        with connection.getresponse() as answer:
            if answer.status != 200:
                raise NotThere(answer.status)
            while chunk := answer.read(_CHUNK):
                yield chunk
    except http.client.HTTPException as error:
        raise OSError(f"not HTTP: {type(error).__name__}") from error
    finally:
        connection.close()


def _connection(parts: Any) -> http.client.HTTPConnection:
    if parts.scheme == "https":
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(parts.hostname, parts.port or 443, timeout=TIMEOUT_S, context=context)
    return http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=TIMEOUT_S)
