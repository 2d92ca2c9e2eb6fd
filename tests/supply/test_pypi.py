"""PyPI packages against an index of our own, with uv and with pip."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from callgate.errors import TrustError
from callgate.outside import programs
from callgate.supply.pinned import Pinned, pinned_launch
from callgate.supply.resolve import Options, lock_server
from tests.supply.registry import Registry

pytestmark = [pytest.mark.xdist_group("pypi"), pytest.mark.slow]
LINE = ("uvx", "mcp-mail", "--stdio")
OFF = Options(no_cooldown=True)
HAS_UV = bool(programs.find("uv"))


def days_ago(days: float) -> str:
    return (datetime.now(UTC) - timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")


def pinned(state: Path, line: tuple[str, ...] = LINE) -> Pinned:
    found = pinned_launch("mail", line, [state / "callgate.lock"], state)
    assert found is not None
    return found


def output(found: Pinned) -> str:
    done = subprocess.run(found.argv, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(params=["uv", "pip"])
def client(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "uv":
        if not HAS_UV:
            pytest.skip("there is no uv")
        return "uv"
    original = programs.find
    monkeypatch.setattr(
        programs,
        "find",
        lambda name: "" if name == "uv" else sys.executable if name == "python3" else original(name),
    )
    return "pip"


@pytest.fixture
def mail(registry: Registry) -> Registry:
    registry.add_pypi("left-pad", "1.0")
    registry.add_pypi("mcp-mail", "1.0.15", published=days_ago(60), requires=("left-pad",))
    registry.add_pypi("mcp-mail", "1.0.16", published=days_ago(3), requires=("left-pad",))
    return registry


def test_resolved_unpacked_and_started_offline(mail: Registry, state: Path, client: str) -> None:
    server = lock_server("mail", LINE, state=state, options=OFF)
    assert (server.version, server.purl) == ("1.0.16", "pkg:pypi/mcp-mail@1.0.16")
    assert [one.purl for one in server.artefacts] == ["pkg:pypi/left-pad@1.0", "pkg:pypi/mcp-mail@1.0.16"]
    assert server.artefacts[1].file == "mcp_mail-1.0.16-py3-none-any.whl"
    mail.pypi.clear()
    mail.asked.clear()
    found = pinned(state)
    assert output(found) == "--stdio"
    assert found.argv[0].startswith(found.store)
    assert not mail.asked
    assert list(Path(found.store).rglob("mcp_mail/__pycache__/*.pyc"))
    text = b"".join(
        path.read_bytes() for path in Path(found.store).rglob("*") if path.is_file() and not path.is_symlink()
    )
    assert b"/artefacts/.new-" not in text, "a tree must not know where it was made"


def test_the_cool_down_is_held_by_uv(mail: Registry, state: Path) -> None:
    if not HAS_UV:
        pytest.skip("there is no uv")
    server = lock_server("mail", LINE, state=state)
    assert (server.version, bool(server.cooldown)) == ("1.0.15", True)
    for spec in ("mcp-mail@1.0.16", "mcp-mail>=1.0.16"):
        with pytest.raises(TrustError) as caught:
            lock_server("other", ("uvx", spec), state=state)
        assert "--no-cooldown" in caught.value.next_step


def test_an_index_without_dates_is_told_apart(mail: Registry, state: Path, client: str) -> None:
    mail.times = False
    with pytest.raises(TrustError) as caught:
        lock_server("mail", LINE, state=state)
    assert "cool-down cannot be held" in caught.value.what
    assert "--no-cooldown" in caught.value.next_step


def test_code_at_start_of_python_never_runs_while_locking(
    mail: Registry, state: Path, client: str, tmp_path: Path
) -> None:
    witness = tmp_path / "ran"
    code = f"import pathlib; pathlib.Path({str(witness)!r}).touch()\n"
    files = {"evil.pth": code, "sitecustomize.py": code, "mcp_mail/__init__.py": code + "def main(): pass\n"}
    mail.add_pypi("mcp-mail", "1.0.16", files)
    server = lock_server("mail", LINE, state=state, options=OFF)
    assert not witness.exists()
    assert any(one.startswith("evil.pth:") for one in server.install_scripts)
    assert any(one.startswith("sitecustomize.py:") for one in server.install_scripts)
    output(pinned(state))
    assert witness.exists(), "it does run when the server is started, in its sandbox"


@pytest.mark.parametrize("file", ["scripts/python", "data/bin/python", "scripts/python3"])
def test_a_package_that_replaces_the_interpreter(registry: Registry, state: Path, client: str, file: str) -> None:
    registry.add_pypi("mcp-mail", "1.0", {f"mcp_mail-1.0.data/{file}": "#!/bin/sh\necho evil\n"})
    try:
        lock_server("mail", LINE, state=state, options=OFF)
    except TrustError as error:
        assert error.next_step
        return
    assert output(pinned(state)) == "--stdio"


def test_a_package_without_wheels_is_not_built(registry: Registry, state: Path, client: str) -> None:
    release = registry.add_pypi("mcp-mail", "1.0")
    release.file = "mcp_mail-1.0.tar.gz"
    with pytest.raises(TrustError) as caught:
        lock_server("mail", LINE, state=state, options=OFF)
    assert "--allow-sdist" in caught.value.next_step


@pytest.mark.parametrize("where", ["url", "extra"])
def test_what_comes_from_a_url_is_not_built(
    registry: Registry, state: Path, client: str, tmp_path: Path, where: str
) -> None:
    witness = tmp_path / "ran"
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name, text in {
            "evil-1.0/setup.py": f"open({str(witness)!r}, 'w')\nfrom setuptools import setup; setup(name='evil')\n",
            "evil-1.0/PKG-INFO": "Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n",
            "evil-1.0/pyproject.toml": "[build-system]\nrequires = []\nbuild-backend = 'b'\nbackend-path = ['.']\n",
            "evil-1.0/b.py": f"open({str(witness)!r}, 'w')\n",
        }.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    evil = registry.add_pypi("evil", "1.0")
    evil.data, evil.file = data.getvalue(), "evil-1.0.tar.gz"
    url = f"evil @ {registry.url}/files/evil-1.0.tar.gz"
    registry.add_pypi("mcp-mail", "1.0", requires=(url,) if where == "url" else ())
    line = ("uvx", "mcp-mail") if where == "url" else ("uvx", "--with", url, "mcp-mail")
    with pytest.raises(TrustError):
        lock_server("mail", line, state=state, options=OFF)
    assert not witness.exists()


def test_other_bytes_are_refused(mail: Registry, state: Path, client: str) -> None:
    release = mail.pypi["mcp-mail"]["1.0.16"]
    release.served = release.data + b" "
    with pytest.raises(TrustError):
        lock_server("mail", LINE, state=state, options=OFF)
    assert not (state / "callgate.lock").exists()
    release.served = b""
    lock_server("mail", LINE, state=state, options=OFF)
    before = (state / "callgate.lock").read_bytes()
    mail.add_pypi("mcp-mail", "1.0.16", {"mcp_mail/new.py": "1"}, requires=("left-pad",))
    with pytest.raises(TrustError, match="other bytes"):
        lock_server("mail", LINE, state=state, options=OFF)
    assert (state / "callgate.lock").read_bytes() == before


@pytest.mark.parametrize(
    ("scripts", "line", "says"),
    [
        ({"tool": "mcp_mail:main"}, ("uvx", "--from", "mcp-mail", "tool", "x"), "x"),
        ({"tool": "mcp_mail:main"}, ("uvx", "mcp-mail", "y"), "y"),
        ({"mcp_mail": "mcp_mail:main", "b": "x:y"}, ("pipx", "run", "mcp-mail", "z"), "z"),
        ({"a": "mcp_mail:main", "b": "mcp_mail:main"}, ("uvx", "mcp-mail"), None),
        ({"mcp-mail": "mcp_mail:main; import os"}, ("uvx", "mcp-mail"), None),
        ({"mcp-mail": "os:system('x')"}, ("uvx", "mcp-mail"), None),
    ],
)
def test_which_program(
    registry: Registry, state: Path, scripts: dict[str, str], line: tuple[str, ...], says: str | None
) -> None:
    registry.add_pypi("mcp-mail", "1.0", scripts=scripts)
    if says is None:
        with pytest.raises(TrustError, match=r"has no program|could not unpack"):
            lock_server("mail", line, state=state, options=OFF)
        return
    lock_server("mail", line, state=state, options=OFF)
    assert output(pinned(state, line)) == says


def test_a_package_installed_beside_it_has_another_program(registry: Registry, state: Path) -> None:
    """`--with` gives the server more to import; its own programs are not what the line starts."""
    registry.add_pypi("mcp-mail", "1.0", scripts={"a": "mcp_mail:main", "b": "mcp_mail:main"})
    registry.add_pypi("helper", "1.0")
    with pytest.raises(TrustError, match="has no program 'mcp-mail'"):
        lock_server("mail", ("uvx", "--with", "helper", "mcp-mail"), state=state, options=OFF)
    line = ("uvx", "--with", "helper", "--from", "mcp-mail", "helper", "x")
    lock_server("mail", line, state=state, options=OFF)
    assert output(pinned(state, line)) == "x"


def test_two_programs_of_one_package_do_not_take_each_others_place(registry: Registry, state: Path) -> None:
    code = "import sys\ndef main():\n    print('main')\ndef other():\n    print('other')\n"
    programs = {"two": "two:main", "other": "two:other"}
    registry.add_pypi("two", "1.0", {"two/__init__.py": code}, scripts=programs)
    lines = {"a": ("uvx", "two"), "b": ("uvx", "--from", "two", "other")}
    records = {lock_server(name, line, state=state).record for name, line in lines.items()}
    assert len(records) == 2
    for name, line in lines.items():
        found = pinned_launch(name, line, [state / "callgate.lock"], state)
        assert found is not None
        assert output(found) == {"a": "main", "b": "other"}[name]


def test_tampering_with_bytecode_stops_the_start(mail: Registry, state: Path) -> None:
    lock_server("mail", LINE, state=state, options=OFF)
    victim = next(Path(pinned(state).store).rglob("mcp_mail/__pycache__/*.pyc"))
    victim.chmod(0o644)
    victim.write_bytes(victim.read_bytes() + b"x")
    with pytest.raises(TrustError, match="not as they were locked"):
        pinned(state)


def test_the_same_packages_give_the_same_tree(mail: Registry, tmp_path: Path) -> None:
    trees = set()
    for name in ("one", "two-with-a-longer-name"):
        state = tmp_path / name
        state.mkdir()
        trees.add(lock_server("mail", LINE, state=state, options=OFF).tree)
    assert len(trees) == 1


def test_what_others_put_beside_the_work_counts_for_nothing(
    mail: Registry, state: Path, client: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared, witness = tmp_path / "shared", tmp_path / "ran"
    shared.mkdir()
    program = shared / "python3"
    program.write_text(f'#!/bin/sh\n: > {witness}\nexec {sys.executable} "$@"\n')
    program.chmod(0o755)
    (shared / ".python-version").write_text(f"{program}\n")
    (shared / ".venv" / "bin").mkdir(parents=True)
    (shared / ".venv" / "pyvenv.cfg").write_text(f"home = {os.path.dirname(sys.executable)}\n")
    for name in ("python", "python3"):
        (shared / ".venv" / "bin" / name).symlink_to(program)
    hostile = 'index-url = "http://127.0.0.1:9/simple/"\n'
    (shared / "uv.toml").write_text(hostile)
    (shared / "pyproject.toml").write_text(
        f'[project]\nname = "x"\nversion = "1"\n[tool.uv]\n{hostile}[tool.uv.workspace]\nmembers = ["*"]\n'
    )
    monkeypatch.setattr(tempfile, "tempdir", str(shared))
    mine = tmp_path / "mine" / "uv" / "uv.toml"
    mine.parent.mkdir(parents=True)
    mine.write_text(f'index-url = "{mail.url}/simple/"\n')
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "mine"))
    for name in ("UV_NO_CONFIG", "UV_DEFAULT_INDEX"):
        monkeypatch.delenv(name)
    assert lock_server("mail", LINE, state=state, options=OFF).package == "mcp-mail"
    assert not witness.exists()
