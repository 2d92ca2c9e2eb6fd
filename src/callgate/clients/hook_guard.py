"""What a hook says of built-in tools: whether a path or a shell command would touch callgate itself.

A second sensor, not a wall: a program that an agent writes and runs can do what its command line does not show. It
refuses what is plainly aimed at the gate, and asks about what may be meant well. See docs/hooks.md for the list.
"""

from __future__ import annotations

import os

from callgate.clients.hook_shell import Command, commands

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from callgate.clients.hook_snapshot import Snapshot

MAX_TEXT = 256 * 1024
"""Characters of a command that are judged; a longer one is asked about."""
MAX_NESTING = 4

_OWN_FILES = ("callgate.lock", "callgate.lock.sig", "launch.lock", "callgate.toml")
_READERS = frozenset(
    {
        *("[", "basename", "bat", "cat", "cmp", "cut", "diff", "dirname", "du", "echo", "egrep", "fgrep", "file"),
        *("grep", "head", "hexdump", "jq", "less", "ls", "md5sum", "more", "nl", "od", "printf", "pwd", "readlink"),
        *("realpath", "rg", "sha256sum", "stat", "tail", "test", "tree", "type", "wc", "which"),
    }
)
_GIT_READERS = frozenset(["add", "blame", "commit", "diff", "grep", "log", "ls-files", "rev-parse", "show", "status"])
_WRITE_WITH = {"git": ("--output",), "less": ("-o", "-O", "--log-file", "--LOG-FILE"), "tree": ("-o",)}
"""Options with which a reader writes a file."""
_WRAPPERS = frozenset(
    {
        *("builtin", "bwrap", "command", "doas", "env", "exec", "find", "ionice", "nice", "nohup", "npx", "pipx"),
        *("poetry", "script", "setpriv", "setsid", "stdbuf", "strace", "sudo", "systemd-run", "time", "timeout"),
        *("unshare", "uv", "uvx", "watch", "xargs"),
    }
)
_SIZES_AND_NAMES = frozenset(
    ["[", "basename", "dirname", "du", "echo", "ls", "printf", "readlink", "realpath", "stat", "test", "tree"]
)
"""Readers that say nothing of what stands in a file."""
_KEYWORDS = frozenset(["!", "{", "if", "then", "elif", "else", "while", "until", "do", "coproc"])
"""Words of the shell itself, after which a command begins."""
_SHELLS = frozenset(["ash", "bash", "dash", "fish", "ksh", "pwsh", "sh", "zsh"])
_QUIET = frozenset(["doctor", "hook", "inventory", "run", "sandbox", "serve", "status"])
_QUIET_ACTIONS = {
    "audit": frozenset({"", "export", "show", "tail", "verify"}),
    "pins": frozenset({"", "list", "diff"}),
    "trust": frozenset({"verify", "diff", "show", "list"}),
    "secrets": frozenset({"find", "test"}),
}

Finding = tuple[str, str, str]
"""Outcome (`deny` or `ask`), rule, and what it is about."""


def judge_paths(
    paths: Iterable[str], cwd: str, snapshot: Snapshot, *, reading: bool = False, below: bool = False
) -> Finding | None:
    """What is to be said of a built-in tool that writes (or reads) these files; with `below` all that is in them."""
    listed = list(paths)
    found = [_path(path, cwd, snapshot, reading=reading) for path in listed]
    return _worst([*found, *(_many(path, cwd, snapshot) for path in listed if below)])


def judge_shell(text: str, cwd: str, snapshot: Snapshot, depth: int = 0) -> Finding | None:
    """What is to be said of a shell command."""
    if len(text) > MAX_TEXT:
        return ("ask", "hook-too-long", f"a command of {len(text)} characters, which is not looked through")
    found = commands(text)
    if found is None or depth > MAX_NESTING:
        return _mention(text, snapshot) or (
            ("ask", "hook-unclear", "a command that cannot be taken apart and names callgate")
            if "callgate" in text
            else None
        )
    return _worst(_simple(found, cwd, snapshot, depth))


def _simple(found: list[Command], cwd: str, snapshot: Snapshot, depth: int) -> Iterator[Finding | None]:
    here = cwd
    for command in found:
        words = _without_assignments(command.words)
        program = os.path.basename(words[0]) if words else ""
        yield _starts(words, program, here, snapshot, depth)
        reading = _reads(program, words)
        for word in command.writes:
            yield _path(_expanded(word, snapshot), here, snapshot)
        for word in command.words:
            for part in {word, word.partition("=")[2], _glued(word)}:
                if part and not (part is word and word == (words[0] if words else "") and not reading):
                    yield _word(part, here, snapshot, reading=reading)
                    if reading and program not in _SIZES_AND_NAMES:
                        yield _many(part, here, snapshot)
        if program in ("cd", "pushd") and len(words) > 1:
            here = os.path.join(here, _expanded(words[-1], snapshot))


def _word(word: str, cwd: str, snapshot: Snapshot, *, reading: bool) -> Finding | None:
    """What is to be said of one word of a command: a path, or a text that names one."""
    if len(word) > 4096 or "\n" in word or (" " in word and "/" in word):
        return None if reading else _mention(word, snapshot)
    path = _expanded(word, snapshot)
    found = _path(path, cwd, snapshot, reading=reading)
    if found or reading:
        return found
    globbed = min((path.find(c) for c in "*?[{" if c in path), default=-1)
    whole = os.path.normpath(os.path.join(cwd, path if globbed < 0 else path[:globbed]))
    if globbed >= 0 and path[globbed - 1 : globbed] == "/":
        whole += "/"
    deep = whole.count("/") > 1  # neither / nor /home: too much is below them to mean anything
    above = whole if globbed >= 0 else whole.rstrip("/") + "/"
    if deep and len(above) > len(snapshot.home) + 1 and ("/" in word or word.startswith((".", "~"))):
        if snapshot.state.startswith(above) or (snapshot.state + "/").startswith(above):
            return ("deny", "hook-state", "the directory above callgate's state")
        if any(one.startswith(above) for one in snapshot.guarded):
            return (snapshot.config, "hook-client-file", f"a directory with a client's settings: {word}")
    return None


def _glued(word: str) -> str:
    """The path in an option that has it without a space (`-C/dir`), or ''."""
    at = next((at for at, char in enumerate(word) if char in "/~$"), -1) if word.startswith("-") else -1
    return word[at:] if at > 0 else ""


def _many(word: str, cwd: str, snapshot: Snapshot) -> Finding | None:
    """What is to be said of reading all below a directory, or all that a pattern means."""
    path = _expanded(word, snapshot)
    cut = min((path.find(c) for c in "*?[{" if c in path), default=len(path))
    whole = os.path.normpath(os.path.join(cwd, path[:cut]))
    if cut < len(path) and path[cut - 1 : cut] == "/":
        whole += "/"
    within = whole == snapshot.state or whole.startswith(snapshot.state + "/")
    beginning = f"{snapshot.state}/keys", f"{snapshot.state}/secrets"
    if len(whole) > len(snapshot.home) and snapshot.state.startswith(whole.rstrip("/") + "/"):
        return ("deny", "hook-state", "all that is below a directory, callgate's state with it")
    if within and (whole == snapshot.state or (cut < len(path) and any(one.startswith(whole) for one in beginning))):
        return ("deny", "hook-state", "callgate's state directory")
    return None


def _mention(text: str, snapshot: Snapshot) -> Finding | None:
    """What is to be said of a longer text (a program, a script) that names what is guarded."""
    plain = _expanded(text, snapshot, everywhere=True)
    if snapshot.state in plain:
        return ("deny", "hook-state", "callgate's state directory")
    for one in (*snapshot.guarded, *(tail[1:] for tail in snapshot.tails)):
        if one in plain:
            return (snapshot.config, "hook-client-file", f"a client's settings: {one}")
    return None


def _starts(words: list[str], program: str, cwd: str, snapshot: Snapshot, depth: int) -> Finding | None:
    """What is to be said of the program that is started."""
    if not words:
        return None
    if program in _WRAPPERS:
        for at in range(1, len(words)):
            base = os.path.basename(words[at])
            if base in _SHELLS or base == "eval" or _is_callgate(words[at:]):
                return _starts(words[at:], base, cwd, snapshot, depth)
    if program in _SHELLS or program == "eval":
        scripts = [" ".join(words[1:])] if program == "eval" else [w for w in words[1:] if " " in w or "callgate" in w]
        return _worst(judge_shell(script, cwd, snapshot, depth + 1) for script in scripts)
    if program in ("pkill", "killall") and any("callgate" in word for word in words[1:]):
        return ("deny", "hook-kill", "ending the gate's processes")
    at = _is_callgate(words)
    return _callgate(words[at:]) if at else None


def _is_callgate(words: list[str]) -> int:
    """Where callgate's own arguments begin; 0 where the words do not start it."""
    base = os.path.basename(words[0])
    if base in ("callgate", "callgate.exe"):
        return 1
    if base.startswith(("python", "pypy")):
        for at in range(1, len(words) - 1):
            if os.path.basename(words[at]) == "callgate":
                return at + 1
            if words[at] == "-m" and words[at + 1].split(".")[0] == "callgate":
                return at + 2
            if words[at].startswith("-m") and words[at][2:].split(".")[0] == "callgate":
                return at + 1
    return 0


def _callgate(arguments: list[str]) -> Finding | None:
    name = arguments[0] if arguments else ""
    arguments = arguments[: arguments.index("--")] if "--" in arguments else arguments  # then come a server's own
    if not arguments or name.startswith("-") or name in _QUIET or "--help" in arguments or "-h" in arguments:
        return None
    if name == "uninstall":
        return None if "--dry-run" in arguments else ("deny", "hook-uninstall", "callgate uninstall")
    action = next((word for word in arguments[1:] if not word.startswith("-")), "")
    if action in _QUIET_ACTIONS.get(name, ()) or "--dry-run" in arguments:
        return None
    return ("ask", "hook-callgate", f"callgate {name} {action}".strip())


def _reads(program: str, words: list[str]) -> bool:
    """Whether the command changes none of the files that it names."""
    if any(word.startswith(_WRITE_WITH.get(program, ())) for word in words[1:]):
        return False
    action = next((word for word in words[1:] if not word.startswith("-")), "")
    return program in _READERS or (program == "git" and action in _GIT_READERS)


def _path(path: str, cwd: str, snapshot: Snapshot, *, reading: bool = False) -> Finding | None:
    """What is to be said of one file."""
    if not path or "\0" in path or len(path) > 4096:
        return None
    plain = os.path.normpath(os.path.join(cwd, _expanded(path, snapshot)))
    real = os.path.realpath(plain)
    for one in {snapshot.folded(plain), snapshot.folded(real)}:
        inside = one == snapshot.state or one.startswith(snapshot.state + "/")
        if inside and (not reading or one.startswith((snapshot.state + "/keys", snapshot.state + "/secrets"))):
            return ("deny", "hook-state", "callgate's state directory")
        if reading:
            continue
        if one in snapshot.programs or any(one.startswith(folder + "/") for folder in snapshot.packages):
            return (snapshot.config, "hook-program", "callgate's own program")
        if os.path.basename(one) in _OWN_FILES:
            return (snapshot.config, "hook-own-file", os.path.basename(one))
        if one in snapshot.guarded or one.endswith(snapshot.tails):
            return (snapshot.config, "hook-client-file", f"a client's settings: {path}")
    return None


def _expanded(text: str, snapshot: Snapshot, *, everywhere: bool = False) -> str:
    for name in ("${HOME}", "$HOME"):
        text = text.replace(name, snapshot.home)
    for name in ("${XDG_STATE_HOME}", "$XDG_STATE_HOME", "$CALLGATE_STATE_DIR", "${CALLGATE_STATE_DIR}"):
        if name in text:
            text = text.replace(name, snapshot.state if "CALLGATE" in name else os.path.dirname(snapshot.state))
    if everywhere:
        return text.replace("~/", snapshot.home + "/")
    return snapshot.home + text[1:] if text == "~" or text.startswith("~/") else text


def _without_assignments(words: list[str]) -> list[str]:
    for at, word in enumerate(words):
        name, found, _ = word.partition("=")
        if not (found and name.isidentifier()) and word not in _KEYWORDS:
            return words[at:]
    return []


def _worst(findings: Iterable[Finding | None]) -> Finding | None:
    worst: Finding | None = None
    for one in findings:
        if one is not None and (worst is None or (one[0] == "deny" and worst[0] != "deny")):
            worst = one
    return worst
