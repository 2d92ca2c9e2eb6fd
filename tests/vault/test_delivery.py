from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from callgate.config import SecretConfig
from callgate.errors import SecretError
from callgate.vault.delivery import (
    Delivery,
    deliver,
    has_secrets,
    inline_references,
    literal_arguments,
    resolve_headers,
)
from callgate.vault.session import Session

GITHUB = "ghp_" + "aB3dE6" * 6
PLAIN = "hunter2-Hunter3"
VALUES = {"CG_GITHUB": GITHUB, "CG_PLAIN": PLAIN, "CG_PIN": "1234", "CG_LINES": "a-Key-1\nb-Key-2"}


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    for name, value in VALUES.items():
        monkeypatch.setenv(name, value)
    with Session(tmp_path) as opened:
        yield opened


def shown(delivery: Delivery) -> str:
    return (
        repr(delivery) + str(delivery.facts) + str([fact.record() for fact in delivery.facts]) + str(delivery.notices)
    )


def test_without_references_nothing_changes_and_no_session_is_needed() -> None:
    environment = {"PATH": "/usr/bin", "ROOT": "file:///home/me/project", "N": "1"}
    delivery = deliver(environment, {}, None, gated=True)
    assert delivery.environment == environment
    assert (delivery.redactor, delivery.facts, delivery.notices) == (None, (), ())
    assert not has_secrets(environment, {})


def test_a_token_of_a_known_service_becomes_a_sentinel(session: Session) -> None:
    delivery = deliver({"TOKEN": "env://CG_GITHUB", "N": "1"}, {}, session, gated=True)
    (sentinel,) = delivery.sentinels
    assert delivery.environment == {"TOKEN": sentinel.placeholder, "N": "1"}
    assert sentinel.placeholder.startswith("ghp_") and sentinel.placeholder != GITHUB
    assert (sentinel.name, sentinel.value) == ("TOKEN", GITHUB.encode())
    assert "api.github.com" in sentinel.hosts
    (fact,) = delivery.facts
    assert (fact.name, fact.scheme, fact.how, fact.readable_by_server) == ("TOKEN", "env", "sentinel", False)
    assert delivery.redactor is not None
    assert delivery.redactor.redact(GITHUB.encode()) == b"[redacted:TOKEN]"
    assert GITHUB not in shown(delivery) and sentinel.placeholder not in shown(delivery)


def test_without_a_gate_or_hosts_it_is_the_environment_and_that_is_said(session: Session) -> None:
    for gated, text, reason in (
        (False, "env://CG_GITHUB", "no egress gate"),
        (True, "env://CG_PLAIN", "where it may go"),
    ):
        delivery = deliver({"TOKEN": text}, {}, session, gated=gated)
        assert delivery.environment["TOKEN"] in (GITHUB, PLAIN)
        assert delivery.sentinels == ()
        (fact,) = delivery.facts
        assert fact.how == "environment" and fact.readable_by_server
        assert reason in fact.note


def test_a_sentinel_that_was_asked_for_is_never_less(session: Session) -> None:
    for gated, config in (
        (False, SecretConfig("env://CG_GITHUB", "sentinel", ("api.github.com",))),
        (True, SecretConfig("env://CG_PLAIN", "sentinel")),
        (True, SecretConfig("env://CG_LINES", "sentinel", ("a.example",))),
    ):
        with pytest.raises(SecretError) as error:
            deliver({}, {"TOKEN": config}, session, gated=gated)
        assert "TOKEN" in error.value.what and error.value.next_step


def test_hosts_make_a_sentinel_of_any_word(session: Session) -> None:
    config = SecretConfig("env://CG_PLAIN", hosts=("api.example.com", "*.example.org"))
    delivery = deliver({"TOKEN": "overridden"}, {"TOKEN": config}, session, gated=True)
    assert delivery.sentinels[0].hosts == config.hosts
    assert delivery.environment == {"TOKEN": delivery.sentinels[0].placeholder}


@pytest.mark.parametrize(
    "host", ["*", "*.", "com", "API.example.com", "a..b", "-a.b", "a.b:443", "evil\0.a.b", "*.*.a.b", ""]
)
def test_every_host_is_no_host(host: str, session: Session) -> None:
    with pytest.raises(SecretError):
        deliver({}, {"T": SecretConfig("env://CG_PLAIN", hosts=(host,))}, session, gated=True)


def test_a_reference_inside_a_text_keeps_the_text(session: Session) -> None:
    delivery = deliver({"URL": "https://me:<env://CG_GITHUB>@x/?t=<env://CG_PLAIN>"}, {}, session, gated=True)
    (sentinel,) = delivery.sentinels
    assert delivery.environment["URL"] == f"https://me:{sentinel.placeholder}@x/?t={PLAIN}"
    assert [fact.how for fact in delivery.facts] == ["sentinel", "environment"]


def test_a_file_is_named_by_a_variable(session: Session) -> None:
    declared = {
        "TOKEN": SecretConfig("env://CG_LINES", "file"),
        "KEY_FILE": SecretConfig("env://CG_PLAIN", "file"),
        "GOOGLE_APPLICATION_CREDENTIALS": SecretConfig("env://CG_PLAIN", "file"),
    }
    delivery = deliver({"TOKEN": "x"}, declared, session, gated=False)
    assert delivery.environment == {
        "TOKEN_FILE": "/run/secrets/TOKEN",
        "KEY_FILE": "/run/secrets/KEY_FILE",
        "GOOGLE_APPLICATION_CREDENTIALS": "/run/secrets/GOOGLE_APPLICATION_CREDENTIALS",
    }
    assert [(one.name, one.value) for one in delivery.secret_files] == [
        ("TOKEN", b"a-Key-1\nb-Key-2"),
        ("KEY_FILE", PLAIN.encode()),
        ("GOOGLE_APPLICATION_CREDENTIALS", PLAIN.encode()),
    ]
    assert {fact.how for fact in delivery.facts} == {"file"}
    assert PLAIN not in shown(delivery)


@pytest.mark.parametrize("name", ["../x", "a/b", "A B", ""])
def test_a_file_has_a_plain_name(name: str, session: Session) -> None:
    with pytest.raises(SecretError):
        deliver({}, {name: SecretConfig("env://CG_PLAIN", "file")}, session, gated=False)


def test_a_file_needs_a_sandbox_that_shows_it(session: Session) -> None:
    with pytest.raises(SecretError) as error:
        deliver({}, {"A": SecretConfig("env://CG_PLAIN", "file")}, session, gated=False, files_at="")
    assert "cannot show one" in error.value.what


def test_a_file_as_reference_is_meant_where_only_a_secret_can_be(session: Session, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("from-A-File-1\n")
    path.chmod(0o600)
    delivery = deliver({"U": f"file://{path}"}, {"T": SecretConfig(f"file://{path}")}, session, gated=False)
    assert delivery.environment == {"U": f"file://{path}", "T": "from-A-File-1"}


def test_a_declared_secret_in_plain_text_is_refused_without_repeating_it(session: Session) -> None:
    with pytest.raises(SecretError) as error:
        deliver({}, {"TOKEN": SecretConfig(GITHUB)}, session, gated=True)
    assert GITHUB not in error.value.diagnostics() and "callgate secrets move" in error.value.next_step


def test_credentials_in_plain_text_are_noticed_and_redacted(session: Session) -> None:
    for declared in ({}, {"OTHER": SecretConfig("env://CG_PLAIN")}):
        delivery = deliver({"TOKEN": GITHUB}, declared, session, gated=True)
        assert delivery.environment["TOKEN"] == GITHUB
        assert any("TOKEN holds a credential in plain text; callgate secrets move" in one for one in delivery.notices)
        assert ("TOKEN", "literal") in [(fact.name, fact.scheme) for fact in delivery.facts]
        assert delivery.redactor is not None
        assert delivery.redactor.redact(base64.b64encode(GITHUB.encode())) is not None
        assert GITHUB not in shown(delivery)
    assert literal_arguments(["server", "--api-key=" + GITHUB, "-v", GITHUB]) == tuple(
        notice for notice in literal_arguments(["server", "--api-key=" + GITHUB, "-v", GITHUB]) if GITHUB not in notice
    )
    assert len(literal_arguments(["server", "--api-key=" + GITHUB, "-v", GITHUB])) == 2


def test_a_secret_too_plain_to_be_found_is_said(session: Session) -> None:
    delivery = deliver({"PIN": "env://CG_PIN"}, {}, session, gated=False)
    assert delivery.environment == {"PIN": "1234"}
    assert any("PIN" in notice and "too short" in notice for notice in delivery.notices)


def test_one_secret_that_cannot_be_had_stops_the_launch(session: Session) -> None:
    with pytest.raises(SecretError) as error:
        deliver({"A": "env://CG_PLAIN", "B": "env://CG_NOT_THERE"}, {}, session, gated=True)
    assert "env://CG_NOT_THERE" in error.value.what


def test_references_somebody_else_wrote_can_be_asked_for_first() -> None:
    environment = {"A": "x <env://B> <file:///etc/key>", "C": "file:///not/one", "D": "keyring://a/b"}
    assert inline_references(environment) == (("A", "env://B"), ("A", "file:///etc/key"), ("D", "keyring://a/b"))


def test_references_for_other_programs_pass_as_they_are(session: Session) -> None:
    environment = {"MINE": "env://CG_PLAIN", "THEIRS": "op://Private/x/y", "ALSO": "env://CG_NOT_THERE"}
    delivery = deliver(environment, {}, session, gated=False, only={"MINE"})
    assert delivery.environment == {**environment, "MINE": PLAIN}
    assert [fact.name for fact in delivery.facts] == ["MINE"]


def test_renewed_values_keep_their_stand_ins(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("old-Value-123\n")
    path.chmod(0o600)
    with Session(tmp_path) as session:
        config = SecretConfig(f"file://{path}", hosts=("a.example",))
        before = deliver({}, {"T": config}, session, gated=True)
        path.write_text("new-Value-456\n")
        (changed,) = session.refresh()
        assert changed.value == b"new-Value-456"
        after = before.renewed(session)
    assert after.sentinels[0].placeholder == before.sentinels[0].placeholder
    assert after.sentinels[0].value == b"new-Value-456"
    assert after.redactor is not None
    assert after.redactor.redact(b"old-Value-123 new-Value-456") == b"[redacted:T] [redacted:T]"


def test_headers_of_servers_behind_a_url(session: Session) -> None:
    plain = resolve_headers({"X-Version": "1"}, None)
    assert (plain.headers, plain.redactor) == ({"X-Version": "1"}, None)
    found = resolve_headers({"Authorization": "Bearer <env://CG_GITHUB>", "X": "1"}, session)
    assert found.headers == {"Authorization": f"Bearer {GITHUB}", "X": "1"}
    assert [(fact.name, fact.scheme, fact.how) for fact in found.facts] == [("Authorization", "env", "header")]
    assert found.redactor is not None and found.redactor.redact(GITHUB.encode())
    assert GITHUB not in repr(found)
    literal = resolve_headers({"Authorization": f"Bearer {GITHUB}"}, None)
    assert literal.redactor is not None and literal.redactor.redact(GITHUB.encode())
    assert literal.notices and GITHUB not in repr(literal)


def test_a_header_is_one_line(session: Session) -> None:
    with pytest.raises(SecretError) as error:
        resolve_headers({"Authorization": "Bearer <env://CG_LINES>"}, session)
    assert "a-Key-1" not in error.value.diagnostics()
