"""A secret goes to the starts it was granted to: what else an entry may try, and what it must still be able to do."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from callgate.config import Config, LaunchConfig, SecretConfig
from callgate.config.document import parse
from callgate.config.reader import load
from callgate.errors import SecretError
from callgate.frozen import replace
from callgate.launching import granting, own
from callgate.launching.circumstances import Circumstances, place
from callgate.launching.granted import check_command, check_settings, check_url
from callgate.launching.pinned import Pinning
from callgate.launching.plan import Wish, plan
from callgate.vault.grants import read
from callgate.vault.grants_file import changing
from callgate.vault.stores import open_store
from tests.support.grants import believed

VALUE = "vend_live_9fKq27LmXw4RtB8sYcZ1"
REFERENCE = "age://vendor"
COMMAND = (sys.executable, "/srv/server.py", "--stdio")
UNCONFINED = {"launch": {"sandbox": "none"}}


class Desk:
    """A user with one secret and one server that was granted it."""

    def __init__(self, folder: Path) -> None:
        self.state, self.project, self.home = folder / "state", folder / "project", folder / "home"
        for one in (self.state, self.project, self.home):
            one.mkdir(mode=0o700)
        store = open_store("age", self.state)
        store.put("vendor", VALUE.encode())
        store.put("other", b"another-value-of-28491")
        store.close()
        self.variables = {"PATH": "/usr/bin:/bin", "TOKEN": REFERENCE, "LEVEL": "debug", "HOME": str(self.home)}

    def grant(self, command: tuple[str, ...] = COMMAND, *, cwd: str = "", **variables: str) -> None:
        made = granting.for_command(
            command,
            variables or {"TOKEN": REFERENCE, "LEVEL": "debug"},
            self.state,
            environ=self.variables,
            cwd=cwd,
            unconfined=True,
        )
        with changing(self.state) as draft:
            draft.add(made)

    def wish(self, **more: Any) -> Wish:
        told = {
            "name": "s",
            "command": COMMAND,
            "variables": self.variables,
            "names": ("TOKEN", "LEVEL"),
            "cwd": str(self.project),
        }
        return Wish(**{**told, **more})

    def starts(self, config: Config | None = None, state: Path | None = None, **more: Any) -> dict[str, str]:
        """The environment of the server, where it is started."""
        launch = plan(config or parse(UNCONFINED), self.wish(**more), state or self.state)
        launch.abandon()
        return dict(launch.environment)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_nothing_is_granted_to_an_entry_because_it_says_so(desk: Desk) -> None:
    with pytest.raises(SecretError, match="age://vendor was not granted to this command") as caught:
        desk.starts()
    assert VALUE not in str(caught.value) + caught.value.next_step
    assert f"callgate secrets grant {REFERENCE} --start " in caught.value.next_step
    assert caught.value.next_step.endswith(f"-- {' '.join(COMMAND)}")


def test_what_was_granted_is_given(desk: Desk) -> None:
    desk.grant()
    assert desk.starts()["TOKEN"] == VALUE
    assert desk.starts(cwd=str(desk.home))["TOKEN"] == VALUE  # the command is the same everywhere
    assert desk.starts(name="another")["TOKEN"] == VALUE  # nor does its name say what it is
    assert desk.starts(network=("api.example.com",), read=(str(desk.home),))["TOKEN"] == VALUE


ATTACKS: dict[str, Callable[[Desk], dict[str, Any]]] = {
    "another command of the same name": lambda _: {"command": ("/srv/evil", *COMMAND[1:])},
    "one argument more": lambda _: {"command": (*COMMAND, "--verbose")},
    "one argument less": lambda _: {"command": COMMAND[:-1]},
    "the words joined": lambda _: {"command": (COMMAND[0], " ".join(COMMAND[1:]))},
    "another interpreter of the same name": lambda _: {"command": ("/tmp/python3", *COMMAND[1:])},
    "another secret": lambda desk: {"variables": {**desk.variables, "TOKEN": "age://other"}},
    "another secret beside it": lambda desk: {"variables": {**desk.variables, "LEVEL": "age://other"}},
    "the secret in another variable": lambda desk: {
        "variables": {**desk.variables, "TOKEN": "debug", "LEVEL": REFERENCE}
    },
    "the secret in a longer text": lambda desk: {
        "variables": {**desk.variables, "TOKEN": f"https://evil.example/<{REFERENCE}>"}
    },
    "the same place, written otherwise": lambda desk: {"variables": {**desk.variables, "TOKEN": "age://vend%6Fr"}},
    "a variable that loads code": lambda desk: {
        "variables": {**desk.variables, "NODE_OPTIONS": "--require=/tmp/evil.js"},
        "names": ("TOKEN", "LEVEL", "NODE_OPTIONS"),
    },
    "all variables that begin so": lambda desk: {
        "variables": {**desk.variables, "LEVEL_URL": "https://evil.example"},
        "names": ("TOKEN", "LEVEL*"),
    },
    "another value": lambda desk: {"variables": {**desk.variables, "LEVEL": "https://evil.example"}},
    "a variable less": lambda _: {"names": ("TOKEN",)},
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_grant_holds_for_nothing_near_it(desk: Desk, attack: str) -> None:
    desk.grant()
    with pytest.raises(SecretError, match="was not granted"):
        desk.starts(**ATTACKS[attack](desk))


def test_variables_that_are_not_named_change_nothing(desk: Desk) -> None:
    desk.grant()
    variables = {**desk.variables, "EDITOR": "vi", "COLORTERM": "truecolor", "LANG": "de_DE.UTF-8"}
    assert desk.starts(variables=variables)["TOKEN"] == VALUE


def test_a_granted_server_stays_in_its_sandbox(desk: Desk) -> None:
    """Without one it gets the whole environment of the entry, unnamed variables too."""
    made = granting.for_command(
        COMMAND, {"TOKEN": REFERENCE, "LEVEL": "debug"}, desk.state, environ=desk.variables, unconfined=False
    )
    with changing(desk.state) as draft:
        draft.add(made)
    with pytest.raises(SecretError, match=r"no sandbox.*it was granted to it otherwise"):
        desk.starts(parse({}), sandbox="none")


def test_a_program_that_only_path_finds_is_that_file(desk: Desk) -> None:
    ours, theirs = desk.home / "bin", desk.project / "bin"
    for folder in (ours, theirs):
        folder.mkdir()
        (folder / "vendor-mcp").write_text("#!/bin/sh\n")
        (folder / "vendor-mcp").chmod(0o755)
    desk.variables["PATH"] = f"{ours}:/usr/bin:/bin"
    desk.grant(("vendor-mcp",))
    assert desk.starts(command=("vendor-mcp",))["TOKEN"] == VALUE
    for path in (f"{theirs}:{ours}:/usr/bin", "bin:/usr/bin", f"bin:{ours}"):
        with pytest.raises(SecretError, match="was not granted"):
            desk.starts(command=("vendor-mcp",), variables={**desk.variables, "PATH": path})


@pytest.mark.parametrize(
    "command", [(sys.executable, "-m", "server"), (sys.executable, "server.py"), ("./server",), ("/bin/sh", "-c", "x")]
)
def test_a_command_that_the_directory_decides_is_granted_there(desk: Desk, command: tuple[str, ...]) -> None:
    desk.grant(command, cwd=str(desk.home))
    assert desk.starts(command=command, cwd=str(desk.home))["TOKEN"] == VALUE
    with pytest.raises(SecretError, match=f"the directory {desk.project}"):
        desk.starts(command=command)


def test_a_word_that_is_a_file_there_ties_the_command_to_it(desk: Desk) -> None:
    command = ("/srv/server", "config.json")
    desk.grant(command)
    assert desk.starts(command=command)["TOKEN"] == VALUE  # there is no such file: it is a word
    (desk.project / "config.json").write_text('{"api": "https://evil.example"}')
    with pytest.raises(SecretError, match="was not granted"):
        desk.starts(command=command)


@pytest.mark.parametrize(
    ("words", "depends"),
    [
        (("run", "mcp"), False),
        (("mcp", "--config=other.json"), False),
        (("config.json",), True),
        (("plain",), True),
        (("--root", "mcp"), True),
        (("--root=mcp",), True),
        (("./mcp",), True),
        (("mcp/",), True),
        ((".",), True),
        (("..",), True),
        (("a" * 5000,), False),
    ],
)
def test_which_words_are_files(tmp_path: Path, words: tuple[str, ...], depends: bool) -> None:
    for folder in ("run", "mcp"):  # as many projects have
        (tmp_path / folder).mkdir()
    for file in ("config.json", "plain"):
        (tmp_path / file).touch()
    for locked in (True, False):
        assert bool(place(("/srv/server", *words), str(tmp_path), "", locked=locked)[1]) == depends


@pytest.mark.parametrize(
    ("command", "depends"),
    [
        (("/srv/server",), False),
        (("/usr/bin/python3", "/srv/server.py"), False),
        (("/usr/bin/python3.11", "-I", "-u", "/srv/server.py"), False),
        (("/usr/bin/node", "/srv/index.js"), False),
        (("/usr/bin/python3", "-m", "server", "/srv/x"), True),
        (("/usr/bin/python3", "-W", "/srv/x", "server.py"), True),
        (("/usr/bin/node", "--require", "/srv/index.js"), True),
        (("/usr/bin/env", "server"), True),
        (("/usr/bin/npx", "-y", "server"), True),
        (("C:\\node\\npx.cmd", "-y", "server"), True),
        (("server/run",), True),
    ],
)
def test_where_it_starts_matters_for_what_it_could_find_there(command: tuple[str, ...], depends: bool) -> None:
    assert bool(place(command, "/nowhere", "/usr/bin", locked=False)[1]) == depends
    assert place(command, "/nowhere", "/usr/bin", locked=True) == ("", "")


def test_another_vault_is_another_start() -> None:
    """Its address is the environment's: an entry could send callgate's login to a server of its own."""
    around, reference = Circumstances(), "vault://secret/mcp/a#b"
    start = around.start("seal", reference, {"VAULT_ADDR": "https://vault.internal"})
    for environ in (
        {},
        {"VAULT_ADDR": "https://evil.example"},
        {"VAULT_ADDR": "https://vault.internal", "BAO_ADDR": "x"},
    ):
        assert around.start("seal", reference, environ) != start
    other = {"VAULT_ADDR": "https://vault.internal", "EDITOR": "vi", "BAO_ADDR": ""}
    assert around.start("seal", reference, other) == start
    assert around.start("seal", "age://a", {}) == around.start("seal", "age://b", {"VAULT_ADDR": "x"})


# -- settings -------------------------------------------------------------------------------------


def settings(place: Path) -> Config:
    words = ", ".join(f'"{word}"' for word in COMMAND)
    place.write_text(
        f'launch = {{ sandbox = "none" }}\n[servers.s]\ncommand = [{words}]\n'
        f'[servers.s.secrets.API_KEY]\nref = "{REFERENCE}"\n'
    )
    return load(place)


def test_the_users_own_settings_are_the_users_word(desk: Desk) -> None:
    config = settings(desk.home / "a.toml")
    with pytest.raises(SecretError, match="a configuration that is not yours") as caught:
        desk.starts(config, names=())
    assert f"callgate secrets grant --config {desk.home}/a.toml --state {desk.state}" in caught.value.next_step
    believed(desk.home / "a.toml", desk.state)
    assert desk.starts(config, names=())["API_KEY"] == VALUE


def test_what_settings_put_in_the_place_of_a_variable_is_not_asked_about(desk: Desk) -> None:
    config = settings(believed(desk.home / "a.toml", desk.state))
    desk.variables |= {"API_KEY": "age://other"}
    desk.grant(COMMAND, LEVEL="debug", API_KEY="age://other", TOKEN=REFERENCE)
    with pytest.raises(SecretError, match="age://vendor was not granted"):
        desk.starts(config, names=("LEVEL", "API_KEY"))  # the one of the settings: variables were added


def test_settings_that_lie_in_a_project_are_not(desk: Desk) -> None:
    settings(believed(desk.home / "a.toml", desk.state))
    theirs = settings(desk.project / "callgate.toml")
    with pytest.raises(SecretError, match="was not granted"):
        desk.starts(theirs, names=())


def test_a_link_to_other_settings_is_those(desk: Desk) -> None:
    (desk.project / "callgate.toml").symlink_to(believed(desk.home / "a.toml", desk.state))
    settings(desk.home / "a.toml")
    assert desk.starts(load(desk.project / "callgate.toml"), names=())["API_KEY"] == VALUE


@pytest.mark.parametrize(
    "more",
    [
        {"names": ("LEVEL",)},
        {"names": (), "sandbox": "none"},
    ],
)
def test_their_word_ends_where_a_start_adds_to_it(desk: Desk, more: dict[str, Any]) -> None:
    config = settings(believed(desk.home / "a.toml", desk.state))
    with pytest.raises(SecretError, match="was not granted"):
        desk.starts(config, **more)


def test_settings_without_a_command_name_no_server(desk: Desk) -> None:
    """Whoever writes an entry chooses the name it starts under."""
    place = believed(desk.home / "a.toml", desk.state)
    place.write_text(
        f'launch = {{ sandbox = "none" }}\n[servers.s]\nmode = "enforce"\n[servers.s.secrets.API_KEY]\nref = "{REFERENCE}"\n'
    )
    with pytest.raises(SecretError, match="was not granted"):
        desk.starts(load(place), names=())


def test_a_grant_under_other_settings_is_one_for_these_settings(desk: Desk) -> None:
    """They could name further variables for the server, or end its sandbox."""
    desk.grant()
    place = desk.project / "callgate.toml"
    place.write_text('launch = { sandbox = "none" }\n')
    with pytest.raises(SecretError, match="a configuration that is not yours"):
        desk.starts(load(place))
    assert desk.starts(load(believed(place, desk.state)))["TOKEN"] == VALUE


def test_the_variables_of_settings_come_with_the_name_that_an_entry_chose(desk: Desk) -> None:
    """Of settings for a command they are that command's; under another name it has others."""
    desk.grant()
    desk.variables["NODE_OPTIONS"] = "--require=/tmp/evil.js"
    named = {"sandbox": {"environment": ["NODE_OPTIONS"]}}
    with pytest.raises(SecretError, match="the variables LEVEL, NODE_OPTIONS, TOKEN"):
        desk.starts(parse({**UNCONFINED, "servers": {"dev": named}}), name="dev")
    with pytest.raises(SecretError, match="the variables LEVEL, NODE_OPTIONS, TOKEN"):
        desk.starts(parse({**UNCONFINED, "servers": {"dev": {**named, "command": ["npm", "run"]}}}), name="dev")
    mine = {**named, "command": list(COMMAND)}
    assert desk.starts(parse({**UNCONFINED, "servers": {"s": mine}}))["TOKEN"] == VALUE


def test_a_file_as_a_secret_of_settings_needs_a_grant_too(desk: Desk) -> None:
    key = desk.home / "key"
    key.write_text(VALUE)
    key.chmod(0o600)
    place = desk.project / "callgate.toml"
    words = ", ".join(f'"{word}"' for word in COMMAND)
    place.write_text(
        f'launch = {{ sandbox = "none" }}\n[servers.s]\ncommand = [{words}]\n'
        f'[servers.s.secrets.API_KEY]\nref = "file://{key}"\n'
    )
    with pytest.raises(SecretError, match=f"file://{key} was not granted"):
        desk.starts(load(place), names=())
    assert "file:" in desk.starts(variables={**desk.variables, "LEVEL": f"file://{key}"}, names=("LEVEL",))["LEVEL"]


def test_what_an_operator_configured_needs_no_grant(desk: Desk) -> None:
    """`callgate serve`: no client's entry has a word in it."""
    assert desk.starts(configured=True, given={"TOKEN": REFERENCE}, names=())["TOKEN"] == VALUE


def test_another_state_directory_grants_nothing(desk: Desk) -> None:
    """As one that a project brings along, with grants in it."""
    theirs = desk.project / "state"
    theirs.mkdir()
    with pytest.raises(SecretError, match="was not granted"):
        desk.starts(state=theirs)
    desk.grant()
    (theirs / "grants.json").write_bytes((desk.state / "grants.json").read_bytes())
    (theirs / "grants.json").chmod(0o600)
    with pytest.raises(SecretError, match="was not granted"):
        desk.starts(state=theirs)


def test_what_is_usual_is_the_accounts_and_no_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import pwd

    home = pwd.getpwuid(os.geteuid()).pw_dir
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert own.usual("config").startswith(home) and own.usual("state").startswith(home)
    nothing = read(tmp_path)
    assert own.configuration("", nothing) and own.configuration(f"{own.usual('config')}/callgate.toml", nothing)
    assert not own.configuration(str(tmp_path / "callgate/callgate.toml"), nothing)
    assert own.state(own.usual("state"), nothing) and not own.state(tmp_path, nothing)

    def nobody(_: int) -> Any:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    assert not own.configuration(f"{home}/.config/callgate/callgate.toml", nothing)


def test_secrets_of_a_lock_are_for_the_command_that_was_locked(desk: Desk) -> None:
    """`pinned` believes no lock of a project; here it matters whose state directory, or whose signers, it was."""
    pinned = Pinning(COMMAND, {"state": "pinned"}, secrets={"API_KEY": SecretConfig(REFERENCE)})

    def asked(config: Config, **more: Any) -> None:
        wish = desk.wish(**{"names": (), **more})
        check_command(config, wish, pinned, {}, None, desk.state, unconfined=False)

    theirs = replace(Config(), source=str(desk.project / "callgate.toml"))
    signed = LaunchConfig(signers=("/keys/us.pub",))
    with pytest.raises(SecretError, match="was not granted"):
        asked(Config())  # a state directory that an entry may have named
    asked(Config(launch=signed))
    with pytest.raises(SecretError, match="was not granted"):
        asked(replace(theirs, launch=signed))  # whoever wrote these settings chose the signers
    desk.grant(("another", "command"))
    asked(Config())
    for more in ({"names": ("LEVEL",)}, {"sandbox": "none"}):
        with pytest.raises(SecretError, match="was not granted"):
            asked(Config(), **more)


# -- behind a URL ---------------------------------------------------------------------------------

URL = "https://far.example/mcp"


def configured(desk: Desk, url: str) -> Config:
    place = believed(desk.home / "a.toml", desk.state)
    line = f'url = "{url}"\n' if url else 'mode = "enforce"\n'
    place.write_text(f'[servers.far]\n{line}headers = {{ Authorization = "Bearer <{REFERENCE}>" }}\n')
    return load(place)


def test_headers_are_for_the_url_beside_them(desk: Desk) -> None:
    check_url(configured(desk, URL), "far", URL, desk.state)
    check_url(configured(desk, URL), "another", "https://evil.example", desk.state)  # it has none
    for url in ("https://evil.example/mcp", URL + "/x", "http://far.example/mcp"):
        with pytest.raises(SecretError, match="was not granted to this URL"):
            check_url(configured(desk, URL), "far", url, desk.state)
    with pytest.raises(SecretError, match="was not granted to this URL"):
        check_url(configured(desk, ""), "far", URL, desk.state)


def test_a_reference_in_a_url_is_granted_to_its_origin_and_path(desk: Desk) -> None:
    asked = f"{URL}?team=a&key=<{REFERENCE}>"
    with pytest.raises(SecretError, match="was not granted to this URL") as caught:
        check_url(Config(), "far", asked, desk.state)
    assert caught.value.next_step.endswith(f"--url {URL}")
    with changing(desk.state) as draft:
        draft.add(granting.for_url(asked, [REFERENCE], desk.state, environ=os.environ))
    check_url(Config(), "far", asked, desk.state)
    check_url(Config(), "far", f"{URL}?team=b&key=<{REFERENCE}>", desk.state)
    for url in (f"https://evil.example/mcp?key=<{REFERENCE}>", f"{URL}?key=<age://other>", f"{URL}/<{REFERENCE}>"):
        with pytest.raises(SecretError, match="was not granted"):
            check_url(Config(), "far", url, desk.state)


def test_settings_found_in_the_working_directory_are_asked_about(desk: Desk) -> None:
    for config in (settings(desk.project / "callgate.toml"), configured(desk, URL)):
        stranger = replace(config, source=str(desk.project / "callgate.toml"))
        with pytest.raises(SecretError, match="may have come with a project") as caught:
            check_settings(stranger, desk.state)
        assert "callgate serve --config" in caught.value.next_step
    check_settings(configured(desk, URL), desk.state)
    (desk.project / "callgate.toml").write_text(f'[servers.far]\nurl = "{URL}"\n')
    check_settings(load(desk.project / "callgate.toml"), desk.state)


def test_asking_costs_well_under_a_millisecond(desk: Desk) -> None:
    desk.grant()
    with changing(desk.state) as draft:
        draft.add(replace(one, reference=f"age://{number}") for number, one in enumerate([*draft.grants.values()] * 50))
    pinned = Pinning(COMMAND, {"state": "unpinned"})
    environment = {name: desk.variables[name] for name in ("TOKEN", "LEVEL")}

    def asked() -> float:
        began = time.perf_counter()
        check_command(Config(), desk.wish(), pinned, environment, None, desk.state, unconfined=True)
        return time.perf_counter() - began

    assert min(asked() for _ in range(50)) < 0.001
