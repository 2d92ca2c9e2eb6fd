"""A team's catalogue: which servers are approved, which packages are denied. Published with TUF; a client only reads.

    URL/metadata/{timestamp,N.snapshot,N.targets,N.root}.json     the TUF repository (spec 1.0, consistent snapshots)
    URL/targets/HASH.catalogue.json                               the one target

The user pins the first root by file; TUF then gives thresholds, expiry and protection against rollback, freeze and
mix-and-match. State lies in `catalogue/NAME/` of the state directory. Between updates the content is used from there,
without network and without TUF's library, until the metadata expires.

`catalogue.json`:

    {"format": 1,
     "approved": {"github": {"purl": "pkg:npm/%40acme/gh@1.2.3", "artefacts": [{"purl": ..., "integrity": ...}]}},
     "denied": [{"purl": "pkg:npm/postmark-mcp", "versions": ["1.0.16"], "reason": "sends copies of mail"},
                {"purl": "pkg:pypi/evil", "reason": "malicious"}]}

`approved` has entries as `callgate.lock` has them. `denied` without `versions` means all; `introduced` and `fixed` give
a range.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson

from callgate.config import valid_server_name
from callgate.errors import TrustError
from callgate.supply.catalogue_fetch import NotThere, base_url, fetch
from callgate.supply.osv import concerned, parse_purl
from callgate.supply.place import parse_object, read, write
from callgate.supply.provenance import needs_extra
from callgate.text import visible

TARGET: Final = "catalogue.json"
FORMAT: Final = 1
CONTENT_BYTES: Final = 8 * 1024 * 1024
ROOT_BYTES: Final = 512_000
MOST_DENIED: Final = 200_000


@dataclass(frozen=True, slots=True)
class Denied:
    """A package a team does not want. `reason` is the team's text."""

    purl: str
    reason: str


@dataclass(frozen=True, slots=True)
class Catalogue:
    """A catalogue's content, verified when it was fetched. Times are UTC."""

    name: str
    url: str
    version: int
    """Of the TUF targets metadata."""
    expires: datetime
    fetched: datetime
    approved: Mapping[str, Mapping[str, Any]]
    denied: tuple[Mapping[str, Any], ...]

    def denial(self, purl: str) -> Denied | None:
        """Why a package version (`pkg:npm/name@1.2.3`) is denied; None when it is not."""
        return self.denials([purl]).get(purl)

    def denials(self, purls: Iterable[str]) -> dict[str, Denied]:
        """Those of many package versions that are denied, each with why. Goes through the list once."""
        wanted: dict[tuple[str, str], list[tuple[str, str]]] = {}
        for purl in purls:
            ecosystem, name, version = parse_purl(purl)
            wanted.setdefault((ecosystem, name), []).append((purl, version))
        found: dict[str, Denied] = {}
        for one in self.denied:
            ecosystem, name, _ = parse_purl(str(one["purl"]))
            for purl, version in wanted.get((ecosystem, name), ()):
                verdict, _ = concerned(ecosystem, _affected(one), version)
                if verdict is None or verdict:  # what cannot be compared is denied
                    found.setdefault(purl, Denied(str(one["purl"]), str(one.get("reason", ""))))
        return found

    def approves(self, server: str, digest: str) -> bool:
        """Whether the approved entry of a server names an artefact digest (`sha256:...` or npm's `sha512-...`)."""
        entry = self.approved.get(server)
        return bool(digest) and entry is not None and digest in set(_texts(entry))


def add(state: Path, name: str, url: str, root: Path) -> Catalogue:
    """Pin a catalogue's root and fetch it for the first time. Raises TrustError; then nothing is kept."""
    if not valid_server_name(name):
        raise TrustError(f"'{visible(name, 80)}' is no name", next_step="use letters, digits, dots, - and _")
    place = _place(state, name)
    if place.exists():
        raise TrustError(
            f"there is a catalogue '{name}' already",
            next_step=f"remove it first: callgate trust catalogue remove {name}",
        )
    url = base_url(url)
    pinned = read(root, ROOT_BYTES, "root")
    try:
        (place / "metadata").mkdir(mode=0o700, parents=True)
        (place / "targets").mkdir(mode=0o700)
        write(place / "pinned-root.json", pinned)
        write(place / "source.json", orjson.dumps({"url": url}))
        return update(state, name)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise


def remove(state: Path, name: str) -> None:
    """Forget a catalogue. Raises TrustError where there is none."""
    _source(state, name)
    shutil.rmtree(_place(state, name))


def names(state: Path) -> list[str]:
    """The catalogues that are set up, in order."""
    top = state / "catalogue"
    return sorted(one.parent.name for one in top.glob("*/source.json")) if top.is_dir() else []


def update(state: Path, name: str) -> Catalogue:
    """Fetch the newest content and verify it. Raises TrustError; the old content stays as it was."""
    place, url = _place(state, name), _source(state, name)
    path, version, expires = _refresh(place, name, url)
    content = read(path, CONTENT_BYTES, "catalogue")
    _content(content)
    about = {
        "version": version,
        "expires": expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "fetched": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    # The content is kept under its digest, so that content and facts never disagree after a crash.
    write(place / f"content-{about['sha256']}.json", content)
    write(place / "verified.json", orjson.dumps(about))
    for old in place.glob("content-*.json"):
        if str(about["sha256"]) not in old.name:
            old.unlink(missing_ok=True)
    return load(state, name)


def load(state: Path, name: str, now: datetime | None = None) -> Catalogue:
    """The content as it was last verified, without network. Raises TrustError when it expired or was changed."""
    place, url = _place(state, name), _source(state, name)
    about = parse_object(read(place / "verified.json", ROOT_BYTES, "catalogue"), "the catalogue's record")
    try:
        expires, fetched = _time(about["expires"]), _time(about["fetched"])
        sha256, version = str(about["sha256"]), int(about["version"])
    except (KeyError, TypeError, ValueError) as error:
        raise TrustError(f"the record of catalogue '{name}' is damaged", next_step=_again(name)) from error
    if (now or datetime.now(UTC)) >= expires:
        raise TrustError(f"the catalogue '{name}' expired on {expires:%Y-%m-%d %H:%M} UTC", next_step=_again(name))
    content = read(place / f"content-{sha256}.json", CONTENT_BYTES, "catalogue")
    if hashlib.sha256(content).hexdigest() != sha256:
        raise TrustError(f"the catalogue '{name}' was changed on this machine", next_step=_again(name))
    approved, denied = _content(content)
    return Catalogue(name, url, version, expires, fetched, approved, denied)


def _again(name: str) -> str:
    return f"fetch it again: callgate trust catalogue update {name}"


def _place(state: Path, name: str) -> Path:
    return state / "catalogue" / name


def _source(state: Path, name: str) -> str:
    path = _place(state, name) / "source.json"
    if not valid_server_name(name) or not path.exists():
        raise TrustError(
            f"there is no catalogue '{visible(name, 80)}'", next_step="see callgate trust catalogue list, or add it"
        )
    return base_url(str(parse_object(read(path, ROOT_BYTES), "the catalogue's source").get("url", "")))


def _refresh(place: Path, name: str, url: str) -> tuple[Path, int, datetime]:
    """Run TUF's client workflow; the target's file, the version and when the first of the metadata expires."""
    try:
        from tuf.api import exceptions
        from tuf.ngclient.config import UpdaterConfig
        from tuf.ngclient.fetcher import FetcherInterface
        from tuf.ngclient.updater import Updater
    except ImportError as error:
        raise needs_extra(error) from error

    class _Fetcher(FetcherInterface):
        def _fetch(self, url: str) -> Iterator[bytes]:
            try:
                yield from fetch(url)
            except NotThere as error:
                raise exceptions.DownloadHTTPError(str(error), error.status) from error

    config = UpdaterConfig(
        root_max_length=ROOT_BYTES, targets_max_length=CONTENT_BYTES, max_root_rotations=64, max_delegations=1
    )
    try:
        updater = Updater(
            str(place / "metadata"),
            f"{url}metadata/",
            str(place / "targets"),
            f"{url}targets/",
            fetcher=_Fetcher(),
            config=config,
            bootstrap=read(place / "pinned-root.json", ROOT_BYTES, "root"),
        )
        updater.refresh()
        info = updater.get_targetinfo(TARGET)
        if info is None:
            raise TrustError(f"the catalogue '{name}' has no {TARGET}", next_step="ask who publishes it")
        if info.length > CONTENT_BYTES:
            raise TrustError(
                f"the catalogue '{name}' is larger than {CONTENT_BYTES} bytes", next_step="ask its publisher"
            )
        path = Path(updater.download_target(info))
        trusted = updater._trusted_set
        parts = (trusted.root, trusted.timestamp, trusted.snapshot, trusted.targets)
        return path, trusted.targets.version, min(part.expires for part in parts).astimezone(UTC)
    except exceptions.RepositoryError as error:
        raise _refused(name, error) from error
    except (exceptions.DownloadError, OSError) as error:
        why = visible(str(error), 200)
        raise TrustError(
            f"the catalogue '{name}' cannot be fetched: {why}",
            effect="the content stays as it was",
            next_step="check the address and the network",
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise TrustError(
            f"the catalogue '{name}' is malformed: {visible(str(error), 200)}",
            effect="the content stays as it was",
            next_step="ask who publishes it",
        ) from error


def _refused(name: str, error: Exception) -> TrustError:
    """TUF's reasons in a user's words."""
    kinds = {
        "ExpiredMetadataError": "has expired: it is no longer published, or someone withholds the newest one",
        "BadVersionNumberError": "is older than the one used before",
        "EqualVersionNumberError": "is older than the one used before",
        "UnsignedMetadataError": "is not signed by enough of the keys that its root names",
        "LengthOrHashMismatchError": "holds something else than what was signed",
    }
    why = kinds.get(type(error).__name__, "does not verify")
    return TrustError(
        f"the catalogue '{name}' {why} ({visible(str(error), 120)})",
        effect="the content stays as it was",
        next_step="ask who publishes it; do not pin another root on anyone's word",
    )


def _content(data: bytes) -> tuple[Mapping[str, Mapping[str, Any]], tuple[Mapping[str, Any], ...]]:
    document = parse_object(data, TARGET, CONTENT_BYTES)
    approved, denied = document.get("approved", {}), document.get("denied", [])
    good = document.get("format") == FORMAT and isinstance(approved, dict) and isinstance(denied, list)
    if not good or len(denied) > MOST_DENIED or not all(isinstance(one, dict) for one in (*approved.values(), *denied)):
        raise TrustError(f"{TARGET} is not of format {FORMAT}", next_step="update callgate, or ask its publisher")
    for one in denied:
        parse_purl(str(one.get("purl")))
        if not isinstance(one.get("versions", []), list):
            raise TrustError(f"{TARGET}: versions is not a list", next_step="ask its publisher")
    return approved, tuple(denied)


def _affected(one: Mapping[str, Any]) -> dict[str, Any]:
    """A denial as the OSV schema would say it."""
    events = [{kind: str(one[kind])} for kind in ("introduced", "fixed") if kind in one]
    if "fixed" in one and "introduced" not in one:
        events.insert(0, {"introduced": "0"})
    versions = [str(version) for version in one.get("versions", ())]
    if not events and not versions:
        events = [{"introduced": "0"}]
    return {"ranges": [{"type": "ECOSYSTEM", "events": events}] if events else [], "versions": versions}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)


def _time(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
