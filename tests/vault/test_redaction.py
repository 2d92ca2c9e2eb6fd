from __future__ import annotations

import base64
import json
import sys
import threading
import time
import urllib.parse

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from callgate.vault import active
from callgate.vault.redaction import Redactor, StreamRedactor, mark, recognisable, safe_name

TOKEN = b"demo-Token+0123/456789=abcdef"
ODD = 'pa"ss\\wörd\n<&> 100%'.encode()
PEM = b"-----BEGIN PRIVATE KEY-----\n" + base64.encodebytes(bytes(range(7, 150))) + b"-----END PRIVATE KEY-----\n"
R = Redactor([("TOKEN", TOKEN), ("ODD", ODD), ("PEM", PEM)])
VALUES = st.one_of(
    st.binary(min_size=8, max_size=80), st.text(min_size=8, max_size=60).map(lambda s: s.encode("utf-8", "replace"))
).filter(recognisable)


def forms(value: bytes) -> dict[str, bytes]:
    """A value as it stands in the things people and programs write."""
    text = value.decode("utf-8", "replace")
    listed = {
        "raw": b"token is " + value + b", keep it",
        "basic": b"Basic " + base64.b64encode(b"user:" + value),
        "base64": base64.b64encode(value),
        "base64 in the middle": base64.b64encode(b"ab" + value + b"cde"),
        "base64 after one": base64.b64encode(b"a" + value + b"c"),
        "base64url": base64.urlsafe_b64encode(b"xyz" + value).rstrip(b"="),
        "hex": b"0x" + value.hex().encode(),
        "HEX": value.hex().upper().encode(),
        "url": b"https://x/?t=" + urllib.parse.quote_from_bytes(value, safe="").encode() + b"&a=b",
        "path": urllib.parse.quote_from_bytes(value).encode(),
        "form": urllib.parse.urlencode({"t": value}).encode(),
    }
    if text.encode() == value:
        listed |= {
            "json": json.dumps({"a": text}, ensure_ascii=False).encode(),
            "json in ASCII": json.dumps([text]).encode(),
            "json with slashes": json.dumps([text], ensure_ascii=False).replace("/", "\\/").encode(),
            "slashes in json": json.dumps(json.dumps(text).replace("/", "\\/"), ensure_ascii=False).encode(),
            "json in json": json.dumps(json.dumps(text, ensure_ascii=False), ensure_ascii=False).encode(),
        }
    return listed


def leaks(data: bytes, value: bytes) -> bool:
    """Whether anybody could still read the value: in any form, whole."""
    text = value.decode("utf-8", "replace")
    seen = [value, value.hex().encode(), urllib.parse.quote_from_bytes(value, safe="").encode()]
    seen += [
        base64.b64encode(b"\0" * n + value)[2 if n == 1 else 3 if n else 0 : (n + len(value)) * 8 // 6]
        for n in (0, 1, 2)
    ]
    seen.append(json.dumps(text, ensure_ascii=False)[1:-1].encode())
    return any(one in data for one in seen)


@pytest.mark.parametrize("form", forms(TOKEN))
@pytest.mark.parametrize(("name", "value"), [("TOKEN", TOKEN), ("ODD", ODD), ("PEM", PEM)])
def test_each_form_is_found(form: str, name: str, value: bytes) -> None:
    data = forms(value)[form]
    clean = R.redact(data)
    assert clean is not None
    assert mark(name).encode() in clean
    assert not leaks(clean, value)


@given(VALUES)
@example(b"npm_0123456789abcdefABCDEF")
@example(b"demo/0123\x7f")
@example(b"\\u0041-\\n-0123456789")
@example(b'"},{"0123456789":"')
def test_any_value_is_found_in_any_form(value: bytes) -> None:
    redactor = Redactor([("N", value)])
    for form, data in forms(value).items():
        clean = redactor.redact(data)
        assert clean is not None, form
        assert not leaks(clean, value), form


@given(VALUES, st.text(max_size=20), st.text(max_size=20))
@example(b"npm_0123456789abcdefABCDEF", "\n", "")
@example(b"u001f0123456789abcdef", "\\", "")
@example(b"001f0123456789abcdef", "\x00", "\\")
def test_json_stays_json(value: bytes, before: str, after: str) -> None:
    redactor = Redactor([("N", value)])
    try:
        secret = value.decode()
        data = orjson.dumps({"a": before + secret + after, secret: [before, after, 1]})
    except (UnicodeDecodeError, TypeError):
        return
    clean = redactor.redact_json(data)
    assert clean is not None
    assert "[redacted:N]" in json.loads(clean)["a"]
    # What only looks like the secret because an escape comes before it must not break the text either.
    almost = redactor.redact_json(orjson.dumps(["\n" + secret[1:], "\x1f" + secret, "\\" + secret]))
    assert almost is not None
    json.loads(almost)


@given(st.binary(max_size=400))
def test_what_holds_no_secret_is_not_touched(data: bytes) -> None:
    assert R.redact(data) is None
    assert R.redact_json(data) is None


@given(st.binary(max_size=60), st.binary(max_size=60), st.binary(max_size=60))
def test_all_places_are_taken_out_and_nothing_else(a: bytes, b: bytes, c: bytes) -> None:
    assert R.redact(a + TOKEN + b + TOKEN + c) == a + b"[redacted:TOKEN]" + b + b"[redacted:TOKEN]" + c


def test_secrets_that_overlap_leave_nothing() -> None:
    redactor = Redactor([("A", b"one-Secret-12345"), ("B", b"12345-two-Secret"), ("C", b"Secret-12345-two")])
    assert redactor.redact(b"<one-Secret-12345-two-Secret>") == b"<[redacted:A]>"


@pytest.mark.parametrize(
    "value",
    [b"", b"1234", b"hunter2", b"password", b"POSTGRES", b"12345678", b"aaaaaaaaaaaaaaaaaaaa", b"abababababababab"],
)
def test_short_and_plain_values_would_black_out_ordinary_text(value: bytes) -> None:
    assert not recognisable(value)
    redactor = Redactor([("PIN", value)])
    assert not redactor
    assert redactor.unrecognised == ("PIN",)
    assert redactor.redact(b"the password of POSTGRES is 12345678") is None


@pytest.mark.parametrize(
    "value",
    [
        b"hunter2x",
        b"passw0rd",
        b"Password",
        b"1234567890123456",
        b"correct horse battery",
        b"\xff\xfe\x00\x01\x02\x03\x04\x05",
    ],
)
def test_others_are_looked_for(value: bytes) -> None:
    assert recognisable(value)


def test_the_line_end_of_a_stored_value_is_not_part_of_what_is_said() -> None:
    assert Redactor([("T", TOKEN + b"\n")]).redact(b"<" + TOKEN + b">") == b"<[redacted:T]>"


def test_names_are_made_safe() -> None:
    assert safe_name('A"}\n\u202e') == "A____"
    assert safe_name("") == "secret"
    assert len(safe_name("x" * 500)) == 64


def test_no_value_shows() -> None:
    assert "demo" not in repr(R) + str(R) + repr(R.found(TOKEN))


def test_a_value_of_64_kib_is_found_by_its_beginning_and_compared_whole() -> None:
    value = bytes(i * 7 % 251 for i in range(65_536))
    redactor = Redactor([("BIG", value)])
    assert redactor.redact(b"<" + value + b">") == b"<[redacted:BIG]>"
    assert redactor.redact(b"<" + value[:-1] + b">") is None


@given(VALUES, st.data())
def test_a_stream_in_any_pieces_never_gives_a_secret_out(value: bytes, data: st.DataObject) -> None:
    if b"\n" in value:
        return
    redactor = Redactor([("N", value)])
    whole = b"line one\nbefore " + value + b" after\n" + base64.b64encode(value) + b"\ntail " + value
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=12)))
    stream = StreamRedactor(lambda: redactor)
    out = b"".join(stream.feed(whole[a:b]) for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True))
    assert not leaks(out, value)
    out += stream.close()
    assert out == redactor.redact(whole)


def test_a_stream_follows_the_secrets_of_its_server() -> None:
    stream = active.stream("srv")
    assert stream.feed(b"no secrets yet: first-Value-1") == b"no secrets yet: first-Value-1"
    try:
        active.register("srv", Redactor([("A", b"first-Value-1")]))
        assert stream.feed(b"then first-Va") == b""
        active.register("srv", Redactor([("A", b"second-Value-2")]))
        assert stream.feed(b"lue-1\nand second-Value-2\n") == b"then [redacted:A]\nand [redacted:A]\n"
        assert stream.feed(b"rest") == b""
    finally:
        active.forget("srv")
    assert stream.close() == b"rest"


def test_complete_lines_are_given_out_at_once() -> None:
    stream = StreamRedactor(lambda: R)
    assert stream.feed(b"ready\nlistening on") == b"ready\n"
    assert stream.feed(b" 8080\n") == b"listening on 8080\n"
    assert stream.close() == b""


@pytest.mark.parametrize("offset", range(-40, 41, 5))
def test_a_line_without_end_is_given_out_in_part_and_the_secret_at_the_cut_is_not(offset: int) -> None:
    redactor = Redactor([("TOKEN", TOKEN)])
    stream = StreamRedactor(lambda: redactor)
    at = StreamRedactor.MOST_HELD + offset
    whole = b"x" * at + TOKEN + b"y" * 3 * StreamRedactor.MOST_HELD
    out = b""
    for start in range(0, len(whole), 1000):
        out += stream.feed(whole[start : start + 1000])
    assert len(out) > StreamRedactor.MOST_HELD
    out += stream.close()
    assert out == whole.replace(TOKEN, b"[redacted:TOKEN]")


def test_hostile_text_full_of_beginnings_costs_linear_time() -> None:
    redactor = Redactor([("TOKEN", TOKEN), ("LONG", b"ab" * 500 + b"c1D")])

    def cost(size: int) -> float:
        data = (TOKEN[:-1] + b"ab" * 50) * (size // 128)
        best = sys.float_info.max
        for _ in range(3):
            start = time.perf_counter()
            redactor.redact(data)
            best = min(best, time.perf_counter() - start)
        return best

    cost(1000)
    assert cost(1_600_000) < 100 * max(cost(100_000), 1e-5)


def test_any_thread_may_look() -> None:
    redactor = Redactor([("TOKEN", TOKEN)])
    data = b"x" * 200_000 + TOKEN + b"y" * 200_000
    found: list[int] = []

    def look() -> None:
        found.append(sum(redactor.redact(data) is not None for _ in range(200)))

    threads = [threading.Thread(target=look) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [200] * 6


def test_registered_secrets_add_up_and_are_forgotten() -> None:
    first, second = Redactor([("A", b"first-Value-1")]), Redactor([("A", b"second-Value-2")])
    try:
        active.register("srv", first)
        active.register("srv", second)
        active.register("other", Redactor([("PIN", b"1234")]))
        found = active.of("srv")
        assert found is not None
        assert found.redact(b"first-Value-1 second-Value-2") == b"[redacted:A] [redacted:A]"
        assert active.of("other") is None
        assert active.clean(b'{"a":"first-Value-1"}') == b'{"a":"[redacted:A]"}'
        assert active.clean_text("x second-Value-2") == "x [redacted:A]"
    finally:
        active.forget("srv")
    assert not active.any_secrets()
    assert active.clean(b'{"a":"first-Value-1"}') == b'{"a":"first-Value-1"}'
