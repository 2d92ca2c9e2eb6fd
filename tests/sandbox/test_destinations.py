"""Destinations are read strictly: what is not plainly a DNS name is refused before it is compared."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callgate.errors import SandboxError
from callgate.sandbox.destinations import matches, parse_destination, valid_host
from callgate.sandbox.spec import Destination


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("api.github.com", "api.github.com", 443),
        ("API.GitHub.com:8443", "api.github.com", 8443),
        ("*.example.org", "*.example.org", 443),
        ("*", "*", 443),
        ("*:80", "*", 80),
        ("xn--mnchen-3ya.example", "xn--mnchen-3ya.example", 443),
        ("localhost:1", "localhost", 1),
        ("1password.com:65535", "1password.com", 65535),
    ],
)
def test_reads_what_is_documented(text: str, host: str, port: int) -> None:
    assert parse_destination(text) == Destination(host, port)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":443",
        "evil\0.github.com",
        "github.com\n",
        "github.com ",
        "github.com.",
        ".github.com",
        "git..com",
        "-a.com",
        "a-.com",
        "a_b.com",
        "user@github.com",
        "github.com/path",
        "https://github.com",
        "127.0.0.1",
        "1.2.3.0x7f",
        "0x7f000001",
        "2130706433",
        "[::1]:443",
        "::1",
        "m\u00fcnchen.example",
        "g\u0456thub.com",
        "github.com\u3002evil.org",
        "a" * 64 + ".com",
        ".".join(["a" * 60] * 5),
        "github.com:",
        "github.com:0",
        "github.com:65536",
        "github.com:+80",
        "github.com:\u0661",
        "github.com:443:443",
        "**.com",
        "*.com",
        "*.",
        "a.*.com",
        "*github.com",
    ],
)
def test_refuses_what_is_not_plainly_a_name(text: str) -> None:
    with pytest.raises(SandboxError) as caught:
        parse_destination(text)
    assert caught.value.next_step
    assert all(char.isprintable() for char in caught.value.what)


def test_a_wildcard_covers_names_below_and_not_beside() -> None:
    below = parse_destination("*.example.org")
    assert matches(below, "a.example.org", 443)
    assert matches(below, "a.b.example.org", 443)
    assert not matches(below, "example.org", 443)
    assert not matches(below, "badexample.org", 443)
    assert not matches(below, "a.example.org.evil.com", 443)
    assert not matches(below, "a.example.org", 80)
    assert not matches(parse_destination("*"), "10.0.0.1", 443)
    assert not matches(parse_destination("example.org"), "evil\0.example.org", 443)


@given(st.text(max_size=80))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = parse_destination(text)
    except SandboxError:
        return
    assert found.host == "*" or valid_host(found.host.removeprefix("*."))
    assert parse_destination(f"{found.host}:{found.port}") == found
