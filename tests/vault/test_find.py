"""Finding credentials in files: every kind of file, the limits, and what is never shown."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callgate.clients.formats import parse
from callgate.vault.find import Fingerprints, Hit, Search
from callgate.vault.find_files import Files, Limits
from callgate.vault.find_places import format_of, histories, is_env_file
from callgate.vault.find_text import READERS, assignments, in_env_file, in_history, split_words
from callgate.vault.find_tree import in_document
from callgate.vault.find_walk import Walk
from tests.detect import credential_samples as samples

DRAW = random.Random(5)
GITHUB = samples.github(DRAW)
PEM = samples.pem(DRAW)
ENCRYPTED = samples.pem(DRAW, "ENCRYPTED PRIVATE KEY")


def found(reader: str, text: str) -> list[tuple[int, str, str]]:
    """Line, key and value of each."""
    return [(text.count("\n", 0, hit.start) + 1, hit.key, hit.value) for hit in READERS[reader](text)]


@pytest.mark.parametrize(
    ("reader", "text", "want"),
    [
        ("env", "A=1\nexport TOKEN='zq8Vn2xL0pTr6Wk4' # c\n", [(2, "TOKEN", "zq8Vn2xL0pTr6Wk4")]),
        ("env", 'DB_PASSWORD="hunter2"\r\nX="y"\r\n', [(1, "DB_PASSWORD", "hunter2")]),
        ("env", "DATABASE_URL=postgres://u:s3cr3t@db.internal/x\n", [(1, "DATABASE_URL", "s3cr3t")]),
        ("env", " PASSWORD = hunter2 # not this\n# PASSWORD=hunter3\n", [(1, "PASSWORD", "hunter2")]),
        ("env", "TOKEN=${OTHER}\nTOKEN=keyring://a/b\nPASSWORD=\nAPI_KEY=your-key-here\nMAX_TOKENS=4096\n", []),
        ("history", f": 1700000000:0;export GH={GITHUB}\n", [(1, "GH", GITHUB)]),
        ("history", "ls\nPGPASSWORD=hunter2 psql -h x\ncurl -u 'me:hunter2' https://x\n", [(2, "psql", "hunter2"), (3, "curl", "hunter2")]),
        ("history", f"- cmd: gh auth login --with-token {GITHUB}\n  when: 1700000000\n", [(1, "gh", GITHUB)]),
        ("history", f'echo "see {GITHUB}"\n', [(1, "echo", GITHUB)]),
        ("history", "git commit -m 'the password is changed'\nexport TOKEN=$(pass show x)\ncurl -u me: x\n", []),
        ("netrc", "machine a\n  login me\n  password hunter2\nmachine b login password password zq8\n", [(3, "a", "hunter2"), (4, "b", "zq8")]),
        ("ini", "[default]\naws_secret_access_key = wJalrXUtnFEMIK7MDENGbPxRfiCY9zKq2Lm4Xs0A\n", [(2, "default.aws_secret_access_key", "wJalrXUtnFEMIK7MDENGbPxRfiCY9zKq2Lm4Xs0A")]),
        ("ini", "//npm.internal/:_authToken=zq8Vn2xL0pTr6Wk4Zq\nstrict-ssl=true\n", [(1, "_authToken", "zq8Vn2xL0pTr6Wk4Zq")]),
        ("urls", "https://me:hunter2@git.internal\nhttps://me@git.internal\n", [(1, "git.internal", "hunter2")]),
        ("pgpass", "db.internal:5432:*:app:hun\\:ter2\n# a:b:c:d:e\n", [(1, "db.internal", "hun\\:ter2")]),
        ("whole", "\nhvs-zq8Vn2xL0pTr\n", [(2, "", "hvs-zq8Vn2xL0pTr")]),
        ("key", PEM, [(1, "", PEM)]),
        ("key", ENCRYPTED, []),
        ("text", f"a b {GITHUB}.", [(1, "", GITHUB)]),
    ],
)  # fmt: skip
def test_files_of_lines(reader: str, text: str, want: list[tuple[int, str, str]]) -> None:
    got = found(reader, text)
    assert [(line, value) for line, _, value in got] == [(line, value) for line, _, value in want]
    assert [key for _, key, _ in got if reader != "history"] == [key for _, key, _ in want if reader != "history"]


def test_an_encrypted_key_of_openssh_is_none() -> None:
    import base64

    body = base64.b64encode(b"openssh-key-v1\0\0\0\0\x0aaes256-ctr" + bytes(80)).decode()
    text = f"-----BEGIN OPENSSH PRIVATE KEY-----\n{body}\n-----END OPENSSH PRIVATE KEY-----\n"
    assert found("key", text) == []


@pytest.mark.parametrize(
    ("format_", "text", "want"),
    [
        ("json", '{"a": {"env": {"API_TOKEN": "zq8Vn2xL0pTr6Wk4", "DEBUG": "1"}}}', [("a.env.API_TOKEN", False)]),
        ("json", '{"args": ["-y", "pkg", "--api-key", "zq8Vn2xL0pTr6Wk4"]}', [("args[3]", True)]),
        ("json", '{"command": "npx pkg --api-key=zq8Vn2xL0pTr6Wk4"}', [("command", True)]),
        ("json", '{"headers": {"Authorization": "Bearer zq8Vn2xL0pTr6Wk4"}}', [("headers.Authorization", False)]),
        ("toml", '[x]\npassword = "hunter2"\nref = "keyring://a/b"\n', [("x.password", False)]),
        ("yaml", "x:\n  tokens:\n    - zq8Vn2xL\n  api_key: 'zq8Vn2xL0pTr6Wk4'\n", [("x.api_key", False)]),
        ("json", '{"url": "https://x.internal/?token=zq8Vn2xL0pTr6Wk4"}', [("url", False)]),
        ("json", '{"env": {"TOKEN": "${TOKEN}", "MODEL": "gpt-4o-2024-08-06"}, "args": ["--max-tokens", "8192a1b2c3"]}', []),
    ],
)  # fmt: skip
def test_documents(format_: str, text: str, want: list[tuple[str, bool]]) -> None:
    hits = list(in_document(parse(format_, text)))  # type: ignore[arg-type]
    assert [(hit.key, hit.in_arguments) for hit in hits] == want
    assert all(hit.value in text[hit.start : hit.end] for hit in hits)


def test_words_as_a_shell_cuts_them() -> None:
    assert split_words('a \'b c\'"d\\"e" f\\ g;h | i') == ["a", 'b cd"e', "f g", "h", "i"]
    assert split_words("x ''") == ["x", ""]
    assert split_words("open 'quote") == ["open", "quote"]


def test_names_of_files() -> None:
    assert [is_env_file(name) for name in (".env", ".env.local", "prod.env", ".env.example", "env.ts", ".environment")] == [
        True, True, True, False, False, False,
    ]  # fmt: skip
    assert format_of("id_ed25519") == "key"
    assert format_of("id_ed25519.pub") == ""
    assert format_of("mcp.json") == "json"
    assert histories("/h", {"HISTFILE": "/x/hist"})[0] == "/x/hist"


# --- files and limits ---------------------------------------------------------------------------


def walk(home: Path, limits: Limits | None = None) -> tuple[Search, Walk]:
    search = Search(Fingerprints(b"k" * 32), limits)
    return search, Walk(search, str(home), parse)  # type: ignore[arg-type]


def test_known_places_of_a_home(tmp_path: Path) -> None:
    files = {
        ".bash_history": "PGPASSWORD=hunter2 psql\n",
        ".netrc": "machine x password hunter2\n",
        ".aws/credentials": f"[p]\naws_session_token = {GITHUB}\n",
        ".docker/config.json": '{"auths": {"r": {"auth": "bWU6aHVudGVyMjM0NTY3ODkw"}}}',
        ".config/gh/hosts.yml": f"github.com:\n  oauth_token: {GITHUB}\n",
        ".ssh/id_ed25519": PEM,
        ".ssh/id_ed25519.pub": "ssh-ed25519 AAAA me",
        ".kube/config": "users:\n- user:\n    token: zq8Vn2xL0pTr6Wk4\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o600)
    search, walker = walk(tmp_path)
    walker.known_places({})
    report = search.report()
    assert {os.path.relpath(one.path, tmp_path) for one in report.findings} == set(files) - {".ssh/id_ed25519.pub"}
    assert all(one.mode == "0600" and one.readers == "owner" for one in report.findings)
    same = {one.digest for one in report.findings if one.kind == "GitHub token"}
    assert len(same) == 1
    assert "hunter2" not in repr(report)
    assert GITHUB not in repr(report)
    assert {one.shown for one in report.findings} == {"…", "ghp_…", "zq…", "bW…"} - {"zq…"}


def test_a_link_out_is_not_followed_and_said(tmp_path: Path) -> None:
    home, outside = tmp_path / "home", tmp_path / "outside"
    home.mkdir()
    outside.mkdir()
    (outside / "hist").write_text("PGPASSWORD=hunter2 psql\n")
    (home / ".bash_history").symlink_to(outside / "hist")
    (home / "real").write_text("PGPASSWORD=hunter2 psql\n")
    (home / ".zsh_history").symlink_to(home / "real")
    (home / "sub").symlink_to(outside)
    (outside / ".env").write_text("PASSWORD=hunter2\n")
    search, walker = walk(home)
    walker.known_places({})
    walker.env_files(str(home))
    report = search.report()
    assert [os.path.basename(one.path) for one in report.findings] == [".zsh_history"]
    assert (str(home / ".bash_history"), "a link that leads elsewhere") in report.skipped


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(file_bytes=1024), "larger than 0 MiB"),
        (Limits(files=1), "the limit of files"),
        (Limits(total_bytes=10), "the limit of files"),
        (Limits(depth=0), "deeper than"),
        (Limits(entries=1), "more than 1 names"),
    ],
)
def test_limits_are_said(tmp_path: Path, limits: Limits, reason: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / ".env").write_text("PASSWORD=hunter2\n" + "#" * 2000)
    (tmp_path / "b.env").write_text("PASSWORD=hunter3\n")
    (tmp_path / "a/.env").write_text("PASSWORD=hunter4\n")
    search, walker = walk(tmp_path, limits)
    walker.env_files(str(tmp_path))
    assert any(why.startswith(reason) for _, why in search.report().skipped)


def test_the_end_of_a_large_history_is_read(tmp_path: Path) -> None:
    (tmp_path / ".bash_history").write_text("ls\n" * 2000 + "PGPASSWORD=hunter2 psql\n")
    search, walker = walk(tmp_path, Limits(file_bytes=1024))
    walker.known_places({})
    report = search.report()
    assert len(report.findings) == 1
    assert report.skipped[0][1].endswith("its end was")


@pytest.mark.parametrize(
    ("folder", "mode", "readers"),
    [(0o755, 0o644, "everyone"), (0o755, 0o640, "group"), (0o755, 0o600, "owner"), (0o700, 0o644, "owner"), (0o750, 0o604, "owner")],
)  # fmt: skip
def test_who_can_read_a_file(folder: int, mode: int, readers: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as made:
        os.chmod(made, folder)
        path = Path(made) / ".env"
        path.write_text("PASSWORD=hunter2\n")
        path.chmod(mode)
        search, walker = walk(Path(made))
        walker.env_files(made)
        (one,) = search.report().findings
        assert one.readers == readers
        assert bool(one.rotate) == (readers != "owner")


def test_special_files_are_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ".netrc")
    (tmp_path / ".bash_history").write_bytes(b"\0PASSWORD=hunter2\n")
    search, walker = walk(tmp_path)
    walker.known_places({})
    report = search.report()
    assert report.findings == ()
    assert (str(tmp_path / ".netrc"), "not a regular file") in report.skipped


def test_a_server_directory_is_not_the_home(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PASSWORD=hunter2\n")
    (tmp_path / "srv/node_modules/x").mkdir(parents=True)
    (tmp_path / "srv/node_modules/x/.env").write_text("PASSWORD=hunter2\n")
    (tmp_path / "srv/config.json").write_text('{"password": "hunter2"}')
    (tmp_path / "srv/broken.json").write_text('{"password": "hunter2"')
    search, walker = walk(tmp_path)
    walker.server_directory(str(tmp_path))
    walker.server_directory("/")
    walker.server_directory(str(tmp_path / "srv"))
    report = search.report()
    assert [os.path.basename(one.path) for one in report.findings] == ["config.json"]
    assert len([why for _, why in report.skipped if "whole home" in why]) == 2


def test_fingerprints_need_the_key_of_this_state(tmp_path: Path) -> None:
    one, again = Fingerprints.of_state(tmp_path / "a"), Fingerprints.of_state(tmp_path / "a")
    other = Fingerprints.of_state(tmp_path / "b")
    assert one.of("hunter2") == again.of("hunter2") != other.of("hunter2")
    assert len(one.of("hunter2")) == 8
    key = tmp_path / "a/secrets/fingerprint.key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in key.parent.iterdir()] == ["fingerprint.key"]


# --- any input ----------------------------------------------------------------------------------


@given(st.sampled_from(sorted(READERS)), st.text(st.characters(codec="utf-8"), max_size=400))
def test_any_text(reader: str, text: str) -> None:
    for hit in READERS[reader](text):
        assert isinstance(hit, Hit)
        assert 0 <= hit.start < hit.end <= len(text)
        assert hit.value not in repr(hit) or len(hit.value) < 6


@given(st.lists(st.tuples(st.from_regex(r"[A-Z_]{1,12}", fullmatch=True), st.from_regex(r"[!-~]{1,20}", fullmatch=True)), max_size=5))  # fmt: skip
def test_values_of_an_env_file_stand_where_it_says(pairs: list[tuple[str, str]]) -> None:
    text = "".join(f"{name}={value}\n" for name, value in pairs)
    for name, start, end in assignments(text):
        assert name in dict(pairs)
        assert (
            text[start:end] in {value for _, value in pairs} | {value[1:-1] for _, value in pairs}
            or text[start - 1] in "'\"`"
        )
    assert all(text[hit.start : hit.end] == hit.value for hit in in_env_file(text))


@given(st.text(max_size=200))
def test_any_history(line: str) -> None:
    list(in_history(line))
    assert all(isinstance(word, str) for word in split_words(line))


@given(st.text("abk=:@?-uU /.'\"pasword tkn1234", max_size=60))
def test_no_command_is_passed_over_that_has_one(line: str) -> None:
    from callgate.detect.credentials import in_words

    if in_words(split_words(line)):
        assert list(in_history(line))


@pytest.mark.parametrize("name", ["PASSWORD", "DB_PWD", "X_PW", "A_PAT", "JWT", "COOKIE", "API_CREDS", "SESSION", "DSN", "OTP", "SID", "AUTH", "SALT"])  # fmt: skip
def test_every_telling_name_is_looked_at(name: str) -> None:
    assert [hit.value for hit in in_history(f"export {name}=zq8Vn2xL0pTr6Wk4Zq8Vn2xL0\n")] == [
        "zq8Vn2xL0pTr6Wk4Zq8Vn2xL0"
    ]


def test_reading_never_raises(tmp_path: Path) -> None:
    files = Files(Limits())
    assert files.read(str(tmp_path / "none")) is None
    assert files.read(str(tmp_path)) is None
    assert str(tmp_path) in files.skipped
