"""PEP 740 while locking: the attestations that an index serves for the file that was taken.

The index is the one that uv took the package from (its index annotation), or those that pip is configured for. It is
asked by pip's own session: its certificates, proxies and credentials. The page of the project (PEP 691) names each
file's `provenance`; that must lie on the index's own host, so that no index sends callgate elsewhere. What is served is
verified here, offline.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import orjson

from callgate.errors import TrustError
from callgate.supply import pep740, place, publisher, resolve_client
from callgate.supply.provenance import has_extra
from callgate.text import visible

_READ: Final = """
import json, sys
from urllib.parse import urljoin, urlsplit
from pip._internal.commands.index import IndexCommand
PAGE = {"Accept": "application/vnd.pypi.simple.v1+json"}
DOCUMENT = {"Accept": "application/vnd.pypi.integrity.v1+json, application/json"}
def place(url):
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port
def read(answer, most):
    data = bytearray()
    for part in answer.iter_content(65536):
        data += part
        if len(data) > most:
            raise ValueError("more than " + str(most) + " bytes")
    return bytes(data)
class Read(IndexCommand):
    ignore_require_venv = True
    def run(self, options, args):
        asked = json.load(sys.stdin)
        with open(asked["out"], "w", encoding="utf-8") as out:
            json.dump(self.find(options, asked), out)
        return 0
    def find(self, options, asked):
        session = self.get_default_session(options)
        indexes = [asked["index"]] if asked["index"] else [options.index_url, *options.extra_index_urls]
        if asked["index"]:
            session.auth.index_urls = indexes
        said = "it serves no page of the project"
        for index in [] if options.no_index else indexes:
            page = session.get(index.rstrip("/") + "/" + asked["project"] + "/", headers=PAGE, stream=True)
            if page.status_code != 200:
                said = "it answers " + str(page.status_code)
                continue
            if "json" not in page.headers.get("Content-Type", ""):
                said = "it serves no JSON (PEP 691)"
                continue
            try:
                files = json.loads(read(page, asked["page"])).get("files", [])
            except ValueError as error:
                said = "its page of the project cannot be read: " + str(error)
                continue
            for file in files:
                if file.get("hashes", {}).get("sha256") == asked["sha256"]:
                    return self.document(session, page.url, file, asked["document"])
            said = "it does not list the file"
        return {"said": said}
    def document(self, session, base, file, most):
        url = file.get("provenance")
        if not url:
            return {"none": True}
        url = urljoin(base, url)
        if place(url) != place(base):
            return {"said": "its provenance lies on another host"}
        answer = session.get(url, headers=DOCUMENT, stream=True)
        if place(answer.url) != place(base) or answer.status_code != 200:
            return {"said": "it names a provenance and answers " + str(answer.status_code)}
        try:
            return {"body": read(answer, most).decode("utf-8")}
        except ValueError as error:
            return {"said": "its provenance cannot be read: " + str(error)}
sys.exit(Read("read", "").main(sys.argv[1:]))
"""
"""Reads what an index serves about one file, by pip's own session (pip 21.2 and later); where a later pip has it no
more, this ends with an error, and nothing is checked."""


def provenance(
    python: str, index: str, options: tuple[str, ...], project: str, file: pep740.File, work: Path
) -> dict[str, Any]:
    """The record of what the index serves about a file. Raises TrustError for what does not verify.

    `python` is an interpreter with pip, `index` the index's URL ('': those of pip's configuration and `options`).
    """
    if not has_extra("pypi_attestations"):
        return publisher.not_checked("callgate[sign] is not installed")
    try:
        answer = _read(python, index, options, project, file, work)
    except TrustError as error:
        return publisher.not_checked(error.what)
    if answer.get("none") is True:
        return {"state": publisher.NONE}
    body = answer.get("body")
    if not isinstance(body, str):
        return publisher.not_checked(f"the index was asked: {visible(str(answer.get('said')), 100)}")
    try:
        return publisher.verified(pep740.verify_provenance(body.encode(), file))
    except TrustError as error:
        raise TrustError(
            f"the provenance that the index serves for {visible(file.name, 150)} does not hold: {error.what}",
            next_step="do not take it, ask the publisher; an old callgate may lack newer keys of Sigstore: update it; "
            "--no-provenance takes it unchecked",
        ) from error


def _read(
    python: str, index: str, options: tuple[str, ...], project: str, file: pep740.File, work: Path
) -> dict[str, Any]:
    out = work / "served.json"
    limits = {"page": resolve_client.OUTPUT_BYTES, "document": pep740.PROVENANCE_BYTES}
    asked = {"index": index, "project": project, "sha256": file.sha256, "out": str(out), **limits}
    output = resolve_client.run(
        (python, "-c", _READ, "--disable-pip-version-check", "--no-input", "--quiet", *options),
        work,
        stdin=orjson.dumps(asked),
        seconds=120,
    )
    if output.code or not out.exists():
        why = "there is no pip to ask the index with" if "No module named" in output.error else ""
        raise TrustError(why or f"pip could not ask the index: {resolve_client.last_words(output, 200)}")
    return place.parse_object(
        place.read(out, resolve_client.OUTPUT_BYTES), "what the index served", pep740.PROVENANCE_BYTES
    )
