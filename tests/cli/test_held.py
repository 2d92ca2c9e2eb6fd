"""What an entry sets for its server does not steer the gate that stands before it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from callgate.cli import held
from tests.support.processes import lasting_input

SEES = """
import json, os, sys
gate = open(f"/proc/{os.getppid()}/environ", "rb").read().split(b"\\0")
seen = {"server": dict(os.environ), "gate": [one.partition(b"=")[0].decode() for one in gate if one]}
if sys.argv[1:]:
    with open(sys.argv[1], "w") as file:
        json.dump(seen, file)
else:
    print(json.dumps(seen), file=sys.stderr)
"""


def run(tmp_path: Path, variables: dict[str, str], *options: str, before: tuple[str, ...] = ()) -> tuple[str, str]:
    """(what the server saw as text, callgate's stderr)."""
    report = tmp_path / "seen"
    with lasting_input() as stdin:
        found = subprocess.run(
            [sys.executable, *before, "-m", "callgate.cli.main", "run", "--name", "s", *options,
             "--", sys.executable, "-c", SEES, str(report)],
            stdin=stdin, env={**os.environ, "CALLGATE_STATE_DIR": str(tmp_path / "state"), **variables},
            capture_output=True, check=False, timeout=60,
        )  # fmt: skip
    assert report.exists(), found.stderr
    return report.read_text(), found.stderr.decode()


@pytest.mark.parametrize(
    ("name", "value"),
    [("LD_PRELOAD", ""), ("LD_LIBRARY_PATH", "/nowhere"), ("PYTHONWARNINGS", "default"), ("NODE_OPTIONS", "--trace")],
)
def test_it_reaches_the_server_and_not_the_gate(tmp_path: Path, name: str, value: str) -> None:
    seen = json.loads(run(tmp_path, {name: value})[0])
    assert seen["server"][name] == value
    assert not any(one.startswith(held.HELD) for one in seen["server"])
    if name != "NODE_OPTIONS":  # what /proc shows is what it was started with; this one it puts away by itself
        assert name not in seen["gate"] and held.HELD + name in seen["gate"]


def test_a_servers_modules_are_not_the_gates(tmp_path: Path) -> None:
    modules = tmp_path / "modules"
    modules.mkdir()
    log = tmp_path / "loaded"
    for name in ("jiter", "hashlib"):  # one of a library, one of Python's own; the gate needs both
        (modules / f"{name}.py").write_text(
            f"import os\nwith open({str(log)!r}, 'a') as file: print(os.getpid(), file=file)\nraise ImportError\n"
        )
    seen, said = run(tmp_path, {"PYTHONPATH": str(modules)})
    assert json.loads(seen)["server"]["PYTHONPATH"] == str(modules)
    assert not log.exists()
    assert "held back from callgate itself: PYTHONPATH; a server gets what --env names" in said


def test_evidence_names_it_and_no_value(tmp_path: Path) -> None:
    run(tmp_path, {"LD_AUDIT": "", "PYTHONPATH": "/nowhere/s3cret"})
    content = b"".join(path.read_bytes() for path in (tmp_path / "state" / "audit").rglob("*") if path.is_file())
    assert b'"held_back":["LD_AUDIT","PYTHONPATH"]' in content
    assert b"s3cret" not in content


def test_a_confined_server_gets_it_by_name_only(tmp_path: Path, confined: None) -> None:
    project = tmp_path / "project"
    project.mkdir()
    given = {"LD_LIBRARY_PATH": "/nowhere", "PYTHONPATH": "/nowhere/modules"}
    options = ("--write", str(project), "--env", "LD_LIBRARY_PATH")
    program = SEES.replace('open(f"/proc/{os.getppid()}/environ", "rb").read()', 'b""')
    with lasting_input() as stdin:
        found = subprocess.run(
            [sys.executable, "-m", "callgate.cli.main", "run", "--name", "s", *options, "--", sys.executable, "-c",
             program, str(project / "seen")],
            stdin=stdin, env={**os.environ, "CALLGATE_STATE_DIR": str(tmp_path / "state"), **given},
            capture_output=True, check=False, timeout=60,
        )  # fmt: skip
    assert (project / "seen").exists(), found.stderr
    server = json.loads((project / "seen").read_text())["server"]
    assert server["LD_LIBRARY_PATH"] == "/nowhere" and "PYTHONPATH" not in server
    assert not any(one.startswith(held.HELD) for one in server)


def test_the_path_that_callgate_itself_is_found_by_stays(tmp_path: Path) -> None:
    """-S: no site-packages. Without this PYTHONPATH there would be no callgate to start."""
    everything = os.pathsep.join([str(Path(held.__file__).parents[2]), *(one for one in sys.path if one)])
    seen = json.loads(run(tmp_path, {"PYTHONPATH": everything}, before=("-S",))[0])
    assert seen["server"]["PYTHONPATH"] == everything and "PYTHONPATH" in seen["gate"]


@pytest.mark.parametrize(
    ("names", "anew", "put_away"),
    [
        (("PYTHONUNBUFFERED", "PYTHONUTF8", "LDFLAGS", "LANG", "NODE_ENV"), False, ()),  # near misses
        (("NODE_OPTIONS", "OPENSSL_CONF"), False, ("NODE_OPTIONS", "OPENSSL_CONF")),
        (("LD_PRELOAD", "NODE_OPTIONS"), True, ("LD_PRELOAD", "NODE_OPTIONS")),
        (("DYLD_INSERT_LIBRARIES",), True, ("DYLD_INSERT_LIBRARIES",)),
        (("PYTHONHOME",), True, ("PYTHONHOME",)),
    ],
)
def test_it_starts_anew_only_where_something_was_loaded_already(
    monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], anew: bool, put_away: tuple[str, ...]
) -> None:
    for name in [one for one in os.environ if one.startswith(("PYTHON", "LD_")) or one in held._LATER]:
        monkeypatch.delenv(name)
    for name in names:
        monkeypatch.setenv(name, "x")
    started: list[list[str]] = []
    monkeypatch.setattr(os, "execve", lambda _path, argv, _environment: started.append(argv))
    try:
        held.hold_back()
        assert held.held(os.environ) == sorted(put_away)
        assert {name for name in names if name in os.environ} == set(names) - set(put_away)
        assert {name: held.with_held(os.environ)[name] for name in names} == dict.fromkeys(names, "x")
        assert started == ([[sys.executable, *sys.orig_argv[1:]]] if anew else [])
    finally:
        for name in put_away:
            os.environ.pop(held.HELD + name, None)


def test_the_libraries_that_python_itself_is_loaded_from_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    place = os.path.dirname(next(one for one in held._libraries() if ".so" in one))
    for name in [one for one in os.environ if one.startswith(("PYTHON", "LD_")) or one in held._LATER]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(os, "execve", lambda *_: pytest.fail("started anew"))
    monkeypatch.setenv("LD_LIBRARY_PATH", f"/nowhere:{place}")
    held.hold_back()
    assert held.held(os.environ) == []


def test_what_the_installation_sets_at_each_start_does_not_start_it_for_ever(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    program = tmp_path / "callgate"  # as a wrapper, or a module that Python itself loads at its start
    program.write_text(
        "import os, sys\n"
        "os.environ['PYTHONWARNINGS'] = 'ignore'\n"
        f"with open({str(starts)!r}, 'a') as file: file.write('.')\n"
        "from callgate.cli.main import main\n"
        "sys.exit(main())\n"
    )
    found = subprocess.run(
        [sys.executable, str(program), "run", "--", "true"], stdin=subprocess.DEVNULL, capture_output=True,
        env={**os.environ, "CALLGATE_STATE_DIR": str(tmp_path / "state")}, check=False, timeout=60,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    assert starts.read_text() == ".."
