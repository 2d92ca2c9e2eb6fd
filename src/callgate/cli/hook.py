"""`callgate hook CLIENT`: a client asks whether a tool may be called; answered in milliseconds.

Imports only what an answer needs: no argparse, no configuration, no gate. Whatever goes wrong here is a refusal: exit
code 2, which every client takes for one.
"""

from __future__ import annotations

import os
import sys

from callgate.clients import hook_shapes
from callgate.clients.hook_snapshot import CLIENTS, HookError, load
from callgate.clients.hook_spool import append

TYPE_CHECKING = False
if TYPE_CHECKING:
    from callgate.clients.hook_snapshot import Snapshot

HELP = """\
usage: callgate hook CLIENT [--state DIR]

Answer one question of a client's hook, read from standard input. CLIENT is
claude-code, cursor or codex. callgate install writes the entry that calls
this; see docs/hooks.md.
"""
EXIT_OK, EXIT_REFUSED = 0, 2
READ_S = 3.0
"""How long the question may take to arrive."""
_NEXT = {
    "hook-unknown-server": "declare it and put it behind the gate: callgate install",
    "hook-open-server": "put it behind the gate: callgate install",
    "hook-project-options": "take that out of the project's file; if you want it, say it in callgate.toml",
    "hook-client-file": "make that change yourself, or agree when asked",
    "hook-own-file": "make that change yourself, or agree when asked",
    "hook-program": "make that change yourself, or agree when asked",
}


def main(argv: list[str]) -> int:
    """The sub-command. 0 answered (also with a refusal); 2 refused because something is wrong."""
    if not argv or argv[0] in ("-h", "--help"):
        sys.stdout.write(HELP)
        return EXIT_OK if argv else EXIT_REFUSED
    try:
        client, state = _arguments(argv)
        answer = _answer(client, state)
    except (HookError, hook_shapes.ShapeError) as error:
        return _refuse(str(error))
    except Exception as error:  # noqa: BLE001 - whatever it is: no answer would let the call pass
        return _refuse(f"internal error: {type(error).__name__}")
    if answer:
        try:
            sys.stdout.write(answer + "\n")
            sys.stdout.flush()
        except OSError:
            return EXIT_REFUSED
    return EXIT_OK


def _refuse(what: str) -> int:
    try:
        sys.stderr.write(f"callgate refuses this call: {what}\n")
    except OSError:
        return EXIT_REFUSED
    return EXIT_REFUSED


def _arguments(argv: list[str]) -> tuple[str, str]:
    if argv[0] not in CLIENTS:
        raise HookError("callgate hook was started for a client it does not know")
    if argv[1:2] == ["--state"] and len(argv) == 3:
        return argv[0], argv[2]
    if argv[1:]:
        raise HookError("callgate hook was started with options it does not know")
    from callgate.config.places import state_path
    from callgate.config.reader import configured

    return argv[0], state_path(configured())


def _answer(client: str, state: str) -> str:
    from jiter import from_json

    data = _read(0)
    snapshot = load(state)
    try:
        question = hook_shapes.read(client, from_json(data, catch_duplicate_keys=True, allow_inf_nan=False))
    except (ValueError, hook_shapes.ShapeError) as error:
        what = str(error) if isinstance(error, hook_shapes.ShapeError) else "it is not JSON"
        _record(state, client, None, data, "deny", "hook-malformed")
        raise HookError(f"the question of the hook is not understood: {what}") from error
    outcome, rule, about = _judge(client, question, snapshot)
    outcome = hook_shapes.said(question, outcome)
    reason = ""
    if outcome != "allow":
        from callgate.text import visible

        following = _NEXT.get(rule, "ask the person who set callgate up")
        reason = f"callgate: {visible(about, 300)}. {following} [{rule}]"
    _record(state, client, question, data, outcome, rule)
    return hook_shapes.answer(client, question, outcome, reason)


def _judge(client: str, question: hook_shapes.Question, snapshot: Snapshot) -> tuple[str, str, str]:
    """Outcome, rule, and what it is about."""
    kind, texts = question.kind, question.texts
    if kind in ("tool", "server", "command", "url"):
        from callgate.clients import hook_servers

        if kind == "tool":
            wrong = hook_servers.judge_tool(client, texts[0], question.cwd, snapshot, *texts[1:])
        elif kind == "server":
            wrong = hook_servers.judge_server(client, texts[0], question.cwd, snapshot)
        elif kind == "command":
            wrong = hook_servers.judge_command(texts[0], snapshot)
        else:
            wrong = hook_servers.judge_url(texts[0], snapshot)
        if wrong:
            return (snapshot.unknown if wrong[0] == "hook-unknown-server" else snapshot.open, *wrong)
        return "allow", "", ""
    if kind in ("shell", "write", "read"):
        from callgate.clients import hook_guard

        if kind == "shell":
            found = hook_guard.judge_shell(texts[0], question.cwd, snapshot)
        else:
            whole = question.tool == "Grep"
            found = hook_guard.judge_paths(texts, question.cwd, snapshot, reading=kind == "read", below=whole)
        return found or ("allow", "", "")
    return "allow", "", ""


def _read(descriptor: int) -> bytes:
    """The question. Raises HookError where it is too long, or does not come within READ_S."""
    import select
    import time

    until = time.monotonic() + READ_S
    parts: list[bytes] = []
    size = 0
    while size <= hook_shapes.MAX_BYTES:
        left = until - time.monotonic()
        if left <= 0 or not select.select([descriptor], [], [], left)[0]:
            raise HookError("the question of the hook did not come in time")
        part = os.read(descriptor, 1 << 20)
        if not part:
            return b"".join(parts)
        parts.append(part)
        size += len(part)
    raise HookError(f"the question of the hook is longer than {hook_shapes.MAX_BYTES} bytes")


def _record(
    state: str, client: str, question: hook_shapes.Question | None, data: bytes, outcome: str, rule: str
) -> None:
    """Leave evidence: what was asked as a digest, what was said as it was said. Raises HookError."""
    import time
    from hashlib import sha256

    quoted = hook_shapes.quoted
    members = [
        ("id", quoted(f"{os.getpid()}-{time.time_ns()}")),
        ("at", str(time.time_ns() // 1000)),
        ("client", quoted(client)),
        ("outcome", quoted(outcome)),
        ("sha256", quoted(sha256(data).hexdigest())),
        ("size", str(len(data))),
    ]
    if rule:
        members.append(("rule", quoted(rule)))
    if question is not None:
        members += [
            ("event", quoted(question.event)),
            ("kind", quoted(question.kind)),
            ("tool", quoted(question.tool[:256])),
            ("session", quoted(question.session[:64])),
        ]
    line = "{" + ",".join(f'"{name}":{value}' for name, value in members) + "}\n"
    append(state, line.encode())
