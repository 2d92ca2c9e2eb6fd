"""Of an environment that a client's entry may have set: what programs outside of the sandbox are given all the same.

Whatever loads code, leads to other settings, another cache or another authority, or opens somebody's credentials to
another host is not in these tables. What is: where packages come from, with which credentials, how patiently.
"""

from __future__ import annotations

import os
import stat

from callgate.outside import places

_PROXIES = frozenset(("HTTPS_PROXY", "NO_PROXY"))
"""Not one for what is not encrypted: an entry can name your own registry without TLS, and would see the credential."""
SOCKETS = ("DOCKER_HOST", "CONTAINER_HOST")
_NAMES = frozenset(
    """
    NODE_USE_SYSTEM_CA NODE_USE_ENV_PROXY NPM_TOKEN DOCKER_CONTEXT
    UV_INDEX UV_DEFAULT_INDEX UV_INDEX_URL UV_EXTRA_INDEX_URL UV_FIND_LINKS UV_NO_INDEX UV_INDEX_STRATEGY
    UV_HTTP_TIMEOUT UV_REQUEST_TIMEOUT UV_HTTP_RETRIES UV_OFFLINE UV_NATIVE_TLS UV_SYSTEM_CERTS
    UV_CONCURRENT_DOWNLOADS UV_CONCURRENT_INSTALLS UV_NO_CACHE
    PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_FIND_LINKS PIP_NO_INDEX PIP_TIMEOUT PIP_DEFAULT_TIMEOUT PIP_RETRIES
    PIP_DISABLE_PIP_VERSION_CHECK PIP_NO_INPUT PIP_NO_CACHE_DIR
    """.split()  # noqa: SIM905 - a table of names reads best as one
)
_NPM = frozenset(
    """
    registry https-proxy noproxy fetch-retries fetch-retry-factor fetch-retry-mintimeout fetch-retry-maxtimeout
    fetch-timeout maxsockets legacy-peer-deps strict-peer-deps
    """.split()  # noqa: SIM905
)
_NPM_CREDENTIALS = (":_authtoken", ":_auth", ":username", ":_password", ":email")
_AUTHORITIES = frozenset(
    ("SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "PIP_CERT")
)
_ADMINISTRATORS = (
    *("/etc", "/private/etc", "/usr/share/ca-certificates", "/usr/local/share/ca-certificates"),
    *("/var/lib/ca-certificates", "/usr/lib/ssl", "/nix/store"),
)
_LANGUAGE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.@_-:")
"""What a language is written with. The C library takes one with a slash for a file."""


def passes(name: str, value: str) -> bool:
    """Whether a package client or an engine gets the variable."""
    if name in _AUTHORITIES:
        return _is_administrators(value)
    if name.lower().startswith("npm_config_"):
        return npm_passes(name[len("npm_config_") :])
    return name in _NAMES or plain(name, value)


def npm_passes(setting: str) -> bool:
    """Whether npm gets the setting, as a variable or in an `.npmrc` names it."""
    name = setting.lower()
    if name.startswith("//"):  # of one host: another gets none of it
        return name.endswith(_NPM_CREDENTIALS)
    name = name[:1] + name[1:].replace("_", "-")
    return name in _NPM or (name.startswith("@") and name.endswith(":registry"))


def plain(name: str, value: str) -> bool:
    """Whether every program gets the variable: the proxy, and the language."""
    if name in ("LANG", "LANGUAGE") or name.startswith("LC_"):
        return _LANGUAGE.issuperset(value) and ".." not in value
    return name.upper() in _PROXIES


def is_own_socket(value: str) -> bool:
    """Whether an engine's address is a socket of root's or the user's: files of a project cannot be one."""
    path = value.removeprefix("unix://")
    try:
        found = os.stat(path) if path != value and os.path.isabs(path) else None
    except OSError:
        found = None
    return found is not None and stat.S_ISSOCK(found.st_mode) and found.st_uid in (0, os.getuid())


def _is_administrators(value: str) -> bool:
    """Whether certificates lie where only the machine's administrator puts some."""
    if not os.path.isabs(value) or places.others(value, {0}):
        return False
    return all(
        any(places.within(one, folder) for folder in _ADMINISTRATORS)
        for one in (os.path.normpath(value), os.path.realpath(value))
    )
