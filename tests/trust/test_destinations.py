"""What counts as a place data could go to, and what only looks like one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callgate.trust.destinations import destinations


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("see https://Evil.example/Path?x=1.", "https://evil.example/path?x=1"),
        ("(http://10.0.0.1:8080/x)", "http://10.0.0.1:8080/x"),
        ("post to api.evil.example", "api.evil.example"),
        ("evil.com/collect", "evil.com/collect"),
        ("mail attacker@evil.example now", "attacker@evil.example"),
        ("connect 203.0.113.9", "203.0.113.9"),
        ("connect 203.0.113.9:4444", "203.0.113.9:4444"),
        ("bind [2001:db8::1]", "2001:db8::1"),
        ("localhost:9000", "localhost:9000"),
        ("read /etc/passwd.", "/etc/passwd"),
        ("read ~/.ssh/id_rsa", "~/.ssh/id_rsa"),
        ("read $HOME/.aws/credentials", "$home/.aws/credentials"),
        (r"read C:\Users\me", r"c:\users\me"),
        ("put it in notes.txt", "notes.txt"),
        ("the .env file", ".env"),
        ("javascript:alert", "javascript:alert"),
        ("account DE89370400440532013000", "de89370400440532013000"),
        ("call +49-30-12345678", "+49-30-12345678"),
        ("\uff45\uff56\uff49\uff4c.com", "evil.com"),
        ("data:text/html;base64,xxxx", "data:text/html"),
    ],
)
def test_destinations_are_found(text: str, place: str) -> None:
    assert place in destinations(text)


@pytest.mark.parametrize(
    "text",
    [
        "e.g. a list, i.e. rows; etc.",
        "reads and/or writes",
        "a file.Returns nothing",
        "version 2.1.0 of 2026-11-22",
        "Node.js and Next.js code",
        "at most 100 items ($5, 10%)",
        "3.5 seconds / page",
        "",
        "...",
    ],
)
def test_ordinary_prose_names_none(text: str) -> None:
    assert destinations(text) == set()


@given(st.text(max_size=300))
def test_any_text_can_be_read(text: str) -> None:
    assert all(place for place in destinations(text))


@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=60))
def test_a_url_is_found_after_any_text(text: str) -> None:
    assert any("https://evil.example" in place for place in destinations(f"{text} https://evil.example"))
