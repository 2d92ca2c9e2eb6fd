"""Entries that try to run code outside of the sandbox while their server is resolved, with the real npm, uv and pip."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from callgate.config import Config
from callgate.errors import TrustError
from callgate.launching import first_run
from callgate.outside import caller, places, programs, remembered, variables
from callgate.outside.remembered import Remembered
from callgate.supply import artefacts
from callgate.supply.lockfile import load
from tests.outside.conftest import Program, path_of
from tests.supply.conftest import npm
from tests.supply.registry import Registry, serve

__all__ = ["npm"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180), pytest.mark.usefixtures("entry")]

NPX = ("npx", "-y", "mcp-mail")
UVX = ("uvx", "mcp-mail")
SYSTEM = "/usr/bin:/bin"


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """Named by the environment alone, as an entry may do it."""
    found = Registry()
    server = serve(found)
    for name in list(os.environ):
        if name.upper().startswith(("NPM_CONFIG_", "UV_", "PIP_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("npm_config_registry", f"{found.url}/npm/")
    monkeypatch.setenv("npm_config_fetch_retries", "0")
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"{found.url}/simple/")
    monkeypatch.setenv("PIP_INDEX_URL", f"{found.url}/simple/")
    found.add_npm("mcp-mail", "1.0.0")
    found.add_pypi("mcp-mail", "1.0.0")
    yield found
    server.shutdown()
    server.server_close()


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    yield folder
    artefacts.remove(folder)


@pytest.fixture
def evil(project: Path, program: Program, monkeypatch: pytest.MonkeyPatch, ran: Path) -> Path:
    """A project full of what clients could take for theirs."""
    bin_ = project / "bin"
    for name in ("node", "git", "sh", "python", "python3", "python3.12", "keyring", "pyenv"):
        program(bin_, name)
    code = project / "evil.js"
    code.write_text(f"require('fs').appendFileSync({str(ran)!r}, 'required\\n')\n")
    modules = project / "modules"
    modules.mkdir()
    (modules / "sitecustomize.py").write_text(f"open({str(ran)!r}, 'a').write('python\\n')\n")
    settings = f"registry=http://127.0.0.1:1/\nscript-shell={bin_ / 'sh'}\nnode-options=--require={code}\n"
    (project / ".npmrc").write_text(f"{settings}git={bin_ / 'git'}\nprefix={project}\nignore-scripts=false\n")
    (project / "package.json").write_text(
        '{"packageManager":"npm@9.9.9","workspaces":["**"],"scripts":{"preinstall":"sh"}}'
    )
    (project / "uv.toml").write_text('index-url = "http://127.0.0.1:1/"\nkeyring-provider = "subprocess"\n')
    (project / "pip.conf").write_text("[global]\nindex-url = http://127.0.0.1:1/\n")
    (project / ".python-version").write_text(f"{bin_ / 'python3'}\n")
    (project / ".tool-versions").write_text(f"nodejs path:{project}\npython path:{project}\n")
    (project / "tmp").mkdir()
    for name, value in {
        "NODE_OPTIONS": f"--require={code}",
        "npm_config_node_options": f"--require={code}",
        "npm_config_script_shell": str(bin_ / "sh"),
        "npm_config_git": str(bin_ / "git"),
        "npm_config_prefix": str(project),
        "npm_config_globalconfig": str(project / ".npmrc"),
        "npm_config_cache": str(project / "cache"),
        "npm_config_ignore_scripts": "false",
        "UV_PYTHON": str(bin_ / "python3"),
        "UV_CACHE_DIR": str(project / "cache"),
        "UV_KEYRING_PROVIDER": "subprocess",
        "PIP_PYTHON": str(bin_ / "python3"),
        "PYTHONPATH": str(modules),
        "PYTHONSTARTUP": str(modules / "sitecustomize.py"),
        "VIRTUAL_ENV": str(project),
        "HOME": str(project),
        "XDG_DATA_HOME": str(project),
        "XDG_CACHE_HOME": str(project / "cache"),
        "TMPDIR": str(project / "tmp"),
        "BASH_ENV": str(bin_ / "sh"),
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", path_of("", "bin", bin_, os.environ["PATH"]))
    return bin_


def pin(state: Path, command: tuple[str, ...]) -> None:
    assert first_run.pin(Config(), "mail", command, state)
    assert "mail" in load(state / "callgate.lock").servers


def of_the_user(state: Path, **found: str) -> None:
    """What the user's own commands found, where root has not installed it."""
    remembered.write(str(state), Remembered({name: path for name, path in found.items() if path}))


def own(state: Path) -> None:
    """The programs of this machine, as a user who ran callgate here has them."""
    found = {name: shutil.which(name) or "" for name in ("npm", "node", "python3")}
    of_the_user(state, **found)


@pytest.fixture
def used(state: Path, npm: None) -> None:
    own(state)


@pytest.mark.usefixtures("used")
class TestNpm:
    def test_nothing_of_the_project_runs_or_counts(
        self, registry: Registry, state: Path, evil: Path, ran: Path, project: Path, home: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        pin(state, NPX)
        assert not ran.exists()
        assert not (project / "cache").exists() and list((project / "tmp").iterdir()) == []
        assert (home / ".npm").is_dir()
        assert any("/npm/mcp-mail" in one for one in registry.asked)
        said = capsys.readouterr().err
        assert "not given to the package clients" in said and "npm_config_script_shell" in said

    @pytest.mark.parametrize("without", ["PATH", "NODE_OPTIONS"])
    def test_it_would_have_run(self, evil: Path, ran: Path, monkeypatch: pytest.MonkeyPatch, without: str) -> None:
        """By either of the two: so the test above can fail."""
        real = str(shutil.which("npm", path=os.environ["PATH"].split(f"{evil}{os.pathsep}")[1]))
        environment = {**os.environ, "PATH": path_of(evil, SYSTEM)}
        if without == "PATH":
            environment["PATH"] = path_of(os.path.dirname(real), SYSTEM)
        else:
            del environment[without]
        subprocess.run([real, "--version"], env=environment, capture_output=True, check=False, timeout=60)
        assert ran.exists()

    def test_a_program_of_the_projects_that_is_called_npm(
        self, registry: Registry, state: Path, evil: Path, ran: Path, program: Program
    ) -> None:
        (state / "programs.json").unlink()
        program(evil, "npm")
        with pytest.raises(TrustError, match="a client's entry decides"):
            first_run.pin(Config(), "mail", NPX, state)
        assert not ran.exists() and registry.asked == []

    def test_other_settings_of_npm(
        self, registry: Registry, state: Path, evil: Path, ran: Path, project: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("npm_config_userconfig", str(project / ".npmrc"))
        with pytest.raises(TrustError, match="npm_config_userconfig"):
            first_run.pin(Config(), "mail", NPX, state)
        assert not ran.exists()

    def test_it_resolves_below_the_state_directory(
        self, registry: Registry, state: Path, evil: Path, tmp_path: Path, program: Program
    ) -> None:
        """Version managers look above for the version that is meant, and that may be a path."""
        real = remembered.read(str(state)).programs["npm"]
        wrapper = program(tmp_path / "home" / "bin", "npm")
        wrapper.write_text(f'#!/bin/sh\npwd >> "{tmp_path}/where"\nexec "{real}" "$@"\n')
        of_the_user(state, npm=str(wrapper), node=shutil.which("node", path=os.path.dirname(real)) or "")
        pin(state, NPX)
        places_ = (tmp_path / "where").read_text().split()
        assert places_ and all(places.within(one, str(state)) for one in places_)
        assert not list(state.glob(".resolve-*"))


def test_corepack_runs_no_npm_that_a_package_above_names(
    tmp_path: Path, npm: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it stands for npm. It looks further up where a `package.json` names none."""
    node = os.path.realpath(shutil.which("node") or "")
    shim = os.path.join(os.path.dirname(os.path.dirname(node)), "lib/node_modules/corepack/dist/npm.js")
    if not os.path.isfile(shim):
        pytest.skip("there is no corepack here")
    (tmp_path / "package.json").write_text('{"packageManager":"npm@9.9.9"}')
    work = tmp_path / "state" / "work"
    work.mkdir(parents=True)
    (work / "package.json").write_text("{}")
    environment = {**variables.environment(shim), "COREPACK_NPM_REGISTRY": "http://127.0.0.1:1"}

    def said(**more: str) -> bytes:
        words = [node, shim, "--version"]
        done = subprocess.run(
            words, cwd=work, env={**environment, **more}, capture_output=True, check=False, timeout=60
        )
        return done.stdout + done.stderr

    assert b"9.9.9" not in said()
    assert b"9.9.9" in said(COREPACK_ENABLE_PROJECT_SPEC="1")


@pytest.fixture(params=["uv", "pip"])
def client(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    original = programs.find
    if request.param == "uv" and not original("uv"):
        pytest.skip("there is no uv")
    if request.param == "pip":
        found = {"uv": "", "python3": sys.executable}
        monkeypatch.setattr(programs, "find", lambda name: found.get(name, "") if name in found else original(name))
    return str(request.param)


@pytest.mark.usefixtures("used")
class TestPypi:
    def test_nothing_of_the_project_runs_or_counts(
        self, client: str, registry: Registry, state: Path, evil: Path, ran: Path, project: Path
    ) -> None:
        try:
            pin(state, UVX)
        except TrustError as error:
            if "cannot hold back" not in error.what:  # pip before 26
                raise
        assert not ran.exists()
        assert not (project / "cache").exists()
        assert registry.asked or client == "pip"

    def test_it_would_have_run(self, client: str, evil: Path, ran: Path) -> None:
        words = [programs.find("uv"), "python", "find"] if client == "uv" else ["/usr/bin/env", "python3", "--version"]
        subprocess.run(words, env=dict(os.environ), cwd=evil.parent, capture_output=True, check=False, timeout=60)
        assert ran.exists()

    @pytest.mark.parametrize("person", [False, True])
    @pytest.mark.parametrize("written", ["./bin/python3", "bin/python3", "{bin}/python3", "{bin}/../bin/python3"])
    def test_an_interpreter_that_the_line_names(
        self, registry: Registry, state: Path, evil: Path, ran: Path, written: str, person: bool,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        """`install` locks lines of projects too: who started callgate says nothing of the line."""
        monkeypatch.setattr(caller, "_own", person)
        with pytest.raises(TrustError, match="the command names"):
            first_run.pin(Config(), "mail", ("uvx", "--python", written.format(bin=evil), "mcp-mail"), state)
        assert not ran.exists()

    def test_an_interpreter_by_a_name_of_the_projects(
        self, registry: Registry, state: Path, evil: Path, ran: Path, program: Program
    ) -> None:
        program(evil, "evil-python")
        with pytest.raises(TrustError, match="no Python evil-python"):
            first_run.pin(Config(), "mail", ("uvx", "--python", "evil-python", "mcp-mail"), state)
        assert not ran.exists()
