"""Package runners of npm, and the table of everything that starts a server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from callgate.runners import program_name
from callgate.supply.launch_line import LaunchLine, LaunchNote
from callgate.supply.launch_packages import npm_spec
from callgate.supply.launch_python import pipx, python, python_like, uv, uvx
from callgate.supply.launch_scripts import Words, deno, java, missing, node, script, tsx, unknown
from callgate.supply.launch_words import Options, names, read_options
from callgate.text import visible

REMOTE_BRIDGES = names("mcp-remote supergateway mcp-proxy")
"""Packages that put a remote server on stdin and stdout."""

_NPX_VALUED = names(
    "-p --package -c --call -w --workspace --registry --prefix --cache --userconfig --loglevel --node-options "
    "--script-shell --before --min-release-age --tag --@scope:registry --shell -n --node-arg"
)
_NPX_FLAGS = names(
    "-y --yes --no --no-install -q --quiet --ignore-existing --prefer-offline --prefer-online --offline -s --silent "
    "--workspaces --include-workspace-root --ignore-scripts --legacy-peer-deps --force -f -d -dd -ddd --verbose "
    "--no-audit --no-fund --no-update-notifier --always-spawn --parseable"
)
_DLX_VALUED = names("-p --package -c --shell-mode --reporter --allow-build --registry --dir -C --cpu --os")
_DLX_FLAGS = names("-q --quiet --silent -s -y --yes --verify --prefer-offline --ignore-scripts")
_BUNX_FLAGS = names("--bun --no-install --verbose --silent -y --yes")


def knows(name: str) -> bool:
    """Whether `name` is a runner or interpreter."""
    return name in _RUNNERS or python_like(name)


def run(words: Words) -> LaunchLine:
    """The line of a runner, an interpreter or a plain program. Raises TrustError."""
    name = program_name(words[0])
    runner = _RUNNERS.get(name) or (python if python_like(name) else None)
    if runner:
        return runner(words)
    kind = "mcpb" if name.lower().endswith((".mcpb", ".dxt")) else ""
    if kind:
        return LaunchLine("mcpb", words, package=words[0], arguments=words[1:], program=words[0])
    if name.endswith((".py", ".js", ".mjs", ".cjs", ".ts", ".sh")):
        runtime = {"py": "python", "sh": ""}.get(name.rpartition(".")[2], "node")
        return LaunchLine("local", words, entry=words[0], program=words[0], arguments=words[1:], runtime=runtime)
    return LaunchLine("binary", words, program=words[0], arguments=words[1:])


def remote(words: Words, url: str, line: LaunchLine | None = None) -> LaunchLine:
    """A line that reaches a server elsewhere, through the package of `line` where there is one."""
    plain = (LaunchNote("launch-plain-http"),) if url.lower().startswith("http://") and not _loopback(url) else ()
    if line is None:
        return LaunchLine("remote", words, url=url, program=words[0], warnings=plain)
    return replace(line, kind="remote", url=url, warnings=line.warnings + plain)


def _loopback(url: str) -> bool:
    host = url.partition("://")[2].partition("/")[0].rpartition("@")[2]
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    return name in ("localhost", "::1") or (name.startswith("127.") and name.replace(".", "").isdigit())


def _node_package(words: Words, options: Options, *, npm_exec: bool = False) -> LaunchLine:
    """`[options] [-p pkg]... pkg-or-command args`, as npx, `npm exec`, `pnpm dlx` and `yarn dlx` read it."""
    at = options.rest
    packages = options.all("-p", "--package")
    found = list(unknown(options))
    if options.last("-c", "--call"):
        found.append(LaunchNote("launch-shell-script", "--call"))
    injected = options.last("--node-options", "-n", "--node-arg")
    if injected:
        found.append(LaunchNote("launch-code-injection", "--node-options"))
    entry = ""
    if packages:
        package, more = packages[0], tuple(packages[1:])
        entry = words[at] if at < len(words) else ""
        if not entry and not options.last("-c", "--call"):
            raise missing(words, "command")
        if program_name(entry) in ("node", "sh", "bash"):
            found.append(LaunchNote("launch-inline-code", visible(entry, 40)))
    elif at < len(words):
        package, more = words[at], ()
    elif options.last("-c", "--call"):
        return LaunchLine("local", words, program=words[0], runtime="node", warnings=tuple(found))
    else:
        raise missing(words, "package")
    arguments = words[at + 1 :]
    if npm_exec and "--" in arguments:
        cut = arguments.index("--")
        arguments = arguments[:cut] + arguments[cut + 1 :]
    if more:
        found.append(LaunchNote("launch-extra-package", visible(" ".join(more), 100)))
    registry = tuple(f"--registry={url}" for url in options.all("--registry"))
    if registry:
        found.append(LaunchNote("launch-registry-override", visible(" ".join(options.all("--registry")), 100)))
    spec = npm_spec(package)
    for one in more:
        found += [note for note in npm_spec(one).findings if note.rule != "launch-unpinned"]
    line = LaunchLine(
        "npm",
        words,
        package=spec.name,
        requested=spec.requested,
        more=more,
        launcher=words[:at],
        arguments=arguments,
        entry=entry,
        runtime="node",
        registry=registry,
        warnings=tuple(found) + spec.findings,
    )
    if spec.name in REMOTE_BRIDGES:
        url = next((word for word in arguments if word.startswith(("http://", "https://"))), "")
        if url:
            return remote(words, url, line)
    return line


def _npx(words: Words) -> LaunchLine:
    return _node_package(words, read_options(words, 1, _NPX_VALUED, _NPX_FLAGS))


def _npm(words: Words) -> LaunchLine:
    options = read_options(words, 1, _NPX_VALUED, _NPX_FLAGS)
    if words[options.rest : options.rest + 1] not in (("exec",), ("x",)):
        return _project_script(words, options)
    inner = read_options(words, options.rest + 1, _NPX_VALUED, _NPX_FLAGS)
    inner.found, inner.unknown = options.found + inner.found, options.unknown + inner.unknown
    return _node_package(words, inner, npm_exec=True)


def _dlx(words: Words) -> LaunchLine:
    options = read_options(words, 1, _DLX_VALUED, _DLX_FLAGS)
    if words[options.rest : options.rest + 1] != ("dlx",):
        return _project_script(words, options)
    inner = read_options(words, options.rest + 1, _DLX_VALUED, _DLX_FLAGS)
    inner.found, inner.unknown = options.found + inner.found, options.unknown + inner.unknown
    return _node_package(words, inner)


def _project_script(words: Words, options: Options) -> LaunchLine:
    """`npm run x`, `npm start`: a script that package.json of some directory holds."""
    directory = options.last("--prefix", "-C", "--dir")
    found = (*unknown(options), LaunchNote("launch-shell-script", "a script of package.json"))
    return LaunchLine(
        "local", words, program=words[0], arguments=words[1:], runtime="node", directory=directory, warnings=found
    )


def _bunx(words: Words) -> LaunchLine:
    return _node_package(words, read_options(words, 1, names("-p --package"), _BUNX_FLAGS))


def _bun(words: Words) -> LaunchLine:
    if words[1:2] == ("x",):
        return _node_package(words, read_options(words, 2, names("-p --package"), _BUNX_FLAGS))
    at = 2 if words[1:2] == ("run",) else 1
    return script(
        words, read_options(words, at, names("-r --preload --cwd --env-file -c --config"), _BUNX_FLAGS), "bun"
    )


_RUNNERS: Mapping[str, Callable[[Words], LaunchLine]] = {
    "npx": _npx,
    "pnpx": _npx,
    "npm": _npm,
    "pnpm": _dlx,
    "yarn": _dlx,
    "bunx": _bunx,
    "bun": _bun,
    "uvx": uvx,
    "uv": uv,
    "pipx": pipx,
    "node": node,
    "nodejs": node,
    "deno": deno,
    "tsx": tsx,
    "ts-node": tsx,
    "java": java,
}
