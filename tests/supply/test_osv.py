from __future__ import annotations

import copy
import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.version import Version

from callgate.errors import TrustError
from callgate.supply import osv, osv_export
from callgate.supply.version_order import pep440_key, semver_key


def record(number: str, ecosystem: str, name: str, **affected: Any) -> dict[str, Any]:
    affected = {"package": {"ecosystem": ecosystem, "name": name}, **affected}
    return {"id": number, "modified": "2026-01-01T00:00:00Z", "summary": f"about {name}", "affected": [affected]}


def events(kind: str, *marks: str) -> list[dict[str, Any]]:
    return [{"type": kind, "events": [dict([mark.split("=")]) for mark in marks]}]


RECORDS = [
    record("MAL-2025-1", "npm", "postmark-mcp", versions=["1.0.16", "1.0.17", "1.0.18"]),
    record("MAL-2025-2", "npm", "@evil/mcp", ranges=events("SEMVER", "introduced=0")),
    record("MAL-2025-3", "PyPI", "Evil_Pkg"),
    record("GHSA-1", "npm", "mcp-remote", ranges=events("SEMVER", "introduced=0.0.5", "fixed=0.1.16")),
    record(
        "GHSA-2",
        "npm",
        "two",
        ranges=events("SEMVER", "introduced=1.0.0", "fixed=1.2.0", "introduced=2.0.0", "fixed=2.1.0"),
    ),
    record("GHSA-3", "npm", "last", ranges=events("SEMVER", "introduced=0", "last_affected=1.5.0")),
    record(
        "PYSEC-1",
        "PyPI",
        "mcp-server-git",
        ranges=events("ECOSYSTEM", "introduced=0", "fixed=2025.7.1"),
        versions=["0.6.2"],
    ),
    record("PYSEC-2", "PyPI", "pre", ranges=events("ECOSYSTEM", "introduced=1.0a1", "fixed=1.0")),
    record("GO-1", "Go", "example.test/x", ranges=events("SEMVER", "introduced=0")),
    {
        **record("GHSA-W", "npm", "mcp-remote", ranges=events("SEMVER", "introduced=0")),
        "withdrawn": "2025-01-01T00:00:00Z",
    },
]


def export(*records: Any) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for count, one in enumerate(records):
            data = one if isinstance(one, bytes) else json.dumps(one).encode()
            archive.writestr(f"{count}.json", data)
    return out.getvalue()


@pytest.fixture(scope="module")
def state(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("osv")
    (place / "all.zip").write_bytes(export(*RECORDS))
    loaded = osv.load(place / "all.zip", place)
    assert (loaded.records, loaded.malicious, loaded.withdrawn, loaded.unreadable) == (8, 3, 1, 0)
    return place


@pytest.mark.parametrize(
    ("purl", "ids"),
    [
        ("pkg:npm/postmark-mcp@1.0.16", ["MAL-2025-1"]),
        ("pkg:npm/postmark-mcp@1.0.15", []),
        ("pkg:npm/postmark-mcp@1.0.19", []),
        ("pkg:npm/postmark-mcp", ["MAL-2025-1"]),
        ("pkg:npm/%40evil/mcp@99.0.0", ["MAL-2025-2"]),
        ("pkg:npm/@evil/mcp@99.0.0", ["MAL-2025-2"]),
        ("pkg:npm/mcp@1.0.0", []),
        ("pkg:pypi/evil-pkg@3", ["MAL-2025-3"]),
        ("pkg:pypi/evil.pkg@weird", ["MAL-2025-3"]),
        ("pkg:npm/mcp-remote@0.1.15", ["GHSA-1"]),
        ("pkg:npm/mcp-remote@0.1.16", []),
        ("pkg:npm/mcp-remote@0.1.16-beta.1", ["GHSA-1"]),
        ("pkg:npm/mcp-remote@0.0.4", []),
        ("pkg:npm/two@1.1.9", ["GHSA-2"]),
        ("pkg:npm/two@1.2.0", []),
        ("pkg:npm/two@2.0.5+build.7", ["GHSA-2"]),
        ("pkg:npm/two@2.1.0", []),
        ("pkg:npm/last@1.5.0", ["GHSA-3"]),
        ("pkg:npm/last@1.5.1", []),
        ("pkg:pypi/mcp_server_git@2025.4.8", ["PYSEC-1"]),
        ("pkg:pypi/mcp-server-git@2025.7.1", []),
        ("pkg:pypi/pre@1.0rc1", ["PYSEC-2"]),
        ("pkg:pypi/pre@1.0", []),
        ("pkg:pypi/pre@1.0.post1", []),
        ("pkg:npm/mcp-server-git@0.6.2", []),  # the other ecosystem
    ],
)
def test_which_versions_are_concerned(purl: str, ids: list[str], state: Path) -> None:
    found = osv.check(state, purl)
    assert [one.id for one in found] == ids
    assert all(one.certain and one.describe().isprintable() for one in found)


def test_what_cannot_be_compared_is_said(state: Path) -> None:
    (found,) = osv.check(state, "pkg:npm/mcp-remote@latest")
    assert not found.certain and "may not be concerned" in found.describe()


def test_what_is_told(state: Path) -> None:
    (found,) = osv.check(state, "pkg:npm/mcp-remote@0.1.0")
    assert found.describe() == "GHSA-1: known vulnerability: about mcp-remote; fixed in 0.1.16"
    (bad,) = osv.check(state, "pkg:npm/postmark-mcp@1.0.16")
    assert bad.malicious and bad.describe().startswith("MAL-2025-1: malicious package")
    assert osv.age_days(state) < 1


def test_purls_of_other_kinds(state: Path, tmp_path: Path) -> None:
    for purl in ("pkg:oci/x", "mcp-remote", "pkg:npm", "pkg:npm/", ""):
        with pytest.raises(TrustError, match="no npm or PyPI package"):
            osv.check(state, purl)
    with pytest.raises(TrustError, match="no OSV index") as caught:
        osv.check(tmp_path, "pkg:npm/x@1.0.0")
    assert "callgate trust osv load" in caught.value.next_step
    assert osv.age_days(tmp_path) is None


def test_exports_of_every_shape(tmp_path: Path) -> None:
    (tmp_path / "in/npm").mkdir(parents=True)
    (tmp_path / "in/npm/all.zip").write_bytes(export(RECORDS[0]))
    (tmp_path / "in/one.json").write_text(json.dumps(RECORDS[3]))
    (tmp_path / "in/notes.txt").write_text("x")
    assert osv.load(tmp_path / "in", tmp_path).records == 2
    assert osv.load(tmp_path / "in/one.json", tmp_path).records == 1
    assert osv.check(tmp_path, "pkg:npm/postmark-mcp@1.0.16") == (), "the index is built anew each time"


def test_exports_that_are_broken(tmp_path: Path) -> None:
    good = tmp_path / "good.zip"
    good.write_bytes(export(RECORDS[0], b"{", b"[]", b'{"id": 7}', b'{"id": "X", "affected": [7]}'))
    loaded = osv.load(good, tmp_path)
    assert (loaded.records, loaded.unreadable) == (1, 4)
    for because, data in (
        ("no record", export()),
        ("no record", export(RECORDS[8])),
        ("no ZIP", b"hello"),
        ("damaged", export(RECORDS[0])[:40] + bytes(30) + export(RECORDS[0])[70:]),
    ):
        bad = tmp_path / "bad.zip"
        bad.write_bytes(data)
        with pytest.raises(TrustError, match=because) as caught:
            osv.load(bad, tmp_path)
        assert caught.value.next_step
        assert osv.check(tmp_path, "pkg:npm/postmark-mcp@1.0.16"), "the old index stays"
    with pytest.raises(TrustError, match="cannot read"):
        osv.load(tmp_path / "gone.zip", tmp_path)
    os.mkfifo(tmp_path / "pipe.zip")
    with pytest.raises(TrustError, match="no file"):
        osv.load(tmp_path / "pipe.zip", tmp_path)
    assert sorted(os.listdir(tmp_path / "osv")) == ["index.sqlite"]
    (tmp_path / "osv/index.sqlite").write_bytes(b"not a database, at all" * 50)
    with pytest.raises(TrustError, match="cannot be read"):
        osv.check(tmp_path, "pkg:npm/x@1.0.0")


def test_a_record_that_unpacks_to_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(osv, "RECORD_BYTES", 10_000)
    monkeypatch.setattr(osv_export, "RECORD_BYTES", 10_000)
    huge = copy.deepcopy(RECORDS[0])
    huge["details"] = "x" * 100_000
    (tmp_path / "all.zip").write_bytes(export(huge, RECORDS[3]))
    loaded = osv.load(tmp_path / "all.zip", tmp_path)
    assert (loaded.records, loaded.unreadable) == (1, 1)
    monkeypatch.setattr(osv_export, "MOST_RECORDS", 1)
    with pytest.raises(TrustError, match="more than an export"):
        osv.load(tmp_path / "all.zip", tmp_path)


ORDER = [
    "1.0.0-alpha",
    "1.0.0-alpha.1",
    "1.0.0-alpha.beta",
    "1.0.0-beta",
    "1.0.0-beta.2",
    "1.0.0-beta.11",
    "1.0.0-rc.1",
]
ORDER += ["1.0.0", "1.0.1", "1.9.0", "1.10.0", "2.0.0-0", "2.0.0"]


def test_semantic_versions_are_ordered_as_the_standard_says() -> None:
    turned = list(reversed(ORDER))
    assert sorted(turned, key=semver_key) == ORDER
    assert semver_key("1.0.0+a") == semver_key("v1.0.0+b") == semver_key("1.0")
    for bad in ("", "latest", "1.2.3.4", "1..2", "1.2.3-", "1.2.3-é", "1" * 40, "^1.0.0", "-1.0.0"):
        with pytest.raises(ValueError):
            semver_key(bad)


@given(
    one=st.tuples(*[st.integers(0, 3)] * 3),
    other=st.tuples(*[st.integers(0, 3)] * 3),
    pre=st.sampled_from(["", "a", "rc"]),
)
def test_both_orders_agree_where_they_mean_the_same(one, other, pre) -> None:
    left, right = ".".join(map(str, one)), ".".join(map(str, other))
    assert (semver_key(left) < semver_key(right)) == (Version(left) < Version(right))
    if pre:
        assert semver_key(f"{left}-{pre}.1") < semver_key(left)
        assert pep440_key(f"{left}{pre}1") < pep440_key(left)


NUMBER = st.integers(0, 20)


@settings(max_examples=200)
@given(marks=st.lists(NUMBER, min_size=2, max_size=6, unique=True), at=NUMBER)
def test_ranges_against_a_plain_reading(marks: list[int], at: int) -> None:
    """Introduced and fixed by turns: an even number of marks at or below means not concerned."""
    marks.sort()
    turns = [("introduced", "fixed")[index % 2] for index in range(len(marks))]
    listed = [{turn: f"1.{mark}.0"} for turn, mark in zip(turns, marks, strict=True)]
    expected = sum(mark <= at for mark in marks) % 2 == 1
    for ecosystem in ("npm", "PyPI"):
        ranges = [{"type": "ECOSYSTEM", "events": listed[::-1]}]
        assert osv.concerned(ecosystem, {"ranges": ranges}, f"1.{at}.0")[0] is expected
