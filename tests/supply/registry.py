"""An npm registry and a Python index of our own on loopback, as far as npm, uv and pip ask."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
import threading
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest

OLD = "2026-01-10T10:00:00.000Z"


@dataclass
class Release:
    """One version: its archive, its manifest, when it was published."""

    data: bytes
    manifest: dict[str, Any]
    published: str
    file: str = ""
    served: bytes = b""
    """What is sent instead of `data`: a registry that changes its mind."""


@dataclass
class Registry:
    """What the two registries offer. Fill it before the clients ask."""

    npm: dict[str, dict[str, Release]] = field(default_factory=dict)
    pypi: dict[str, dict[str, Release]] = field(default_factory=dict)
    latest: dict[str, str] = field(default_factory=dict)
    times: bool = True
    publisher: dict[str, str] = field(default_factory=dict)
    attestations: dict[str, bytes] = field(default_factory=dict)
    """By `name@version` (npm), or the file's name (PyPI): what is served about it."""
    hidden: set[str] = field(default_factory=set)
    """Of these, attestations are named and not served."""
    signatures: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    keys: bytes = b""
    elsewhere: str = ""
    """The host that provenance of PyPI files is said to lie on."""
    asked: list[str] = field(default_factory=list)
    url: str = ""

    def add_npm(
        self,
        name: str,
        version: str,
        files: Mapping[str, str | bytes] | None = None,
        published: str = OLD,
        **manifest: Any,
    ) -> Release:
        """An npm package; `bin` is index.js unless told otherwise."""
        body = {"name": name, "version": version, "bin": "index.js", **manifest}
        content = {"index.js": "#!/usr/bin/env node\nconsole.log(process.argv.slice(2).join(' '))\n", **(files or {})}
        content["package.json"] = json.dumps(body)
        release = Release(tar(content), body, published)
        self.npm.setdefault(name, {})[version] = release
        self.latest[name] = version
        return release

    def add_pypi(
        self,
        name: str,
        version: str,
        files: Mapping[str, str] | None = None,
        published: str = OLD,
        requires: tuple[str, ...] = (),
        scripts: Mapping[str, str] | None = None,
    ) -> Release:
        """A pure Python wheel."""
        module = name.replace("-", "_")
        content = {f"{module}/__init__.py": "import sys\ndef main():\n    print(*sys.argv[1:])\n", **(files or {})}
        programs = "".join(f"{k} = {v}\n" for k, v in (scripts or {name: f"{module}:main"}).items())
        info = f"{module}-{version}.dist-info"
        content[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n" + "".join(
            f"Requires-Dist: {one}\n" for one in requires
        )
        content[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        content[f"{info}/entry_points.txt"] = f"[console_scripts]\n{programs}"
        content[f"{info}/RECORD"] = "".join(f"{one},,\n" for one in [*content, f"{info}/RECORD"])
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            for path, text in content.items():
                archive.writestr(zipfile.ZipInfo(path), text)
        release = Release(out.getvalue(), {}, published, f"{module}-{version}-py3-none-any.whl")
        self.pypi.setdefault(name, {})[version] = release
        return release

    # -- answers ------------------------------------------------------------------------------

    def packument(self, name: str) -> dict[str, Any] | None:
        releases = self.npm.get(name)
        if not releases:
            return None
        versions = {}
        for version, one in releases.items():
            integrity = "sha512-" + base64.b64encode(hashlib.sha512(one.data).digest()).decode()
            scripts = one.manifest.get("scripts", {})
            dist: dict[str, Any] = {"tarball": f"{self.url}/npm/-/{name}/{version}.tgz", "integrity": integrity}
            if f"{name}@{version}" in self.attestations:
                # As the public registry names it: without the path that this one lies under.
                where = f"{self.url}/-/npm/v1/attestations/{quote(name, safe='')}@{version}"
                dist["attestations"] = {"url": where, "provenance": {"predicateType": "https://slsa.dev/provenance/v1"}}
            if f"{name}@{version}" in self.signatures:
                dist["signatures"] = self.signatures[f"{name}@{version}"]
            versions[version] = {
                **one.manifest,
                "dist": dist,
                "hasInstallScript": any(hook in scripts for hook in ("preinstall", "install", "postinstall")),
                "_npmUser": {"name": self.publisher.get(f"{name}@{version}", "alice"), "email": "a@a.test"},
            }
        found: dict[str, Any] = {
            "name": name,
            "dist-tags": {"latest": self.latest[name]},
            "versions": versions,
            "maintainers": [{"name": "alice", "email": "a@a.test"}],
        }
        if self.times:
            found["time"] = {"created": OLD, "modified": OLD, **{v: one.published for v, one in releases.items()}}
        return found

    def index(self, name: str) -> dict[str, Any] | None:
        releases = self.pypi.get(name)
        if not releases:
            return None
        files = []
        for one in releases.values():
            file = {
                "filename": one.file,
                "url": f"{self.url}/files/{one.file}",
                "hashes": {"sha256": hashlib.sha256(one.data).hexdigest()},
            }
            if self.times:
                file["upload-time"] = one.published
            if one.file in self.attestations:
                file["provenance"] = f"{self.elsewhere or self.url}/integrity/{one.file}/provenance"
            files.append(file)
        return {"meta": {"api-version": "1.1"}, "name": name, "versions": list(releases), "files": files}

    def answer(self, path: str) -> tuple[str, bytes] | None:
        if path.startswith("/npm/-/npm/v1/attestations/"):
            name = path.removeprefix("/npm/-/npm/v1/attestations/")
            return (
                ("application/json", self.attestations[name])
                if name in self.attestations.keys() - self.hidden
                else None
            )
        if path == "/npm/-/npm/v1/keys":
            return ("application/json", self.keys) if self.keys else None
        if path.startswith("/integrity/"):
            name = path.split("/")[2]
            served = self.attestations.get(name) if name not in self.hidden else None
            return ("application/vnd.pypi.integrity.v1+json", served) if served else None
        if path.startswith("/npm/-/"):
            name, _, file = path.removeprefix("/npm/-/").rpartition("/")
            one = self.npm.get(name, {}).get(file.removesuffix(".tgz"))
            return ("application/octet-stream", one.served or one.data) if one else None
        if path.startswith("/npm/"):
            found = self.packument(path.removeprefix("/npm/"))
            return ("application/json", json.dumps(found).encode()) if found else None
        if path.startswith("/simple/"):
            found = self.index(path.removeprefix("/simple/").strip("/"))
            return ("application/vnd.pypi.simple.v1+json", json.dumps(found).encode()) if found else None
        for releases in self.pypi.values():
            for release in releases.values():
                if path == f"/files/{release.file}":
                    return "application/octet-stream", release.served or release.data
        return None


def tar(content: Mapping[str, str | bytes]) -> bytes:
    """An npm archive."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for path, text in content.items():
            data = text.encode() if isinstance(text, str) else text
            info = tarfile.TarInfo(f"package/{path}")
            info.size, info.mode = len(data), 0o644
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def serve(registry: Registry) -> ThreadingHTTPServer:
    """Start to answer; `shutdown` and `server_close` end it."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = unquote(self.path.partition("?")[0])
            registry.asked.append(path)
            found = registry.answer(path)
            kind, data = found or ("application/json", b'{"error":"not found"}')
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

        do_HEAD = do_GET  # noqa: N815 - the library's name

        def log_message(self, *arguments: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    registry.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def configure(registry: Registry, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Point npm, uv and pip to the registry, by their own variables."""
    empty = folder / "empty"
    empty.write_text("")
    (folder / "empty2").write_text("")
    for name in ("PIP_FIND_LINKS", "UV_FIND_LINKS", "UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_INDEX_URL", "VIRTUAL_ENV"):
        monkeypatch.delenv(name, raising=False)
    settings = {
        "npm_config_registry": f"{registry.url}/npm/",
        "npm_config_userconfig": str(empty),
        "npm_config_globalconfig": str(folder / "empty2"),
        "npm_config_cache": str(folder / "npm-cache"),
        "npm_config_fetch_retries": "0",
        "UV_DEFAULT_INDEX": f"{registry.url}/simple/",
        "UV_CACHE_DIR": str(folder / "uv-cache"),
        "UV_NO_CONFIG": "1",
        "UV_HTTP_RETRIES": "0",
        "UV_PYTHON_DOWNLOADS": "never",
        "PIP_INDEX_URL": f"{registry.url}/simple/",
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_NO_CACHE_DIR": "1",
        "PIP_RETRIES": "0",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
