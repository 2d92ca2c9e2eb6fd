"""`callgate trust … --json`, and what becomes of a publisher who was known, as a pipeline sees them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from callgate.cli import trust
from callgate.errors import ConfigError
from callgate.supply import artefacts, lockfile
from tests.supply.conftest import npm, registry  # noqa: F401 - fixtures
from tests.supply.registry import Registry
from tests.supply.test_served import sigstore  # noqa: F401 - fixture

pytestmark = [
    pytest.mark.usefixtures("npm"),
    pytest.mark.xdist_group("npm"),
    pytest.mark.slow,
    pytest.mark.timeout(300),
]
NAME = "s"
LINE = ("--", "npx", "-y", "sigstore")
SERVER = {
    *[
        "kind",
        "package",
        "version",
        "purl",
        "requested",
        "url",
        "published",
        "cooldown",
        "artefacts_digest",
        "tree",
        "artefacts",
    ],
    *["install_scripts", "notes", "publisher", "provenance", "definitions"],
}


def days_ago(days: float) -> str:
    return (datetime.now(UTC) - timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%S.000Z")


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "state"
    monkeypatch.setenv("CALLGATE_STATE_DIR", str(folder))
    yield folder
    artefacts.remove(folder)


def run(capsys: pytest.CaptureFixture[str], action: str, *words: str, code: int) -> tuple[dict[str, Any], str]:
    capsys.readouterr()
    assert trust.main([action, "--json", *words]) == code
    said = capsys.readouterr()
    assert said.out.isascii()
    document = json.loads(said.out)
    assert document["version"] == 1
    assert document["action"] == action
    assert document["ok"] is (code == 0)
    return document, said.err


def test_a_pipeline(sigstore: Registry, state: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    document, words = run(capsys, "lock", NAME, "--yes", *LINE, code=0)
    (one,) = document["servers"]
    assert (one["name"], one["result"], one["warnings"]) == (NAME, "locked", [])
    assert document["lock"] == str(state / "callgate.lock")
    assert {*one["server"]} == SERVER
    assert one["server"]["version"] == "0.4.0"
    built = one["server"]["provenance"]["npm-provenance"]
    assert built["repository"] == "https://github.com/sigstore/sigstore-js"
    assert "provenance: made by https://github.com/sigstore/sigstore-js" in " ".join(words.split())

    document, _ = run(capsys, "lock", NAME, "--yes", *LINE, code=0)
    assert document["servers"][0]["result"] == "unchanged"
    document, _ = run(capsys, "verify", code=0)
    assert document["signature"] == {"asked": False}
    assert [(one["result"], one["problems"]) for one in document["servers"]] == [("ok", [])]
    document, _ = run(capsys, "update", "--yes", code=0)
    assert document["servers"][0]["result"] == "unchanged"
    document, _ = run(capsys, "diff", NAME, code=0)
    assert document["servers"][0]["result"] == "unchanged"

    # A release that nobody vouches for: a plain yes does not take it.
    sigstore.add_npm(
        "sigstore", "0.4.1", {"bin/sigstore.js": "fetch('https://new.test')"}, days_ago(30), bin="bin/sigstore.js"
    )
    document, words = run(capsys, "diff", NAME, code=1)
    (one,) = document["servers"]
    assert (one["result"], one["too_young"]) == ("changes", False)
    assert (one["before"]["version"], one["after"]["version"]) == ("0.4.0", "0.4.1")
    assert one["after"]["provenance"] == {"state": "none served"}
    assert one["publisher_change"].endswith("and is now none served")
    assert {"kind": "host", "what": "new.test", "where": "sigstore/bin/sigstore.js:1"} in one["code"]["changes"]
    assert "PUBLISHER" in words
    document, words = run(capsys, "update", "--yes", code=1)
    assert document["servers"][0]["result"] == "refused"
    assert "--new-publisher" in words
    assert lockfile.load(state / "callgate.lock").servers[NAME].version == "0.4.0"
    document, _ = run(capsys, "update", "--yes", "--new-publisher", code=0)
    assert document["servers"][0]["result"] == "updated"
    assert lockfile.load(state / "callgate.lock").servers[NAME].provenance == {"state": "none served"}

    # Something changes in the store.
    server = lockfile.load(state / "callgate.lock").servers[NAME]
    file = state / "artefacts" / server.store / "node_modules/sigstore/bin/sigstore.js"
    file.chmod(0o644)
    file.write_text("// another program")
    document, words = run(capsys, "verify", code=1)
    (one,) = document["servers"]
    assert one["result"] == "failed"
    assert "is not the one that was locked" in one["problems"][0]["what"]
    assert one["problems"][0]["next_step"]
    assert "FAILED" in words


def test_what_is_refused(registry: Registry, state: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    document, _ = run(capsys, "lock", NAME, "--yes", "--", "npx", "-y", "no-such-package", code=1)
    (one,) = document["servers"]
    assert one["result"] == "refused"
    assert "could not resolve" in one["error"]["what"]
    registry.add_npm("typescrpt", "1.0.0")
    with pytest.raises(ConfigError):
        trust.main(["lock", "--json", NAME, "--", "npx", "-y", "typescrpt"])
    said = capsys.readouterr()
    document = json.loads(said.out)
    assert document["ok"] is False
    assert "needs a yes" in document["error"]["what"]


def test_an_error_of_usage_is_a_document_too(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError):
        trust.main(["diff", "--json", "nobody"])
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is False
    assert "nobody" in document["error"]["what"]
    assert document["servers"] == []


def test_nothing_locked(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document, words = run(capsys, "verify", code=1)
    assert (document["ok"], document["servers"]) == (False, [])
    assert "nothing to verify" in document["error"]["what"] and "is not there" in document["error"]["what"]
    assert "callgate trust lock NAME -- COMMAND" in document["error"]["next_step"]
    assert "nothing to verify" in words
