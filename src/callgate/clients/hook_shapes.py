"""How each client asks a hook, and how it wants to be answered.

| client | events | a refusal | a question | nothing to say |
|---|---|---|---|---|
| Claude Code | `PreToolUse` | `permissionDecision: deny` | `ask`; in a mode in which nobody is asked a refusal | no \
output: the client's own rules go on |
| Cursor | `beforeMCPExecution`, `beforeShellExecution`, `preToolUse` | `permission: deny` | `ask`; of `preToolUse` \
a refusal, as the client does not ask there | `permission: allow`, because no output is a refusal |
| Codex | `PreToolUse` | `permissionDecision: deny` | a refusal: the client lets `ask` pass | no output: the client \
rejects `allow` |

What a hook is asked is strict JSON of at most MAX_BYTES; another shape than the one named here is refused.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_BYTES = 16 * 1024 * 1024
"""Of one question; the text of a file that is written is in it."""
EVENTS = {
    "claude-code": ("PreToolUse",),
    "cursor": ("beforeMCPExecution", "beforeShellExecution", "preToolUse"),
    "codex": ("PreToolUse",),
}
_ASKING_MODES = ("", "default", "acceptEdits")
"""Modes of Claude Code in which a person is asked: with `bypassPermissions` what a hook would ask about passes, in \
`auto` a model decides."""
_SHELLS = frozenset(
    ("Bash", "PowerShell", "Shell", "shell", "shell_command", "local_shell", "exec_command", "unified_exec")
)
_WRITERS = frozenset(["Write", "Edit", "MultiEdit", "NotebookEdit", "StrReplace", "Delete", "write", "edit_file"])
_READERS = frozenset(["Read", "Glob", "Grep", "LS", "List", "NotebookRead", "view_image"])
_PATHS = ("file_path", "file_paths", "notebook_path", "path", "paths", "target_file", "local_path", "out_dir")
_PATCH_PATHS = ("*** Add File: ", "*** Update File: ", "*** Delete File: ", "*** Move to: ")


class ShapeError(Exception):
    """A question is not what the client is known to ask."""


class Question:
    """What a client asks.

    `kind`: `tool` (of a server), `server`, `command`, `url` (what a server is started with), `shell`, `write`, `read`,
    `other`.
    """

    __slots__ = ("asks", "cwd", "event", "kind", "session", "texts", "tool")

    def __init__(self, event: str, tool: str, kind: str, texts: list[str], cwd: str, session: str) -> None:
        self.asks = True
        """Whether the client asks a person where it is told to."""
        self.event = event
        self.tool = tool
        self.kind = kind
        self.texts = texts
        """A tool's name, and its server's where the client tells it; a server's name, its command line or URL; a \
shell's command; or the paths of files."""
        self.cwd = cwd
        self.session = session


def read(client: str, document: Any) -> Question:
    """The question in a document. Raises ShapeError."""
    if type(document) is not dict:
        raise ShapeError("it is no JSON object")
    question = _read(client, document)
    if client == "claude-code":
        question.asks = document.get("permission_mode", "") in _ASKING_MODES
    else:
        question.asks = client == "cursor" and question.event != "preToolUse"
    return question


def said(question: Question, outcome: str) -> str:
    """The outcome as the client is told it: where nobody would be asked, a question is a refusal."""
    return "deny" if outcome == "ask" and not question.asks else outcome


def _read(client: str, document: dict[str, Any]) -> Question:
    event = _string(document, "hook_event_name")
    if event not in EVENTS[client]:
        raise ShapeError("it is an event this hook was not installed for")
    session = document.get("session_id") or document.get("conversation_id")
    common = _folder(document), session if isinstance(session, str) else ""
    if event == "beforeShellExecution":
        return Question(event, "Shell", "shell", [_string(document, "command")], *common)
    tool = _string(document, "tool_name")
    if event == "beforeMCPExecution":
        for key in ("command", "url"):
            if isinstance(document.get(key), str) and document[key]:
                return Question(event, tool, key, [document[key]], *common)
        raise ShapeError("it names neither the command nor the URL of the server")
    if tool.startswith("mcp__"):
        return Question(event, tool, "tool", [tool, *_server(document.get("mcp_server"), "name")], *common)
    given = document.get("tool_input")
    if "mcp" in tool.lower() and (server := _server(given, "server")):
        return Question(event, tool, "server", server, *common)
    if client == "cursor" and (tool in _SHELLS or tool.upper().startswith("MCP")):
        return Question(event, tool, "other", [], *common)  # judged at its own event
    if tool in _SHELLS:
        return Question(event, tool, "shell", [_command(given)], *common)
    if tool == "apply_patch":
        return Question(event, tool, "write", _patched(_command(given)), *common)
    if tool in _WRITERS or tool == "Read":
        paths = _paths(given)
        if not paths:
            raise ShapeError(f"it names no file that {tool} is about")
        return Question(event, tool, "read" if tool == "Read" else "write", paths, *common)
    return _by_shape(event, tool, given, common)


def _by_shape(event: str, tool: str, given: Any, common: tuple[str, str]) -> Question:
    """A tool of no known name, by what it is given: clients get new tools that run a command or write a file."""
    command = given.get("command", given.get("cmd")) if isinstance(given, dict) else None
    if tool not in _READERS and isinstance(command, str | list) and command:
        return Question(event, tool, "shell", [_command(given)], *common)
    if paths := _paths(given):
        return Question(event, tool, "read" if tool in _READERS else "write", paths, *common)
    return Question(event, tool, "other", [], *common)


def answer(client: str, question: Question, outcome: str, reason: str) -> str:
    """What is written to standard output, of an outcome as `said`; empty where nothing is to be said."""
    if client == "cursor":
        if outcome == "allow":
            return '{"permission":"allow"}'
        text = quoted(reason)
        return f'{{"permission":"{outcome}","user_message":{text},"agent_message":{text}}}'
    if outcome == "allow":
        return ""
    return (
        f'{{"hookSpecificOutput":{{"hookEventName":"{question.event}","permissionDecision":"{outcome}",'
        f'"permissionDecisionReason":{quoted(reason)}}}}}'
    )


def quoted(text: str) -> str:
    """A string as JSON, in ASCII."""
    out: list[str] = []
    for char in text:
        code = ord(char)
        if " " <= char <= "~" and char not in '"\\':
            out.append(char)
        elif code < 0x10000:
            out.append(f"\\u{code:04x}")
        else:
            code -= 0x10000
            out.append(f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}")
    return '"' + "".join(out) + '"'


def _string(document: dict[str, Any], key: str) -> str:
    value = document.get(key)
    if not isinstance(value, str) or not value:
        raise ShapeError(f"{key} is missing")
    return value


def _folder(document: dict[str, Any]) -> str:
    cwd = document.get("cwd")
    if isinstance(cwd, str) and cwd.startswith("/"):
        return cwd
    roots = document.get("workspace_roots")
    if isinstance(roots, list) and roots and isinstance(roots[0], str) and roots[0].startswith("/"):
        return roots[0]
    return "/"


def _server(told: Any, key: str) -> list[str]:
    """The name of a server, where the client tells it."""
    name = told.get(key) if isinstance(told, dict) else None
    return [name] if isinstance(name, str) and name else []


def _paths(given: Any) -> list[str]:
    found: list[str] = []
    for key in _PATHS if isinstance(given, dict) else ():
        value = given.get(key)
        found += [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, str)]
    return found


def _command(given: Any) -> str:
    """A shell's command: a string, or words."""
    for key in ("command", "cmd", "input", "patch"):
        value = given.get(key) if isinstance(given, dict) else None
        if isinstance(value, str) and value:
            return value
        if isinstance(value, list) and value and all(isinstance(word, str) for word in value):
            return _joined(value)
    raise ShapeError("it has no command")


def _joined(words: list[str]) -> str:
    """Words as one command line; of `sh -c SCRIPT` the script is a word like others, and is looked into as one."""
    return " ".join("'" + word.replace("'", "'\\''") + "'" for word in words)


def _patched(patch: str) -> list[str]:
    """The files a patch is about. Raises ShapeError where it names none."""
    lines = [line.lstrip() for line in patch.split("\n")]  # as Codex reads them
    found = [line[len(head) :].strip() for line in lines for head in _PATCH_PATHS if line.startswith(head)]
    if not found:
        raise ShapeError("its patch names no file")
    return found
