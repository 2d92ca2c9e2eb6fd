"""The environment of programs that callgate starts outside of every sandbox, built by name.

For the user's own commands: paths, language, proxies, certificates, and all settings of the package clients. For what a
client starts, only what `entry` lets pass, and home and session of the account. `launch.variables` of the user's
configuration adds what is missing.
"""

from __future__ import annotations

import os

from callgate.errors import TrustError
from callgate.outside import caller, entry, programs
from callgate.runners import CONTAINER_ENGINES
from callgate.text import visible

_OWN = frozenset(
    """
    PATH HOME USER LOGNAME LANG LANGUAGE TZ TMPDIR TEMP TMP SYSTEMROOT APPDATA LOCALAPPDATA USERPROFILE
    SSL_CERT_FILE SSL_CERT_DIR CURL_CA_BUNDLE REQUESTS_CA_BUNDLE NODE_EXTRA_CA_CERTS NODE_USE_SYSTEM_CA NETRC
    HTTP_PROXY HTTPS_PROXY NO_PROXY ALL_PROXY REGISTRY_AUTH_FILE DBUS_SESSION_BUS_ADDRESS NPM_TOKEN
    """.split()  # noqa: SIM905 - a table of names reads best as one
)
_OWN_PREFIXES = (
    *("LC_", "XDG_", "NPM_CONFIG_", "UV_", "PIP_", "PYENV_", "DOCKER_", "CONTAINER_", "CONTAINERS_", "PODMAN_"),
)
_TOLD = ("NPM_CONFIG_", "UV_", "PIP_", "SSL_CERT_", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE", "ALL_PROXY")
"""Beginnings of names whose absence is told."""
_LOADERS = ("LD_", "DYLD_", "NODE_", "PYTHON", "NPM_CONFIG_", "UV_", "PIP_")
_NPM_SETTINGS = "npm_config_userconfig"
_PYTHONS = {"uv": ("UV_CONFIG_FILE", "uv/uv.toml"), "pip": ("PIP_CONFIG_FILE", "pip/pip.conf")}
"""The variable that names a client's settings, and where below XDG_CONFIG_HOME they are."""
_ALWAYS = {"COREPACK_ENABLE_PROJECT_SPEC": "0", "COREPACK_ENV_FILE": "0"}
"""corepack, where it stands for npm, would run the npm that a `package.json` above names."""


def environment(program: str) -> dict[str, str]:
    """For the package client or engine at this path. Raises TrustError where an entry leads it to other settings."""
    found = _of_the_user() if caller.own() else _of_an_entry(program)
    return {**found, **_ALWAYS, **caller.settings().variables, "PATH": programs.path(program)}


def basic(program: str) -> dict[str, str]:
    """For a program that is no package client: the user's environment, or else language, proxy and the account's."""
    found = dict(os.environ)
    if not caller.own():
        found = {name: value for name, value in os.environ.items() if entry.plain(name, value)} | _account()
    return {**found, **caller.settings().variables, "PATH": programs.path(program)}


def engine(program: str) -> dict[str, str]:
    """For a container engine that confines a server. Raises TrustError where an entry leads it to another daemon."""
    found = basic(program)
    for name in entry.SOCKETS:
        if value := _socket(name):
            found[name] = value
    if context := os.environ.get("DOCKER_CONTEXT"):  # one of those that the user has set up
        found.setdefault("DOCKER_CONTEXT", context)
    return found


def left_out() -> list[str]:
    """The settings in this environment that the package clients do not get, because an entry may have set them."""
    if caller.own():
        return []
    home, named = caller.home(), caller.settings().variables
    return sorted(
        name
        for name, value in os.environ.items()
        if name.upper().startswith(_TOLD)
        and not (name in named or entry.passes(name, value) or _usual(name, value, home))
    )


def _socket(name: str) -> str:
    """The address of an engine; '' where it is unset. Raises TrustError for one that an entry may have set."""
    named = caller.settings().variables.get(name, "")
    value = named or os.environ.get(name, "")
    if not value or named or caller.own() or entry.is_own_socket(value):
        return value
    raise TrustError(
        f"{visible(name, 60)} is {visible(value, 100)}, and a client's entry may have set that",
        next_step=f"if it is yours, write it into your callgate.toml: {_line(name)}",
    )


def _of_the_user() -> dict[str, str]:
    variables = dict(os.environ)
    path = variables.get(_NPM_SETTINGS) or os.path.join(variables.get("HOME", ""), ".npmrc")
    names = {name for name, _ in _npmrc_names(path)}
    return {
        name: value
        for name, value in variables.items()
        if name.upper() in _OWN or name.upper().startswith(_OWN_PREFIXES) or name in names
    }


def _of_an_entry(program: str) -> dict[str, str]:
    home, name = caller.home(), os.path.basename(program)
    _settings_are_the_users(name, home)
    # `${NAME}` of a line of the user's own that says where packages come from, or with which credential; not one that
    # says for which host a credential is.
    pairs = _npmrc_names(f"{home}/.npmrc")
    hosts = {one for one, setting in pairs if not setting}
    named = {one for one, setting in pairs if entry.npm_passes(setting)} - hosts
    named = {one for one in named if one.upper() not in _OWN and not one.upper().startswith(_LOADERS)}
    found = {one: value for one, value in os.environ.items() if one in named or entry.passes(one, value)}
    if name in CONTAINER_ENGINES:
        sockets = {one: _socket(one) for one in entry.SOCKETS}
        found |= {one: value for one, value in sockets.items() if value}
    return {**found, **_account()}


def _account() -> dict[str, str]:
    """Home, name and session of the account. Raises TrustError where it has no home."""
    import pwd

    found = {"HOME": caller.home()}
    try:
        found["USER"] = found["LOGNAME"] = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        pass
    runtime = f"/run/user/{os.getuid()}"
    if os.path.isdir(runtime) and os.stat(runtime).st_uid == os.getuid():
        found["XDG_RUNTIME_DIR"] = runtime
        if os.path.exists(f"{runtime}/bus"):
            found["DBUS_SESSION_BUS_ADDRESS"] = f"unix:path={runtime}/bus"
    return found


def _usual(name: str, value: str, home: str) -> bool:
    """Whether a variable says what holds without it."""
    if name.lower() == _NPM_SETTINGS:
        return os.path.normpath(value) == f"{home}/.npmrc"
    return name == "XDG_CONFIG_HOME" and os.path.normpath(value) == f"{home}/.config"


def _settings_are_the_users(program: str, home: str) -> None:
    """Raises TrustError where a variable leads a client to other settings: without, it would ask another registry."""
    kind = "pip" if program.startswith(("python", "pypy")) else program
    variable, below = _PYTHONS.get(kind, (_NPM_SETTINGS, "")) if kind in {"npm", "node", *_PYTHONS} else ("", "")
    for name, value in os.environ.items():
        file = ""
        if variable and (name.lower() if variable == _NPM_SETTINGS else name) == variable:
            file = value
        elif below and name == "XDG_CONFIG_HOME":
            file = os.path.join(value, below)
        unread = not file or file == os.devnull or not os.path.exists(file)
        if unread or name in caller.settings().variables or _usual(name, value, home):
            continue
        raise TrustError(
            f"{visible(name, 60)} leads {visible(program, 40)}, which is started outside the sandbox, to other "
            f"settings, and a client's entry may have set it: {visible(value, 200)}",
            next_step=f"take it out of the entry; if it is yours, write it into your callgate.toml: {_line(name)}",
        )


def _line(name: str) -> str:
    return f'launch.variables = {{ {visible(name, 60)} = "…" }}'


def _npmrc_names(path: str) -> list[tuple[str, str]]:
    """Variables that an `.npmrc` refers to as `${NAME}`, each with the setting whose value it is; '' for its name."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read(256 * 1024)
    except OSError:
        return []
    found = []
    for line in text.splitlines():
        setting, _, value = line.partition("=")
        for within, of in ((setting, ""), (value, setting.strip())):
            found += [(part.partition("}")[0].rstrip("?"), of) for part in within.split("${")[1:]]
    return found
