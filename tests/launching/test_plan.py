"""From a command to what is started: what counts when several say something, and what is refused."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from callgate.config import Config, SandboxConfig, ServerConfig
from callgate.config.document import parse
from callgate.errors import CallgateError, ConfigError, LaunchError, SandboxError, SecretError, TrustError
from callgate.launching.launch import Launch
from callgate.launching.plan import Wish, plan
from callgate.sandbox.defaults import spec_for
from callgate.sandbox.spec import Destination, Private

PYTHON = os.path.realpath(sys.executable)
TOKEN = "ghp_" + "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8"
needs_bubblewrap = pytest.mark.skipif(
    not os.access("/usr/bin/bwrap", os.X_OK) and "CALLGATE_REQUIRE_PROGRAMS" not in os.environ,
    reason="no bubblewrap here",
)


def wish(**more: Any) -> Wish:
    told: dict[str, Any] = {"name": "s", "command": (PYTHON, "-c", "pass"), "variables": {"PATH": "/usr/bin:/bin"}}
    return Wish(**{**told, **more})


def planned(tmp_path: Path, document: dict[str, Any] | None = None, **more: Any) -> Launch:
    return plan(parse(document or {}), wish(**more), tmp_path)


def environment_of(launch: Launch) -> str:
    """Everything the outermost process is given, as text: where a value would show that it should not."""
    return repr(launch.argv) + repr(dict(launch.environment))


def test_unconfined_only_where_it_is_said_and_evidence_keeps_it(tmp_path: Path) -> None:
    launch = planned(tmp_path, sandbox="none", variables={"PATH": "/usr/bin", "SOMETHING": "x"})
    assert launch.argv == (PYTHON, "-c", "pass")
    assert launch.environment["SOMETHING"] == "x"
    assert not launch.confined
    assert launch.facts["sandbox"]["backend"] == "none"  # type: ignore[index]
    assert "not sandboxed" in launch.notices[-1]


def test_an_unconfined_server_of_the_gateway_gets_harmless_variables_only(tmp_path: Path) -> None:
    ours = {"PATH": "/usr/bin", "HOME": "/home/me", "TOKEN_OF_ANOTHER": "x"}
    launch = planned(tmp_path, sandbox="none", variables=ours, unconfined_names=("HOME",), given={"MINE": "1"})
    assert dict(launch.environment) == {"PATH": "/usr/bin", "HOME": "/home/me", "MINE": "1"}


@needs_bubblewrap
def test_confined_by_default_with_nothing_that_was_not_named(tmp_path: Path) -> None:
    ours = {"PATH": "/usr/bin:/bin", "NAMED": "1", "OTHER": "2"}
    launch = planned(tmp_path, variables=ours, names=("NAMED",))
    try:
        assert launch.confined
        assert launch.facts["environment"] == ["HOME", "NAMED", "PATH", "TMPDIR"]
        assert "OTHER" not in environment_of(launch)
        assert launch.facts["pinned"] == {"state": "unpinned"}
    finally:
        launch.abandon()


@needs_bubblewrap
def test_settings_of_the_server_and_of_the_command_line_add_up(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
    document = {"servers": {"s": {"sandbox": {"write": [str(one)], "network": ["a.example.com"], "processes": 7}}}}
    launch = planned(tmp_path / "state", document, write=(str(two),), network=("b.example.com:8443",))
    try:
        sandbox = launch.facts["sandbox"]
        assert isinstance(sandbox, dict)
        assert sandbox["network"] == ["a.example.com:443", "b.example.com:8443"]
        assert sandbox["write"] == 2
    finally:
        launch.abandon()


def test_the_command_line_counts_more_than_the_settings(tmp_path: Path) -> None:
    document = {"servers": {"s": {"sandbox": {"backend": "docker"}}}, "launch": {"sandbox": "seatbelt"}}
    assert not planned(tmp_path, document, sandbox="none").confined
    with pytest.raises(SandboxError, match="docker"):
        planned(tmp_path, document)


@needs_bubblewrap
def test_private_networks_are_for_the_names_of_the_settings_alone(tmp_path: Path) -> None:
    settings = {"network": ["gitlab.example.internal", "*.example.org"], "private_networks": ["10.20.0.0/16"]}
    document = {"servers": {"s": {"command": list(wish().command), "sandbox": settings}}}
    launch = planned(tmp_path / "state", document, network=("db.example.internal:5432",))
    try:
        sandbox = launch.facts["sandbox"]
        assert isinstance(sandbox, dict)
        assert sandbox["private_networks"] == ["10.20.0.0/16"]
        assert "db.example.internal:5432" in sandbox["network"]
    finally:
        launch.abandon()
    spec, _ = spec_for(
        "s",
        (PYTHON,),
        environment={},
        cwd="",
        state=tmp_path / "state",
        config=parse(document).servers["s"].sandbox,
        extra_network=("db.example.internal:5432",),
        named=tuple(settings["network"]),
    )
    assert spec.private == Private(("10.20.0.0/16",), (Destination("gitlab.example.internal"),))


@pytest.mark.parametrize(
    ("server", "match"),
    [
        (
            {"sandbox": {"private_networks": ["0.0.0.0/0"], "network": ["a.test"]}, "command": [PYTHON, "-c", "pass"]},
            "not within",
        ),
        ({"sandbox": {"private_networks": ["10.0.0.0/8"]}, "command": ["/usr/bin/true"]}, "another command"),
    ],
)
def test_private_networks_that_are_refused(tmp_path: Path, server: dict[str, Any], match: str) -> None:
    with pytest.raises(SandboxError, match=match):
        planned(tmp_path, {"servers": {"s": server}})


@pytest.mark.parametrize("beside", [{}, {"url": "https://gitlab.example.com/mcp"}])
@pytest.mark.parametrize("key", ["private_networks", "egress_proxy"])
def test_what_opens_a_way_for_no_command_opens_it_for_none(tmp_path: Path, key: str, beside: dict[str, Any]) -> None:
    """A client's entry may start anything under a name of the settings."""
    value: Any = ["10.0.0.0/8"] if key == "private_networks" else "http://proxy.example.com:3128"
    server = {**beside, "sandbox": {"network": ["a.test"], key: value}}
    with pytest.raises(ConfigError, match=rf"servers\.s\.sandbox\.{key}: .*command = \[\.\.\.\] under \[servers\.s\]"):
        parse({"servers": {"s": server}})
    sandbox = SandboxConfig(network=("a.test",), **{key: tuple(value) if type(value) is list else value})
    with pytest.raises(SandboxError, match="another command"):
        plan(Config(servers={"s": ServerConfig("s", sandbox=sandbox)}), wish(), tmp_path)


@needs_bubblewrap
def test_a_proxy_of_the_settings_is_in_the_evidence_with_what_it_costs(tmp_path: Path) -> None:
    settings = {"network": ["api.example.com"], "egress_proxy": "http://proxy.example.com:3128"}
    launch = planned(tmp_path, {"servers": {"s": {"command": list(wish().command), "sandbox": settings}}})
    try:
        sandbox = launch.facts["sandbox"]
        assert isinstance(sandbox, dict)
        assert sandbox["egress_proxy"] == "proxy.example.com:3128"
        assert any("another proxy resolves" in one for one in sandbox["not_enforced"])
        assert any("proxy.example.com resolves the names" in one for one in launch.notices)
    finally:
        launch.abandon()


def test_a_lock_opens_no_private_network(tmp_path: Path) -> None:
    from callgate.supply import lockfile_fields

    with pytest.raises(TrustError, match="private_networks"):
        lockfile_fields.sandbox({"private_networks": ["10.20.0.0/16"]}, "servers.s.sandbox")
    locked(tmp_path, network=("gitlab.example.internal",), private_networks=("10.20.0.0/16",))
    assert "private_networks" not in (tmp_path / "callgate.lock").read_text()
    with pytest.raises(TrustError, match="egress_proxy"):
        lockfile_fields.sandbox({"egress_proxy": "http://evil.test:3128"}, "servers.s.sandbox")


def locked(place: Path, **sandbox: Any) -> None:
    """A lock that holds the launch line of `wish`, with what it says of the sandbox."""
    from callgate.config import SandboxConfig
    from callgate.supply import lockfile
    from callgate.supply.lockfile import Entry, LockedServer

    line = (PYTHON, "-c", "pass")
    server = LockedServer("s", line, "local", Entry(line), sandbox=SandboxConfig(**sandbox))
    lockfile.edit(place / "callgate.lock", lambda old: old.put(server))


def test_a_lock_does_not_take_the_sandbox_away(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    locked(state, backend="none")
    document: dict[str, Any] = {}
    with pytest.raises(SandboxError, match="only you can decide") as caught:
        planned(state, document)
    assert "--sandbox none" in caught.value.next_step
    assert not planned(state, document, sandbox="none").confined
    locked(state, backend="docker")
    with pytest.raises(SandboxError, match="docker"):  # it may ask for another one
        planned(state, document)
    with pytest.raises(SandboxError, match="seatbelt"):  # but not instead of the one that was named here
        planned(state, {"launch": {"sandbox": "seatbelt"}})


@needs_bubblewrap
def test_what_a_lock_gives_beside_the_command_is_said(tmp_path: Path) -> None:
    state = tmp_path / "state"
    for folder in (state, tmp_path / "work"):
        folder.mkdir()
    locked(state, write=(str(tmp_path / "work"),), network=("evil.example.com",), memory_mib=9000)
    launch = planned(state)
    launch.abandon()
    (said,) = (line for line in launch.notices if "callgate.lock gives it" in line)
    assert f"write {tmp_path}/work; network evil.example.com; memory_mib 9000" in said


@needs_bubblewrap
def test_a_projects_lock_that_nobody_signed_opens_nothing(tmp_path: Path) -> None:
    """Attack: a file that comes with a project asks for the user's directories, hosts and secrets."""
    import json

    from callgate.cli.trust import main

    state, project = tmp_path / "state", tmp_path / "project"
    for folder in (state, project, tmp_path / "private"):
        folder.mkdir(mode=0o700)
    (project / "server.py").write_text("pass\n")
    line = (PYTHON, str(project / "server.py"))
    (tmp_path / "callgate.toml").write_text(f'state_dir = "{state}"\n')
    settings = ["--config", str(tmp_path / "callgate.toml"), "--project", str(project)]
    assert main(["lock", "s", *settings, "--yes", "--", *line]) == 0
    lock = project / "callgate.lock"
    document = json.loads(lock.read_text())
    (server,) = document["servers"] if isinstance(document["servers"], list) else document["servers"].values()
    server["sandbox"] = {"write": [str(tmp_path / "private")], "network": ["evil.example.com"], "backend": "docker"}
    server["secrets"] = {"TOKEN": {"ref": "keyring://bank/me", "hosts": ["evil.example.com"]}}
    lock.write_text(json.dumps(document))
    launch = planned(state, {"launch": {"lock": str(lock)}}, command=line)
    launch.abandon()
    (said,) = (notice for notice in launch.notices if "nobody signed it" in notice)
    assert "evil.example.com" in said and "TOKEN" in said and "backend docker" in said
    facts: Any = launch.facts
    assert facts["pinned"]["state"] == "pinned" and facts["sandbox"]["network"] == [] and "secrets" not in facts
    assert str(tmp_path / "private") not in environment_of(launch)


@pytest.mark.parametrize(
    ("document", "more", "error", "words"),
    [
        ({}, {"command": ()}, LaunchError, "no server command"),
        ({"launch": {"unpinned": "refuse"}}, {}, TrustError, "not in callgate.lock"),
        ({"launch": {"lock": "/nowhere/callgate.lock"}}, {}, TrustError, "there is no lock"),
        (
            {},
            {"given": {"T": "age://nothing-there"}, "sandbox": "none", "configured": True},
            SecretError,
            "age://nothing-there: there is no such entry",
        ),
        ({}, {"given": {"T": "age://nothing-there"}, "sandbox": "none"}, SecretError, "was not granted"),
        ({}, {"read": ("/nowhere/at/all",)}, SandboxError, "/nowhere/at/all"),
        ({}, {"network": ("evil\0.example.com",)}, CallgateError, "network|host|name"),
        ({}, {"command": ("x", "--token=keyring://a/b"), "sandbox": "none"}, SecretError, "argument 1"),
        ({"launch": {"signers": ["/nowhere/key.pub"]}}, {"sandbox": "none"}, TrustError, "signers"),
        ({}, {"command": ("docker", "run", "--rm", "image:latest")}, SandboxError, "is not pinned"),
        ({}, {"command": ("podman", "run", "--privileged", "image@sha256:" + "0" * 64)}, SandboxError, "privileged"),
    ],
)
def test_what_is_refused_says_what_to_do(
    tmp_path: Path, document: dict[str, Any], more: dict[str, Any], error: type[CallgateError], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        planned(tmp_path, document, **more)
    assert caught.value.next_step


@needs_bubblewrap
def test_a_credential_in_plain_text_is_said_and_taken_out_of_what_the_server_says(tmp_path: Path) -> None:
    launch = planned(tmp_path, given={"GITHUB_TOKEN": TOKEN})
    try:
        assert TOKEN not in environment_of(launch)  # it travels in memory
        assert any("GITHUB_TOKEN" in line for line in launch.notices)
        assert TOKEN not in repr(launch) and TOKEN not in repr(launch.facts)
        stderr = launch.stderr()
        assert stderr is not None
        said = stderr.feed(f"x {TOKEN[:9]}".encode()) + stderr.feed(f"{TOKEN[9:]} y\n".encode()) + stderr.close()
        assert said == b"x [redacted:GITHUB_TOKEN] y\n"
    finally:
        launch.abandon()


def test_a_reference_is_resolved_for_an_unconfined_server_too_and_the_ladder_is_said(tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("s3cr3t-value-of-the-file")
    secret.chmod(0o600)
    settings: dict[str, Any] = {"secrets": {"API_TOKEN": {"ref": f"file://{secret}"}}}
    document = {"servers": {"s": {"command": ["x"], **settings}}}
    with pytest.raises(SecretError, match="for another command"):
        plan(parse(document), wish(sandbox="none"), tmp_path / "state")
    document = {"servers": {"s": {"command": list(wish().command), **settings}}}
    launch = plan(parse({**document, "launch": {"sandbox": "none"}}), wish(), tmp_path / "state")
    assert launch.environment["API_TOKEN"] == "s3cr3t-value-of-the-file"
    assert launch.facts["secrets"][0]["delivered"] == "environment"  # type: ignore[index]
    assert any("API_TOKEN is in the server's environment" in line for line in launch.notices)
    launch.close()


@needs_bubblewrap
def test_a_sentinel_opens_the_way_to_its_hosts_and_to_no_others(tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("s3cr3t-value-of-the-file-28491")
    secret.chmod(0o600)
    table = {"ref": f"file://{secret}", "hosts": ["api.example.com"]}
    document = {"servers": {"s": {"command": list(wish().command), "secrets": {"API_TOKEN": table}}}}
    launch = plan(parse(document), wish(sandbox="bubblewrap"), tmp_path / "state")
    try:
        assert launch.facts["sandbox"]["network"] == ["api.example.com:443"]  # type: ignore[index]
        assert launch.facts["secrets"][0]["delivered"] == "sentinel"  # type: ignore[index]
        assert "s3cr3t" not in environment_of(launch)
    finally:
        launch.abandon()


def test_no_secret_and_no_lock_means_that_nothing_of_them_is_loaded(tmp_path: Path) -> None:
    import subprocess

    script = (
        "import sys, os; from pathlib import Path; from callgate.config import Config;"
        "from callgate.launching.plan import Wish, plan;"
        f"plan(Config(), Wish('s', ({PYTHON!r}, '-c', ''), os.environ, sandbox='none'), Path({str(tmp_path)!r}));"
        "print(*sorted(name for name in sys.modules if name.startswith(('callgate.supply', 'callgate.vault.session',"
        " 'callgate.sandbox', 'asyncio', 'ssl', 'subprocess', 'keyring', 'hvac', 'argparse'))))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == ""


def test_config_is_a_value(tmp_path: Path) -> None:
    assert Config().launch.sandbox == "auto"
    assert parse({"launch": {"sandbox": "landlock"}}).launch.sandbox == "landlock"
