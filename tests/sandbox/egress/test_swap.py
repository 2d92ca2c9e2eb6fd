"""Sentinels become secrets for their hosts only, and secrets never come back."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from callgate.sandbox.egress.swap import Exchange, Replacer
from callgate.sandbox.spec import Sentinel

TOKEN = Sentinel("TOKEN", "ghp_SENTINEL0000", b'ghp_"re/al+"&token', ("api.test", "*.inner.test"))
OTHER = Sentinel("OTHER", "sk_SENTINEL11111", b"sk-other-real", ("other.test",))
PLACEHOLDER, VALUE = TOKEN.placeholder.encode(), TOKEN.value


def exchange(host: str = "api.test", *, secure: bool = True) -> Exchange:
    return Exchange((TOKEN, OTHER), host, secure=secure)


def naive(table: dict[bytes, bytes], text: bytes) -> bytes:
    out, at = b"", 0
    ordered = sorted(table, key=len, reverse=True)
    while at < len(text):
        found = next((one for one in ordered if text.startswith(one, at)), None)
        out += table[found] if found else text[at : at + 1]
        at += len(found) if found else 1
    return out


@given(
    st.dictionaries(st.text("ab", min_size=1, max_size=4).map(str.encode), st.just(b"<>"), min_size=1, max_size=3),
    st.lists(st.text("abc", max_size=6).map(str.encode), max_size=8),
)
@example({b"ab": b"1", b"abab": b"2"}, [b"ab", b"ab"])
@example({b"aab": b"1"}, [b"aa", b"a", b"b"])
def test_a_stream_is_replaced_as_the_whole_would_be(table, chunks):
    replacer = Replacer(table)
    streamed = b"".join(replacer.feed(chunk) for chunk in chunks) + replacer.end()
    assert streamed == naive(table, b"".join(chunks))


def test_only_what_may_become_a_match_is_held_back():
    replacer = Replacer({b"secret": b"S"})
    assert replacer.feed(b"data: {}\n\n") == b"data: {}\n\n"
    assert replacer.feed(b"xsec") == b"x"
    assert replacer.feed(b"ond") == b"second"
    assert replacer.feed(b"sec") == b""
    assert replacer.end() == b"sec"


def test_a_header_for_its_host():
    one = exchange()
    assert one.header(b"authorization", b"Bearer " + PLACEHOLDER) == b"Bearer " + VALUE
    assert one.header(b"x-key", PLACEHOLDER) == VALUE
    assert one.used == {"TOKEN"}
    assert not one.misdirected


@pytest.mark.parametrize(
    ("host", "secure"), [("evil.test", True), ("api.test", False), ("inner.test", True), ("xapi.test", True)]
)
def test_no_secret_for_another_host_or_in_the_clear(host, secure):
    one = exchange(host, secure=secure)
    assert one.header(b"authorization", b"Bearer " + PLACEHOLDER) == b"Bearer " + PLACEHOLDER
    assert one.target(b"/x?k=" + PLACEHOLDER) == b"/x?k=" + PLACEHOLDER
    body = one.body(b"application/json")
    assert body.whole(b'{"k":"' + PLACEHOLDER + b'"}') == b'{"k":"' + PLACEHOLDER + b'"}'
    one.settle(body, swapped=True)
    assert not one.used
    assert one.misdirected == {("TOKEN", "header"), ("TOKEN", "target"), ("TOKEN", "body")}


def test_a_host_below_a_wildcard():
    one = exchange("x.inner.test")
    assert one.header(b"x-key", PLACEHOLDER) == VALUE


def test_another_hosts_sentinel_stays_and_is_seen():
    one = exchange()
    assert one.header(b"x-key", OTHER.placeholder.encode()) == OTHER.placeholder.encode()
    assert one.misdirected == {("OTHER", "header")}


def test_basic_credentials_are_opened_and_closed_again():
    one = exchange()
    given_ = b"Basic " + base64.b64encode(b"user:" + PLACEHOLDER)
    sent = one.header(b"authorization", given_)
    assert base64.b64decode(sent[6:]) == b"user:" + VALUE
    assert one.answer().whole(b"you said " + sent) == b"you said " + given_
    assert one.header(b"authorization", b"Basic !!!") == b"Basic !!!"
    assert one.header(b"authorization", b"basic " + base64.b64encode(b"a:b")) == b"basic " + base64.b64encode(b"a:b")


def test_basic_credentials_for_another_host_are_seen_too():
    one = exchange("evil.test")
    given_ = b"Basic " + base64.b64encode(b"user:" + PLACEHOLDER)
    assert one.header(b"authorization", given_) == given_
    assert one.misdirected == {("TOKEN", "header")}


def test_values_are_written_as_their_place_asks():
    one = exchange()
    assert one.target(b"/a/" + PLACEHOLDER + b"?k=" + PLACEHOLDER) == (
        b"/a/" + quote(VALUE, safe="-._~!$&'()*+,;=:@").encode() + b"?k=" + quote(VALUE, safe="").encode()
    )
    text = one.body(b"application/json; charset=utf-8").whole(b'{"k": "' + PLACEHOLDER + b'"}')
    assert json.loads(text) == {"k": VALUE.decode()}
    form = one.body(b"application/x-www-form-urlencoded").whole(b"k=" + PLACEHOLDER)
    assert form == b"k=" + quote(VALUE, safe="").encode()
    assert one.body(b"text/plain").whole(PLACEHOLDER) == VALUE


def test_a_secret_that_would_split_a_header_is_not_sent():
    bad = Sentinel("BAD", "placeholder", b"a\r\nX-Evil: 1", ("api.test",))
    with pytest.raises(ValueError, match="control"):
        Exchange((bad,), "api.test", secure=True).header(b"authorization", b"placeholder")


@pytest.mark.parametrize(
    "form",
    [
        VALUE,
        quote(VALUE, safe="").encode(),
        json.dumps(VALUE.decode())[1:-1].encode(),
        base64.b64encode(b"x" + VALUE),
        base64.b64encode(b"xy" + VALUE + b"z"),
        base64.urlsafe_b64encode(VALUE),
        VALUE.hex().encode(),
        VALUE.hex().upper().encode(),
    ],
)
def test_no_usual_form_of_a_secret_comes_back(form):
    passed = exchange().answer().whole(b"before " + form + b" after")
    assert passed.startswith(b"before ")
    assert passed.endswith(b" after")
    assert len(passed) > 14
    for part in (form, VALUE, quote(VALUE, safe="").encode(), base64.b64encode(VALUE)[:16], VALUE.hex().encode()):
        assert part not in passed


def test_short_secrets_are_not_looked_for_in_answers():
    short = Sentinel("PIN", "placeholder", b"1234", ("api.test",))
    assert Exchange((short,), "api.test", secure=True).answer().whole(b"in 1234") == b"in 1234"


@given(st.lists(st.integers(1, 12), max_size=12))
def test_a_reflected_secret_is_found_over_any_border(sizes):
    text = b"<" + VALUE + b"|" + VALUE + b">"
    replacer = exchange().answer()
    out, at = b"", 0
    for size in sizes:
        out += replacer.feed(text[at : at + size])
        at += size
    out += replacer.feed(text[at:]) + replacer.end()
    assert out == b"<" + PLACEHOLDER + b"|" + PLACEHOLDER + b">"
