"""What holds for every test: a clean environment, a state directory of its own, one group a heavy file."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from callgate.detect import automaton
from callgate.outside import caller
from callgate.vault import active
from tests.support import ahead

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


# CI proves the same cases every time; elsewhere each run draws new ones, and what they find becomes an @example.
# How long it takes to draw them says how busy the machine is, and nothing about callgate.
settings.register_profile("ci", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ci" if os.environ.get("CI") else "default")


@pytest.fixture(scope="session")
def unconfined_settings(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A configuration that starts servers without a sandbox."""
    path = tmp_path_factory.mktemp("settings") / "callgate.toml"
    path.write_text('launch = { sandbox = "none" }\n')
    return str(path)


@pytest.fixture(scope="session")
def states(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A path for the state of each test. pytest would look through those of all tests before for a free number."""
    top = tmp_path_factory.mktemp("states")
    return (top / str(number) for number in itertools.count())


@pytest.fixture(scope="session", autouse=True)
def _patterns_are_compiled_once() -> Iterator[None]:
    """What one test compiled, the next one loads, as the second start of callgate does: it saves 30 ms a gate."""
    compiled: dict[tuple[tuple[str, bytes], ...], bytes] = {}
    compile_anew = automaton._compile

    def compile_once(patterns: Sequence[tuple[str, bytes]]) -> Any:
        import hyperscan

        if (known := compiled.get(tuple(patterns))) is not None:
            return hyperscan.loadb(known, mode=hyperscan.HS_MODE_BLOCK)
        database = compile_anew(patterns)
        compiled[tuple(patterns)] = hyperscan.dumpb(database)
        return database

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(automaton, "_compile", compile_once)
        yield


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, states: Iterator[Path], unconfined_settings: str) -> None:
    """No proxy, no colour, no setting of the person who runs the tests, and never that person's state.

    Servers start unconfined unless a test says otherwise: most tests are about messages, and a sandbox for each of
    their servers would double their time. Those about the launch boundary take the default (`confined`).
    """
    for name in list(os.environ):
        if name.lower() in PROXIES or name.startswith(("CALLGATE_", "MCP_")):
            monkeypatch.delenv(name)
    state = next(states)
    state.mkdir(mode=0o700)
    monkeypatch.setenv("CALLGATE_STATE_DIR", str(state))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("CALLGATE_CONFIG", unconfined_settings)


@pytest.fixture(autouse=True)
def _a_person_runs_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose environment it is: where nobody says it, it is a client's, and the package clients get little of it."""
    monkeypatch.setattr(caller, "_own", True)
    monkeypatch.setattr(caller, "_settings", caller.Settings())


@pytest.fixture(autouse=True)
def _no_secrets_of_other_tests() -> Iterator[None]:
    """The table of secrets is one for the process, and a worker runs many tests."""
    yield
    active._ACTIVE.clear()


@pytest.fixture
def confined(monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of a new user: servers start in a sandbox."""
    monkeypatch.delenv("CALLGATE_CONFIG")


LONGEST_NAME = 200
"""Characters of a value that may stand in a test's name: names go to each worker, into the environment, into reports."""


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """A temporary path is another one in each worker, and the workers must agree on the names of tests."""
    if not isinstance(val, str | bytes):
        return None
    text = os.fsdecode(val)
    return argname if len(text) > LONGEST_NAME or tempfile.gettempdir() in text else None


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    with ahead.begun(ahead.needed(session)):
        return (yield)


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of one end-to-end file share a worker, and so what they start: two workers would start it twice.

    pytest-xdist begins with the groups, those of many tests first; the single tests fill both workers to the end.
    """
    for item in items:
        path = Path(item.path)
        if "e2e" in path.parts and not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(path.stem))
