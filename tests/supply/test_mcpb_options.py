"""Values for a bundle's options, in its launch line."""

from __future__ import annotations

import io
import json
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callgate.errors import TrustError
from callgate.supply.lockfile import LockedServer
from callgate.supply.mcpb_manifest import Manifest, parse_manifest
from callgate.supply.mcpb_options import values
from callgate.supply.pinned import pinned_launch
from callgate.supply.resolve import Options, lock_server

OPTIONS = {
    "folders": {"type": "directory", "required": True, "multiple": True},
    "level": {"type": "number", "default": 3},
    "loud": {"type": "boolean", "default": False},
    "title": {"type": "string"},
    "token": {"type": "string", "sensitive": True, "required": True},
}


def document(options: dict[str, Any]) -> bytes:
    return json.dumps(
        {
            "manifest_version": "0.2",
            "name": "notes",
            "version": "1.0.0",
            "description": "d",
            "author": {"name": "a"},
            "server": {
                "type": "python",
                "entry_point": "server.py",
                "mcp_config": {
                    "command": "python",
                    "args": [
                        "${__dirname}/server.py",
                        *(f"${{user_config.{name}}}" for name in options if name != "token"),
                    ],
                    "env": {"TOKEN": "${user_config.token}"} if "token" in options else {},
                },
            },
            "user_config": options,
        }
    ).encode()


def manifest(options: dict[str, Any] | None = None) -> Manifest:
    return parse_manifest(document(OPTIONS if options is None else options))


def test_values_by_name(tmp_path: Path) -> None:
    found = values(manifest(), ["folders=/srv/a", "level=2.5", "folders=b", "loud=true", "title=a=b c"], tmp_path)
    assert found == {
        "folders": ["/srv/a", str(tmp_path / "b")],
        "level": "2.5",
        "loud": "true",
        "title": "a=b c",
        "token": "-",
    }


@pytest.mark.parametrize(
    ("words", "says", "advice"),
    [
        ([], "asks for a value of 'folders' (directory)", "BUNDLE.mcpb folders=VALUE"),
        (["folders="], "is empty", "folders=VALUE (directory)"),
        (["folders=/a", "level=x"], "is not a number", "level=VALUE (number)"),
        (["folders=/a", "level=nan"], "is not a number", "level=VALUE"),
        (["folders=/a", "loud=yes"], "is neither true nor false", "loud=VALUE (boolean)"),
        (["folders=/a", "title=a", "title=b"], "takes one value", "give one"),
        (["folders=/a", "token=abc"], "is a secret", "secret store"),
        (["folders=/a", "other=1"], "no option 'other'", "folders=VALUE (directory)"),
        (["/a"], "no option '/a'", "it has: folders=VALUE"),
        (["folders"], "no option 'folders'", "it has: folders=VALUE"),
        (["=x"], "no option ''", "it has"),
    ],
)
def test_what_is_no_value(tmp_path: Path, words: list[str], says: str, advice: str) -> None:
    with pytest.raises(TrustError) as caught:
        values(manifest(), words, tmp_path)
    assert says in caught.value.what
    assert advice in (caught.value.next_step or "")
    assert "abc" not in str(caught.value)


def test_a_bundle_without_options(tmp_path: Path) -> None:
    assert values(manifest({}), [], tmp_path) == {}
    with pytest.raises(TrustError) as caught:
        values(manifest({}), ["--help"], tmp_path)
    assert "no options to be given" in (caught.value.next_step or "")


@given(
    words=st.lists(st.one_of(st.text(max_size=30), st.builds("{}={}".format, st.sampled_from([*OPTIONS]), st.text())))
)
def test_any_words(words: list[str]) -> None:
    try:
        found = values(manifest(), words, Path("/base"))
    except TrustError as error:
        assert error.next_step
    else:
        assert all(one.startswith("/") for one in found["folders"])
        assert found["token"] == "-"


def bundle(path: Path, options: dict[str, Any]) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("manifest.json", document(options))
        archive.writestr("server.py", "import sys; print(*sys.argv[1:])\n")
    path.write_bytes(out.getvalue())


def lock(line: tuple[str, ...], state: Path, cwd: Path) -> LockedServer:
    return lock_server("notes", line, state=state, options=Options(cwd=cwd))


def test_a_bundle_with_a_required_option_is_locked_with_its_value(tmp_path: Path, state: Path) -> None:
    bundle(tmp_path / "notes.mcpb", {**OPTIONS, "folders": {"type": "directory", "required": True}})
    with pytest.raises(TrustError, match="asks for a value of 'folders'"):
        lock(("notes.mcpb",), state, tmp_path)
    line = ("notes.mcpb", "folders=/srv/notes", "title=Mine")
    server = lock(line, state, tmp_path)
    assert "mcpb-secret TOKEN" in server.notes
    found = pinned_launch("notes", line, [state / "callgate.lock"], state)
    assert found is not None
    assert "TOKEN" not in found.environment
    done = subprocess.run(found.argv, capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == "/srv/notes 3 false Mine"
    other = (*line[:1], "folders=/srv/mail")
    with pytest.raises(TrustError, match="is not the one that was locked"):
        pinned_launch("notes", other, [state / "callgate.lock"], state)


def test_a_value_cannot_stand_for_a_place_of_the_lock(tmp_path: Path, state: Path) -> None:
    bundle(tmp_path / "notes.mcpb", {"title": {"type": "string"}})
    with pytest.raises(TrustError, match="stands for something else in a lock"):
        lock(("notes.mcpb", "title={store}"), state, tmp_path)
