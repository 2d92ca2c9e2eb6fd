"""Programs in front of the server: each is unwrapped until the one that counts is first."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import replace

from callgate.errors import TrustError
from callgate.runners import program_name
from callgate.supply import launch_containers, launch_runners
from callgate.supply.launch_line import MAX_PREFIXES, LaunchLine, LaunchNote, assigned
from callgate.supply.launch_words import Options, names, read_options
from callgate.text import visible

Words = tuple[str, ...]

_SHELLS = names("sh bash dash zsh ash ksh fish")
_POWERSHELLS = names("powershell pwsh")
_META = frozenset(";&|<>()$`\n\r*?{}#!")
_DOWNLOADERS = names("curl wget fetch iwr irm invoke-webrequest invoke-restmethod")
_INTERPRETERS = _SHELLS | _POWERSHELLS | names("python python3 node deno bun perl ruby php iex invoke-expression")


def unwrap(words: Words, depth: int) -> LaunchLine:
    """The line behind all its prefixes. Raises TrustError."""
    if depth > MAX_PREFIXES:
        raise TrustError(f"more than {MAX_PREFIXES} programs stand in front of the server", next_step="simplify it")
    if not words:
        raise TrustError("the launch line names no server", next_step="complete the command")
    if len(words) == 1 and " " in words[0].strip():  # some clients join command and arguments
        first = words[0].split()[0]
        if "/" not in first and (program_name(first) in _UNWRAPPED or launch_runners.knows(program_name(first))):
            return _from_shell(words[0], "", depth)
    name = program_name(words[0])
    wrapper = _UNWRAPPED.get(name)
    if wrapper:
        return wrapper(words, depth)
    if launch_containers.knows(name, words):
        return launch_containers.container(words)
    return launch_runners.run(words)


def _under(name: str, line: LaunchLine, environment: Mapping[str, str] | None = None) -> LaunchLine:
    """`line` with one more program in front."""
    merged = {**(environment or {}), **line.environment}
    found = assigned(environment or {})
    return replace(
        line, prefixes=(name, *line.prefixes), environment=merged, warnings=tuple(dict.fromkeys(found + line.warnings))
    )


def _opaque(words: Words, *findings: LaunchNote) -> LaunchLine:
    """A line whose server cannot be told."""
    return LaunchLine("binary", words, program=words[0], arguments=words[1:], warnings=findings)


def _unknown(options: Options) -> tuple[LaunchNote, ...]:
    return tuple(LaunchNote("launch-unknown-option", visible(name, 40)) for name in options.unknown)


def _plain(name: str, valued: str, flags: str, skip: int = 0) -> Callable[[Words, int], LaunchLine]:
    """A program that takes options, `skip` words of its own, and then a command."""

    def wrapper(words: Words, depth: int) -> LaunchLine:
        options = read_options(words, 1, names(valued), names(flags))
        line = _under(name, unwrap(words[options.rest + skip :], depth + 1))
        return replace(line, warnings=_unknown(options) + line.warnings)

    return wrapper


def _env(words: Words, depth: int) -> LaunchLine:
    valued = names("-u --unset -C --chdir -S --split-string -P")
    options = read_options(words, 1, valued, names("-i --ignore-environment -0 --null -v --debug -"))
    at = options.rest
    if at < len(words) and words[at] == "-":
        at += 1
    environment: dict[str, str] = {}
    while at < len(words) and "=" in words[at] and not words[at].startswith("="):
        name, _, value = words[at].partition("=")
        environment[name] = value
        at += 1
    rest = words[at:]
    split = options.last("-S", "--split-string")
    if split:
        rest = (*_split(split), *rest)
    line = _under("env", unwrap(rest, depth + 1), environment)
    directory = options.last("-C", "--chdir")
    return replace(line, directory=line.directory or directory, warnings=_unknown(options) + line.warnings)


def _shell(words: Words, depth: int) -> LaunchLine:
    name = program_name(words[0])
    at = 1
    while at < len(words) and words[at][:1] in ("-", "+") and words[at] != "--":
        word = words[at]
        at += 1
        if not word.startswith("--") and "c" in word[1:]:
            if at >= len(words):
                raise TrustError(f"{name} -c needs a command", next_step="complete it")
            if len(words) > at + 1:  # $0, $1: the script is more than its text
                return _opaque(words, LaunchNote("launch-shell-script", "with arguments of its own"))
            return _from_shell(words[at], name, depth)
        if word in ("-o", "+o", "--rcfile", "--init-file"):
            at += 1
    if at < len(words) and words[at] == "--":
        at += 1
    if at >= len(words):
        return _opaque(words, LaunchNote("launch-shell-script", "commands from standard input"))
    return LaunchLine("local", words, program=words[0], entry=words[at], launcher=words[:at], arguments=words[at + 1 :])


def _cmd(words: Words, depth: int) -> LaunchLine:
    at = 1
    while at < len(words) and words[at].startswith("/"):
        switch = words[at].lower()
        at += 1
        if switch in ("/c", "/k", "/r"):
            break
    rest = words[at:]
    if any(mark in word for word in rest for mark in "&|<>^%\n"):
        return _opaque(words, *_script_findings(" ".join(rest)))
    if len(rest) == 1 and " " in rest[0]:
        rest = tuple(rest[0].split())
    return _under("cmd", unwrap(rest, depth + 1))


def _powershell(words: Words, depth: int) -> LaunchLine:
    valued = names("-executionpolicy -ep -ex -windowstyle -w -version -psconsolefile -configurationname")
    at = 1
    while at < len(words) and words[at].startswith("-"):
        option = words[at].lower()
        at += 1
        if option in valued:
            at += 1
        elif option in ("-command", "-c"):
            text = " ".join(words[at:])
            return _from_shell(text, "powershell", depth)
        elif option in ("-file", "-f") and at < len(words):
            return LaunchLine("local", words, program=words[0], entry=words[at], arguments=words[at + 1 :])
        elif option.startswith("-e"):
            return _opaque(words, LaunchNote("launch-inline-code", "an encoded command"))
    return _opaque(words, LaunchNote("launch-shell-script", "powershell"))


def _from_shell(text: str, shell: str, depth: int) -> LaunchLine:
    """The command in a shell's text where that is one plain command, else an opaque line with the reason."""
    words = _plain_words(text)
    opaque = (shell or text.split(maxsplit=1)[0], "-c", text)
    if words is None:
        return _opaque(opaque, *_script_findings(text))
    if words and words[0] == "exec":
        words = words[1:]
    environment: dict[str, str] = {}
    while words and "=" in words[0] and words[0].partition("=")[0].isidentifier():
        name, _, value = words[0].partition("=")
        environment[name] = value
        words = words[1:]
    if not words:
        return _opaque(opaque, LaunchNote("launch-shell-script", "no command"))
    line = unwrap(tuple(words), depth + 1)
    return _under(shell, line, environment) if shell else line


def _plain_words(text: str) -> list[str] | None:
    """The words of a shell text without operators, expansions and patterns; None where it has any."""
    quote = ""
    escaped = False
    for char in text:
        if escaped:
            escaped = False
        elif char == "\\" and quote != "'":
            escaped = True
        elif quote:
            if char == quote:
                quote = ""
            elif quote == '"' and char in "$`":
                return None
        elif char in "'\"":
            quote = char
        elif char in _META:
            return None
    try:
        words = shlex.split(text)
    except ValueError:
        return None
    # A tilde the shell would expand means another word than the one that stands here.
    return None if any(word.startswith("~") for word in words) else words


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise TrustError("the launch line has an open quote", next_step="close it") from error


def _script_findings(text: str) -> tuple[LaunchNote, ...]:
    """What a script does that can be told from its words alone."""
    for mark in ";&|<>()`\n\r'\"$":
        text = text.replace(mark, f" {mark} " if mark == "|" else " ")
    words = [program_name(word).lower() for word in text.split()]
    loads = any(word in _DOWNLOADERS for word in words)
    runs = any(word in _INTERPRETERS for word in words)
    found = [LaunchNote("launch-shell-script", "")]
    if loads and (runs or "base64" in words):
        found.insert(0, LaunchNote("launch-pipe-to-shell", ""))
    elif "base64" in words and runs:
        found.insert(0, LaunchNote("launch-inline-code", "base64"))
    return tuple(found)


def _callgate(words: Words, depth: int) -> LaunchLine:
    rest = words[1:]
    if rest[:1] != ("run",):
        return launch_runners.run(words)
    if "--" in rest:
        return _under("callgate", unwrap(rest[rest.index("--") + 1 :], depth + 1))
    for at, word in enumerate(rest):
        url = rest[at + 1] if word == "--url" and at + 1 < len(rest) else word.removeprefix("--url=")
        if word.startswith("--url") and url != word:
            return launch_runners.remote(words, url)
    raise TrustError("callgate run without a command", next_step="callgate run -- COMMAND")


_UNWRAPPED: Mapping[str, Callable[[Words, int], LaunchLine]] = {
    "env": _env,
    "cmd": _cmd,
    "callgate": _callgate,
    **dict.fromkeys(_SHELLS, _shell),
    **dict.fromkeys(_POWERSHELLS, _powershell),
    "nice": _plain("nice", "-n --adjustment", ""),
    "ionice": _plain("ionice", "-c --class -n --classdata", "-t --ignore"),
    "nohup": _plain("nohup", "", ""),
    "setsid": _plain("setsid", "", "-c -f -w --ctty --fork --wait"),
    "stdbuf": _plain("stdbuf", "-i -o -e --input --output --error", ""),
    "time": _plain("time", "-f -o --format --output", "-p -v -a --portability --verbose --append"),
    "timeout": _plain("timeout", "-k --kill-after -s --signal", "-v -f -p --verbose --foreground", skip=1),
    "gtimeout": _plain("timeout", "-k --kill-after -s --signal", "-v --foreground", skip=1),
    "caffeinate": _plain("caffeinate", "-t -w", "-d -i -m -s -u"),
    "arch": _plain("arch", "-e -d", "-x86_64 -arm64 -arm64e -i386 -32 -64 -c -h"),
}
