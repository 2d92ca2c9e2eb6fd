"""Package words of launch lines: `@scope/pkg@^1`, `pkg[cli]==1.2`, and what is no registry package at all."""

from __future__ import annotations

from dataclasses import dataclass

from callgate.errors import TrustError
from callgate.supply.launch_line import LaunchNote
from callgate.text import visible

MAX_NAME = 214
_NPM = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~")
_PYPI = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._")
_VERSION = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.+-_!")
_OPERATORS = ("===", "==", "~=", "!=", "<=", ">=", "<", ">")


@dataclass(frozen=True, slots=True)
class Spec:
    """A package word taken apart."""

    name: str
    requested: str = ""
    extras: tuple[str, ...] = ()
    findings: tuple[LaunchNote, ...] = ()


def npm_spec(word: str) -> Spec:
    """An npm package word. Raises TrustError for one that is nothing npm knows."""
    at = word.find("@", 1)
    name, requested = (word[:at], word[at + 1 :]) if at > 0 else (word, "")
    if requested.startswith("npm:"):
        real = npm_spec(requested[4:])
        alias = LaunchNote("launch-alias", visible(f"{name} is {real.name}", 120))
        return Spec(real.name, real.requested, findings=(alias, *real.findings))
    elsewhere = "://" in word or word.startswith((".", "/", "~", "file:", "git+", "github:", "gist:"))
    if elsewhere or ":" in requested or "/" in requested or name.count("/") != name.startswith("@"):
        return Spec("", word, findings=(LaunchNote("launch-url-package", visible(word, 120)),))
    if not npm_name(name):
        raise TrustError(f"{visible(word, 80)!r} is not the name of an npm package", next_step="correct it")
    if exact_npm(requested):
        return Spec(name, requested.lstrip("=v"))
    return Spec(name, requested, findings=(LaunchNote("launch-unpinned", visible(requested or "latest", 60)),))


def npm_name(name: str) -> bool:
    """Whether `name` can be an npm package: 1 to 214 characters, at most one scope."""
    scope, slash, bare = name.rpartition("/")
    if slash and (not scope.startswith("@") or len(scope) < 2 or not _NPM.issuperset(scope[1:])):
        return False
    return 0 < len(name) <= MAX_NAME and bool(bare) and bare[0] not in "._-~" and _NPM.issuperset(bare)


def exact_npm(requested: str) -> bool:
    """Whether `requested` is one version and no range or tag."""
    text = requested.lstrip("=v")
    core = text.partition("+")[0].partition("-")[0].split(".")
    whole = len(core) == 3 and all(part.isascii() and part.isdigit() for part in core)
    return whole and _VERSION.issuperset(text) and not text.endswith((".x", ".*"))


def pypi_spec(word: str, *, tool: bool = False) -> Spec:
    """A PyPI requirement; with `tool`, `name@version` as uvx writes it. Raises TrustError."""
    text = word.strip()
    marker_free = text.partition(";")[0].strip()
    if "://" in text or text.startswith((".", "/", "~", "git+")) or " @ " in text or text.endswith((".whl", ".gz")):
        return Spec("", text, findings=(LaunchNote("launch-url-package", visible(text, 120)),))
    end = next((at for at, char in enumerate(marker_free) if char not in _PYPI), len(marker_free))
    name, rest = marker_free[:end], marker_free[end:].strip()
    extras: tuple[str, ...] = ()
    if rest.startswith("["):
        inner, close, rest = rest[1:].partition("]")
        extras = tuple(part.strip() for part in inner.split(",") if part.strip())
        rest = rest.strip()
        if not close or not all(_PYPI.issuperset(extra) for extra in extras):
            raise _bad(word)
    if not name or len(name) > MAX_NAME or not (name[0].isalnum() and name[-1].isalnum()):
        raise _bad(word)
    requested = rest
    if rest.startswith("@"):
        asked = rest[1:].strip()
        if not tool or not asked or not _VERSION.issuperset(asked):
            return Spec("", text, findings=(LaunchNote("launch-url-package", visible(text, 120)),))
        requested = "" if asked == "latest" else f"=={asked}"
        if asked == "latest":
            return Spec(name, "latest", extras, (LaunchNote("launch-unpinned", "latest"),))
    elif rest and not rest.strip("() ").startswith(_OPERATORS):
        raise _bad(word)
    if exact_pypi(requested):
        return Spec(name, requested, extras)
    return Spec(name, requested, extras, (LaunchNote("launch-unpinned", visible(requested or "latest", 60)),))


def exact_pypi(requested: str) -> bool:
    """Whether a requirement's version part allows one version only."""
    bare = requested.removeprefix("===").removeprefix("==").strip()
    return requested.startswith("==") and bool(bare) and _VERSION.issuperset(bare)


def normal_pypi(name: str) -> str:
    """A PyPI name as the index knows it (PEP 503)."""
    out: list[str] = []
    for char in name.lower():
        if char in "-_.":
            if out and out[-1] != "-":
                out.append("-")
        else:
            out.append(char)
    return "".join(out)


def _bad(word: str) -> TrustError:
    return TrustError(f"{visible(word, 80)!r} is not the name of a PyPI package", next_step="correct it")
