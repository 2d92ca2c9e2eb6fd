"""npm provenance while locking: what the registry serves for a version, through npm's own configuration.

`npm view` says whether a version has attestations and signatures. The documents are read by npm's own code
(`npm-registry-fetch`, with the registry, credentials, proxies and certificates that npm is set up for) and verified
here, offline. `npm audit signatures` would verify them too, but only where Sigstore's own host can be reached.
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from callgate.errors import TrustError
from callgate.outside import programs
from callgate.supply import npm_provenance, place, publisher, resolve_client
from callgate.supply.npm_provenance import ATTESTATION_BYTES, Package
from callgate.supply.provenance import has_extra
from callgate.supply.resolve_types import Wanted
from callgate.text import visible

_KEYS: Final = "/-/npm/v1/keys"
_PROBE: Final = "require('fs').writeSync(1, process.argv[1] + '\\n'); process.exit(0)"
_READ: Final = """
const fs = require('node:fs')
const { join } = require('node:path')
const [root, ...options] = process.argv.slice(1)
const asked = JSON.parse(fs.readFileSync(0, 'utf8'))
process.argv = [process.execPath, join(root, 'bin', 'npm-cli.js'), 'view', ...options]
const load = require('node:module').createRequire(join(root, 'lib', 'npm.js'))
const text = async (answer) => {
  const parts = []
  let size = 0
  for await (const part of answer.body) {
    size += part.length
    if (size > asked.most) throw Object.assign(new Error(), { code: 'more than ' + asked.most + ' bytes' })
    parts.push(part)
  }
  return Buffer.concat(parts).toString('utf8')
}
const main = async () => {
  const Npm = load(join(root, 'lib', 'npm.js'))
  const fetch = load('npm-registry-fetch')
  const npm = new Npm()
  await npm.load()
  const config = { ...npm.flatOptions, integrity: null }
  const registry = fetch.pickRegistry(asked.name, config).replace(/[/]+$/, '')
  const answers = {}
  for (const path of asked.paths) {
    const at = path.indexOf('/-/')
    const url = at < 0 ? new URL(path, registry) : new URL(registry + path.slice(at))
    try {
      if (url.origin !== new URL(registry).origin) throw Object.assign(new Error(), { code: 'another host' })
      const answer = await fetch(url.href, config)
      answers[path] = { status: answer.status, body: await text(answer) }
    } catch (error) {
      answers[path] = { status: error.statusCode || 0, body: '', error: String(error.code || error.name) }
    }
  }
  fs.writeFileSync(asked.out, JSON.stringify(answers))
}
main().then(() => process.exit(0), (error) => { console.error(String(error)); process.exit(1) })
"""
"""Reads documents of the registry that npm is configured for. npm's class and its fetching library are what `npm`
itself starts from (8 to 11); where a later npm has them no more, this ends with an error, and nothing is checked."""


def provenance(
    npm: str, wanted: Wanted, package: Package, dist: dict[str, Any], published: datetime | None, work: Path
) -> dict[str, Any]:
    """The record of what the registry serves about a version. Raises TrustError for what does not verify.

    `dist` is what `npm view` tells of the version.
    """
    offered, signatures = dist.get("attestations"), dist.get("signatures")
    address = offered.get("url") if isinstance(offered, dict) else None
    signed = [one for one in signatures if isinstance(one, dict)] if isinstance(signatures, list) else []
    if not address and not signed:
        return {"state": publisher.NONE}
    if address and not has_extra("sigstore"):
        return publisher.not_checked("callgate[sign] is not installed")
    path = urlsplit(str(address)).path if address else ""
    try:
        answers = _read(npm, wanted, package.name, [*([path] if path else []), _KEYS], work)
    except TrustError as error:
        return publisher.not_checked(error.what)
    keys = _keys(answers)
    record: dict[str, Any] = {"state": publisher.NONE}
    if path:
        record = _attested(_body(answers, path), answers.get(path), package, keys, published)
    if keys and npm_provenance.knows_key(signed, keys):
        found = npm_provenance.verify_registry_signatures(signed, package, keys, published)
        record[found.kind] = found.as_record()
    return record


def _attested(answer: bytes, told: Any, package: Package, keys: bytes, published: datetime | None) -> dict[str, Any]:
    if not answer:
        status = told.get("status") or told.get("error") if isinstance(told, dict) else "nothing"
        return publisher.not_checked(
            f"the registry names attestations and does not serve them ({visible(str(status), 40)})"
        )
    try:
        if not npm_provenance.has_provenance(answer):
            return {"state": publisher.NONE}
        return publisher.verified(
            npm_provenance.verify_attestations(answer, package, registry_keys=keys, published=published)
        )
    except TrustError as error:
        raise TrustError(
            f"the provenance that the registry serves for {visible(package.name, 100)}@{visible(package.version, 40)} "
            f"does not hold: {error.what}",
            next_step="do not take it, ask the publisher; an old callgate may lack newer keys of Sigstore: update it; "
            "--no-provenance takes it unchecked",
        ) from error


def _keys(answers: dict[str, Any]) -> bytes:
    """The registry's keys; empty where it has none: some answer such a question with a page for people."""
    body = _body(answers, _KEYS)
    try:
        place.parse_object(body, "the registry's keys", ATTESTATION_BYTES)
    except TrustError:
        return b""
    return body


def _body(answers: dict[str, Any], path: str) -> bytes:
    found = answers.get(path)
    if not isinstance(found, dict) or found.get("status") != 200:
        return b""
    body = found.get("body")
    return body.encode() if isinstance(body, str) else b""


def _read(npm: str, wanted: Wanted, name: str, paths: list[str], work: Path) -> dict[str, Any]:
    """The answers, by path. Raises TrustError where npm could not be asked."""
    node = programs.find("node")
    if not node:
        raise TrustError("there is no node", next_step="install Node.js")
    out = work / "served.json"
    output = resolve_client.run(
        (node, "-e", _READ, "--", _root(npm, work), "--loglevel=error", "--logs-max=0", *wanted.line.registry),
        work,
        stdin=orjson.dumps({"name": name, "paths": paths, "out": str(out), "most": ATTESTATION_BYTES}),
        seconds=120,
    )
    if output.code:
        raise TrustError(
            f"npm could not be asked for it: {resolve_client.last_words(output, 200)}", next_step="update npm"
        )
    return place.parse_object(
        place.read(out, resolve_client.OUTPUT_BYTES), "what the registry served", resolve_client.OUTPUT_BYTES
    )


def _root(npm: str, work: Path) -> str:
    """The directory npm is installed in. Raises TrustError."""
    real = os.path.realpath(npm)
    if not real.endswith("/bin/npm-cli.js"):  # a wrapper: see what it starts
        probe = work / "probe.js"
        probe.write_text(_PROBE)
        said = resolve_client.run((npm, "--version"), work, extra={"NODE_OPTIONS": f"--require={probe}"}, seconds=60)
        lines = said.out.decode("utf-8", "replace").splitlines()
        places = [os.path.realpath(one) for one in lines]
        real = next((one for one in places if one.endswith("/bin/npm-cli.js")), "")
    root = os.path.dirname(os.path.dirname(real))
    if not real or not os.path.isfile(os.path.join(root, "lib", "npm.js")):
        raise TrustError("npm's own files were not found", next_step="install npm with Node.js")
    return root
