"""What a catalogue denies is not locked, and neither is anything while its list is not known."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest

from callgate.errors import TrustError
from callgate.supply.lockfile import Artefact, Entry, LockedServer
from callgate.supply.resolve_checks import package_warnings, refuse

DENIED = [
    {"purl": "pkg:npm/mail", "versions": ["1.0.16"], "reason": "sends\x1b copies"},
    {"purl": "pkg:pypi/Deep_Dep", "fixed": "2.0"},
]


def catalogued(state: Path, days: float = 1) -> None:
    """A catalogue as it lies in a state directory after it was fetched and verified."""
    folder = state / "catalogue" / "team"
    folder.mkdir(parents=True)
    content = orjson.dumps({"format": 1, "denied": DENIED})
    digest = hashlib.sha256(content).hexdigest()
    expires = datetime.now(UTC) + timedelta(days=days)
    about = {"version": 1, "expires": expires.strftime("%Y-%m-%dT%H:%M:%SZ"), "fetched": "2026-01-01T00:00:00Z"}
    (folder / "source.json").write_bytes(orjson.dumps({"url": "https://catalogue.example/"}))
    (folder / "verified.json").write_bytes(orjson.dumps({**about, "sha256": digest}))
    (folder / f"content-{digest}.json").write_bytes(content)


def server(kind: str, name: str, version: str, *needs: str) -> LockedServer:
    found = tuple(Artefact(one, "sha256:" + "0" * 64) for one in (f"pkg:{kind}/{name}@{version}", *needs))
    return LockedServer(
        "mail", ("x",), kind, Entry(("x",)), purl=found[0].purl, package=name, version=version, artefacts=found
    )


@pytest.mark.parametrize(
    ("one", "denied"),
    [
        (server("npm", "mail", "1.0.16"), "pkg:npm/mail@1.0.16"),
        (server("npm", "mail", "1.0.15"), ""),
        (server("npm", "zzz-own-thing", "1.0.0", "pkg:npm/mail@1.0.16"), "pkg:npm/mail@1.0.16"),
        (server("pypi", "zzz-own-thing", "1.0", "pkg:pypi/deep-dep@1.9"), "pkg:pypi/deep-dep@1.9"),
        (server("pypi", "zzz-own-thing", "1.0", "pkg:pypi/deep-dep@2.0"), ""),
        (server("pypi", "mail", "1.0.16"), ""),
    ],
)
def test_what_is_denied_is_refused(one: LockedServer, denied: str, tmp_path: Path) -> None:
    catalogued(tmp_path)
    warned = [each for each in package_warnings(one, tmp_path) if "catalogue" in each.text]
    assert [each.text.partition(":  ")[0].split(": denied")[0] for each in warned] == ([denied] if denied else [])
    assert all(each.refuses and "\x1b" not in each.text for each in warned)
    if denied:
        with pytest.raises(TrustError, match="denied by the catalogue team"):
            refuse(one, tmp_path)


def test_an_expired_catalogue_lets_nothing_pass(tmp_path: Path) -> None:
    catalogued(tmp_path, days=-1)
    (warned,) = package_warnings(server("npm", "zzz-own-thing", "1.0.0"), tmp_path)
    assert warned.refuses
    assert "expired" in warned.text and "callgate trust catalogue update team" in warned.text


def test_without_a_catalogue_nothing_is_said(tmp_path: Path) -> None:
    assert package_warnings(server("npm", "zzz-own-thing", "1.0.0"), tmp_path) == []
