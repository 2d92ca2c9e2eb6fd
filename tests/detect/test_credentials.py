"""Credentials: what must be found, what must not, and what looks like one and is none."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from callgate.detect.credential_formats import FORMATS, formats_in
from callgate.detect.credential_names import telling, words_of
from callgate.detect.credentials import Credential, entropy, in_words, judge
from callgate.detect.placeholders import is_placeholder, is_reference
from tests.detect import credential_samples as samples

ROOT = Path(__file__).parents[1]
DRAW = random.Random(3)
ATLASSIAN, BOT = ([form.prefix for form in FORMATS].index(prefix) for prefix in ("ATATT3xFfGF0", "bot"))
GITHUB, AGE, JWT, PEM = samples.github(DRAW), samples.age(DRAW), samples.jwt(DRAW), samples.pem(DRAW)


def secret(value: str, name: str = "") -> str | None:
    """What is found."""
    found = judge(value, name)
    return found and value[found.start : found.end]


# --- attack: plaintext credentials --------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_every_known_form_is_found_wherever_it_stands(seed: int) -> None:
    for form, token in samples.all_forms(seed):
        for before, after in (("", ""), ("Bearer ", ""), ('{"x":"', '"}'), ("--key=", " -v"), ("see ", ".\n")):
            found = formats_in(before + token + after)
            assert [(one.kind, one.start, one.end) for one in found] == [
                (form.kind, len(before), len(before) + len(token))
            ], (form, before)
        assert secret(token) == token
        assert secret(token, "anything") == token


@pytest.mark.parametrize(
    ("value", "kind"),
    [(GITHUB, "GitHub token"), (AGE, "age identity"), (JWT, "JSON Web Token"), (PEM, "private key")],
)
def test_a_checksum_or_structure_makes_it_certain(value: str, kind: str) -> None:
    found = judge(value)
    assert found is not None
    assert (found.kind, found.confidence) == (kind, "certain")
    assert found.shown <= 4


def test_a_wrong_checksum_is_only_likely() -> None:
    wrong = GITHUB[:-1] + ("a" if GITHUB[-1] != "a" else "b")
    found = judge(wrong)
    assert found is not None
    assert found.confidence == "likely"


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("DB_PASSWORD", "hunter2", "hunter2"),
        ("password", "Tr0ub4dor&3", "Tr0ub4dor&3"),
        ("passphrase", "correct horse battery staple", "correct horse battery staple"),
        ("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG/bPxRfiCY9zKq2Lm4Xs", "wJalrXUtnFEMI/K7MDENG/bPxRfiCY9zKq2Lm4Xs"),
        ("apiKey", "9f86d081884c7d659a2feaa0c55ad015", "9f86d081884c7d659a2feaa0c55ad015"),
        ("JIRA_API_TOKEN", "ATATnotTheRealPrefix9", "ATATnotTheRealPrefix9"),
        ("JWT_SECRET", "supersecretphrase", "supersecretphrase"),
        ("X-Api-Key", "k3yk3yk3y-123-abc", "k3yk3yk3y-123-abc"),
        ("Authorization", "Bearer zq8Vn2xL0pTr6Wk4", "zq8Vn2xL0pTr6Wk4"),
        ("Authorization", "Basic bWU6aHVudGVyMg==", "bWU6aHVudGVyMg=="),
        ("OPENAI_KEY", "a8f5f167f44f4964e6c998dee827110c", "a8f5f167f44f4964e6c998dee827110c"),
        ("DATABASE_URL", "postgres://app:s3cr3t@db.internal:5432/x?sslmode=require", "s3cr3t"),
        ("url", "https://mcp.internal/sse?api_key=Zk81mQ0vLr5tXw2b&x=1", "Zk81mQ0vLr5tXw2b"),
        ("url", "https://3f9a8b7c6d5e4f3a2b1c@errors.internal/42", "3f9a8b7c6d5e4f3a2b1c"),
        ("TELEGRAM_BOT_TOKEN", "716253849:AAH8xKmwqQ-vbnTdwXYZ173956789qwertz", "716253849:AAH8xKmwqQ-vbnTdwXYZ173956789qwertz"),
        ("githubPersonalAccessToken", "0f3a9c1e7b5d2864", "0f3a9c1e7b5d2864"),
        ("MCP_HEADERS", f'{{"Authorization": "Bearer {GITHUB}"}}', GITHUB),
    ],
)  # fmt: skip
def test_what_the_name_and_the_look_tell(name: str, value: str, found: str) -> None:
    assert secret(value, name) == found


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["curl", "-u", "me:hunter2", "https://x"], ["hunter2"]),
        (["curl", "-H", "Authorization: Bearer zq8Vn2xL0pTr6Wk4"], ["zq8Vn2xL0pTr6Wk4"]),
        (["npx", "pkg", "--api-key", "zq8Vn2xL0pTr6Wk4"], ["zq8Vn2xL0pTr6Wk4"]),
        (["npx", "pkg", "--api-key=zq8Vn2xL0pTr6Wk4"], ["zq8Vn2xL0pTr6Wk4"]),
        (["docker", "run", "-e", "API_TOKEN=zq8Vn2xL0pTr6Wk4", "img"], ["zq8Vn2xL0pTr6Wk4"]),
        (["PGPASSWORD=hunter2", "psql"], ["hunter2"]),
        (["npx", "server-postgres", "postgres://u:hunter2@db.internal/x"], ["hunter2"]),
        (["export", f"GH={GITHUB}"], [GITHUB]),
        (["echo", GITHUB, JWT], [GITHUB, JWT]),
        (["mcp-remote", "https://x", "--header", "X-Api-Key:zq8Vn2xL0pTr6Wk4"], ["zq8Vn2xL0pTr6Wk4"]),
    ],
)
def test_command_lines(words: list[str], found: list[str]) -> None:
    assert [words[at][one.start : one.end] for at, one in in_words(words)] == found


# --- benign -------------------------------------------------------------------------------------


def test_no_false_alarm_on_ordinary_configuration() -> None:
    lines = (ROOT / "fixtures/credentials/benign.jsonl").read_text().splitlines()
    assert len(lines) > 800
    assert [(name, value) for name, value in map(json.loads, lines) if judge(value, name)] == []


def test_no_false_alarm_on_our_own_documents() -> None:
    for page in sorted((ROOT.parent / "docs").rglob("*.md")):
        for line in page.read_text().splitlines():
            assert not in_words(line.split()), line


# --- near misses --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        "${GITHUB_TOKEN}", "$GITHUB_TOKEN", "%GITHUB_TOKEN%", "${input:token}", "{env:TOKEN}", "{{GITHUB_TOKEN}}", "$(pass x)",
        "keyring://callgate/x", "vault://secret/mcp#token", "op://vault/item/field", "env://TOKEN", "file:///run/secrets/x",
        "awssm://name#k", "age://store#k", "se://x", "arn:aws:secretsmanager:eu-west-1:1:secret:x", "ENC[AES256_GCM,data:zq8]",
        "<your token>", "YOUR_API_KEY", "your-api-key-here", "changeme", "change-me", "xxxxxxxxxxxxxxxx", "XXXX-XXXX-XXXX",
        "****************", "...", "sk-...", "abcdefghijklmnop", "1234567890123456", "0123456789abcdef", "aaaaaaaaaaaaaaaa",
        "REPLACE_ME", "redacted", "placeholder", "none", "true", "", "oauth2", "my-secret-token", "mytoken",
        "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "ghp_your_token_here", "sk-your-key-goes-here-please-now-ok", "OPENAI_API_KEY",
        "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "xoxb-your-slack-bot-token", "Bearer ${TOKEN}",
        "Bearer <token>", "/run/secrets/token", "~/.config/token", "C:\\keys\\token.txt", "./token.pem", "https://auth.internal/token",
        "me@mail.internal", "process.env.API_KEY", "os.environ['X']", "getToken()", "eyJhbGciOi...",
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["API_TOKEN", "token", "clientSecret", "password", "Authorization"])
def test_what_only_stands_for_a_secret(name: str, value: str) -> None:
    assert judge(value, name) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MAX_TOKENS", "4096x2048y12z"), ("TOKEN_LIMIT", "a1b2c3d4e5f6a7b8"), ("PASSWORD_FILE", "run-secrets-pw1"),
        ("SECRET_NAME", "prod-db-4f3a9c1e"), ("PUBLIC_KEY", "9f86d081884c7d659a2feaa0c55ad015"), ("keyboard", "k1l2m3n4o5"),
        ("AUTHOR", "m1a2r3y4 s5"), ("tokenizer", "cl100k_base_a1b2"), ("NEXT_PAGE_TOKEN", "a1b2c3d4e5f6a7b8"),
        ("sortKey", "created2024at09b1c2"), ("integrity", "sha512-zq8Vn2xL0pTr6Wk4Yd1sHc7uJm3bGf9eRa5oTiXlNvB2qKwE0ySzPhUjMxCgDt6"),
        ("commit", "9f86d081884c7d659a2feaa0c55ad015a1b2c3d4"), ("id", "3f2504e0-4f89-11d3-9a0c-0305e82c3301"), ("passenger", "hunter2x"),
        ("MONKEY", "a1b2c3d4e5f6a7b8"), ("AWS::SecretsManager::Secret", "f6b785ff8e74d121"), ("SSH_AUTH_SOCK", "agent.1234a5b6c7"),
        ("tokenType", "urn:x1:y2:z3a4"), ("passwordPolicy", "m1n8c2d3e4"), ("key", "pageUp"), ("model", "gpt-4o-mini-2024-07-18"),
        ("url", "https://x.internal/mcp?page=a1b2c3d4e5f6a7b8"), ("url", "postgres://postgres:postgres@localhost/x"),
        ("url", "https://user@x.internal/"), ("path", "/usr/lib/a1b2/c3d4"), ("image", "ghcr.io/x/y@sha256:9f86d081884c7d65"),
        ("", "task-sk-learn-integration-tests-for-models"), ("", "disk-sk-a1"), ("", "SGD.optimizer.momentum"),
    ],
)  # fmt: skip
def test_what_looks_like_a_secret_and_is_none(name: str, value: str) -> None:
    assert judge(value, name) is None


@pytest.mark.parametrize(
    "words",
    [
        ["npx", "-y", "@modelcontextprotocol/server-filesystem", "/home/me/notes"],
        ["docker", "run", "-e", "GITHUB_TOKEN", "-e", "A=b", "ghcr.io/github/github-mcp-server"],
        ["git", "commit", "-m", "Rotate the token: it was a1b2c3d4e5f6a7b8 before"],
        ["uvx", "--from", "git+https://x/y@9f86d081884c7d659a2feaa0c55ad015a1b2c3d4", "y"],
        ["run", "--token-file", "/run/secrets/a1b2c3d4e5", "--max-tokens", "a1b2c3d4e5f6a7b8"],
        ["psql", "-U", "app", "-u", "user:"],
    ],
)
def test_ordinary_command_lines(words: list[str]) -> None:
    assert in_words(words) == []


def test_words_of_names() -> None:
    assert words_of("githubAPIKey_2") == ["github", "api", "key", "2"]
    assert words_of("x-api-key") == ["x", "api", "key"]
    assert words_of("") == []
    assert telling("SECRET_KEY_BASE") == "secret"
    assert telling("API_KEY_1") == "secret"
    assert telling("authToken") == "secret"
    assert telling("PGPASSWORD") == "password"
    assert telling("monkey") == ""
    assert telling("vault.providers.onepassword") == ""


# --- any input ----------------------------------------------------------------------------------


@given(st.text(max_size=300), st.text(max_size=40))
def test_any_text_is_judged(value: str, name: str) -> None:
    found = judge(value, name)
    if found is not None:
        assert 0 <= found.start < found.end <= len(value)
        assert found.shown <= 4
    for at, one in in_words(value.split()):
        assert 0 <= one.start < one.end <= len(value.split()[at])


@given(st.integers(0, len(FORMATS) - 1), st.integers(), st.text(" \t\n\"'=:,;()[]{}", max_size=9))
@example(ATLASSIAN, 0, "=")
@example(BOT, 0, ":")
def test_any_surroundings(number: int, seed: int, around: str) -> None:
    token = samples.sample(FORMATS[number], random.Random(seed))
    if is_placeholder(token[4:]):
        return
    found = [one for one in formats_in(around + token + around) if one.kind == FORMATS[number].kind]
    assert [(one.start, one.end) for one in found] == [(len(around), len(around) + len(token))]


@pytest.mark.parametrize(
    ("letters", "after", "taken"),
    [
        (64, "=", 0), (64, "==", 0), (63, "=", 1), (63, "==", 1), (62, "==", 2), (62, "===", 2), (62, "=", 0),
        (61, "===", 0), (63, "=\n", 1), (63, "=&b=1", 1), (64, "/", 0), (64, ".", 0),
    ],
)  # fmt: skip
def test_padding_belongs_to_base64_and_only_as_much_as_it_needs(letters: int, after: str, taken: int) -> None:
    token = "fm2_" + "".join(random.Random(letters).choices(samples.BASE62, k=letters))
    [found] = formats_in("key=" + token + after)
    assert (found.start, found.end) == (4, 4 + len(token) + taken)


def test_a_value_with_an_equals_sign_inside_is_found_whole() -> None:
    draw = random.Random(5)
    token = "ATATT3xFfGF0" + "".join(draw.choices(samples.BASE62, k=60)) + "=" + "".join(draw.choices("0123ABCD", k=8))
    [found] = formats_in("key=" + token + "=")
    assert (found.start, found.end) == (4, 4 + len(token))


@given(st.text(max_size=80))
def test_references_and_entropy(value: str) -> None:
    assert isinstance(is_reference(value), bool)
    assert 0 <= entropy(value) <= 7


@pytest.mark.parametrize(
    "unit",
    ["sk-", "eyJ", "eyJ.", "-eyJ", "ghp_a", "fm2_=", "-----BEGIN ", "-----BEGIN PRIVATE KEY-----", "a=b&", "AKIA ", "x://?a=", "x://:@",
     "a1B", "$", "<", "A_", ": ", "xoxb-1-"],
)  # fmt: skip
def test_time_is_linear(unit: str) -> None:
    def cost(size: int) -> float:
        text = unit * (size // len(unit))
        begin = time.process_time()
        judge(text, "api_token")
        formats_in(text)
        in_words([text[:60_000], text])
        return time.process_time() - begin

    cost(10_000)
    assert cost(400_000) < 2.0


def test_a_credential_shows_nothing_of_itself() -> None:
    assert "hunter2" not in repr(judge("hunter2", "password"))
    assert isinstance(judge("hunter2", "password"), Credential)
