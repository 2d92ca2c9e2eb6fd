"""Real attestations of published packages, and npm provenance of a Sigstore instance of our own."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
import sys
from base64 import b64decode
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from callgate.errors import TrustError
from callgate.supply.npm_provenance import (
    PUBLISH,
    Package,
    verify_attestations,
    verify_provenance,
    verify_registry_signatures,
)
from callgate.supply.pep740 import verify_provenance as verify_pep740
from callgate.supply.provenance import Provenance, Wanted
from callgate.supply.sigstore_bundle import verify_bundle
from tests.support import sigstore_lab as lab_support
from tests.support.sigstore_lab import Lab, b64, new_key, npm_statement, spki

PYPI = Path(__file__).parent.parent / "fixtures/supply/pep740"
SDIST = PYPI / "pypi_attestations-0.0.19.tar.gz"
MODELS = PYPI / "pypi_attestation_models-0.0.4a2.tar.gz"


def refused(call, because: str) -> None:
    with pytest.raises(TrustError, match=because) as caught:
        call()
    assert caught.value.next_step


class TestPep740:
    def test_a_provenance_of_the_public_index(self) -> None:
        (found,) = verify_pep740(SDIST.with_name(SDIST.name + ".provenance"), SDIST)
        assert found.repository == "https://github.com/trailofbits/pypi-attestations"
        assert found.workflow == ".github/workflows/release.yml"
        assert found.issuer == "https://token.actions.githubusercontent.com"
        assert found.digest.startswith("sha256:") and found.at.startswith("2024")
        assert "not that it is safe" in found.describe()

    def test_attestations_by_themselves(self) -> None:
        (models,) = verify_pep740(MODELS.with_name(MODELS.name + ".attestation"), MODELS)
        assert models.repository == "https://github.com/trailofbits/pypi-attestation-models"
        gitlab = PYPI / "gitlab_oidc_project-0.0.3.tar.gz"
        (other,) = verify_pep740(gitlab.with_name(gitlab.name + ".publish.attestation"), gitlab)
        assert (other.issuer, other.workflow) == ("https://gitlab.com", ".gitlab-ci.yml")

    def test_the_identity_asked_for(self) -> None:
        provenance = SDIST.with_name(SDIST.name + ".provenance")
        verify_pep740(provenance, SDIST, Wanted(repository="trailofbits/pypi-attestations"))
        verify_pep740(provenance, SDIST, Wanted(repository="https://github.com/TrailOfBits/pypi-attestations.git"))
        refused(lambda: verify_pep740(provenance, SDIST, Wanted(repository="evil/fork")), "not evil/fork")
        refused(lambda: verify_pep740(provenance, SDIST, Wanted(workflow="ci.yml")), "the workflow is")

    def test_another_file(self, tmp_path: Path) -> None:
        changed = tmp_path / SDIST.name
        changed.write_bytes(SDIST.read_bytes() + b"x")
        provenance = SDIST.with_name(SDIST.name + ".provenance")
        refused(lambda: verify_pep740(provenance, changed), "does not match distribution digest")
        renamed = tmp_path / "pypi_attestations-0.0.20.tar.gz"
        shutil.copy(SDIST, renamed)
        refused(lambda: verify_pep740(provenance, renamed), "does not match distribution name")

    def test_a_publisher_the_certificate_does_not_name(self) -> None:
        document = json.loads(SDIST.with_name(SDIST.name + ".provenance").read_bytes())
        document["attestation_bundles"][0]["publisher"]["repository"] = "evil/fork"
        refused(lambda: verify_pep740(json.dumps(document).encode(), SDIST), "does not verify")

    @pytest.mark.parametrize("member", ["statement", "signature"])
    def test_a_changed_envelope(self, member: str) -> None:
        document = json.loads(SDIST.with_name(SDIST.name + ".provenance").read_bytes())
        envelope = document["attestation_bundles"][0]["attestations"][0]["envelope"]
        data = bytearray(b64decode(envelope[member]))
        data[len(data) // 2] ^= 1
        envelope[member] = b64(bytes(data))
        refused(lambda: verify_pep740(json.dumps(document).encode(), SDIST), "does not verify")

    @pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"attestation_bundles": []}', b'{"attestation_bundles": 1}'])
    def test_what_is_no_provenance(self, data: bytes) -> None:
        refused(lambda: verify_pep740(data, SDIST), "provenance|attestation")


class TestSigstoreBundle:
    def test_nothing_is_printed(self) -> None:
        """sigstore warns through logging, which prints to standard error where nobody listens."""
        program = "import sys; from pathlib import Path; from callgate.supply.sigstore_bundle import verify_bundle\n"
        program += "verify_bundle(Path(sys.argv[1] + '.sigstore'), Path(sys.argv[1]))"
        done = subprocess.run([sys.executable, "-c", program, str(MODELS)], capture_output=True, check=True)
        assert (done.stdout, done.stderr) == (b"", b"")

    def test_a_bundle_of_the_public_log(self) -> None:
        bundle = MODELS.with_name(MODELS.name + ".sigstore")
        found = verify_bundle(bundle, MODELS)
        assert found.kind == "sigstore" and found.ref == "refs/tags/v0.0.4a2"
        refused(lambda: verify_bundle(bundle, SDIST), "does not verify|not about this file")
        refused(lambda: verify_bundle(bundle, MODELS, Wanted(subject="someone@else.test")), "the subject is")
        refused(lambda: verify_bundle(SDIST, MODELS), "not strict JSON")
        refused(lambda: verify_bundle(bundle.with_name("gone"), MODELS), "there is no bundle")

    def test_another_root_of_trust(self, tmp_path: Path) -> None:
        root = Lab().trusted_root(tmp_path / "root.json")
        bundle = MODELS.with_name(MODELS.name + ".sigstore")
        refused(lambda: verify_bundle(bundle, MODELS, trusted_root=root), "does not verify")
        (tmp_path / "bad.json").write_text("{}")
        refused(lambda: verify_bundle(bundle, MODELS, trusted_root=tmp_path / "bad.json"), "root of trust")


NPM = Path(__file__).parent.parent / "fixtures/supply/npm"
REAL = Package.of("sigstore", "0.4.0", (NPM / "sigstore-0.4.0.tgz").read_bytes())
BEFORE = datetime(2023, 1, 11, tzinfo=UTC)


def real(*, where: tuple[Any, ...] = (), value: Any = None) -> bytes:
    """What the public registry served for that version, with the member at `where` replaced."""
    document = json.loads((NPM / "sigstore-0.4.0.attestations.json").read_bytes())
    inner = document["attestations"][0]["bundle"]
    for part in where[:-1]:
        inner = inner[part]
    if where:
        inner[where[-1]] = value
    return json.dumps(document).encode()


ENTRY = ("verificationMaterial", "tlogEntries", 0)


class TestRealNpmProvenance:
    """Of a package on the public registry, by the public Sigstore instance: certificate, log and registry key."""

    def test_it_holds(self) -> None:
        keys = (NPM / "keys.json").read_bytes()
        built, taken = verify_attestations(real(), REAL, registry_keys=keys, published=BEFORE)
        assert (built.kind, built.repository) == ("npm-provenance", "https://github.com/sigstore/sigstore-js")
        assert (built.workflow, built.ref) == (".github/workflows/publish.yml", "refs/tags/v0.4.0")
        assert built.commit == "8a2ee2fd20dda58ffa4a8d808a65cb1e04711c03"
        assert (built.builder, built.log_index) == ("https://github.com/npm/cli@9.2.0", "10960845")
        assert built.at == "2023-01-11T17:31:52Z"
        assert "promise of inclusion" in built.how
        assert taken.kind == "npm-publish"
        verify_attestations(real(), REAL, wanted=Wanted(repository="sigstore/sigstore-js"))

    def test_it_is_about_this_tarball_only(self) -> None:
        for other in (
            Package.of("sigstore", "0.4.0", b"x"),
            Package("sigstore", "0.4.1", REAL.sha512),
            Package("sigstorf", "0.4.0", REAL.sha512),
        ):
            refused(lambda other=other: verify_attestations(real(), other), "not about")
        refused(lambda: verify_attestations(real(), REAL, wanted=Wanted(repository="evil/fork")), "not evil/fork")

    @pytest.mark.parametrize(
        ("where", "value"),
        [
            (("dsseEnvelope", "payload"), b64(b'{"_type": "https://in-toto.io/Statement/v0.1"}')),
            (("dsseEnvelope", "signatures", 0, "sig"), b64(b"forged")),
            ((*ENTRY, "integratedTime"), "1673458313"),
            ((*ENTRY, "logIndex"), "10960846"),
            ((*ENTRY, "inclusionPromise"), None),
            ((*ENTRY, "inclusionPromise", "signedEntryTimestamp"), b64(b"forged")),
            ((*ENTRY, "canonicalizedBody"), b64(b"{}")),
            ((*ENTRY, "logId", "keyId"), b64(b"another log")),
            ((*ENTRY, "kindVersion", "kind"), "dsse"),
            (("mediaType",), "application/vnd.dev.sigstore.bundle+json;version=0.2"),
            (("mediaType",), "application/vnd.dev.sigstore.bundle.v0.3+json"),
        ],
    )
    def test_changed(self, where: tuple[Any, ...], value: Any) -> None:
        """Later formats need a proof of inclusion: a promise alone is for the first one."""
        refused(
            lambda: verify_attestations(real(where=where, value=value), REAL),
            "does not verify|not about|log entry|is no SLSA",
        )

    def test_the_registry_key_counts_for_its_time_only(self) -> None:
        keys = (NPM / "keys.json").read_bytes()
        after = datetime(2025, 2, 1, tzinfo=UTC)
        refused(lambda: verify_attestations(real(), REAL, registry_keys=keys, published=after), "expired on 2025-01-29")


PACKAGE = Package.of("@acme/clock", "1.0.0", b"the tarball")
LAB = Lab()


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return LAB.trusted_root(tmp_path_factory.mktemp("lab") / "root.json")


def statement(**changes: Any) -> dict[str, Any]:
    return {**npm_statement(PACKAGE.purl, PACKAGE.sha512), **changes}


def bundle(**options: Any) -> dict[str, Any]:
    return LAB.npm_bundle(options.pop("statement", statement()), **options)


def check(document: dict[str, Any], root: Path, package: Package = PACKAGE) -> Provenance:
    return verify_provenance(json.dumps(document).encode(), package, root)


class TestNpmProvenance:
    def test_it_holds(self, root: Path) -> None:
        found = check(bundle(), root)
        assert found.repository == lab_support.REPOSITORY
        assert found.workflow == ".github/workflows/release.yml" and found.ref == "refs/tags/v1.0.0"
        assert "intoto/0.0.2" in found.how and found.digest == f"sha512:{PACKAGE.sha512}" and found.at

    def test_about_another_artefact(self, root: Path) -> None:
        refused(
            lambda: check(bundle(), root, Package.of("@acme/clock", "1.0.0", b"other")), "not about '@acme|not about"
        )
        refused(lambda: check(bundle(), root, Package.of("@acme/clock", "1.0.1", b"the tarball")), "not about")
        refused(lambda: check(bundle(), root, Package.of("clock", "1.0.0", b"the tarball")), "not about")

    def test_a_changed_payload(self, root: Path) -> None:
        document = bundle()
        changed = statement(subject=[{"name": PACKAGE.purl, "digest": {"sha512": "00"}}])
        document["dsseEnvelope"]["payload"] = b64(lab_support.canonical(changed))
        refused(lambda: check(document, root), "invalid signature")

    def test_an_envelope_signed_anew_that_was_never_logged(self, root: Path) -> None:
        key = new_key()
        certificate = LAB.certificate(key)
        honest = bundle(key=key, certificate=certificate)
        other = bundle(statement=statement(predicate={}), key=key, certificate=certificate)
        honest["dsseEnvelope"] = other["dsseEnvelope"]
        refused(lambda: check(honest, root), "about another payload")

    @pytest.mark.parametrize(
        ("change", "because"),
        [
            (lambda c: c["payloadHash"].update(value="00" * 32), "another payload"),
            (lambda c: c["payloadHash"].update(algorithm="md5"), "another payload"),
            (lambda c: c["envelope"].update(payloadType="text/plain"), "another kind of payload"),
            (lambda c: c["envelope"]["signatures"][0].update(sig=b64(b64(b"x").encode())), "another signature"),
            (lambda c: c["envelope"]["signatures"][0].update(sig="!"), "does not verify"),
            (lambda c: c["envelope"]["signatures"][0].update(publicKey=b64(b"x")), "another certificate"),
            (lambda c: c["envelope"]["signatures"].append({}), "does not verify"),
            (lambda c: c["envelope"].pop("signatures"), "does not verify"),
            (lambda c: c.pop("payloadHash"), "does not verify"),
        ],
    )
    def test_a_log_entry_about_something_else(self, change, because: str, root: Path) -> None:
        refused(lambda: check(bundle(change_body=lambda body: change(body["spec"]["content"])), root), because)

    def test_a_log_entry_of_another_kind(self, root: Path) -> None:
        document = bundle(change_body=lambda body: body.update(kind="hashedrekord"))
        entry = document["verificationMaterial"]["tlogEntries"][0]
        entry["kindVersion"] = {"kind": "intoto", "version": "0.0.2"}
        refused(lambda: check(document, root), "of another kind")

    def test_a_certificate_that_had_expired(self, root: Path) -> None:
        late = bundle(at=LAB.now + timedelta(hours=2))
        refused(lambda: check(late, root), "does not verify")
        early = bundle(at=LAB.now - timedelta(hours=2))
        refused(lambda: check(early, root), "does not verify")

    def test_a_time_the_log_did_not_sign(self, root: Path) -> None:
        document = bundle()
        entry = document["verificationMaterial"]["tlogEntries"][0]
        entry["integratedTime"] = str(int(entry["integratedTime"]) + 1)
        refused(lambda: check(document, root), "inclusion promise")
        del entry["inclusionPromise"]
        refused(lambda: check(document, root), "inclusion promise|verified time")

    def test_a_wrong_inclusion_proof(self, root: Path) -> None:
        document = bundle()
        proof = document["verificationMaterial"]["tlogEntries"][0]["inclusionProof"]
        refused(lambda: check(changed(document, proof, "rootHash", b64(b"\0" * 32)), root), "does not verify")
        strange = bundle()
        other = Lab(authority_key=LAB.authority_key, certificate_log=LAB.certificate_log)
        envelope = other.npm_bundle(statement())["verificationMaterial"]["tlogEntries"][0]["inclusionProof"]
        strange["verificationMaterial"]["tlogEntries"][0]["inclusionProof"]["checkpoint"] = envelope["checkpoint"]
        refused(lambda: check(strange, root), "does not verify")

    def test_certificates_of_others(self, root: Path) -> None:
        key = new_key()
        refused(lambda: check(Lab().npm_bundle(statement()), root), "does not verify")
        without = LAB.certificate(key, sct=False)
        refused(lambda: check(bundle(key=key, certificate=without), root), "does not verify")
        log = Lab(authority_key=LAB.authority_key, log=LAB.log)
        log.authority, log.now = LAB.authority, LAB.now
        refused(lambda: check(bundle(key=key, certificate=log.certificate(key)), root), "SCT")
        refused(lambda: check(bundle(key=new_key(), certificate=LAB.certificate(key)), root), "invalid signature")

    def test_a_predicate_that_names_another_repository(self, root: Path) -> None:
        lie = npm_statement(PACKAGE.purl, PACKAGE.sha512, "https://github.com/famous/project")
        refused(lambda: check(bundle(statement=lie), root), "its certificate")

    def test_statements_of_other_kinds(self, root: Path) -> None:
        refused(lambda: check(bundle(statement=statement(predicateType="x")), root), "no SLSA provenance")
        refused(lambda: check(bundle(statement=statement(_type="x")), root), "no in-toto statement")
        refused(lambda: check(bundle(statement=statement(subject=[])), root), "not about")
        refused(lambda: check(bundle(statement=statement(subject="x")), root), "not about")

    def test_without_the_log(self, root: Path) -> None:
        document = bundle()
        document["verificationMaterial"]["tlogEntries"] = []
        refused(lambda: check(document, root), "does not verify")
        del (older := bundle())["verificationMaterial"]["tlogEntries"][0]["inclusionProof"]
        refused(lambda: check(older, root), "does not verify")


def changed(document: dict[str, Any], table: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    before, table[key] = table[key], value
    copied = copy.deepcopy(document)
    table[key] = before
    return copied


GOOD = json.dumps(bundle()).encode()


@settings(max_examples=150, deadline=None)
@given(at=st.integers(0, len(GOOD) - 1), flip=st.integers(1, 127))
def test_no_changed_byte_says_something_else(at: int, flip: int, tmp_path_factory) -> None:
    place = tmp_path_factory.getbasetemp() / "lab-root.json"
    if not place.exists():
        LAB.trusted_root(place)
    data = bytearray(GOOD)
    data[at] ^= flip
    try:
        found = verify_provenance(bytes(data), PACKAGE, place)
    except TrustError as error:
        assert error.next_step
    else:
        assert found.repository == lab_support.REPOSITORY and found.digest == f"sha512:{PACKAGE.sha512}"


REGISTRY = new_key()
KEYS = {
    "keys": [
        {
            "keyid": "SHA256:lab",
            "keytype": "ecdsa-sha2-nistp256",
            "scheme": "ecdsa-sha2-nistp256",
            "key": b64(spki(REGISTRY)),
            "expires": None,
        }
    ]
}


def registry_sign(data: bytes, key=REGISTRY) -> str:
    return b64(key.sign(data, ec.ECDSA(hashes.SHA256())))


def publish_bundle(**predicate: Any) -> dict[str, Any]:
    told = {"name": PACKAGE.name, "version": PACKAGE.version, "registry": "https://registry.test", **predicate}
    payload = lab_support.canonical(statement(predicateType=PUBLISH, predicate=told))
    kind = "application/vnd.in-toto+json"
    pae = b"DSSEv1 %d %b %d %b" % (len(kind), kind.encode(), len(payload), payload)
    signatures = [{"sig": registry_sign(pae), "keyid": "SHA256:lab"}]
    return {
        "verificationMaterial": {"publicKey": {"hint": "SHA256:lab"}},
        "dsseEnvelope": {"payload": b64(payload), "payloadType": kind, "signatures": signatures},
    }


def answer(*pairs: tuple[str, dict[str, Any]]) -> bytes:
    return json.dumps({"attestations": [{"predicateType": kind, "bundle": one} for kind, one in pairs]}).encode()


class TestRegistry:
    keys = json.dumps(KEYS).encode()

    def test_attestations_of_a_version(self, root: Path) -> None:
        both = answer(("https://slsa.dev/provenance/v1", bundle()), (PUBLISH, publish_bundle()), ("urn:other", {}))
        found = verify_attestations(both, PACKAGE, registry_keys=self.keys, trusted_root=root)
        assert [one.kind for one in found] == ["npm-provenance", "npm-publish"]
        wanted = Wanted(repository="acme/other")
        refused(lambda: verify_attestations(both, PACKAGE, wanted=wanted, trusted_root=root), "not acme/other")
        refused(lambda: verify_attestations(answer(), PACKAGE), "no provenance")
        refused(lambda: verify_attestations(answer((PUBLISH, publish_bundle())), PACKAGE), "no provenance")

    def test_a_publish_attestation_that_does_not_hold(self, root: Path) -> None:
        good = ("https://slsa.dev/provenance/v1", bundle())
        for because, bad in (
            ("another version", publish_bundle(version="9.9.9")),
            ("not signed with a key", {**publish_bundle(), "verificationMaterial": {"publicKey": {"hint": "x"}}}),
            ("not signed with a key", {"verificationMaterial": []}),
        ):
            data = answer(good, (PUBLISH, bad))
            refused(
                lambda data=data: verify_attestations(data, PACKAGE, registry_keys=self.keys, trusted_root=root),
                because,
            )
        forged = publish_bundle()
        forged["dsseEnvelope"]["payload"] = b64(b"{}")
        data = answer(good, (PUBLISH, forged))
        refused(lambda: verify_attestations(data, PACKAGE, registry_keys=self.keys, trusted_root=root), "does not hold")

    def test_signatures_of_a_version(self) -> None:
        signed = f"{PACKAGE.name}@{PACKAGE.version}:{PACKAGE.integrity}".encode()
        good = [{"keyid": "SHA256:lab", "sig": registry_sign(signed)}]
        assert verify_registry_signatures(good, PACKAGE, self.keys).kind == "npm-registry-signature"
        other = Package(PACKAGE.name, "1.0.1", PACKAGE.sha512)
        refused(lambda: verify_registry_signatures(good, other, self.keys), "does not hold")
        forged = [{"keyid": "SHA256:lab", "sig": registry_sign(signed, new_key())}]
        refused(lambda: verify_registry_signatures(forged, PACKAGE, self.keys), "does not hold")
        refused(lambda: verify_registry_signatures([], PACKAGE, self.keys), "not signed")
        refused(lambda: verify_registry_signatures([{"keyid": "x", "sig": ""}], PACKAGE, self.keys), "not signed")
        refused(lambda: verify_registry_signatures([{"keyid": "SHA256:lab", "sig": "!"}], PACKAGE, self.keys), "base64")

    def test_an_expired_key_vouches_for_what_was_published_before(self) -> None:
        keys = copy.deepcopy(KEYS)
        keys["keys"][0]["expires"] = "2025-01-29T00:00:00.000Z"
        data = json.dumps(keys).encode()
        signed = f"{PACKAGE.name}@{PACKAGE.version}:{PACKAGE.integrity}".encode()
        good = [{"keyid": "SHA256:lab", "sig": registry_sign(signed)}]
        verify_registry_signatures(good, PACKAGE, data, datetime(2025, 1, 28, tzinfo=UTC))
        refused(lambda: verify_registry_signatures(good, PACKAGE, data, datetime(2025, 1, 30, tzinfo=UTC)), "expired")
        refused(lambda: verify_registry_signatures(good, PACKAGE, data), "expired")
