"""`callgate secrets set`, `test`, `rotate`. Values come from standard input or a hidden prompt, and are never shown."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from pathlib import Path

from callgate.cli.client_options import shown_path, state_of_user
from callgate.cli.secrets_uses import Use, uses
from callgate.errors import ConfigError, SecretError
from callgate.text import visible
from callgate.vault.fields import MOST_BYTES
from callgate.vault.move import exchange
from callgate.vault.reference import parse
from callgate.vault.session import Session
from callgate.vault.stores import set_secret

EXIT_OK, EXIT_NO = 0, 1
WIDTH = 80


def put(arguments: argparse.Namespace) -> int:
    """`set`: store one value."""
    reference = parse(arguments.reference)
    set_secret(reference, value_from_person(reference.text), state_of_user(), replace=arguments.replace)
    print(f"stored: {visible(reference.text, 300)}")
    return EXIT_OK


def value_from_person(reference: str) -> bytes:
    """One value: from a hidden prompt, asked twice, or all of standard input without the last line end."""
    if sys.stdin.isatty():
        from getpass import getpass

        first = getpass(f"value of {visible(reference, 200)} (not shown): ")
        if getpass("again: ") != first:
            raise ConfigError("the two values differ", next_step="type the same twice")
        value = first.encode()
    else:
        value = sys.stdin.buffer.read(MOST_BYTES + 2)
        value = value.removesuffix(b"\n").removesuffix(b"\r")
    if not value:
        raise ConfigError("there is no value on standard input", next_step="callgate secrets set REF < FILE")
    return value


def test(arguments: argparse.Namespace) -> int:
    """`test`: whether each reference can be resolved."""
    if bool(arguments.reference) == arguments.all:
        raise ConfigError("name references, or give --all", next_step="callgate secrets test --all")
    state = state_of_user()
    problems: list[tuple[str, str]] = []
    asked = list(arguments.reference)
    if arguments.all:
        found, problems = uses(state)
        asked = sorted({use.reference for use in found})
    with Session(state) as session:
        rows = [_resolved(session, text) for text in asked]
    if arguments.json:
        files = [{"path": path, "reason": reason} for path, reason in problems]
        print(json.dumps({"version": 1, "references": rows, "skipped": files}, indent=2, ensure_ascii=True))
    else:
        for row in rows:
            _print_row(row)
        for path, reason in problems:
            print(textwrap.fill(f"not read: {shown_path(path)}: {visible(reason, 200)}", WIDTH, subsequent_indent="  "))
        if not rows:
            print("no reference in clients' files or in callgate.toml")
    return EXIT_OK if all(row["ok"] for row in rows) and not problems else EXIT_NO


def _resolved(session: Session, text: str) -> dict[str, object]:
    # What was asked for may be a value given by mistake: only a reference is shown.
    shown = text if _is_reference(text) else ""
    row: dict[str, object] = {"reference": shown, "ok": False, "store": "", "lease_s": 0, "reason": "", "next": ""}
    try:
        secret = session.resolve(text)
    except SecretError as error:
        return row | {"reason": error.what, "next": error.next_step}
    return row | {"ok": True, "store": secret.scheme, "lease_s": round(secret.lease_s)}


def _print_row(row: dict[str, object]) -> None:
    text = visible(str(row["reference"]), 300) or "(not shown)"
    if row["ok"]:
        lease = f", for {row['lease_s']} s at a time" if row["lease_s"] else ""
        print(f"yes  {text}  ({row['store']}{lease})")
        return
    print(f"no   {text}")
    for line in (row["reason"], row["next"] and f"next: {row['next']}"):
        if line:
            print(textwrap.fill(visible(str(line), 400), WIDTH, initial_indent="     ", subsequent_indent="     "))


def _is_reference(text: str) -> bool:
    try:
        parse(text)
    except SecretError:
        return False
    return True


def rotate(arguments: argparse.Namespace) -> int:
    """`rotate`: a new value in the place of the old, which is kept where the store can."""
    state = state_of_user()
    found, _ = uses(state)
    reference = parse(_named(arguments.reference, found))
    kept = exchange(reference, value_from_person(reference.text), state)
    print(f"replaced: {visible(reference.text, 300)}")
    if kept:
        print(f"the old value is kept: {visible(kept, 300)}")
    places = [use for use in found if use.reference == reference.text]
    for use in places:
        print(f"used in {shown_path(use.path)}:{use.line}: {visible(use.key, 120)}")
    if not places:
        print("used in no file that callgate knows")
    _tell(state)
    return EXIT_OK


def _named(text: str, found: list[Use]) -> str:
    """The reference of a name: its last part, as in `github.GITHUB_TOKEN`."""
    if "://" in text:
        return text
    known = {use.reference: parse(use.reference) for use in found}
    chosen = [whole for whole, one in known.items() if text in (one.parts[-1], one.parts[-1].partition(".")[2])]
    if len(chosen) == 1:
        return chosen[0]
    if chosen:
        raise ConfigError(f"'{visible(text, 80)}' names several", next_step="one of: " + ", ".join(sorted(chosen)))
    # It may be the new value, given by mistake: not shown.
    raise ConfigError("no reference of that name is in use", next_step="callgate secrets test --all lists them")


def _tell(state: Path) -> None:
    from callgate.store.generation import Generation

    counter = Generation(state)
    counter.advance()
    counter.close()
    print("gates that run take it within seconds where the server has a stand-in for it;")
    print("restart servers that have it in their environment or in a file")
