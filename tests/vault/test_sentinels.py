from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callgate.errors import SecretError
from callgate.vault.known_tokens import PREFIXES, hosts_of, prefix_of
from callgate.vault.sentinels import LEAST_BITS, placeholder, why_not


def segment(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode().rstrip("=")


JWT = ".".join(
    (
        segment(b'{"alg":"RS256","typ":"JWT","kid":"1"}'),
        segment(b'{"sub":"user-1","exp":1790000000}'),
        segment(b"s" * 64),
    )
)


@pytest.mark.parametrize(
    ("value", "beginning"),
    [
        ("ghp_" + "aB3" * 12, "ghp_"),
        ("github_pat_" + "11ABCDEFG0" + "_" + "aB3d" * 10, "github_pat_"),
        ("sk-ant-api03-" + "Ab1-" * 20, "sk-ant-"),
        ("xoxb-" + "123456789012-123456789012-" + "aB3d" * 6, "xoxb-"),
        ("AKIA" + "ABCDEFGH23456789", "AKIA"),
        ("glpat-" + "aB3-" * 6, "glpat-"),
        ("0123456789abcdef" * 3, ""),
        ("S3cret-Pass!word/of#someone", ""),
        ("4f9a3c1e-8b7d-4e2a-9c1f-0a1b2c3d4e5f", ""),
    ],
)
def test_a_stand_in_looks_like_its_secret(value: str, beginning: str) -> None:
    made = placeholder(value.encode())
    assert made != value
    assert len(made) == len(value)
    assert made.startswith(beginning)
    if beginning or value.count("-") == 4:
        assert [i for i, c in enumerate(made) if c in "-_."] == [i for i, c in enumerate(value) if c in "-_."]
        kinds = zip(value[len(beginning) :].split("-"), made[len(beginning) :].split("-"), strict=True)
        assert all(a.isdigit() == b.isdigit() for a, b in kinds if a.isdigit())


def test_hexadecimal_stays_hexadecimal_and_upper_case_upper() -> None:
    assert set(placeholder(b"0123456789abcdef" * 3)) <= set("0123456789abcdef")
    made = placeholder(b"AKIA" + b"ABCDEFGH23456789")
    assert made == made.upper()


def test_a_jwt_stays_one_whose_parts_decode() -> None:
    made = placeholder(JWT.encode())
    assert [len(part) for part in made.split(".")] == [len(part) for part in JWT.split(".")]
    for part in made.split(".")[:2]:
        assert isinstance(json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))), dict)
    assert not set(made.split(".")) & set(JWT.split("."))


def test_no_two_are_the_same_and_nothing_of_the_secret_is_left() -> None:
    value = "ghp_" + "q7Zt9KxW2mRb4Ns8Vd1Hc6Jf3Lp5Yg0TuEaI"
    made = {placeholder(value.encode()) for _ in range(200)}
    assert len(made) == 200
    rest = value[4:]
    windows = {rest[i : i + 8] for i in range(len(rest) - 7)}
    assert not any(window in one for one in made for window in windows)


@pytest.mark.parametrize("value", [b"1234", b"123456", b"hunter2", b"short"])
def test_a_short_secret_gets_a_long_stand_in(value: bytes) -> None:
    assert len(placeholder(value)) * 4 > LEAST_BITS


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("A", b"-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----\n"),
        ("A", b"two words"),
        ("A", "gehe\u00efm".encode()),
        ("A", b"x" * 5000),
        ("A", b"\x00\x01binary"),
        ("AWS_SECRET_ACCESS_KEY", b"abcdefghijklmnopqrstuvwxyz0123456789ABCD"),
    ],
)
def test_where_there_can_be_none_the_reason_is_said(name: str, value: bytes) -> None:
    assert why_not(name, value)
    if name == "A":
        with pytest.raises(SecretError):
            placeholder(value)


@given(st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=200))
def test_any_word_gets_a_stand_in_of_its_own(text: str) -> None:
    value = text.encode()
    made = placeholder(value)
    assert made != text
    assert made.isascii() and made.isprintable() and " " not in made
    assert not why_not("", made.encode())
    assert len(made) == len(text) or len(made) >= 32


@pytest.mark.parametrize(
    "text", ["sk-1", "ghp_", "secret_name_of_a_variable", "AKIA", "eyJnotajwt0123456789abcdef", "hf_model-of-somebody"]
)
def test_names_are_not_taken_for_credentials(text: str) -> None:
    assert prefix_of(text) == ""


def test_every_prefix_is_recognised_and_the_longest_wins() -> None:
    for prefix in PREFIXES:
        tail = "aB3dE6gH9jK2mN5pQ8sT1vW4"
        text = prefix + (f"{tail}.{tail}.{tail}" if prefix == "eyJ" else tail)
        assert prefix_of(text) == prefix
    assert hosts_of("sk-ant-" + "aB3d" * 6) == ("api.anthropic.com",)
    assert hosts_of("sk-" + "aB3d" * 6) == ()
    assert hosts_of("nothing known") == ()
