"""Catalogues published with TUF's own library, read over loopback HTTP and from files."""

from __future__ import annotations

import http.server
import os
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

from callgate.errors import TrustError
from callgate.supply import catalogue
from callgate.supply.catalogue_fetch import base_url

CONTENT: dict[str, Any] = {
    "format": 1,
    "approved": {"github": {"purl": "pkg:npm/gh@1.2.3", "artefacts": [{"purl": "x", "integrity": "sha512-AAAA"}]}},
    "denied": [
        {"purl": "pkg:npm/postmark-mcp", "versions": ["1.0.16"], "reason": "sends copies of mail"},
        {"purl": "pkg:pypi/Evil_Pkg", "reason": "malicious"},
        {"purl": "pkg:npm/old", "fixed": "2.0.0"},
        {"purl": "pkg:npm/mid", "introduced": "1.5.0", "fixed": "2.0.0"},
    ],
}


class Publisher:
    """A TUF repository: two keys of which both must sign the root and the targets."""

    def __init__(self, place: Path) -> None:
        self.place = place
        (place / "metadata").mkdir(parents=True)
        (place / "targets").mkdir()
        self.keys = [CryptoSigner.generate_ed25519() for _ in range(2)]
        self.online = CryptoSigner.generate_ed25519()
        self.root = Root(expires=self.in_days(365), consistent_snapshot=True)
        for role in ("root", "targets"):
            for key in self.keys:
                self.root.add_key(key.public_key, role)
            self.root.roles[role].threshold = 2
        for role in ("snapshot", "timestamp"):
            self.root.add_key(self.online.public_key, role)
        self.version = 0
        self.write_root()

    @staticmethod
    def in_days(days: float) -> datetime:
        return datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)

    def write_root(self) -> None:
        self.sign(Metadata(self.root), *self.keys).to_file(str(self.place / f"metadata/{self.root.version}.root.json"))

    @staticmethod
    def sign(document: Metadata, *keys: CryptoSigner) -> Metadata:
        for key in keys:
            document.sign(key, append=True)
        return document

    def publish(
        self, content: Any = CONTENT, *, days: float = 30, signers: list[CryptoSigner] | None = None, version: int = 0
    ) -> None:
        self.version = version or self.version + 1
        data = content if isinstance(content, bytes) else orjson.dumps(content)
        target = TargetFile.from_data("catalogue.json", data, ["sha256"])
        targets = Targets(self.version, expires=self.in_days(days), targets={"catalogue.json": target})
        snapshot = Snapshot(self.version, expires=self.in_days(days), meta={"targets.json": MetaFile(self.version)})
        timestamp = Timestamp(self.version, expires=self.in_days(days), snapshot_meta=MetaFile(self.version))
        metadata = self.place / "metadata"
        self.sign(Metadata(targets), *(signers or self.keys)).to_file(str(metadata / f"{self.version}.targets.json"))
        self.sign(Metadata(snapshot), self.online).to_file(str(metadata / f"{self.version}.snapshot.json"))
        self.sign(Metadata(timestamp), self.online).to_file(str(metadata / "timestamp.json"))
        (self.place / f"targets/{target.hashes['sha256']}.catalogue.json").write_bytes(data)

    @property
    def root_file(self) -> Path:
        return self.place / "metadata/1.root.json"

    @property
    def url(self) -> str:
        return self.place.as_uri()


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    made = Publisher(tmp_path / "published")
    made.publish()
    return made


@pytest.fixture
def state(tmp_path: Path) -> Path:
    place = tmp_path / "state"
    place.mkdir()
    return place


def refused(call, because: str) -> None:
    with pytest.raises(TrustError, match=because) as caught:
        call()
    assert caught.value.next_step


def test_a_catalogue_is_added_and_read(publisher: Publisher, state: Path) -> None:
    found = catalogue.add(state, "team", publisher.url, publisher.root_file)
    assert (found.name, found.version) == ("team", 1)
    assert catalogue.names(state) == ["team"]
    assert found.approves("github", "sha512-AAAA")
    assert not found.approves("github", "sha512-BBBB") and not found.approves("gitlab", "sha512-AAAA")
    assert not found.approves("github", "")
    publisher.publish({**CONTENT, "approved": {}})
    assert catalogue.load(state, "team").approved, "nothing is fetched unasked"
    assert catalogue.update(state, "team").approved == {} and catalogue.load(state, "team").version == 2
    catalogue.remove(state, "team")
    assert catalogue.names(state) == []


@pytest.mark.parametrize(
    ("purl", "denied"),
    [
        ("pkg:npm/postmark-mcp@1.0.16", True),
        ("pkg:npm/postmark-mcp@1.0.15", False),
        ("pkg:npm/postmark-mcp", True),
        ("pkg:pypi/evil-pkg@0.1", True),
        ("pkg:npm/evil-pkg@0.1.0", False),
        ("pkg:npm/old@1.9.9", True),
        ("pkg:npm/old@2.0.0", False),
        ("pkg:npm/old@latest", True),  # what cannot be compared
        ("pkg:npm/mid@1.4.0", False),
        ("pkg:npm/mid@1.5.0", True),
    ],
)
def test_what_is_denied(purl: str, denied: bool, publisher: Publisher, state: Path) -> None:
    found = catalogue.add(state, "team", publisher.url, publisher.root_file).denial(purl)
    assert (found is not None) == denied


def test_over_http(publisher: Publisher, state: Path) -> None:
    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(publisher.place))

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        assert catalogue.add(state, "team", address, publisher.root_file).version == 1
        refused(lambda: catalogue.add(state, "other", f"{address}/nothing", publisher.root_file), "cannot be fetched")
        server.shutdown()
    refused(lambda: catalogue.update(state, "team"), "cannot be fetched")
    assert catalogue.load(state, "team").version == 1


def test_expired(publisher: Publisher, state: Path) -> None:
    found = catalogue.add(state, "team", publisher.url, publisher.root_file)
    later = found.expires + timedelta(seconds=1)
    refused(lambda: catalogue.load(state, "team", later), "expired on")
    publisher.publish(days=-1)
    refused(lambda: catalogue.update(state, "team"), "has expired")
    assert catalogue.load(state, "team").version == 1
    refused(lambda: catalogue.add(state, "new", publisher.url, publisher.root_file), "has expired")
    assert catalogue.names(state) == ["team"]


def test_rolled_back(publisher: Publisher, state: Path) -> None:
    publisher.publish()
    catalogue.add(state, "team", publisher.url, publisher.root_file)
    publisher.publish(version=1)
    refused(lambda: catalogue.update(state, "team"), "is older than the one used before")
    assert catalogue.load(state, "team").version == 2


def test_swapped(publisher: Publisher, state: Path) -> None:
    for target in (publisher.place / "targets").iterdir():
        target.write_bytes(target.read_bytes().replace(b"AAAA", b"EVIL"))
    refused(lambda: catalogue.add(state, "team", publisher.url, publisher.root_file), "something else than what was")
    assert catalogue.names(state) == []


def test_too_few_signatures(publisher: Publisher, state: Path) -> None:
    catalogue.add(state, "team", publisher.url, publisher.root_file)
    publisher.publish(signers=publisher.keys[:1])
    refused(lambda: catalogue.update(state, "team"), "not signed by enough")
    publisher.publish(signers=[publisher.keys[0], CryptoSigner.generate_ed25519()], version=3)
    refused(lambda: catalogue.update(state, "team"), "not signed by enough")


def test_another_root(publisher: Publisher, state: Path, tmp_path: Path) -> None:
    stranger = Publisher(tmp_path / "stranger")
    stranger.publish()
    refused(lambda: catalogue.add(state, "team", publisher.url, stranger.root_file), "not signed by enough|does not")
    refused(
        lambda: catalogue.add(state, "team", publisher.url, publisher.place / "metadata/timestamp.json"), "does not"
    )
    refused(lambda: catalogue.add(state, "team", publisher.url, tmp_path / "none"), "there is no root")


def test_a_root_that_is_replaced_as_it_should_be(publisher: Publisher, state: Path) -> None:
    catalogue.add(state, "team", publisher.url, publisher.root_file)
    new = CryptoSigner.generate_ed25519()
    old = publisher.keys[1]
    publisher.root.version = 2
    for role in ("root", "targets"):
        publisher.root.revoke_key(old.public_key.keyid, role)
        publisher.root.add_key(new.public_key, role)
    document = Publisher.sign(Metadata(publisher.root), *publisher.keys, new)
    document.to_file(str(publisher.place / "metadata/2.root.json"))
    publisher.keys[1] = new
    publisher.publish()
    assert catalogue.update(state, "team").version == 2
    publisher.publish(signers=[publisher.keys[0], old])
    refused(lambda: catalogue.update(state, "team"), "not signed by enough")


def test_a_root_replaced_by_a_thief(publisher: Publisher, state: Path) -> None:
    catalogue.add(state, "team", publisher.url, publisher.root_file)
    thief = [CryptoSigner.generate_ed25519() for _ in range(2)]
    publisher.root.version = 2
    for key in thief:
        publisher.root.add_key(key.public_key, "root")
    Publisher.sign(Metadata(publisher.root), *thief).to_file(str(publisher.place / "metadata/2.root.json"))
    refused(lambda: catalogue.update(state, "team"), "not signed by enough")


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"[]",
        {},
        {"format": 2},
        {"format": 1, "denied": {}},
        {"format": 1, "denied": [7]},
        {"format": 1, "approved": {"x": 1}},
        {"format": 1, "denied": [{"purl": "pkg:oci/x"}]},
        {"format": 1, "denied": [{"purl": "pkg:npm/x", "versions": "all"}]},
    ],
)
def test_well_signed_rubbish(content: Any, publisher: Publisher, state: Path) -> None:
    catalogue.add(state, "team", publisher.url, publisher.root_file)
    publisher.publish(content)
    refused(lambda: catalogue.update(state, "team"), r"catalogue\.json|no npm or PyPI")
    assert catalogue.load(state, "team").version == 1


def test_endless_metadata(publisher: Publisher, state: Path) -> None:
    (publisher.place / "metadata/timestamp.json").write_bytes(b" " * 100_000)
    refused(
        lambda: catalogue.add(state, "team", publisher.url, publisher.root_file), "cannot be fetched|malformed|does not"
    )
    os.unlink(publisher.place / "metadata/timestamp.json")
    refused(lambda: catalogue.add(state, "team", publisher.url, publisher.root_file), "cannot be fetched")


def test_changed_on_this_machine(publisher: Publisher, state: Path) -> None:
    catalogue.add(state, "team", publisher.url, publisher.root_file)
    (path,) = (state / "catalogue/team").glob("content-*.json")
    path.write_bytes(path.read_bytes() + b" ")
    refused(lambda: catalogue.load(state, "team"), "was changed on this machine")
    path.unlink()
    refused(lambda: catalogue.load(state, "team"), "there is no catalogue")
    catalogue.update(state, "team")
    (state / "catalogue/team/verified.json").write_bytes(b"{}")
    refused(lambda: catalogue.load(state, "team"), "is damaged")


def test_names_and_addresses(publisher: Publisher, state: Path) -> None:
    for name in ("", "../x", "a b", ".."):
        refused(lambda name=name: catalogue.add(state, name, publisher.url, publisher.root_file), "is no name")
    catalogue.add(state, "team", publisher.url, publisher.root_file)
    refused(lambda: catalogue.add(state, "team", publisher.url, publisher.root_file), "already")
    refused(lambda: catalogue.update(state, "other"), "there is no catalogue 'other'")
    refused(lambda: catalogue.remove(state, "../state"), "there is no catalogue")
    for url in ("ftp://x/", "https://", "https://u:p@h/", "https://h/?q", "file:relative", "file://host/x", "x"):
        refused(lambda url=url: base_url(url), "no address of a catalogue")
    assert base_url("https://h/c") == "https://h/c/"
    assert datetime.now(UTC) - catalogue.load(state, "team").fetched < timedelta(hours=1)
