"""Interpreters with a script: `node`, `deno`, `bun`, `tsx`, `java`; and what all readers of launch lines share."""

from __future__ import annotations

from dataclasses import replace

from callgate.errors import TrustError
from callgate.runners import program_name
from callgate.supply.launch_line import LaunchLine, LaunchNote
from callgate.supply.launch_packages import npm_spec
from callgate.supply.launch_words import Options, names, read_options
from callgate.text import visible

Words = tuple[str, ...]

_NODE_VALUED = names(
    "-r --require --import --loader --experimental-loader --env-file --env-file-if-exists -C --conditions "
    "--max-old-space-size --stack-size --dns-result-order --icu-data-dir --openssl-config --input-type --title "
    "--unhandled-rejections --disable-warning --redirect-warnings --inspect-port --tls-cipher-list "
    "--max-http-header-size"
)
_NODE_FLAGS = names(
    "--enable-source-maps --no-warnings --no-deprecation --experimental-strip-types --use-system-ca --use-openssl-ca "
    "--use-bundled-ca --experimental-modules --experimental-vm-modules --experimental-fetch --trace-warnings "
    "--trace-deprecation --trace-uncaught --preserve-symlinks --permission --use-env-proxy --experimental-sqlite "
    "--experimental-transform-types --no-experimental-strip-types --throw-deprecation --expose-gc --inspect"
)
_DENO_VALUED = names(
    "-c --config --import-map --lock --cert -r --location --seed --env-file --preload --v8-flags -L --log-level --ext "
    "--node-modules-dir --conditions"
)
_DENO_FLAGS = names(
    "-A --allow-all --allow-net --allow-read --allow-write --allow-env --allow-run --allow-ffi --allow-sys "
    "--allow-import --allow-hrtime --no-prompt -q --quiet --no-check --check --unstable --cached-only --no-remote "
    "--no-npm --no-lock --frozen --no-config --reload -N -R -W -E -S -I --allow-scripts --watch --inspect"
)
_JAVA_VALUED = names("-cp -classpath --class-path -p --module-path --add-modules -javaagent")


def unknown(options: Options) -> tuple[LaunchNote, ...]:
    """Findings about options nobody here knows."""
    return tuple(LaunchNote("launch-unknown-option", visible(name, 40)) for name in options.unknown)


def missing(words: Words, what: str) -> TrustError:
    """The error of a line that breaks off."""
    return TrustError(f"{program_name(words[0])} is given no {what}", next_step="complete the launch line")


def script(words: Words, options: Options, runtime: str) -> LaunchLine:
    """`[options] script args`, for any interpreter."""
    at = options.rest
    found = list(unknown(options))
    for name, value in options.found:
        if name in ("-r", "--require", "--import", "--loader", "--experimental-loader", "--preload"):
            found.append(LaunchNote("launch-code-injection", visible(f"{name} {value}", 80)))
        elif name.startswith("--env-file"):
            found.append(LaunchNote("launch-environment", visible(f"{name} {value}", 80)))
    if at >= len(words) or words[at] == "-":
        found.append(LaunchNote("launch-inline-code", "from standard input"))
        return LaunchLine("local", words, program=words[0], runtime=runtime, warnings=tuple(found))
    return LaunchLine(
        "local",
        words,
        program=words[0],
        launcher=words[:at],
        entry=words[at],
        arguments=words[at + 1 :],
        runtime=runtime,
        warnings=tuple(found),
    )


def node(words: Words) -> LaunchLine:
    """`node [options] script args`."""
    code = names("-e --eval -p --print -pe")
    options = read_options(words, 1, _NODE_VALUED, _NODE_FLAGS | code)
    if any(name in code for name, _ in options.found):
        return LaunchLine(
            "local", words, program=words[0], runtime="node", warnings=(LaunchNote("launch-inline-code", "--eval"),)
        )
    return script(words, options, "node")


def deno(words: Words) -> LaunchLine:
    """`deno run [permissions] file | npm:pkg | URL`."""
    at = 2 if words[1:2] == ("run",) else 1
    if words[1:2] == ("eval",):
        return LaunchLine(
            "local", words, program=words[0], runtime="deno", warnings=(LaunchNote("launch-inline-code", "eval"),)
        )
    options = read_options(words, at, _DENO_VALUED, _DENO_FLAGS)
    line = script(words, options, "deno")
    if options.has("-A", "--allow-all"):
        line = replace(line, warnings=(*line.warnings, LaunchNote("launch-all-permissions", "--allow-all")))
    target = line.entry
    if target.startswith("npm:"):
        spec = npm_spec(target[4:].lstrip("/"))
        return replace(
            line,
            kind="npm",
            package=spec.name,
            requested=spec.requested,
            entry="",
            warnings=line.warnings + spec.findings,
        )
    if target.startswith(("http://", "https://", "jsr:")):
        return replace(line, warnings=(*line.warnings, LaunchNote("launch-url-package", visible(target, 100))))
    return line


def tsx(words: Words) -> LaunchLine:
    """`tsx script`, `ts-node script`."""
    return script(words, read_options(words, 1, _NODE_VALUED | names("--tsconfig"), _NODE_FLAGS), "node")


def java(words: Words) -> LaunchLine:
    """`java -jar file`."""
    at = 1
    injected = []
    while at < len(words) and words[at].startswith("-") and words[at] != "-jar":
        if words[at].startswith("-javaagent"):
            injected.append(LaunchNote("launch-code-injection", "-javaagent"))
        at += 2 if words[at] in _JAVA_VALUED else 1
    if words[at : at + 1] == ("-jar",):
        at += 1
        if at >= len(words):
            raise missing(words, "jar")
        return LaunchLine(
            "local",
            words,
            program=words[0],
            launcher=words[:at],
            entry=words[at],
            arguments=words[at + 1 :],
            warnings=tuple(injected),
        )
    return LaunchLine("binary", words, program=words[0], arguments=words[1:], warnings=tuple(injected))
