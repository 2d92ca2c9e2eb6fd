"""Names are proved harmless before they are compared."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from callgate.sandbox.egress import names
from callgate.sandbox.egress.names import NameRefused, Rules
from callgate.sandbox.spec import Destination

LDH = "abcdefghijklmnopqrstuvwxyz0123456789-."


@pytest.mark.parametrize(
    "text",
    [
        "example.com",
        "EXAMPLE.com",
        "a.b.c.d.e",
        "xn--mnchen-3ya.de",
        "localhost",
        "3com.example",
        "a-b.example",
        "x" * 63,
    ],
)
def test_takes_names(text):
    assert names.host_name(text) == text.lower()


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "example.com.",
        ".example.com",
        "a..b",
        "evil.test\0.example.com",
        "example.com\0",
        "example.com\n",
        "ex ample.com",
        "example.com/",
        "user@example.com",
        "a_b.example",
        "%65xample.com",
        "-a.example",
        "a-.example",
        "münchen.de",
        "ｅxample.com",  # full-width: folds to e in IDNA
        "example。com",  # ideographic full stop
        "\u212a.example",  # Kelvin sign: lower-cases to k
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "1.2.3.4",
        "a.0x1",
        "x" * 64,
        "a." * 127 + "b",
    ],
)
def test_refuses_what_another_reader_could_read_otherwise(text):
    with pytest.raises(NameRefused):
        names.host_name(text)


@given(st.text(max_size=300) | st.text(LDH, max_size=80))
@example("evil.test\0.good.example")
def test_whatever_passes_is_plain(text):
    try:
        name = names.host_name(text)
    except NameRefused:
        return
    assert name == text.lower()
    assert set(name) <= set(LDH)
    assert not name.endswith(".")
    assert name.encode("idna").decode() == name or name.startswith("xn--") or ".xn--" in name


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1.2.3.4", "1.2.3.4"),
        ("2001:DB8::1", "2001:db8::1"),
        ("[::1]", "::1"),
        ("0:0:0:0:0:0:0:1", "::1"),
        ("::ffff:1.2.3.4", "::ffff:1.2.3.4"),
    ],
)
def test_addresses_have_one_spelling(text, found):
    assert names.address(text) in {found, "::ffff:102:304"}


@pytest.mark.parametrize(
    "text", ["01.2.3.4", "1.2.3", "fe80::1%eth0", "1.2.3.4 ", "example.com", "", "[1.2.3.4", "face.b00c"]
)
def test_other_spellings_are_no_addresses(text):
    assert names.address(text) is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("example.com:443", ("example.com", 443)),
        ("Example.com:1", ("example.com", 1)),
        ("[2001:db8::1]:8443", ("2001:db8::1", 8443)),
        ("1.2.3.4:80", ("1.2.3.4", 80)),
    ],
)
def test_authority(text, found):
    assert names.authority(text) == found


@pytest.mark.parametrize(
    "text",
    ["a.example", "a.example:", "a.example:0", "a.example:65536", "a.example:+80", "a.example:8 0", "a.example:٨٠",
     "a.example:443:443", "[::1]443", "[::1", "::1:443", "u@a.example:443", ":443", "a.example:0443443"],
)  # fmt: skip
def test_authorities_that_are_none(text):
    with pytest.raises(NameRefused):
        names.authority(text)


def rules(*network):
    return Rules.of(Destination(host, port) for host, port in network)


def test_exact_names_and_their_ports():
    found = rules(("api.example.com", 443))
    assert not found.explain("api.example.com", 443)
    assert found.explain("api.example.com", 80)
    assert found.explain("example.com", 443)
    assert found.explain("x.api.example.com", 443)


def test_a_wildcard_holds_the_names_below_only():
    found = rules(("*.example.com", 443))
    assert not found.explain("a.example.com", 443)
    assert not found.explain("a.b.example.com", 443)
    assert found.explain("example.com", 443)
    assert found.explain("evilexample.com", 443)
    assert found.explain("a.example.com", 80)


def test_everything_is_every_name_and_no_address():
    found = rules(("*", 443), ("203.0.113.9", 443))
    assert not found.explain("anything.example", 443)
    assert found.explain("anything.example", 80)
    assert found.explain("8.8.8.8", 443)
    assert not found.explain("203.0.113.9", 443)


@pytest.mark.parametrize("host", ["a b", "*.", "*", "*.*.example", "a.*.example", "x_y", "1.2.3"])
def test_a_network_list_is_read_as_strictly(host):
    if host == "*":
        assert rules((host, 443)).everywhere == {443}
        return
    with pytest.raises(NameRefused):
        rules((host, 443))


@given(
    st.lists(st.sampled_from(["a.example", "*.a.example", "b.example"]), max_size=3),
    st.sampled_from(["a.example", "x.a.example", "y.x.a.example", "xa.example", "b.example", "example", "c.b.example"]),
)
def test_the_matcher_says_what_the_definition_says(patterns, host):
    expected = any(host == one or (one[:2] == "*." and host.endswith(one[1:])) for one in patterns)
    assert (not rules(*((one, 443) for one in patterns)).explain(host, 443)) is expected
    assert names.covers(patterns, host) is expected


def test_a_secret_has_no_host_everywhere():
    assert not names.covers(["*"], "a.example")


def test_stand_ins_are_unique_loopback_addresses():
    table = names.stand_in_addresses(f"n{number}.example" for number in range(600))
    assert len(set(table.values())) == 600
    assert all(address.startswith("127.77.") and not address.endswith((".0", ".255")) for address in table.values())
    assert "127.77.2.92" in table.values()
