"""Provenance that registries serve, obtained by the official clients while locking. The registries are on loopback,
what they serve of other people's packages is real."""

from __future__ import annotations

import json
import sys
from base64 import b64encode
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from callgate.cli.trust_common import Place
from callgate.cli.trust_report import Report
from callgate.config import Config
from callgate.errors import TrustError
from callgate.supply import npm_served, publisher, pypi_clients, pypi_served, resolve_checks, resolve_client
from callgate.supply.cooldown import Cooldown
from callgate.supply.launch_line import parse
from callgate.supply.lockfile import LockedServer, load
from callgate.supply.npm_provenance import ATTESTATION_BYTES, Package
from callgate.supply.pep740 import PROVENANCE_BYTES, File
from callgate.supply.resolve import Options, lock_server, prepare
from callgate.supply.resolve_types import Wanted
from callgate.supply.resolve_update import propose
from tests.supply.registry import Registry, Release
from tests.support.sigstore_lab import new_key, spki

FIXTURES = Path(__file__).parent.parent / "fixtures/supply"
TARBALL = FIXTURES / "npm" / "sigstore-0.4.0.tgz"
ATTESTATIONS = (FIXTURES / "npm" / "sigstore-0.4.0.attestations.json").read_bytes()
KEYS = (FIXTURES / "npm" / "keys.json").read_bytes()
WHEEL = FIXTURES / "pep740" / "circleci_sign_publish_example-0.0.1.dev137-py3-none-any.whl"
PROJECT, VERSION = "circleci-sign-publish-example", "0.0.1.dev137"
PROVENANCE = WHEEL.with_name(WHEEL.name + ".provenance").read_bytes()
LINE = ("npx", "-y", "sigstore@0.4.0", "--help")
PUBLISHED = "2023-01-11T17:31:54.000Z"
OPTIONS = Options(cooldown_days=7)


def days_ago(days: float) -> str:
    return (datetime.now(UTC) - timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%S.000Z")


@pytest.fixture
def sigstore(registry: Registry) -> Registry:
    """The real package; what it needs is a stand-in."""
    registry.add_npm("make-fetch-happen", "11.0.1")
    manifest = {"name": "sigstore", "version": "0.4.0", "bin": {"sigstore": "bin/sigstore.js"}}
    manifest["dependencies"] = {"make-fetch-happen": "^11.0.1"}  # type: ignore[assignment]
    registry.npm["sigstore"] = {"0.4.0": Release(TARBALL.read_bytes(), manifest, PUBLISHED)}
    registry.latest["sigstore"] = "0.4.0"
    registry.attestations["sigstore@0.4.0"] = ATTESTATIONS
    registry.keys = KEYS
    return registry


@pytest.mark.slow
@pytest.mark.usefixtures("npm")
@pytest.mark.xdist_group("npm")
class TestNpm:
    def test_the_lock_says_who_built_it(self, sigstore: Registry, state: Path) -> None:
        server = lock_server("s", LINE, state=state, options=OPTIONS)
        record = load(state / "callgate.lock").servers["s"].provenance
        assert record["state"] == "verified"
        built = record["npm-provenance"]
        assert built["repository"] == "https://github.com/sigstore/sigstore-js"
        assert built["workflow"] == ".github/workflows/publish.yml"
        assert built["commit"] == "8a2ee2fd20dda58ffa4a8d808a65cb1e04711c03"
        assert built["log_index"] == "10960845"
        assert record["npm-publish"]["subject"].startswith("SHA256:")
        (line,) = publisher.describe(record)
        assert "made by https://github.com/sigstore/sigstore-js" in line
        assert "not that it is safe" in line
        # Locked again, nobody is asked: the statement is about these bytes.
        sigstore.asked.clear()
        assert lock_server("s", LINE, state=state, options=OPTIONS) == server
        assert not any("attestations" in path or "keys" in path for path in sigstore.asked)

    def test_of_another_tarball(self, sigstore: Registry, state: Path) -> None:
        sigstore.add_npm("sigstore", "0.4.0", {"bin/sigstore.js": "//"}, PUBLISHED, bin="bin/sigstore.js")
        with pytest.raises(TrustError, match="does not hold") as caught:
            lock_server("s", LINE, state=state, options=OPTIONS)
        assert "--no-provenance" in (caught.value.next_step or "")
        assert not (state / "callgate.lock").exists()
        assert not list((state / "artefacts").glob("npm/*"))
        server = lock_server("s", LINE, state=state, options=Options(no_provenance=True))
        assert server.provenance == {"state": "not checked: you asked for that (--no-provenance)"}

    def test_none_is_served(self, sigstore: Registry, state: Path) -> None:
        sigstore.attestations.clear()
        server = lock_server("s", LINE, state=state, options=OPTIONS)
        assert server.provenance == {"state": "none served"}
        assert not any("keys" in path for path in sigstore.asked)

    def test_named_and_not_served_is_not_the_same_as_none(self, sigstore: Registry, state: Path) -> None:
        sigstore.hidden.add("sigstore@0.4.0")
        server = lock_server("s", LINE, state=state, options=OPTIONS)
        assert publisher.state_of(server.provenance).startswith("not checked: the registry names attestations and does")

    def test_another_host_and_more_than_anybody_needs(self, sigstore: Registry, state: Path, tmp_path: Path) -> None:
        from callgate.supply import npm

        (tmp_path / "package.json").write_text("{}")
        wanted = Wanted(parse(LINE), state, Cooldown(0))
        package = Package.of("sigstore", "0.4.0", TARBALL.read_bytes())
        path = "/-/npm/v1/attestations/sigstore@0.4.0"
        for url, says in (
            (f"http://x.test//127.0.0.1:9{path}", "404"),  # what follows the registry's own path
            ("http://x.test//127.0.0.1:9/latest/meta-data", "another host"),
            ("x:http://127.0.0.1:9/latest/meta-data", "another host"),
            ("http://x.test/\\127.0.0.1:9/latest", "another host"),
        ):
            sigstore.hidden.add("sigstore@0.4.0")
            dist = {"attestations": {"url": url}}
            record = npm_served.provenance(npm._npm(), wanted, package, dist, None, tmp_path)
            assert f"does not serve them ({says})" in record["state"], url
        sigstore.hidden.clear()
        sigstore.attestations["sigstore@0.4.0"] = b" " * (ATTESTATION_BYTES + 1)
        dist = {"attestations": {"url": f"http://x.test{path}"}}
        record = npm_served.provenance(npm._npm(), wanted, package, dist, None, tmp_path)
        assert f"(more than {ATTESTATION_BYTES} bytes)" in record["state"]

    def test_a_page_for_people_in_the_place_of_keys(self, registry: Registry, state: Path) -> None:
        """Some private registries answer so; it is as if they had none."""
        registry.add_npm("clock", "1.0.0")
        registry.signatures["clock@1.0.0"] = [{"keyid": "SHA256:lab", "sig": "AAAA"}]
        registry.keys = b"<html>sign in</html>"
        assert lock_server("c", ("npx", "-y", "clock"), state=state, options=OPTIONS).provenance == {
            "state": "none served"
        }

    def test_without_the_extra(self, sigstore: Registry, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "sigstore", None)
        server = lock_server("s", LINE, state=state, options=OPTIONS)
        assert server.provenance == {"state": "not checked: callgate[sign] is not installed"}

    def test_a_lost_publisher(self, sigstore: Registry, state: Path) -> None:
        """Where nobody can be asked, a release that nobody vouches for is not taken after one that somebody did."""
        line = ("npx", "-y", "sigstore")
        before = lock_server("s", line, state=state, options=OPTIONS)
        assert before.version == "0.4.0"
        sigstore.add_npm("sigstore", "0.4.1", {"bin/sigstore.js": "//"}, days_ago(30), bin="bin/sigstore.js")
        after = propose(before, state, OPTIONS).after
        assert after.provenance == {"state": "none served"}
        said = publisher.change(before.provenance, after.provenance)
        assert said.startswith("the provenance was made by https://github.com/sigstore/sigstore-js")
        assert said.endswith("and is now none served")
        with pytest.raises(TrustError, match="is now none served"):
            lock_server("s", line, state=state, options=Options(fresh=True))
        assert load(state / "callgate.lock").servers["s"].version == "0.4.0"

    def test_a_projects_lock_vouches_for_nobody(
        self, sigstore: Registry, state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Whoever wrote it may have written a maker into it."""
        from callgate.cli import trust_verify

        sigstore.attestations.clear()
        path = tmp_path / "callgate.lock"
        honest = lock_server("s", LINE, state=state, lock=path, options=OPTIONS)
        assert honest.provenance == {"state": "none served"}
        document = json.loads(path.read_text())
        document["servers"]["s"]["provenance"] = {"state": "verified", "npm-provenance": MADE}
        path.write_text(json.dumps(document))
        assert prepare("s", LINE, state=state, known=load(path).servers["s"], options=OPTIONS).provenance == {
            "state": "none served"
        }
        with pytest.raises(TrustError, match=r"made by https://github\.com/a/b .* and is now none served"):
            resolve_checks.refuse(replace(honest, version="2"), state, load(path).servers["s"])
        where = Place(Config(), state, path, tmp_path)
        trust_verify._server(where, load(path).servers["s"], Report("verify"))
        said = " ".join(capsys.readouterr().out.split())
        assert "made by https://github.com/a/b" in said
        assert "so says the lock, which nobody signed" in said
        # The user's own was written here.
        (state / "callgate.lock").write_bytes(path.read_bytes())
        assert lock_server("s", LINE, state=state, options=OPTIONS).provenance["npm-provenance"] == MADE

    def test_signatures_of_the_registry(self, registry: Registry, state: Path) -> None:
        key = new_key()
        registry.keys = json.dumps(
            {"keys": [{"keyid": "SHA256:lab", "scheme": "ecdsa-sha2-nistp256", "key": b64(spki(key)), "expires": None}]}
        ).encode()
        release = registry.add_npm("@acme/clock", "1.0.0", bin={"clock": "index.js"})
        package = Package.of("@acme/clock", "1.0.0", release.data)
        signed = key.sign(f"@acme/clock@1.0.0:{package.integrity}".encode(), ec.ECDSA(hashes.SHA256()))
        registry.signatures["@acme/clock@1.0.0"] = [{"keyid": "SHA256:lab", "sig": b64(signed)}]
        line = ("npx", "-y", "@acme/clock@1.0.0")
        server = lock_server("c", line, state=state, options=OPTIONS)
        assert server.provenance["state"] == "none served"
        assert server.provenance["npm-registry-signature"]["subject"] == "SHA256:lab"
        assert "signed by the registry that serves it" in list(publisher.describe(server.provenance))
        registry.signatures["@acme/clock@1.0.0"] = [{"keyid": "SHA256:lab", "sig": b64(b"forged")}]
        with pytest.raises(TrustError, match="does not hold"):
            lock_server("d", line, state=state, options=OPTIONS)
        registry.signatures["@acme/clock@1.0.0"] = [{"keyid": "SHA256:unknown", "sig": b64(signed)}]
        assert lock_server("e", line, state=state, options=OPTIONS).provenance == {"state": "none served"}

    def test_npm_behind_a_wrapper_and_an_npm_that_is_none(
        self, sigstore: Registry, state: Path, tmp_path: Path
    ) -> None:
        from callgate.supply import npm

        real = npm._npm()
        wrapper = tmp_path / "wrapped" / "npm"
        wrapper.parent.mkdir()
        wrapper.write_text(f'#!/bin/sh\nexec "{real}" "$@"\n')
        wrapper.chmod(0o755)
        work = tmp_path / "work"
        work.mkdir()
        (work / "package.json").write_text("{}")
        wanted = Wanted(parse(LINE), state, Cooldown(0))
        package = Package.of("sigstore", "0.4.0", TARBALL.read_bytes())
        dist = {"attestations": {"url": "https://elsewhere.test/-/npm/v1/attestations/sigstore@0.4.0"}}
        before = datetime(2023, 1, 11, tzinfo=UTC)
        record = npm_served.provenance(str(wrapper), wanted, package, dist, before, work)
        assert record["state"] == "verified"
        wrapper.write_text("#!/bin/sh\necho 11.0.0\n")
        record = npm_served.provenance(str(wrapper), wanted, package, dist, before, work)
        assert record == {"state": "not checked: npm's own files were not found"}


def b64(data: bytes) -> str:
    return b64encode(data).decode()


@pytest.mark.slow
class TestPypi:
    FILE = File(WHEEL.name, sha256(WHEEL.read_bytes()).hexdigest())

    @pytest.fixture
    def index(self, registry: Registry) -> Registry:
        registry.pypi[PROJECT] = {VERSION: Release(WHEEL.read_bytes(), {}, PUBLISHED, WHEEL.name)}
        registry.attestations[WHEEL.name] = PROVENANCE
        return registry

    def ask(self, tmp_path: Path, index: str = "", options: tuple[str, ...] = ()) -> dict[str, Any]:
        """As `pypi.provenance` asks, for a real wheel: that one has no program to be locked for."""
        work = tmp_path / "work"
        work.mkdir(exist_ok=True)
        python = pypi_clients.interpreter("", work).path
        return pypi_served.provenance(python, index, options, PROJECT, self.FILE, work)

    def test_by_pips_configuration(self, index: Registry, tmp_path: Path) -> None:
        record = self.ask(tmp_path)
        assert record["state"] == "verified"
        assert record["pep740"]["repository"] == "github.com/CircleCI-Public/sign-and-publish-examples"
        assert record["pep740"]["issuer"] == "https://oidc.circleci.com"
        assert record["pep740"]["log_index"] == "920610516"

    def test_the_index_that_uv_took_it_from(
        self, index: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        work = tmp_path / "work"
        work.mkdir()
        base = pypi_clients.interpreter("", work)
        client = pypi_clients.client(base)
        if client.name != "uv":
            pytest.skip("no uv here")
        wanted = Wanted(parse(("uvx", PROJECT)), tmp_path, Cooldown(0, off=True))
        found = client.index(f"{PROJECT}=={VERSION}", wanted, work)
        assert found.rstrip("/") == f"{index.url}/simple"
        monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple/")  # pip is configured for another one
        assert self.ask(tmp_path, found)["state"] == "verified"

    def test_none_is_served(self, index: Registry, tmp_path: Path) -> None:
        index.attestations.clear()
        assert self.ask(tmp_path) == {"state": "none served"}

    def test_of_another_file(self, index: Registry, tmp_path: Path) -> None:
        sdist = FIXTURES / "pep740" / "pypi_attestations-0.0.19.tar.gz.provenance"
        index.attestations[WHEEL.name] = sdist.read_bytes()
        with pytest.raises(TrustError, match="does not hold"):
            self.ask(tmp_path)

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            (lambda index: index.hidden.add(WHEEL.name), "names a provenance and answers 404"),
            (lambda index: setattr(index, "elsewhere", "http://169.254.169.254"), "lies on another host"),
            (lambda index: setattr(index, "elsewhere", "file:///etc"), "lies on another host"),
            (lambda index: index.pypi.clear(), "answers 404"),
        ],
    )
    def test_not_checked(self, index: Registry, tmp_path: Path, change: Any, says: str) -> None:
        change(index)
        state = publisher.state_of(self.ask(tmp_path))
        assert state.startswith("not checked: ") and says in state

    def test_more_than_anybody_needs(self, index: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A small answer unpacks to a large one: it is not read to its end."""
        index.attestations[WHEEL.name] = b" " * (PROVENANCE_BYTES + 1)
        assert f"provenance cannot be read: more than {PROVENANCE_BYTES} bytes" in self.ask(tmp_path)["state"]
        monkeypatch.setattr(resolve_client, "OUTPUT_BYTES", 200)
        assert "page of the project cannot be read: more than 200 bytes" in self.ask(tmp_path)["state"]

    def test_no_index_and_no_pip(self, index: Registry, tmp_path: Path) -> None:
        assert publisher.state_of(self.ask(tmp_path, options=("--no-index",))).startswith("not checked: ")
        work = tmp_path / "none"
        work.mkdir()
        (work / "python").write_text("#!/bin/sh\necho \"No module named 'pip'\" >&2\nexit 1\n")
        (work / "python").chmod(0o755)
        record = pypi_served.provenance(str(work / "python"), "", (), PROJECT, self.FILE, work)
        assert record == {"state": "not checked: there is no pip to ask the index with"}

    def test_a_lock_of_a_package_that_nobody_vouches_for(self, registry: Registry, state: Path) -> None:
        registry.add_pypi("clock-server", "1.0")
        server = lock_server("c", ("uvx", "clock-server"), state=state, options=OPTIONS)
        assert server.provenance == {"state": "none served"}
        registry.attestations[registry.pypi["clock-server"]["1.0"].file] = PROVENANCE
        with pytest.raises(TrustError, match="does not hold"):
            lock_server("d", ("uvx", "clock-server==1.0"), state=state, options=OPTIONS)
        assert server == load(state / "callgate.lock").servers["c"]


MADE = {
    "kind": "npm-provenance",
    "issuer": "https://i.test",
    "repository": "https://github.com/a/b",
    "workflow": "x.yml",
}


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ({}, {}, ""),
        ({"state": "none served"}, {"state": "none served"}, ""),
        ({"state": "none served"}, {"state": "verified", "pep740": MADE}, ""),
        ({"pep740": MADE}, {"pep740": MADE}, ""),
        ({"pep740": MADE}, {"npm-provenance": MADE}, ""),
        ({"pep740": MADE}, {"pep740": {**MADE, "workflow": "y.yml", "ref": "z", "commit": "1"}}, ""),
        ({"pep740": MADE}, {"pep740": {**MADE, "repository": "https://github.com/A/B.git"}}, ""),
        (
            {"pep740": MADE},
            {"pep740": {**MADE, "repository": "https://github.com/a/c"}},
            "is now made by https://github.com/a/c",
        ),
        ({"pep740": MADE}, {"pep740": {**MADE, "issuer": "https://j.test"}}, "vouched for by https://j.test"),
        ({"pep740": MADE}, {"state": "none served"}, "is now none served"),
        ({"pep740": MADE}, {"state": "not checked: x"}, "is now not checked: x"),
        ({"pep740": MADE}, {}, "is now none served"),
        (
            {"mcpb": {"issuer": "self", "subject": "CN=A"}},
            {"mcpb": {"issuer": "self", "subject": "CN=B"}},
            "made by CN=B",
        ),
        ({"mcpb": {"issuer": "self", "subject": "CN=A"}}, {"mcpb": {"issuer": "self", "subject": "CN=A"}}, ""),
        (
            {"mcpb": {"issuer": "self", "subject": "CN=A", "key": "sha256:" + "a" * 64}},
            {"mcpb": {"issuer": "self", "subject": "CN=A", "key": "sha256:" + "b" * 64}},
            "certificate sha256:bbbbbbbbbbbbbbbb...",
        ),
    ],
)
def test_what_is_a_change_of_publisher(before: dict[str, Any], after: dict[str, Any], says: str) -> None:
    found = publisher.change(before, after)
    assert (says in found) if says else found == ""


def test_a_workflow_that_moved_is_told_and_no_finding() -> None:
    after = {"pep740": {**MADE, "workflow": "y.yml"}}
    assert publisher.moved({"pep740": MADE}, after) == "its workflow was x.yml, and is now y.yml"
    assert publisher.moved({"pep740": MADE}, {"pep740": MADE}) == ""


def test_a_record_of_the_lock_is_shown_safely() -> None:
    """A lock may come from anybody."""
    hostile = {"state": "verified\x1b[2J", "pep740": {**MADE, "repository": "https://x\u202e", "commit": "\x1b]0;x"}}
    for line in publisher.describe(hostile):
        assert line.isprintable()
    assert publisher.state_of({"state": "none\x07"}).isprintable()
    assert publisher.state_of({"state": 3, "pep740": 4}) == ""


def test_two_makers() -> None:
    from callgate.supply.provenance import Provenance

    one = Provenance("pep740", "sha256:1", "how", issuer="i", repository="https://github.com/a/b")
    other = Provenance("pep740", "sha256:1", "how", issuer="i", repository="https://github.com/a/c")
    assert publisher.verified([one, one])["pep740"]["repository"] == "https://github.com/a/b"
    with pytest.raises(TrustError, match="two statements name different makers"):
        publisher.verified([one, other])


def test_locks_know_no_such_thing_for_programs_of_ones_own() -> None:
    assert publisher.state_of(LockedServer("s", ("x",), "local", None).provenance) == ""  # type: ignore[arg-type]
