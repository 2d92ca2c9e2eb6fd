"""Credentials in a server's URL: in the values of its query, and in its path, which is where services put them.

A reference stands there in angle brackets, `https://host/mcp?token=<age://name>`, and callgate fills it in when it
connects. What is stored is the value itself, not its percent-encoded form: a value is moved when encoding it again
gives exactly what stood there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from urllib.parse import quote, unquote

from callgate.clients.tree import SCHEMES, is_reference

PATH_KEY = "url_key"
"""What a segment of a path is called, as it has no name: one that tells, so that it is judged by how it looks."""
_LEAST_SEGMENT = 16
_OPENINGS = tuple(f"<{scheme}://" for scheme in SCHEMES)


def url_values(url: str) -> Iterator[tuple[str, str, int]]:
    """Each value that may be a credential: its name, itself as written, and where it begins, in the order of the URL.

    These are the longer segments of the path, called PATH_KEY, and the values of query and fragment.
    """
    place, hash_, fragment = url.partition("#")
    path, mark, query = place.partition("?")
    at = path.find("/", path.find("://") + 3)
    if at > 0 and not has_references(path):
        for segment in path[at:].split("/"):
            if len(segment) >= _LEAST_SEGMENT:
                yield PATH_KEY, segment, at
            at += len(segment) + 1
    for start, text in ((len(path) + len(mark), query), (len(place) + len(hash_), fragment)):
        at = start
        for pair in text.split("&"):
            name, found, value = pair.partition("=")
            if found and value:
                yield unquote(name), value, at + len(name) + 1
            at += len(pair) + 1


def decoded(value: str) -> str | None:
    """What a value of a query says; None where it is written in another way than callgate would write it."""
    plain = unquote(value)
    return plain if quote(plain, safe="") == value else None


def has_references(text: str) -> bool:
    """Whether references stand in a longer text."""
    return any(opening in text for opening in _OPENINGS)


def references(text: str) -> list[str]:
    """The references in a text that is one, or holds some in angle brackets."""
    if is_reference(text):
        return [text]
    return [reference for _, _, reference in _embedded(text)]


def filled(text: str, fetch: Callable[[str], str]) -> str:
    """The text with what its references stand for: as it is, or percent-encoded where it stands in a URL."""
    if is_reference(text):
        return fetch(text)
    for start, end, reference in reversed(list(_embedded(text))):
        text = text[:start] + quote(fetch(reference), safe="") + text[end:]
    return text


def _embedded(text: str) -> Iterator[tuple[int, int, str]]:
    at = 0
    while True:
        places = [place for opening in _OPENINGS if (place := text.find(opening, at)) >= 0]
        end = text.find(">", min(places)) if places else -1
        if end < 0:
            return
        yield min(places), end + 1, text[min(places) + 1 : end]
        at = end + 1
