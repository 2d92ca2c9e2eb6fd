"""What programs outside of the sandbox see: of an entry's variables nothing that loads code or leads elsewhere."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from callgate.config import LaunchConfig
from callgate.errors import TrustError
from callgate.outside import caller, entry, variables
from tests.outside.conftest import settle

CLIENTS = ("/usr/bin/npm", "/usr/bin/uv", "/usr/bin/python3.12", "/usr/bin/node")
STEERING = {
    # code
    "NODE_OPTIONS": "--require=./evil.js", "NODE_PATH": "x", "npm_config_script_shell": "./evil",
    "NPM_CONFIG_SCRIPT_SHELL": "./evil", "npm_config_node_options": "--require=./evil.js", "npm_config_shell": "x",
    "npm_config_node-options": "--require=./evil.js", "npm_config_git": "./evil", "npm_config_prefix": "x",
    "npm_config_globalconfig": "x", "npm_config_cache": "x", "npm_config_ignore_scripts": "false",
    "npm_config__init_module": "x", "npm_config_@evil:script-shell": "x", "npm_config_//h/:tokenHelper": "./evil",
    "UV_PYTHON": "./evil", "UV_PYTHON_INSTALL_DIR": "x", "UV_PYTHON_INSTALL_MIRROR": "http://e", "UV_CACHE_DIR": "x",
    "UV_KEYRING_PROVIDER": "subprocess", "UV_PYTHON_DOWNLOADS_JSON_URL": "x", "UV_INSECURE_HOST": "h", "UV_TOOL_DIR": "x",
    "PIP_PYTHON": "./evil", "PIP_CACHE_DIR": "x", "PIP_TRUSTED_HOST": "h", "PIP_EDITABLE": ".", "PIP_TARGET": "x",
    "PIP_KEYRING_PROVIDER": "subprocess", "PYTHONPATH": "x", "PYTHONSTARTUP": "x", "PYTHONHOME": "x",
    "LD_PRELOAD": "x", "LD_LIBRARY_PATH": "x", "DYLD_INSERT_LIBRARIES": "x", "BASH_ENV": "x", "ENV": "x",
    "BASH_FUNC_pyenv%%": "() { ./evil; }", "PYENV_HOOK_PATH": "x", "PYENV_ROOT": "x", "COREPACK_HOME": "x",
    "COREPACK_NPM_REGISTRY": "x", "COREPACK_ENABLE_UNSAFE_CUSTOM_URLS": "1", "VIRTUAL_ENV": "x", "GCONV_PATH": "x",
    "DBUS_SESSION_BUS_ADDRESS": "unixexec:path=/bin/sh", "DOCKER_CONFIG": "x", "CONTAINERS_CONF": "x", "TMPDIR": "x",
    "XDG_DATA_HOME": "x", "XDG_CACHE_HOME": "x", "XDG_CONFIG_DIRS": "x", "XDG_RUNTIME_DIR": "/x", "GODEBUG": "x",
    # who is believed, and what is opened to whom
    "npm_config_cafile": "x", "npm_config_ca": "x", "npm_config_strict_ssl": "false", "SSL_CERT_FILE": "/tmp/ca.pem",
    "NODE_EXTRA_CA_CERTS": "ca.pem", "PIP_CERT": "/tmp/ca.pem", "NETRC": "x", "REGISTRY_AUTH_FILE": "x",
    "UV_INDEX_PRIVATE_PASSWORD": "p", "UV_INDEX_PRIVATE_USERNAME": "u",  # for whatever host is said to be that index
    "HTTP_PROXY": "http://e", "http_proxy": "http://e", "ALL_PROXY": "http://e", "npm_config_proxy": "http://e",
    "PIP_PROXY": "http://e", "NODE_TLS_REJECT_UNAUTHORIZED": "0", "SSLKEYLOGFILE": "x", "LANG": "../../evil", "LC_ALL": "/x/evil",
    "GITHUB_TOKEN": "x", "AWS_SECRET_ACCESS_KEY": "x", "HOSTALIASES": "x",
}  # fmt: skip
PASSING = {
    "npm_config_registry": "https://r.test/", "NPM_CONFIG_REGISTRY": "https://r.test/", "npm_config_@my:registry": "r",
    "npm_config_//r.test/:_authToken": "t", "npm_config_//r.test/:_password": "p", "npm_config_https_proxy": "http://p",
    "npm_config_fetch_retries": "0", "UV_DEFAULT_INDEX": "i", "UV_INDEX_URL": "i",
    "PIP_INDEX_URL": "i", "PIP_EXTRA_INDEX_URL": "i", "https_proxy": "http://p", "HTTPS_PROXY": "http://p",
    "no_proxy": "h", "LANG": "de_DE.UTF-8", "LC_ALL": "C", "LANGUAGE": "de:en",
}  # fmt: skip


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, entry: None) -> pytest.MonkeyPatch:
    for name in list(os.environ):
        monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", "/usr/bin")
    return monkeypatch


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("name", STEERING)
def test_an_entry_steers_no_client(bare: pytest.MonkeyPatch, client: str, name: str) -> None:
    bare.setenv(name, STEERING[name])
    for found in (variables.environment(client), variables.basic(client)):
        assert found.get(name) != STEERING[name]


@pytest.mark.parametrize("name", PASSING)
def test_where_packages_come_from_may_be_said(bare: pytest.MonkeyPatch, name: str) -> None:
    bare.setenv(name, PASSING[name])
    assert variables.environment("/usr/bin/npm")[name] == PASSING[name]
    assert variables.left_out() == []


def test_home_is_the_accounts(bare: pytest.MonkeyPatch, home: Path, project: Path) -> None:
    bare.setenv("HOME", str(project))
    found = variables.environment("/usr/bin/npm")
    assert found["HOME"] == str(home) and found["USER"] and found["COREPACK_ENABLE_PROJECT_SPEC"] == "0"


def test_of_an_account_without_a_home_it_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caller, "_own", False)
    monkeypatch.setattr(os, "getuid", lambda: 3_999_999_999)
    with pytest.raises(TrustError, match="no home directory") as caught:
        caller.home()
    assert "launch.variables" in caught.value.next_step
    settle(LaunchConfig(variables={"HOME": "/srv/x"}), tmp_path)
    assert caller.home() == "/srv/x"


@pytest.mark.parametrize(
    ("client", "name", "file"),
    [
        ("/usr/bin/npm", "npm_config_userconfig", "evil"),
        ("/usr/bin/npm", "NPM_CONFIG_USERCONFIG", "evil"),
        ("/usr/bin/node", "npm_config_userconfig", "evil"),
        ("/usr/bin/uv", "UV_CONFIG_FILE", "evil"),
        ("/usr/bin/uv", "XDG_CONFIG_HOME", "uv/uv.toml"),
        ("/usr/bin/python3", "PIP_CONFIG_FILE", "evil"),
        ("/usr/bin/python3.12", "XDG_CONFIG_HOME", "pip/pip.conf"),
    ],
)
def test_other_settings_are_refused_and_not_left_out(
    bare: pytest.MonkeyPatch, tmp_path: Path, project: Path, client: str, name: str, file: str
) -> None:
    """Without them a user who has them would get packages from another registry, and nobody would say so."""
    place = project / "settings" / file
    value = project / "settings" if name == "XDG_CONFIG_HOME" else place
    bare.setenv(name, str(value))
    variables.environment(client)  # there is none: nothing is lost
    place.parent.mkdir(parents=True)
    place.touch()
    with pytest.raises(TrustError, match="leads") as caught:
        variables.environment(client)
    assert name in caught.value.what and f"launch.variables = {{ {name} =" in caught.value.next_step
    given = LaunchConfig(variables={name: str(value)})
    settle(given, tmp_path)
    assert variables.environment(client)[name] == str(value)


def test_settings_where_they_are_anyway(bare: pytest.MonkeyPatch, home: Path) -> None:
    (home / ".npmrc").touch()
    (home / ".config/uv").mkdir(parents=True)
    (home / ".config/uv/uv.toml").touch()
    bare.setenv("npm_config_userconfig", f"{home}/.npmrc")  # as every program has it that npm started
    bare.setenv("XDG_CONFIG_HOME", f"{home}/.config")
    bare.setenv("PIP_CONFIG_FILE", os.devnull)
    for client in CLIENTS:
        assert variables.environment(client)


def test_variables_that_the_users_npmrc_names(bare: pytest.MonkeyPatch, home: Path) -> None:
    (home / ".npmrc").write_text(
        "//r.test/:_authToken=${REGISTRY_TOKEN}\nregistry=${COMPANY?}\nscript-shell=${CHOSEN_SHELL}\n"
        "//r.test/:_password=${NODE_OPTIONS}\ncafile=${CA}\n"
    )
    with open(home / ".npmrc", "a") as file:  # an entry would say which host gets the token
        file.write("@own:registry=https://${OWN_HOST}/\n//${OWN_HOST}/:_authToken=${OWN_TOKEN}\n")
    for name in ("REGISTRY_TOKEN", "COMPANY", "CHOSEN_SHELL", "NODE_OPTIONS", "CA", "OWN_HOST", "OWN_TOKEN"):
        bare.setenv(name, "x")
    found = variables.environment("/usr/bin/npm")
    assert {"REGISTRY_TOKEN", "COMPANY", "OWN_TOKEN"} <= found.keys()
    assert not {"CHOSEN_SHELL", "NODE_OPTIONS", "CA", "OWN_HOST"} & found.keys()


def test_certificates_of_the_administrator(bare: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for given, passes in (("/etc/ssl/certs", True), ("/etc", True), (str(tmp_path), False), ("etc/ssl", False)):
        bare.setenv("SSL_CERT_DIR", given)
        assert ("SSL_CERT_DIR" in variables.environment("/usr/bin/uv")) is passes
    link = tmp_path / "link"
    link.symlink_to("/etc/ssl/certs")
    assert not entry_passes("SSL_CERT_DIR", str(link))


def entry_passes(name: str, value: str) -> bool:
    return entry.passes(name, value)


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[Path]:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(tmp_path / "s"))
        yield tmp_path / "s"


def test_an_engines_socket_is_there_and_the_users(bare: pytest.MonkeyPatch, listening: Path) -> None:
    bare.setenv("DOCKER_HOST", f"unix://{listening}")
    assert variables.engine("/usr/bin/docker")["DOCKER_HOST"] == f"unix://{listening}"
    assert variables.environment("/usr/bin/docker")["DOCKER_HOST"] == f"unix://{listening}"


@pytest.mark.parametrize(
    "value", ["tcp://evil.test:2375", "ssh://evil.test", "unix:///no/socket", "unix://s", "/dev/null"]
)
def test_an_engine_elsewhere_is_refused(bare: pytest.MonkeyPatch, tmp_path: Path, value: str) -> None:
    bare.setenv("DOCKER_HOST", value)
    with pytest.raises(TrustError, match="DOCKER_HOST") as caught:
        variables.engine("/usr/bin/docker")
    assert "launch.variables" in caught.value.next_step
    given = LaunchConfig(variables={"DOCKER_HOST": value})
    settle(given, tmp_path)
    assert variables.engine("/usr/bin/docker")["DOCKER_HOST"] == value


def test_what_is_left_out_is_named(bare: pytest.MonkeyPatch) -> None:
    for name in ("npm_config_script_shell", "UV_PYTHON", "PIP_TRUSTED_HOST", "npm_config_registry", "EDITOR"):
        bare.setenv(name, "x")
    bare.setenv("NODE_EXTRA_CA_CERTS", "/home/x/ca.pem")
    assert variables.left_out() == ["NODE_EXTRA_CA_CERTS", "PIP_TRUSTED_HOST", "UV_PYTHON", "npm_config_script_shell"]


def test_what_the_users_own_commands_hand_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rc = tmp_path / "npmrc"
    rc.write_text("//reg.test/:_authToken=${MY_REGISTRY_TOKEN}\n")
    given = {
        "npm_config_userconfig": str(rc), "MY_REGISTRY_TOKEN": "a", "GITHUB_TOKEN": "b", "AWS_SECRET_ACCESS_KEY": "c",
        "NODE_OPTIONS": "--require=/x", "PYTHONPATH": "/x", "LD_PRELOAD": "", "UV_DEFAULT_INDEX": "d", "https_proxy": "e",
        "UV_PYTHON_INSTALL_DIR": "f", "NODE_EXTRA_CA_CERTS": "/home/x/ca.pem", "HOME": str(tmp_path),
    }  # fmt: skip
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    found = variables.environment("/usr/bin/npm")
    seen = {"MY_REGISTRY_TOKEN", "UV_DEFAULT_INDEX", "https_proxy", "npm_config_userconfig", "UV_PYTHON_INSTALL_DIR"}
    for name in (*seen, "NODE_EXTRA_CA_CERTS", "HOME"):
        assert found[name] == given[name]
    assert "PATH" in found
    assert not {"GITHUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "NODE_OPTIONS", "PYTHONPATH", "LD_PRELOAD"} & found.keys()
