"""Configuration files: what is read of them, and what a start keeps for the next."""

from __future__ import annotations

import marshal
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from callgate.config import Config, reader
from callgate.config.reader import load
from callgate.errors import ConfigError


def test_an_empty_file_is_a_configuration(tmp_path: Path) -> None:
    file = tmp_path / "callgate.toml"
    file.write_text("")
    config = load(file)
    assert config == Config(source=str(file))
    assert config.mode == "enforce"
    assert config.listen.host == "127.0.0.1"


def test_unreadable_files_are_explained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no configuration"):
        load(tmp_path / "none.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("mode = \n")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load(broken)
    broken.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load(broken)


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    file = tmp_path / "callgate.toml"
    file.write_text('state_dir = "state"\n[listen]\ntoken_file = "token"\n')
    config = load(file)
    assert config.state_dir == str(tmp_path / "state")
    assert config.listen.token_file == str(tmp_path / "token")


@pytest.mark.skipif(sys.platform != "linux", reason="the XDG rule")
@pytest.mark.parametrize("own", ["callgate.toml", ""])
def test_a_command_works_with_what_was_named_then_the_users_own_then_the_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str
) -> None:
    monkeypatch.delenv("CALLGATE_CONFIG")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "callgate").mkdir()
    if own:
        (tmp_path / "callgate" / own).write_text('mode = "observe"\n')
    named = tmp_path / "named.toml"
    named.write_text("")
    assert reader.configured(str(named)) == Config(source=str(named))
    usual = str(tmp_path / "callgate" / own)
    assert reader.configured() == (Config(mode="observe", source=usual) if own else Config())


def test_a_configuration_without_end_is_not_read() -> None:
    with pytest.raises(ConfigError, match="larger than"):
        load("/dev/zero")


TEXT = '[launch]\nunpinned = "refuse"\n[servers.s.sandbox]\nread = ["/srv/a"]\ncpus = 1.5\n'


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CALLGATE_STATE_DIR", str(tmp_path / "state"))
    path = tmp_path / "callgate.toml"
    path.write_text(TEXT)
    return path


def kept(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "state" / "cache").glob("settings-*"))


def start(path: Path, **options: Any) -> Config:
    return load(path, kept=True, **options)


@pytest.fixture
def parser(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What was parsed, in order."""
    seen: list[bytes] = []
    real = reader._from_toml

    def counted(path: Any, content: bytes) -> dict[str, Any]:
        seen.append(content)
        return real(path, content)

    monkeypatch.setattr(reader, "_from_toml", counted)
    return seen


def test_the_second_start_parses_nothing(settings: Path, tmp_path: Path, parser: list[bytes]) -> None:
    assert start(settings) == start(settings) == load(settings)
    assert len(parser) == 2  # the first start, and `load` without `kept`
    (file,) = kept(tmp_path)
    assert file.stat().st_mode & 0o777 == 0o600


def test_one_changed_byte_is_parsed_anew(settings: Path, tmp_path: Path, parser: list[bytes]) -> None:
    start(settings)
    for text in (TEXT.replace("refuse", "allow "), TEXT + "\n", TEXT[:-1], "", TEXT):
        settings.write_text(text.replace("allow ", "allow"))
        assert start(settings) == load(settings)
    assert len(parser) == 11
    assert len(kept(tmp_path)) == 1


def test_another_files_document_is_never_taken(settings: Path, tmp_path: Path) -> None:
    """Two long paths with one ending share a place."""
    deep = tmp_path / "a" / ("d" * 120)
    other = tmp_path / "b" / ("d" * 120)
    for folder, text in ((deep, TEXT), (other, TEXT.replace("refuse", "allow"))):
        folder.mkdir(parents=True)
        (folder / "callgate.toml").write_text(text)
    for _ in range(2):
        assert start(deep / "callgate.toml").launch.unpinned == "refuse"
        assert start(other / "callgate.toml").launch.unpinned == "allow"
    assert len(kept(tmp_path)) == 1


FORGED = {"launch": {"sandbox": "none"}}


@pytest.mark.parametrize(
    "how",
    ["mode", "link", "cut", "other version", "rubbish", "no document", "no place", "half a letter", "pipe", "owner"],
)
def test_what_is_not_ours_and_whole_counts_as_absent(
    settings: Path, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(settings)
    (file,) = kept(tmp_path)
    forged = reader._HEAD + reader._digest(TEXT.encode()) + marshal.dumps(FORGED)
    file.write_bytes(forged)
    assert start(settings).launch.sandbox == "none"  # so this is what must not come from anybody else
    if how == "mode":
        file.chmod(0o640)
    elif how == "link":
        file.rename(tmp_path / "elsewhere")
        file.symlink_to(tmp_path / "elsewhere")
    elif how == "cut":
        file.write_bytes(forged[:-3])
    elif how == "other version":
        file.write_bytes(forged.replace(reader._HEAD[:18], b"callgate-parsed-0 "))
    elif how == "rubbish":
        file.write_bytes(reader._HEAD + reader._digest(TEXT.encode()) + b"\xff\xff")
    elif how == "no document":
        file.write_bytes(reader._HEAD + reader._digest(TEXT.encode()) + marshal.dumps(["launch"]))
    elif how in ("no place", "half a letter"):
        settings.write_text(TEXT + "# é")
        start(settings)
        size = len(settings.read_bytes())
        place = {"no place": ("a", "b"), "half a letter": (size - 1, size)}[how]
        made = reader._HEAD + reader._digest(settings.read_bytes()) + marshal.dumps({"launch": {"sandbox": place}})
        file.write_bytes(made)
    elif how == "pipe":
        file.unlink()
        os.mkfifo(file, 0o600)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
        monkeypatch.setattr(reader, "state_path", reader.state_place)  # it would refuse the directory
    assert start(settings).launch.sandbox == "auto"


def test_a_file_that_names_its_state_directory_is_not_kept(settings: Path, tmp_path: Path, parser: list[bytes]) -> None:
    """The usual one may be open to a server whose gate keeps its state elsewhere; and nothing is made there."""
    settings.write_text(f'state_dir = "{tmp_path / "own"}"\n')
    start(settings)
    start(settings)
    assert len(parser) == 2 and not (tmp_path / "state").exists()
    assert start(settings, state=str(tmp_path / "third")).state_dir == str(tmp_path / "own")
    assert not (tmp_path / "third").exists()


def test_it_is_kept_where_the_command_line_says(settings: Path, tmp_path: Path) -> None:
    start(settings, state=str(tmp_path / "third"))
    assert [path.name for path in (tmp_path / "third" / "cache").iterdir()] and not kept(tmp_path)


@pytest.mark.parametrize(
    "text", ["launch = 1979-05-27", "x = ", "mode = 'quick'", "\x00", "# " + "x" * reader._MOST_KEPT]
)
def test_what_cannot_be_kept_is_as_without(settings: Path, tmp_path: Path, text: str) -> None:
    settings.write_text(text)
    results = []
    for way in (start, start, load):
        try:
            results.append(repr(way(settings)))
        except ConfigError as error:
            results.append(error.diagnostics())
    assert results[0] == results[1] == results[2]


def test_a_directory_that_cannot_be_written_is_no_error(settings: Path, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "state" / "cache").write_text("a file where the directory should be")
    assert start(settings) == load(settings)


@pytest.mark.parametrize(
    "text",
    [
        '[servers.a]\nurl = "https://a.example/mcp"\nheaders = { Authorization = "Bearer TOKEN-1" }\n',
        '[servers.a]\nurl = "https://a.example/TOKEN-1/mcp"\n',
        '[servers.a]\ncommand = ["a", "--api-key", "TOKEN-1"]\n',
        '[servers.a]\ncommand = ["a"]\nenvironment = { "é" = "é", KEY = "TOKEN-1", NONE = "" }\n',
        '[launch]\nvariables = { npm_config__auth = "TOKEN-1" }\n',
        '[servers.a]\ncommand = ["a"]\nsandbox.egress_proxy = "http://me:TOKEN-1@10.0.0.1:3128"\n',
        '# the old key was TOKEN-1\n[launch]\nunpinned = "refuse"\n',
    ],
    ids=["header", "address", "argument", "variable", "program", "proxy", "comment"],
)
def test_no_secret_is_copied_and_yet_nothing_parsed_again(
    settings: Path, tmp_path: Path, parser: list[bytes], text: str
) -> None:
    settings.write_text(text)
    assert start(settings) == start(settings)
    assert len(parser) == 1
    assert start(settings) == load(settings)
    (file,) = kept(tmp_path)
    assert b"TOKEN-1" not in file.read_bytes()


@pytest.mark.parametrize("written", ['"TOKEN\\u002d1"', '"""TOKEN\\\n  -1"""', '["TOKEN-1", 1]', "86421357"])
def test_a_secret_that_does_not_stand_in_the_file_as_it_is_meant_is_not_kept(
    settings: Path, tmp_path: Path, parser: list[bytes], written: str
) -> None:
    settings.write_text(f"[launch]\nvariables = {{ npm_config__auth = {written} }}\n".replace("\\n", "\n"))
    for number in (1, 2):
        try:
            assert start(settings).launch.variables == {"npm_config__auth": "TOKEN-1"}
        except ConfigError as error:
            assert "must be a string" in error.what
        assert len(parser) == number
    assert not kept(tmp_path)


def test_what_holds_none_is_kept(settings: Path, tmp_path: Path) -> None:
    start(settings)
    (file,) = kept(tmp_path)
    assert b"/srv/a" in file.read_bytes()


def test_what_a_killed_process_of_our_number_left_keeps_nobody_for_long(settings: Path, tmp_path: Path) -> None:
    """In a container callgate may have the same number at every start."""
    start(settings)
    (file,) = kept(tmp_path)
    left = file.with_name(f"{file.name}.{os.getpid()}")
    file.rename(left)
    left.write_bytes(b"half of it")
    start(settings)
    start(settings)
    assert kept(tmp_path) == [file]


@pytest.mark.parametrize("text", ["x = " + "[" * 5000 + "]" * 5000, "x = " + "1" * 5000])
def test_what_the_parser_cannot_take_is_a_mistake_of_the_file(settings: Path, text: str) -> None:
    settings.write_text(text)
    for way in (start, load):
        with pytest.raises(ConfigError, match=r"nested too deeply|is not valid TOML"):
            way(settings)
