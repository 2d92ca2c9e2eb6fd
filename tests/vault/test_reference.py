from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from callgate.errors import SecretError
from callgate.vault.reference import (
    FORMS,
    MOST_CHARACTERS,
    MOST_EMBEDDED,
    SCHEMES,
    Reference,
    embed,
    is_reference,
    parse,
    quoted,
    quoted_path,
    refuse_in_arguments,
    split,
)

GOOD = {
    "vault://secret/mcp/github#token": ("vault", ("secret", "mcp", "github"), ("token",), {}),
    "vault://secret/mcp/github#token?version=2": ("vault", ("secret", "mcp", "github"), ("token",), {"version": "2"}),
    "vault://team%2Fkv/a%23b#a%2Eb.c": ("vault", ("team/kv", "a#b"), ("a.b", "c"), {}),
    "awssm://prod/mcp#json.key?stage=AWSPREVIOUS": (
        "awssm",
        ("prod", "mcp"),
        ("json", "key"),
        {"stage": "AWSPREVIOUS"},
    ),
    "awssm://arn:aws:secretsmanager:eu-west-1:1:secret:x-AbC": (
        "awssm",
        ("arn:aws:secretsmanager:eu-west-1:1:secret:x-AbC",),
        (),
        {},
    ),
    "keyring://callgate/github%2FTOKEN": ("keyring", ("callgate", "github/TOKEN"), (), {}),
    "age://token": ("age", ("token",), (), {}),
    "age:///home/me/keys.json.age#github?identity=/home/me/.ssh/id": (
        "age",
        ("home", "me", "keys.json.age"),
        ("github",),
        {"identity": "/home/me/.ssh/id"},
    ),
    "op://Private/My Login/password": ("op", ("Private", "My Login", "password"), (), {}),
    "op://Private/x/section/one-time password?attribute=otp": (
        "op",
        ("Private", "x", "section", "one-time password"),
        (),
        {"attribute": "otp"},
    ),
    "env://GITHUB_TOKEN": ("env", ("GITHUB_TOKEN",), (), {}),
    "file:///run/keys/token": ("file", ("run", "keys", "token"), (), {}),
}

BAD = [
    "vault://secret",
    "vault://secret/",
    "vault:///a/b",
    "vault://secret/../sys/x",
    "vault://secret/%2E%2E/x",
    "vault://secret/a?version=0",
    "vault://secret/a?version=one",
    "vault://secret/a?version=1#key",
    "vault://secret/a?verzion=1",
    "vault://secret/a?version=1&version=2",
    "vault://secret/a#",
    "vault://secret/a#b..c",
    "vault://secret/a%zz",
    "vault://secret/a%ff",
    "vault://secret/a%00",
    "vault://secret/a\nb",
    "vault://secret/a\u202eb",
    'vault://secret/a"b',
    "keyring://service",
    "keyring://a/b/c",
    "keyring://a/b#c",
    "age://a/b",
    "age:///",
    "op://a/b",
    "env://A/B",
    "env://A=B",
    "env://",
    "file://relative/path",
    "file://",
    "awssm://x?stage=A&version=B",
    "https://example.com/",
    "ghp_abc",
    "",
    "vault://secret/" + "a" * MOST_CHARACTERS,
]


@pytest.mark.parametrize("text", GOOD)
def test_each_form_is_read(text: str) -> None:
    found = parse(text)
    assert (found.scheme, found.parts, found.key, found.options) == GOOD[text]
    assert found.text == text


@pytest.mark.parametrize("text", BAD)
def test_what_is_wrong_is_refused_with_the_right_form(text: str) -> None:
    with pytest.raises(SecretError) as error:
        parse(text)
    assert any(form in error.value.next_step for form in FORMS.values())


def test_what_is_no_reference_is_not_repeated_since_it_may_be_the_secret() -> None:
    with pytest.raises(SecretError) as error:
        parse("ghp_0123456789abcdefABCDEF")
    assert "0123456789" not in error.value.diagnostics()


@pytest.mark.parametrize("text", [text for text in GOOD if not text.startswith("file:")])
def test_a_bare_reference_is_recognised(text: str) -> None:
    assert is_reference(text)
    assert split(text) == [parse(text)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plain",
        "https://x.example/",
        "file:///home/me/project",
        "a vault://x/y",
        "postgres://u:p@h/d",
        "<https://x>",
    ],
)
def test_ordinary_text_is_not(text: str) -> None:
    assert not is_reference(text)


def test_a_reference_inside_a_text_stands_in_angle_brackets() -> None:
    assert split("Bearer <vault://secret/a#b>!") == ["Bearer ", parse("vault://secret/a#b"), "!"]
    assert split("<file:///run/a><env://B>") == [parse("file:///run/a"), parse("env://B")]
    assert split("a < b <https://x>") == ["a < b <https://x>"]


@pytest.mark.parametrize(
    "text",
    [
        "Bearer ${vault://secret/a#b}",
        "Bearer <vault://secret/a",
        "<env://A>" * (MOST_EMBEDDED + 1),
        "<keyring://a>",
    ],
)
def test_a_wrong_embedding_is_an_error_and_never_passed_on(text: str) -> None:
    assert is_reference(text)
    with pytest.raises(SecretError):
        split(text)


def test_a_text_with_references_has_a_limit() -> None:
    with pytest.raises(SecretError):
        split("x" * 70_000 + "<env://A>")


@pytest.mark.parametrize("word", ["vault://a/b", "--token=vault://a/b", "Bearer <op://a/b/c>", "--h=x ${env://A}"])
def test_a_reference_on_a_command_line_is_refused(word: str) -> None:
    with pytest.raises(SecretError) as error:
        refuse_in_arguments(["server", "--verbose", word])
    assert "argument 2" in error.value.what
    assert word not in error.value.diagnostics()


def test_ordinary_arguments_pass() -> None:
    refuse_in_arguments(["npx", "-y", "server", "file:///home/me", "--url=https://x.example/?a=b"])


def test_members_of_one_document_share_their_place() -> None:
    a, b = parse("vault://db/creds/r#username"), parse("vault://db/creds/r#password")
    assert a.place == b.place
    assert a != b
    assert parse("vault://db/creds/r#username?version=1").place != a.place


PART = st.text(min_size=1, max_size=20).filter(
    lambda s: s not in (".", "..") and all(c >= " " and c != "\x7f" for c in s)
)


@given(st.lists(PART, min_size=2, max_size=6), st.lists(PART, max_size=3))
@example(["a/b", "c#d?e"], ["f.g", "%41"])
@example(["\u202e<>", '"$}'], [" "])
def test_whatever_is_quoted_is_read_back(parts: list[str], key: list[str]) -> None:
    try:
        "".join(parts + key).encode()
    except UnicodeEncodeError:
        return
    text = "vault://" + "/".join(map(quoted_path, parts)) + ("#" + ".".join(map(quoted, key)) if key else "")
    if len(text) > MOST_CHARACTERS:
        return
    found = parse(text)
    assert found.parts == tuple(parts)
    assert found.key == tuple(key)
    assert split(f"x{embed(text)}y") == ["x", found, "y"]


@given(st.one_of(st.text(max_size=200), st.builds("{}://{}".format, st.sampled_from(SCHEMES), st.text(max_size=80))))
@example("age://\u3000")
def test_any_text_is_a_reference_or_a_clear_error(text: str) -> None:
    try:
        found = parse(text)
    except SecretError as error:
        assert error.what
        assert error.next_step
        told = error.diagnostics().replace("\n", "").replace("\u3000", "")  # the one space that is shown as it is
        assert told.isprintable()
        return
    assert isinstance(found, Reference)
    assert found.text.isprintable()
    assert not any(part in (".", "..", "") for part in found.parts)


@given(st.text(alphabet="<>${}:/abenvut #?", max_size=60))
def test_splitting_loses_nothing(text: str) -> None:
    try:
        pieces = split(text)
    except SecretError:
        return
    whole = "".join(piece if isinstance(piece, str) else embed(piece.text) for piece in pieces)
    assert whole in (text, embed(text))
