"""Python's runners: `uvx`, `uv run`, `pipx run`, `python`."""

from __future__ import annotations

from dataclasses import replace

from callgate.runners import program_name
from callgate.supply.launch_line import LaunchLine, LaunchNote
from callgate.supply.launch_packages import Spec, pypi_spec
from callgate.supply.launch_scripts import Words, missing, script, unknown
from callgate.supply.launch_words import Options, names, read_options
from callgate.text import visible

_UV_VALUED = names(
    "--from -w --with --with-editable --with-requirements -p --python --index --default-index -i --index-url "
    "--extra-index-url -f --find-links --exclude-newer --exclude-newer-package --cache-dir --directory --project "
    "--config-file --env-file --index-strategy --keyring-provider --refresh-package -P --upgrade-package "
    "--resolution --prerelease --fork-strategy --link-mode -C --config-setting -c --constraints --constraint "
    "--overrides --override -b --build-constraints --no-build-package --no-binary-package --reinstall-package "
    "--no-build-isolation-package --no-sources-package --color --allow-insecure-host --python-preference "
    "--torch-backend --extra --no-extra --group --no-group --only-group --package --python-platform --verbosity"
)
_UV_FLAGS = names(
    "--isolated --no-index --no-build --no-binary -U --upgrade --reinstall --refresh --no-refresh --offline -n "
    "--no-cache --quiet -q --verbose -v --no-progress --no-config --no-env-file --managed-python "
    "--no-managed-python --no-python-downloads --no-build-isolation --no-sources --compile-bytecode --system-certs "
    "--native-tls --show-resolution --pre --locked --frozen --no-sync --active --no-active --exact --no-project "
    "--all-extras --no-dev --dev --only-dev --no-default-groups --all-groups --no-editable --inexact "
    "--all-packages --gui-script --lfs --no-lfs"
)
_UV_REGISTRY = names("--index --default-index -i --index-url --extra-index-url -f --find-links")
_PIPX_VALUED = names("--spec --python --pip-args -i --index-url --default-python --backend --with --fetch-python")
_PIPX_FLAGS = names("--no-cache --pypackages --verbose -v -q --quiet --system-site-packages --editable -e")
_PYTHON_VALUED = names("-W -X --check-hash-based-pycs")
_PYTHON_FLAGS = names("-b -bb -B -d -E -I -i -O -OO -P -q -s -S -u -v -x -R")


def _tool(words: Words, options: Options) -> LaunchLine:
    """`uvx [--from X] tool`, `uv tool run`."""
    at = options.rest
    if at >= len(words):
        raise missing(words, "tool")
    source = options.last("--from")
    spec = pypi_spec(source or words[at], tool=not source)
    entry = words[at] if source else ""
    return _python_package(words, options, at, spec, entry, options.all("-w", "--with"), _UV_REGISTRY)


def _python_package(
    words: Words, options: Options, at: int, spec: Spec, entry: str, more: list[str], registries: frozenset[str]
) -> LaunchLine:
    found = list(unknown(options)) + list(spec.findings)
    loose = options.all("--with-editable", "--with-requirements")
    if loose:
        found.append(LaunchNote("launch-url-package", visible(" ".join(loose), 100)))
    if more:
        found.append(LaunchNote("launch-extra-package", visible(" ".join(more), 100)))
        for one in more:
            found += [note for part in one.split(",") for note in _foreign(part)]
    registry = tuple(f"{name}={value}" for name, value in options.found if name in registries and value)
    if registry:
        found.append(LaunchNote("launch-registry-override", visible(" ".join(registry), 100)))
    return LaunchLine(
        "pypi",
        words,
        package=spec.name,
        requested=spec.requested,
        extras=spec.extras,
        more=tuple(part.strip() for one in more for part in one.split(",") if part.strip()),
        launcher=words[:at],
        arguments=words[at + 1 :],
        entry=entry,
        runtime="python",
        python=options.last("-p", "--python"),
        registry=registry,
        warnings=tuple(found),
    )


def _foreign(requirement: str) -> list[LaunchNote]:
    """A further package that does not come from an index. Parts of `a[b,c]` and `a>=1,<2` are none."""
    text = requirement.strip()
    elsewhere = "://" in text or " @ " in text or text.startswith((".", "/", "~", "git+"))
    return [LaunchNote("launch-url-package", visible(text, 100))] if elsewhere else []


def uvx(words: Words) -> LaunchLine:
    """`uvx [options] [--from X] tool args`."""
    return _tool(words, read_options(words, 1, _UV_VALUED, _UV_FLAGS))


def uv(words: Words) -> LaunchLine:
    """`uv tool run ...` and `uv run ...`."""
    top = read_options(words, 1, _UV_VALUED, _UV_FLAGS)
    at = top.rest
    if words[at : at + 2] == ("tool", "run"):
        options = read_options(words, at + 2, _UV_VALUED, _UV_FLAGS)
        options.found = top.found + options.found
        return _tool(words, options)
    if words[at : at + 1] != ("run",):
        return LaunchLine("binary", words, program=words[0], arguments=words[1:], warnings=unknown(top))
    module = names("-m --module -s --script")
    options = read_options(words, at + 1, _UV_VALUED, _UV_FLAGS | module)
    options.found, options.unknown = top.found + options.found, top.unknown + options.unknown
    at = options.rest
    if at >= len(words):
        raise missing(words, "command")
    more = options.all("-w", "--with")
    command = words[at]
    directory = options.last("--directory", "--project")
    is_script = command.endswith((".py", ".pyw")) or options.has("-m", "--module", "-s", "--script")
    found = list(unknown(options))
    if options.has("--env-file"):
        found.append(LaunchNote("launch-environment", "--env-file"))
    if not directory and more and not is_script and not python_like(program_name(command)):
        # The command comes from one of the packages: the one of its name, else the first.
        specs = [pypi_spec(one) for one in more]
        spec = next((one for one in specs if one.name == command), specs[0])
        others = [one for one, known in zip(more, specs, strict=True) if known is not spec]
        return _python_package(words, options, at, spec, command, others, _UV_REGISTRY)
    if more:
        found.append(LaunchNote("launch-extra-package", visible(" ".join(more), 100)))
    if python_like(program_name(command)) and not is_script:
        inner = python(words[at:])
        return replace(
            inner,
            argv=words,
            launcher=words[:at] + inner.launcher,
            directory=directory,
            warnings=(*found, *inner.warnings),
        )
    return LaunchLine(
        "local",
        words,
        program=words[0],
        launcher=words[:at],
        entry=command,
        arguments=words[at + 1 :],
        runtime="python",
        python=options.last("-p", "--python"),
        directory=directory,
        warnings=tuple(found),
    )


def pipx(words: Words) -> LaunchLine:
    """`pipx run [--spec X] app args`."""
    top = read_options(words, 1, _PIPX_VALUED, _PIPX_FLAGS)
    if words[top.rest : top.rest + 1] != ("run",):
        return LaunchLine("binary", words, program=words[0], arguments=words[1:])
    options = read_options(words, top.rest + 1, _PIPX_VALUED, _PIPX_FLAGS)
    at = options.rest
    if at >= len(words):
        raise missing(words, "application")
    source = options.last("--spec")
    spec = pypi_spec(source or words[at])
    if options.has("--pip-args"):
        options.unknown.append("--pip-args")
    line = _python_package(
        words, options, at, spec, words[at] if source else "", options.all("--with"), names("-i --index-url")
    )
    arguments = line.arguments
    return replace(line, arguments=arguments[1:] if arguments[:1] == ("--",) else arguments)


def python_like(name: str) -> bool:
    """Whether `name` is a Python: `python`, `python3.12`, `pypy3`, `py`."""
    rest = name.removeprefix("python").removeprefix("w")
    return (
        name.startswith(("python", "pypy")) and (not rest or rest.removeprefix("pypy").replace(".", "").isdigit())
    ) or (name in ("py", "pypy", "pypy3"))


def python(words: Words) -> LaunchLine:
    """`python [options] script | -m module | -c code`."""
    flags = _PYTHON_FLAGS | (names("-3 -2") if program_name(words[0]) == "py" else names(""))
    at = 1
    options = Options()
    while at < len(words) and words[at].startswith("-") and words[at] != "-":
        word = words[at]
        letters = word[1:] if not word.startswith("--") else ""
        stop = next((place for place, letter in enumerate(letters) if letter in "mc"), -1)
        if stop >= 0 and all(f"-{letter}" in flags for letter in letters[:stop]):
            rest = letters[stop + 1 :]
            value, behind = (rest, at + 1) if rest else (words[at + 1] if at + 1 < len(words) else "", at + 2)
            if not value:
                raise missing(words, "module" if letters[stop] == "m" else "code")
            return _python_inner(words, letters[stop], value, behind)
        width = 2 if word in _PYTHON_VALUED else 1
        step = read_options(words[at : at + width], 0, _PYTHON_VALUED, flags)
        first = step.found[:1]
        options.found += first
        options.unknown += [name for name in step.unknown if first and name == first[0][0]]
        at += width
    options.rest = at
    return script(words, options, "python")


def _python_inner(words: Words, option: str, value: str, behind: int) -> LaunchLine:
    if option == "c":
        return LaunchLine(
            "local", words, program=words[0], runtime="python", warnings=(LaunchNote("launch-inline-code", "-c"),)
        )
    return LaunchLine(
        "local",
        words,
        program=words[0],
        launcher=words[:behind],
        entry=f"-m {value}",
        arguments=words[behind:],
        runtime="python",
    )
